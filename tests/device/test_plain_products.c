/* Plain bodies built of products: matmul, attention, the output head. */
#include "check.h"

static void matmul_of_small_matrices(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view a = GIVEN(&b, CRANK_F64, DIMS(2, 3), 1, 2, 3, 4, 5, 6),
               at = GIVEN(&b, CRANK_F64, DIMS(3, 2), 1, 4, 2, 5, 3, 6);
    crank_view m = GIVEN(&b, CRANK_F64, DIMS(3, 2), 1, -1, 0, 2, 3, 1),
               mt = GIVEN(&b, CRANK_F64, DIMS(2, 3), 1, 0, 3, -1, 2, 1);
    crank_view bias = GIVEN(&b, CRANK_F64, DIMS(2), 100, 200), c0 = GIVEN(&b, CRANK_F64, DIMS(2, 2), 1, 2, 3, 4),
               c = fresh_rows(&b, CRANK_F64, 2, DIMS(2, 2));
    for (int form = 0; form < 4; form++) {
        crank_matmul_attributes plain = {form & 1, form >> 1, 1};
        apply(&b, "matmul", VIEWS(form & 1 ? at : a, form >> 1 ? mt : m, ABSENT, ABSENT), VIEWS(c), &plain);
        ASSERT_VALUES(&c, 0, 10, 6, 22, 12);
    }
    apply(&b, "matmul", VIEWS(a, m, bias, c0), VIEWS(c0), &(crank_matmul_attributes){false, false, 2}); /* in place */
    ASSERT_VALUES(&c0, 0, 121, 214, 147, 228);
    bench_close(&b);
}

static void matmul_spreads_a_batch_of_one(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view a = GIVEN(&b, CRANK_BF16, DIMS(2, 1, 2), 1, 2, 3, 4), m = GIVEN(&b, CRANK_BF16, DIMS(2, 1), 10, 1),
               c = fresh(&b, CRANK_F32, DIMS(2, 1, 1));
    apply(&b, "matmul", VIEWS(a, m, ABSENT, ABSENT), VIEWS(c), &(crank_matmul_attributes){false, false, 1});
    ASSERT_VALUES(&c, 0, 12, 34);
    crank_view empty = fresh(&b, CRANK_F32, DIMS(2, 0)), none = fresh(&b, CRANK_F32, DIMS(0, 2)),
               zeros = fresh(&b, CRANK_F32, DIMS(2, 2));
    apply(&b, "matmul", VIEWS(empty, none, ABSENT, ABSENT), VIEWS(zeros), &(crank_matmul_attributes){false, false, 1});
    ASSERT_VALUES(&zeros, 0, 0, 0, 0, 0);
    bench_close(&b);
}

typedef struct attention_case {
    crank_view                 q, k, v, segments, o, lse;
    crank_attention_attributes attributes;
} attention_case;

enum { TOKENS = 7, HQ = 4, HK = 2, D = 3 };

/* Two rows of 4 and 3 tokens with an empty one between; rows of a wider buffer. */
static attention_case attention_make(bench *b, crank_mask_kind mask, int64_t window)
{
    attention_case c = {
        .q = draw_into(b, fresh_rows(b, CRANK_F64, 2, DIMS(TOKENS, HQ, D)), -1, 1),
        .k = drawn(b, CRANK_F64, -1, 1, DIMS(TOKENS, HK, D)),
        .v = drawn(b, CRANK_F64, -1, 1, DIMS(TOKENS, HK, D)),
        .segments = GIVEN(b, CRANK_I32, DIMS(4), 0, 4, 4, 7),
        .o = fresh(b, CRANK_F64, DIMS(TOKENS, HQ, D)),
        .lse = fresh(b, CRANK_F64, DIMS(HQ, TOKENS)),
        .attributes = {mask, window, 0.6},
    };
    apply(b, "attention", VIEWS(c.q, c.k, c.v, c.segments), VIEWS(c.o, c.lse), &c.attributes);
    return c;
}

/* The whole score matrix of a head, by the text of the contract. */
static void attention_equals_softmax_of_masked_scores(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int form = 0; form < 4; form++) {
        attention_case c = attention_make(&b, form & 1 ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE, form & 2);
        for (int h = 0; h < HQ; h++)
            for (int i = 0; i < TOKENS; i++) {
                double p[TOKENS], sum = 0, o[D] = {0};
                for (int j = 0; j < TOKENS; j++) {
                    double s = 0;
                    for (int x = 0; x < D; x++)
                        s += value(&c.q, (i * HQ + h) * D + x) * value(&c.k, (j * HK + h / 2) * D + x);
                    bool seen = (i < 4) == (j < 4) && (!(form & 1) || j <= i) && (!(form & 2) || abs(i - j) < 2);
                    sum += p[j] = seen ? exp(0.6 * s) : 0;
                }
                for (int j = 0; j < TOKENS; j++)
                    for (int x = 0; x < D; x++) o[x] += p[j] / sum * value(&c.v, (j * HK + h / 2) * D + x);
                for (int x = 0; x < D; x++) assert_near(value(&c.o, (i * HQ + h) * D + x), o[x], 1e-14);
                assert_near(value(&c.lse, h * TOKENS + i), log(sum), 1e-14);
            }
    }
    bench_close(&b);
}

static void attention_reverse_equals_central_differences(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int form = 0; form < 4; form++) {
        attention_case c = attention_make(&b, form & 1 ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE, form & 2);
        crank_view     dout = drawn(&b, CRANK_F64, -1, 1, DIMS(TOKENS, HQ, D)), seeds[] = {dout, ABSENT};
        crank_view     gradients[3];
        for (int k = 0; k < 3; k++) gradients[k] = fresh(&b, CRANK_F64, DIMS(TOKENS, k ? HK : HQ, D));
        apply(&b, "attention_backward", VIEWS(dout, c.q, c.k, c.v, c.o, c.lse, c.segments), gradients, 3,
              &c.attributes);
        for (int k = 0; k < 3; k++)
            assert_gradient(&b, "attention", VIEWS(c.q, c.k, c.v, c.segments), VIEWS(c.o, c.lse), &c.attributes, seeds,
                            k, &gradients[k]);
    }
    bench_close(&b);
}

static void attention_refuses_segments_out_of_order(void **state)
{
    (void)state;
    bench          b = bench_open("plain");
    attention_case c = attention_make(&b, CRANK_MASK_NONE, 0);
    const double   wrong[3][4] = {{0, 5, 4, 7}, {0, 4, 4, 8}, {-1, 4, 4, 7}};
    for (int k = 0; k < 3; k++) {
        crank_view segments = given(&b, CRANK_I32, wrong[k], DIMS(4));
        assert_int_equal(crank_run_once(b.context, b.device, "attention", VIEWS(c.q, c.k, c.v, segments),
                                        VIEWS(c.o, c.lse), &c.attributes),
                         CRANK_USAGE);
    }
    bench_close(&b);
}

/* Tokens 0..3, then 4..6, through the cache give what one causal row gives. */
static void cached_attention_equals_causal_attention(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view q = drawn(&b, CRANK_F64, -1, 1, DIMS(TOKENS, HQ, D)),
               k = drawn(&b, CRANK_F64, -1, 1, DIMS(TOKENS, HK, D)),
               v = drawn(&b, CRANK_F64, -1, 1, DIMS(TOKENS, HK, D));
    crank_view whole = GIVEN(&b, CRANK_I32, DIMS(2), 0, TOKENS), o = fresh(&b, CRANK_F64, DIMS(TOKENS, HQ, D)),
               lse = fresh(&b, CRANK_F64, DIMS(HQ, TOKENS));
    crank_view cache_k = drawn(&b, CRANK_F64, 7, 8, DIMS(9, HK, D)),
               cache_v = drawn(&b, CRANK_F64, 7, 8, DIMS(9, HK, D));
    crank_attention_attributes a = {CRANK_MASK_CAUSAL, 3, 0.5, 0};
    apply(&b, "attention", VIEWS(q, k, v, whole), VIEWS(o, lse), &a);
    for (int first = 0; first < TOKENS; first += 4) {
        int        count = first ? 3 : 4;
        crank_view position = GIVEN(&b, CRANK_I32, DIMS(1), first), got = fresh(&b, CRANK_F64, DIMS(count, HQ, D)),
                   part[3] = {q, k, v}, expected = o;
        for (int x = 0; x < 3; x++)
            part[x].dims[0] = count, part[x].data = (double *)part[x].data + first * part[x].strides[0];
        expected.dims[0] = count, expected.data = (double *)o.data + first * o.strides[0];
        apply(&b, "cache_write", VIEWS(part[1], position, cache_k), VIEWS(cache_k), NULL);
        apply(&b, "cache_write", VIEWS(part[2], position, cache_v), VIEWS(cache_v), NULL);
        apply(&b, "attention_cached", VIEWS(part[0], cache_k, cache_v, position), VIEWS(got), &a);
        assert_true(distance(&got, &expected) < 1e-14);
    }
    crank_view position = GIVEN(&b, CRANK_I32, DIMS(1), 3);
    assert_int_equal(crank_run_once(b.context, b.device, "cache_write", VIEWS(k, position, cache_k), &cache_k, 1, NULL),
                     CRANK_USAGE);
    assert_string_equal(crank_message(b.context), "attention cache: 7 tokens at position 3, the cache holds 9");
    bench_close(&b);
}

enum { ROWS = 4, WIDTH = 3, VOCABULARY = 5 };
typedef struct head_case {
    crank_view x, w, bias, targets, weights, logp, lse, unit;
} head_case;

static head_case head_make(bench *b)
{
    head_case h = {
        .x = drawn(b, CRANK_F64, -1, 1, DIMS(ROWS, WIDTH)),
        .w = drawn(b, CRANK_F64, -1, 1, DIMS(VOCABULARY, WIDTH)),
        .bias = drawn(b, CRANK_F64, -1, 1, DIMS(VOCABULARY)),
        .targets = GIVEN(b, CRANK_I32, DIMS(ROWS), 2, 4, -100, 2),
        .weights = GIVEN(b, CRANK_F64, DIMS(ROWS), 1, 0.5, 3, -2),
        .logp = fresh(b, CRANK_F64, DIMS(ROWS)),
        .lse = fresh(b, CRANK_F64, DIMS(ROWS)),
        .unit = fresh(b, CRANK_F64, DIMS(ROWS, WIDTH)),
    };
    return h;
}

static void head_logprob_equals_log_softmax_of_the_product(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    head_case             h = head_make(&b);
    crank_head_attributes a = {0};
    crank_view            z = fresh(&b, CRANK_F64, DIMS(ROWS, VOCABULARY)), ids = h.targets,
               picked = fresh(&b, CRANK_F64, DIMS(ROWS, 1));
    apply(&b, "head_logprob", VIEWS(h.x, h.w, h.bias, h.targets), VIEWS(h.logp, h.lse, h.unit), &a);
    apply(&b, "matmul", VIEWS(h.x, h.w, h.bias, ABSENT), VIEWS(z), &(crank_matmul_attributes){false, true, 1});
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int v = 0; v < VOCABULARY; v++) sum += exp(value(&z, i * VOCABULARY + v));
        assert_near(value(&h.lse, i), log(sum), 1e-14);
    }
    apply(&b, "softmax", VIEWS(z), VIEWS(z), &(crank_softmax_attributes){true});
    ids.rank = 2, ids.dims[1] = 1, ids.strides[1] = 1;
    apply(&b, "pick", VIEWS(z, ids), VIEWS(picked), NULL);
    for (int i = 0; i < ROWS; i++) assert_near(value(&h.logp, i), value(&picked, i), 1e-14);
    bench_close(&b);
}

static void head_unit_is_the_gradient_of_each_logprob(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    head_case             h = head_make(&b);
    crank_head_attributes a = {0};
    crank_view            ones = GIVEN(&b, CRANK_F64, DIMS(ROWS), 1, 1, 1, 1), seeds[] = {ones, ABSENT, ABSENT};
    apply(&b, "head_logprob", VIEWS(h.x, h.w, ABSENT, h.targets), VIEWS(h.logp, h.lse, h.unit), &a);
    crank_view unit = copied(&b, &h.unit, CRANK_F64);
    assert_gradient(&b, "head_logprob", VIEWS(h.x, h.w, ABSENT, h.targets), VIEWS(h.logp, h.lse, h.unit), &a, seeds, 0,
                    &unit);
    bench_close(&b);
}

static void head_reverses_equal_central_differences(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    head_case             h = head_make(&b);
    crank_head_attributes a = {0};
    crank_view            d[3], numerator = fresh(&b, CRANK_F64, SCALAR), one = GIVEN(&b, CRANK_F64, SCALAR, 1);
    crank_view            seeds[] = {h.weights, ABSENT, ABSENT}, seeds_ce[] = {one, ABSENT, ABSENT, ABSENT, ABSENT};
    d[0] = fresh(&b, CRANK_F64, DIMS(ROWS, WIDTH)), d[1] = fresh(&b, CRANK_F64, DIMS(VOCABULARY, WIDTH)),
    d[2] = fresh(&b, CRANK_F64, DIMS(VOCABULARY));
    const crank_view in[] = {h.x, h.w, h.bias, h.targets}, out[] = {h.logp, h.lse, ABSENT};
    apply(&b, "head_logprob", in, 4, out, 3, &a);
    apply(&b, "head_logprob_backward", VIEWS(h.weights, h.x, h.w, h.bias, h.targets, h.lse), d, 3, &a);
    for (int k = 0; k < 3; k++) assert_gradient(&b, "head_logprob", in, 4, out, 3, &a, seeds, k, &d[k]);
    const crank_view in_ce[] = {h.x, h.w, h.bias, h.targets, h.weights},
                     out_ce[] = {numerator, h.logp, ABSENT, ABSENT, ABSENT};
    apply(&b, "head_cross_entropy", in_ce, 5, VIEWS(numerator, h.logp, d[0], d[1], d[2]), &a);
    double expected = 0;
    for (int i = 0; i < ROWS; i++) expected -= value(&h.weights, i) * value(&h.logp, i);
    assert_near(value(&numerator, 0), expected, 1e-14);
    for (int k = 0; k < 3; k++) assert_gradient(&b, "head_cross_entropy", in_ce, 5, out_ce, 5, &a, seeds_ce, k, &d[k]);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_of_small_matrices),
        cmocka_unit_test(matmul_spreads_a_batch_of_one),
        cmocka_unit_test(attention_equals_softmax_of_masked_scores),
        cmocka_unit_test(attention_reverse_equals_central_differences),
        cmocka_unit_test(attention_refuses_segments_out_of_order),
        cmocka_unit_test(cached_attention_equals_causal_attention),
        cmocka_unit_test(head_logprob_equals_log_softmax_of_the_product),
        cmocka_unit_test(head_unit_is_the_gradient_of_each_logprob),
        cmocka_unit_test(head_reverses_equal_central_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
