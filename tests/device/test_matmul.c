/* Fast products equal the plain ones: types, transposes, strides, batches, bias, c0, alpha, odd sizes; at every level.
 */
#include "levels.h"

typedef struct product_case {
    int64_t m, n, k, batch, batch_a, batch_b; /* batch 0: matrices without a batch dimension */
    bool trans_a, trans_b, bias;
    int c0; /* 0 none, 1 separate, 2 the output itself */
    int64_t gap;
    double alpha;
} product_case;

static double tolerance(crank_dtype type)
{
    return type == CRANK_F64 ? 1e-13 : type == CRANK_F32 ? 1e-5 : 1e-2;
}

static crank_view operand(bench *b, crank_dtype type, int64_t batch, int64_t rows, int64_t columns, int64_t gap)
{
    crank_view view =
        batch ? fresh_rows(b, type, gap, DIMS(batch, rows, columns)) : fresh_rows(b, type, gap, DIMS(rows, columns));
    return draw_into(b, view, -1, 1);
}

static void expect_equal(bench *fast, bench *plain, const product_case *p, crank_dtype type, crank_dtype out)
{
    crank_view a =
        operand(plain, type, p->batch ? p->batch_a : 0, p->trans_a ? p->k : p->m, p->trans_a ? p->m : p->k, p->gap);
    crank_view b =
        operand(plain, type, p->batch ? p->batch_b : 0, p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->gap);
    crank_view bias = p->bias ? drawn(plain, out, -1, 1, DIMS(p->n)) : ABSENT;
    crank_view c0 = p->c0 ? operand(plain, out, p->batch, p->m, p->n, p->gap) : ABSENT;
    crank_view want = operand(plain, out, p->batch, p->m, p->n, 0),
               got = operand(plain, out, p->batch, p->m, p->n, p->gap);
    crank_matmul_attributes attributes = {p->trans_a, p->trans_b, p->alpha};
    apply(plain, "matmul", VIEWS(a, b, bias, c0), VIEWS(want), &attributes);
    if (p->c0 == 2) got = c0;
    apply(fast, "matmul", VIEWS(a, b, bias, c0), VIEWS(got), &attributes);
    double error = distance(&got, &want);
    if (!(error <= tolerance(out == CRANK_F32 && type != CRANK_F32 ? CRANK_F32 : out)))
        fail_msg("%s -> %s, [%d,%d,%d] batch %d%s%s%s c0 %d gap %d: off by %g", crank_dtype_name(type),
                 crank_dtype_name(out), (int)p->m, (int)p->n, (int)p->k, (int)p->batch, p->trans_a ? " a^T" : "",
                 p->trans_b ? " b^T" : "", p->bias ? " bias" : "", p->c0, (int)p->gap, error);
}

static void over_types(const product_case *p)
{
    bench fast = bench_open(NULL), plain = bench_open("plain");
    expect_equal(&fast, &plain, p, CRANK_F32, CRANK_F32);
    expect_equal(&fast, &plain, p, CRANK_BF16, CRANK_BF16);
    expect_equal(&fast, &plain, p, CRANK_BF16, CRANK_F32);
    expect_equal(&fast, &plain, p, CRANK_F16, CRANK_F16);
    expect_equal(&fast, &plain, p, CRANK_F64, CRANK_F64);
    bench_close(&fast);
    bench_close(&plain);
}

static void products_of_odd_sizes_equal_plain_ones(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},   {7, 63, 65}, {65, 7, 257}, {63, 65, 7},  {257, 31, 33},
                                       {1, 65, 63}, {65, 1, 63}, {63, 65, 1},  {64, 64, 64}, {33, 8, 1031}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int trans = 0; trans < 4; trans++) {
            product_case p = {.m = sizes[i][0],
                              .n = sizes[i][1],
                              .k = sizes[i][2],
                              .trans_a = trans & 1,
                              .trans_b = trans & 2,
                              .alpha = 1};
            over_types(&p);
        }
}

static void bias_addend_and_factor_follow_the_definition(void **state)
{
    (void)state;
    for (int variant = 0; variant < 24; variant++) {
        product_case p = {.m = 37,
                          .n = variant & 8 ? 5 : 70,
                          .k = 41,
                          .trans_a = variant & 4,
                          .trans_b = variant & 2,
                          .bias = variant & 1,
                          .c0 = variant % 3,
                          .alpha = variant % 4 == 3 ? -0.75 : 1,
                          .gap = variant % 5};
        over_types(&p);
    }
}

static void narrow_products_equal_plain_ones(void **state)
{
    (void)state;
    for (int64_t narrow = 1; narrow <= 17; narrow++)
        for (int variant = 0; variant < 4; variant++) {
            product_case p = {.m = 67,
                              .n = narrow,
                              .k = 131,
                              .trans_a = variant & 1,
                              .trans_b = variant & 2,
                              .bias = narrow & 1,
                              .c0 = (int)narrow % 3,
                              .gap = narrow % 4,
                              .alpha = variant ? 1 : 0.5};
            over_types(&p);
            p.m = narrow;
            p.n = 67;
            over_types(&p);
        }
}

/* A short inner dimension (t B^T of a low-rank branch), and a long one with one narrow side (the gradient of a factor). */
static void products_of_low_rank_equal_plain_ones(void **state)
{
    (void)state;
    for (int64_t rank = 1; rank <= 33; rank += rank < 9 ? 1 : 3)
        for (int variant = 0; variant < 4; variant++) {
            product_case p = {.m = 61,
                              .n = 197,
                              .k = rank,
                              .trans_a = variant & 1,
                              .trans_b = variant & 2,
                              .bias = rank & 1,
                              .c0 = (int)rank % 3,
                              .gap = rank % 4,
                              .alpha = variant ? 1 : 0.5};
            over_types(&p);
            p.trans_a = true;
            p.trans_b = false;
            p.bias = false;
            p.k = 149 + variant;
            p.m = variant & 1 ? rank : 115;
            p.n = variant & 1 ? 115 : rank;
            over_types(&p);
        }
}

static void batches_and_spread_operands_equal_plain_ones(void **state)
{
    (void)state;
    for (int variant = 0; variant < 24; variant++) {
        product_case p = {.m = 19,
                          .n = 23,
                          .k = 17,
                          .batch = 3,
                          .batch_a = variant % 3 == 1 ? 1 : 3,
                          .batch_b = variant % 3 == 2 ? 1 : 3,
                          .trans_a = variant & 4,
                          .trans_b = variant & 8,
                          .bias = variant & 1,
                          .c0 = (variant / 3) % 3,
                          .gap = variant & 2 ? 3 : 0,
                          .alpha = 1};
        over_types(&p);
    }
}

/* dims, strides and gaps drawn: whatever a plan may come up with */
static void drawn_shapes_equal_plain_ones(void **state)
{
    (void)state;
    crank_stream stream = crank_stream_make(7, CRANK_RANDOM_TEST, 3);
    for (uint64_t i = 0, at = 0; i < 60; i++) {
        int64_t draw[12];
        for (int j = 0; j < 12; j++) draw[j] = (int64_t)(crank_draw_uniform(stream, at++) * 96);
        product_case p = {.m = 1 + draw[0],
                          .n = 1 + draw[1],
                          .k = 1 + draw[2] * 2,
                          .trans_a = draw[3] & 1,
                          .trans_b = draw[4] & 1,
                          .bias = draw[5] & 1,
                          .c0 = (int)draw[6] % 3,
                          .gap = draw[7] % 3 ? 0 : draw[8],
                          .alpha = draw[9] & 1 ? 1 : 1.5};
        over_types(&p);
    }
}

static void a_kept_product_gives_the_same_bits_again(void **state)
{
    (void)state;
    bench b = bench_open(NULL);
    crank_view x = drawn(&b, CRANK_F32, -1, 1, DIMS(130, 70)), w = drawn(&b, CRANK_F32, -1, 1, DIMS(90, 70));
    crank_view first = fresh(&b, CRANK_F32, DIMS(130, 90)), second = fresh(&b, CRANK_F32, DIMS(130, 90));
    crank_view in[4] = {x, w, ABSENT, ABSENT};
    void *slot = NULL;
    void (*slot_free)(void *) = NULL;
    crank_matmul_attributes attributes = {false, true, 1};
    crank_call call = {.device = b.device,
                       .in = in,
                       .inputs = 4,
                       .out = &first,
                       .outputs = 1,
                       .attributes = &attributes,
                       .slot = &slot,
                       .slot_free = &slot_free};
    crank_body body;
    assert_true(b.device->find(b.device, "matmul", &call, &body));
    call.workspace = bench_memory(&b, body.workspace + 64);
    call.workspace = (void *)(((uintptr_t)call.workspace + 63) / 64 * 64);
    assert_ok(b.context, body.run(b.context, &call));
    call.out = &second;
    assert_ok(b.context, body.run(b.context, &call));
    assert_memory_equal(first.data, second.data, 130 * 90 * sizeof(float));
    if (slot) slot_free(slot);
    bench_close(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(products_of_odd_sizes_equal_plain_ones),
    cmocka_unit_test(bias_addend_and_factor_follow_the_definition),
    cmocka_unit_test(narrow_products_equal_plain_ones),
    cmocka_unit_test(products_of_low_rank_equal_plain_ones),
    cmocka_unit_test(batches_and_spread_operands_equal_plain_ones),
    cmocka_unit_test(drawn_shapes_equal_plain_ones),
    cmocka_unit_test(a_kept_product_gives_the_same_bits_again),
};
LEVELS_MAIN(tests)
