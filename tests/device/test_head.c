/* The vocabulary head's fast bodies equal the plain ones: every operation, level, type and optional operand, odd sizes,
 * chunks that do not divide the rows, rows without targets. */
#include "levels.h"

typedef struct head_case {
    int64_t n, d, vocabulary, chunk, gap;
    int ignored; /* a row in so many has no target; 1: none has */
    bool bias;
    double range; /* of x */
} head_case;

static const head_case cases[] = {
    {1, 1, 1, 0, 0, 0, false, 1},       {7, 63, 65, 0, 0, 0, true, 1},    {65, 8, 500, 16, 0, 3, false, 1},
    {33, 17, 257, 5, 3, 2, true, 1},    {40, 32, 300, 40, 0, 2, true, 1}, {12, 24, 48, 4, 0, 0, false, 8},
    {9, 16, 40, 2, 1, 1, true, 1},      {50, 24, 1300, 0, 0, 0, true, 3}, {150, 8, 300, 64, 5, 7, true, 1},
    {8, 300, 701, 0, 0, 5, false, 0.3}, {1, 20, 900, 0, 0, 0, false, 1},  {530, 4, 40, 0, 0, 0, true, 1},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct operands {
    crank_view x, w, bias, targets, weights, lse;
} operands;

static operands draw(bench *b, const head_case *h, crank_dtype type)
{
    operands o = {.x = draw_into(b, fresh_rows(b, type, h->gap, DIMS(h->n, h->d)), -h->range, h->range),
                  .w = draw_into(b, fresh_rows(b, type, h->gap, DIMS(h->vocabulary, h->d)), -1, 1),
                  .bias = ABSENT};
    if (h->bias) o.bias = drawn(b, type, -1, 1, DIMS(h->vocabulary));
    o.weights = drawn(b, CRANK_F32, -1, 1, DIMS(h->n));
    o.targets = drawn(b, CRANK_I32, 0, (double)h->vocabulary - 1e-3, DIMS(h->n));
    for (int64_t i = 0; i < h->n; i++) {
        if (i % 5 == 3) set(&o.weights, i, 0);
        if (h->ignored && i % h->ignored == 0) set(&o.targets, i, i % 2 ? -100 : (double)h->vocabulary);
    }
    return o;
}

/* The same call on both devices with the outputs of `like` whose bit in `which` is set. */
static void expect_equal(bench *fast, bench *plain, const char *operation, const crank_view *in, int inputs,
                         const crank_view *like, int outputs, unsigned which, int64_t chunk, int number)
{
    crank_view got[5], want[5];
    crank_head_attributes attributes = {chunk};
    for (int i = 0; i < outputs; i++) {
        bool wanted = which >> i & 1;
        got[i] = wanted ? fresh_rows(plain, like[i].dtype, i == 2 ? 3 : 0, like[i].rank, like[i].dims) : ABSENT;
        want[i] = wanted ? fresh(plain, like[i].dtype, like[i].rank, like[i].dims) : ABSENT;
    }
    apply(plain, operation, in, inputs, want, outputs, &attributes);
    apply(fast, operation, in, inputs, got, outputs, &attributes);
    for (int i = 0; i < outputs; i++) {
        if (got[i].rank < 0) continue;
        double norm = 0, error = distance(&got[i], &want[i]);
        for (int64_t j = 0; j < crank_view_count(&want[i]); j++) norm += value(&want[i], j) * value(&want[i], j);
        if (sqrt(norm) < 1e-4) error *= sqrt(norm); /* a gradient that is zero but for rounding */
        double tolerance =
            in[1].dtype == CRANK_F32 && in[0].dtype == CRANK_F32 && (inputs < 6 || in[2].dtype == CRANK_F32) ? 1e-5
                                                                                                             : 1e-2;
        if (!(error <= tolerance))
            fail_msg("case %d, %s, %s: output %d of %x is off by %g", number, operation, crank_dtype_name(in[1].dtype),
                     i, which, error);
    }
}

static const crank_dtype types[] = {CRANK_F32, CRANK_BF16, CRANK_F16};

static void over_cases(void (*check)(bench *fast, bench *plain, const head_case *h, crank_dtype type, int number))
{
    for (int i = 0; i < 3 * CASES; i++) {
        if (i % 3 == 2 && i / 3 % 3) continue; /* f16 in every third */
        bench fast = bench_open(NULL), plain = bench_open("plain");
        check(&fast, &plain, &cases[i / 3], types[i % 3], i / 3);
        bench_close(&fast);
        bench_close(&plain);
    }
}

static crank_view like(crank_dtype type, int rank, const int64_t *dims)
{
    return crank_view_make(NULL, type, rank, dims);
}

static void check_cross_entropy(bench *fast, bench *plain, const head_case *h, crank_dtype type, int number)
{
    operands o = draw(plain, h, type);
    crank_view in[5] = {o.x, o.w, o.bias, o.targets, o.weights};
    crank_view out[5] = {like(CRANK_F32, SCALAR), like(CRANK_F32, DIMS(h->n)), like(type, DIMS(h->n, h->d)),
                         like(CRANK_F32, DIMS(h->vocabulary, h->d)), like(type, DIMS(h->vocabulary))};
    for (unsigned mask = 0; mask < (h->bias ? 8 : 4); mask += mask == 4 ? 3 : 1)
        expect_equal(fast, plain, "head_cross_entropy", in, 5, out, 5, 3 | mask << 2, h->chunk, number);
    out[3].dtype = type;
    expect_equal(fast, plain, "head_cross_entropy", in, 5, out, 5, 15, h->chunk, number);
}
static void cross_entropies_equal_plain_ones(void **state)
{
    (void)state;
    over_cases(check_cross_entropy);
}

static void check_logprob(bench *fast, bench *plain, const head_case *h, crank_dtype type, int number)
{
    operands o = draw(plain, h, type);
    crank_view in[4] = {o.x, o.w, o.bias, o.targets};
    crank_view out[3] = {like(CRANK_F32, DIMS(h->n)), like(CRANK_F32, DIMS(h->n)), like(type, DIMS(h->n, h->d))};
    expect_equal(fast, plain, "head_logprob", in, 4, out, 3, 3, h->chunk, number);
    expect_equal(fast, plain, "head_logprob", in, 4, out, 3, 7, h->chunk, number);
}
static void log_probabilities_equal_plain_ones(void **state)
{
    (void)state;
    over_cases(check_logprob);
}

static void check_reverse(bench *fast, bench *plain, const head_case *h, crank_dtype type, int number)
{
    operands o = draw(plain, h, type);
    crank_view logp = fresh(plain, CRANK_F32, DIMS(h->n)), lse = fresh(plain, CRANK_F32, DIMS(h->n));
    crank_head_attributes attributes = {0};
    apply(plain, "head_logprob", VIEWS(o.x, o.w, o.bias, o.targets), VIEWS(logp, lse, ABSENT), &attributes);
    crank_view in[6] = {o.weights, o.x, o.w, o.bias, o.targets, lse};
    crank_view out[3] = {like(type, DIMS(h->n, h->d)), like(CRANK_F32, DIMS(h->vocabulary, h->d)),
                         like(type, DIMS(h->vocabulary))};
    for (unsigned mask = 1; mask < (h->bias ? 8 : 4); mask += mask == 4 ? 3 : 1)
        expect_equal(fast, plain, "head_logprob_backward", in, 6, out, 3, mask, h->chunk, number);
    out[1].dtype = type;
    expect_equal(fast, plain, "head_logprob_backward", in, 6, out, 3, 3, h->chunk, number);
}
static void reverses_equal_plain_ones(void **state)
{
    (void)state;
    over_cases(check_reverse);
}

/* Twice in one node: products are kept, memory moves, the number of rows with targets changes. */
static void a_kept_head_serves_other_targets(void **state)
{
    (void)state;
    bench b = bench_open(NULL), plain = bench_open("plain");
    head_case h = {100, 24, 333, 0, 0, 4, false, 1};
    operands o = draw(&plain, &h, CRANK_F32);
    crank_view in[5] = {o.x, o.w, ABSENT, o.targets, o.weights};
    void *slot = NULL;
    void (*slot_free)(void *) = NULL;
    crank_head_attributes attributes = {0};
    crank_body body = {0};
    for (int time = 0; time < 3; time++) {
        crank_view got[5] = {fresh(&b, CRANK_F32, SCALAR), fresh(&b, CRANK_F32, DIMS(100)),
                             fresh(&b, CRANK_F32, DIMS(100, 24)), fresh(&b, CRANK_F32, DIMS(333, 24)), ABSENT};
        crank_view want[5] = {fresh(&b, CRANK_F32, SCALAR), fresh(&b, CRANK_F32, DIMS(100)),
                              fresh(&b, CRANK_F32, DIMS(100, 24)), fresh(&b, CRANK_F32, DIMS(333, 24)), ABSENT};
        crank_call call = {.device = b.device,
                           .in = in,
                           .inputs = 5,
                           .out = got,
                           .outputs = 5,
                           .attributes = &attributes,
                           .slot = &slot,
                           .slot_free = &slot_free};
        assert_true(b.device->find(b.device, "head_cross_entropy", &call, &body));
        call.workspace = b.device->alloc(b.context, b.device, body.workspace, "a test");
        memset(call.workspace, 0xff, body.workspace);
        assert_ok(b.context, body.run(b.context, &call));
        b.device->free(b.device, call.workspace);
        apply(&plain, "head_cross_entropy", in, 5, want, 5, &attributes);
        for (int i = 0; i < 4; i++) assert_true(distance(&got[i], &want[i]) < 1e-5);
        for (int64_t i = 0; i < 100; i++) set(&o.targets, i, time == 0 && i % 10 ? -1 : (double)i);
    }
    if (slot) slot_free(slot);
    bench_close(&b);
    bench_close(&plain);
}

static void the_same_call_gives_the_same_bits(void **state)
{
    (void)state;
    bench b = bench_open(NULL);
    head_case h = {90, 40, 1500, 32, 0, 3, true, 1};
    operands o = draw(&b, &h, CRANK_BF16);
    crank_view out[2][5];
    crank_head_attributes attributes = {h.chunk};
    for (int k = 0; k < 2; k++) {
        crank_view like_these[5] = {like(CRANK_F32, SCALAR), like(CRANK_F32, DIMS(90)), like(CRANK_BF16, DIMS(90, 40)),
                                    like(CRANK_F32, DIMS(1500, 40)), like(CRANK_BF16, DIMS(1500))};
        for (int i = 0; i < 5; i++) out[k][i] = fresh(&b, like_these[i].dtype, like_these[i].rank, like_these[i].dims);
        apply(&b, "head_cross_entropy", VIEWS(o.x, o.w, o.bias, o.targets, o.weights), out[k], 5, &attributes);
    }
    for (int i = 0; i < 5; i++) assert_memory_equal(out[0][i].data, out[1][i].data, crank_view_bytes(&out[0][i]));
    bench_close(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cross_entropies_equal_plain_ones),  cmocka_unit_test(log_probabilities_equal_plain_ones),
    cmocka_unit_test(reverses_equal_plain_ones),         cmocka_unit_test(a_kept_head_serves_other_targets),
    cmocka_unit_test(the_same_call_gives_the_same_bits),
};
LEVELS_MAIN(tests)
