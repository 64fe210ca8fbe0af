/* Fast attention equals the plain one: packed segments, masks, windows, grouped heads, odd head dims, caches; at every
 * level. */
#include "levels.h"

typedef struct attention_case {
    int64_t hq, hk, d, gap;
    crank_mask_kind mask;
    int64_t window;
    double range;    /* of q and k */
    int lengths[12]; /* of the segments; -1 ends; the first is skipped tokens, as is what remains of n */
    int64_t n;
} attention_case;

static const attention_case cases[] = {
    {1, 1, 8, 0, CRANK_MASK_CAUSAL, 0, 1, {0, 1, -1}, 1},
    {2, 2, 64, 0, CRANK_MASK_CAUSAL, 0, 1, {0, 65, 1, 0, 7, 130, -1}, 203},
    {2, 1, 48, 0, CRANK_MASK_NONE, 0, 1, {0, 63, 63, 2, -1}, 128},
    {6, 2, 32, 5, CRANK_MASK_CAUSAL, 0, 2, {3, 257, 20, -1}, 285},
    {4, 4, 63, 1, CRANK_MASK_NONE, 0, 1, {0, 33, 0, 0, 65, -1}, 98},
    {3, 1, 65, 2, CRANK_MASK_CAUSAL, 9, 1, {0, 150, 11, -1}, 161},
    {2, 2, 16, 0, CRANK_MASK_NONE, 40, 1, {0, 200, 5, -1}, 205},
    {2, 2, 80, 0, CRANK_MASK_CAUSAL, 1, 1, {0, 30, 30, -1}, 60},
    {1, 1, 1, 0, CRANK_MASK_CAUSAL, 0, 1, {0, 40, -1}, 40},
    {2, 1, 7, 3, CRANK_MASK_NONE, 0, 1, {1, 20, 9, -1}, 37},
    {1, 1, 128, 0, CRANK_MASK_CAUSAL, 0, 4, {0, 270, -1}, 270},
    {2, 2, 257, 0, CRANK_MASK_CAUSAL, 0, 1, {0, 65, -1}, 65},
    {8, 1, 24, 0, CRANK_MASK_CAUSAL, 110, 1, {0, 280, -1}, 280},
    {100, 1, 8, 0, CRANK_MASK_CAUSAL, 0, 1, {0, 7, 30, -1}, 37},
    {2, 2, 96, 0, CRANK_MASK_CAUSAL, 0, 1, {-1}, 5},
};
enum { CASES = sizeof cases / sizeof *cases };

/* First token of each segment, and the end. */
static crank_view segments_of(bench *b, const attention_case *p)
{
    double first[16] = {0};
    int64_t count = 0, token = 0;
    for (int i = 0; p->lengths[i] >= 0; i++) first[count++] = (double)(token += p->lengths[i]);
    return given(b, CRANK_I32, first, DIMS(count ? count : 1));
}

static double tolerance(crank_dtype type)
{
    return type == CRANK_F32 ? 1e-5 : 1e-2;
}

/* Relative to the norm of `want`, or to values of 0.01 where it is all but zero (dq of a token that sees itself alone).
 */
static void expect_near(const crank_view *got, const crank_view *want, crank_dtype type, const char *what, int number)
{
    double norm = 0;
    for (int64_t i = 0; i < crank_view_count(want); i++) norm += value(want, i) * value(want, i);
    double error =
        distance(got, want) * fmin(1, fmax(sqrt(norm), 1e-30) / (0.01 * sqrt((double)crank_view_count(want))));
    if (!(error <= tolerance(type)))
        fail_msg("case %d, %s: %s is off by %g", number, crank_dtype_name(type), what, error);
}

static crank_view heads(bench *b, crank_dtype type, const attention_case *p, int64_t n, int64_t h, double range)
{
    return draw_into(b, fresh_rows(b, type, p->gap, DIMS(n, h, p->d)), -range, range);
}

static const crank_dtype types[] = {CRANK_F32, CRANK_BF16, CRANK_F16};

static void attention_equals_plain_attention(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * 3; i++) {
        bench fast = bench_open(NULL), plain = bench_open("plain");
        const attention_case *p = &cases[i / 3];
        crank_dtype type = types[i % 3];
        crank_view q = heads(&plain, type, p, p->n, p->hq, p->range), k = heads(&plain, type, p, p->n, p->hk, p->range);
        crank_view v = heads(&plain, type, p, p->n, p->hk, 1), segments = segments_of(&plain, p);
        crank_view o[2] = {fresh(&plain, type, DIMS(p->n, p->hq, p->d)), heads(&plain, type, p, p->n, p->hq, 1)};
        crank_view lse[2] = {fresh(&plain, CRANK_F32, DIMS(p->hq, p->n)),
                             fresh_rows(&plain, CRANK_F32, 3, DIMS(p->hq, p->n))};
        crank_attention_attributes attributes = {p->mask, p->window, 1 / sqrt((double)p->d), 0};
        apply(&plain, "attention", VIEWS(q, k, v, segments), VIEWS(o[0], lse[0]), &attributes);
        apply(&fast, "attention", VIEWS(q, k, v, segments), VIEWS(o[1], lse[1]), &attributes);
        expect_near(&o[1], &o[0], type, "o", i / 3);
        expect_near(&lse[1], &lse[0], CRANK_F32, "lse", i / 3);
        bench_close(&fast);
        bench_close(&plain);
    }
}

/* Operands of the reverse, with o and lse of the plain forward pass. */
static void reverse_operands(bench *plain, const attention_case *p, crank_dtype type, crank_view in[7])
{
    crank_attention_attributes attributes = {p->mask, p->window, 1 / sqrt((double)p->d), 0};
    in[0] = heads(plain, type, p, p->n, p->hq, 1);
    in[1] = heads(plain, type, p, p->n, p->hq, p->range);
    in[2] = heads(plain, type, p, p->n, p->hk, p->range);
    in[3] = heads(plain, type, p, p->n, p->hk, 1);
    in[4] = heads(plain, type, p, p->n, p->hq, 1);
    in[5] = fresh_rows(plain, CRANK_F32, 2, DIMS(p->hq, p->n));
    in[6] = segments_of(plain, p);
    apply(plain, "attention", VIEWS(in[1], in[2], in[3], in[6]), VIEWS(in[4], in[5]), &attributes);
}

static void reverse_equals_plain_reverse(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * 3; i++) {
        bench fast = bench_open(NULL), plain = bench_open("plain");
        const attention_case *p = &cases[i / 3];
        crank_dtype type = types[i % 3];
        crank_view in[7], want[3], got[3];
        static const char *const names[3] = {"dq", "dk", "dv"};
        crank_attention_attributes attributes = {p->mask, p->window, 1 / sqrt((double)p->d), 0};
        reverse_operands(&plain, p, type, in);
        for (int k = 0; k < 3; k++) {
            want[k] = heads(&plain, type, p, p->n, k ? p->hk : p->hq, 1);
            got[k] = heads(&plain, type, p, p->n, k ? p->hk : p->hq, 1);
        }
        apply(&plain, "attention_backward", in, 7, want, 3, &attributes);
        apply(&fast, "attention_backward", in, 7, got, 3, &attributes);
        for (int k = 0; k < 3; k++) expect_near(&got[k], &want[k], type, names[k], i / 3);
        bench_close(&fast);
        bench_close(&plain);
    }
}

static bench bench_of_threads(int threads)
{
    bench b = {.context = crank_context_new()};
    crank_set_threads(b.context, threads);
    b.device = crank_device_cpu(b.context, NULL);
    assert_non_null(b.device);
    return b;
}

/* Few heads and many threads split the reverse otherwise; every sum keeps its order. */
static void bits_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * CASES; i++) {
        const attention_case *p = &cases[i / 3];
        crank_dtype type = types[i % 3];
        bench one = bench_of_threads(1), many = bench_of_threads(7);
        crank_view in[7], out[2][5];
        crank_attention_attributes attributes = {p->mask, p->window, 1 / sqrt((double)p->d), 0};
        reverse_operands(&one, p, type, in);
        for (int k = 0; k < 2; k++) {
            for (int j = 0; j < 4; j++) out[k][j] = fresh(&one, type, DIMS(p->n, j % 3 ? p->hk : p->hq, p->d));
            out[k][4] = fresh(&one, CRANK_F32, DIMS(p->hq, p->n));
            bench *b = k ? &many : &one;
            apply(b, "attention_backward", in, 7, out[k], 3, &attributes);
            apply(b, "attention", VIEWS(in[1], in[2], in[3], in[6]), VIEWS(out[k][3], out[k][4]), &attributes);
        }
        for (int j = 0; j < 5; j++) assert_memory_equal(out[0][j].data, out[1][j].data, crank_view_bytes(&out[0][j]));
        bench_close(&one);
        bench_close(&many);
    }
}

static void cached_attention_equals_plain_attention(void **state)
{
    (void)state;
    static const int64_t tokens[][3] = {{1, 0, 4},   {1, 37, 40},    {1, 1300, 1301},
                                        {5, 20, 40}, {130, 70, 200}, {2, 511, 600}};
    for (size_t i = 0; i < 3 * CASES * sizeof tokens / sizeof *tokens; i++) {
        const attention_case *p = &cases[i / 3 % CASES];
        const int64_t *t = tokens[i / 3 / CASES];
        crank_dtype type = types[i % 3];
        if (t[1] > 1000 && i / 3 % CASES > 5) continue; /* the plain body takes its time */
        bench fast = bench_open(NULL), plain = bench_open("plain");
        crank_view q = heads(&plain, type, p, t[0], p->hq, p->range), k = heads(&plain, type, p, t[2], p->hk, p->range);
        crank_view v = heads(&plain, type, p, t[2], p->hk, 1),
                   position = given(&plain, CRANK_I32, (double[]){(double)t[1]}, DIMS(1));
        crank_view o[2] = {fresh(&plain, type, DIMS(t[0], p->hq, p->d)), heads(&plain, type, p, t[0], p->hq, 1)};
        crank_attention_attributes attributes = {p->mask, p->window, 1 / sqrt((double)p->d), 0};
        apply(&plain, "attention_cached", VIEWS(q, k, v, position), VIEWS(o[0]), &attributes);
        apply(&fast, "attention_cached", VIEWS(q, k, v, position), VIEWS(o[1]), &attributes);
        expect_near(&o[1], &o[0], type, "o", (int)i);
        bench_close(&fast);
        bench_close(&plain);
    }
}

static void cache_keeps_its_other_rows(void **state)
{
    (void)state;
    bench b = bench_open(NULL);
    crank_view x = drawn(&b, CRANK_BF16, -1, 1, DIMS(3, 2, 5)), cache = drawn(&b, CRANK_BF16, -1, 1, DIMS(9, 2, 5));
    crank_view before = copied(&b, &cache, CRANK_BF16), other = fresh(&b, CRANK_BF16, DIMS(9, 2, 5));
    crank_view position = GIVEN(&b, CRANK_I32, DIMS(1), 4);
    apply(&b, "cache_write", VIEWS(x, position, before), VIEWS(other), NULL);
    apply(&b, "cache_write", VIEWS(x, position, cache), VIEWS(cache), NULL);
    for (int64_t i = 0; i < 90; i++) {
        bool is_new = i >= 40 && i < 70;
        assert_true(value(&cache, i) == (is_new ? value(&x, i - 40) : value(&before, i)));
        assert_true(value(&other, i) == value(&cache, i));
    }
    crank_view late = GIVEN(&b, CRANK_I32, DIMS(1), 7);
    assert_int_equal(crank_run_once(b.context, b.device, "cache_write", VIEWS(x, late, cache), VIEWS(cache), NULL),
                     CRANK_USAGE);
    bench_close(&b);
}

static void attention_refuses_segments_out_of_order(void **state)
{
    (void)state;
    bench b = bench_open(NULL);
    crank_view x = drawn(&b, CRANK_F32, -1, 1, DIMS(8, 1, 8)), o = fresh(&b, CRANK_F32, DIMS(8, 1, 8)),
               lse = fresh(&b, CRANK_F32, DIMS(1, 8));
    crank_view bad[2] = {GIVEN(&b, CRANK_I32, DIMS(3), 0, 5, 4), GIVEN(&b, CRANK_I32, DIMS(2), 0, 9)};
    crank_attention_attributes attributes = {CRANK_MASK_CAUSAL, 0, 1, 0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            crank_run_once(b.context, b.device, "attention", VIEWS(x, x, x, bad[i]), VIEWS(o, lse), &attributes),
            CRANK_USAGE);
    bench_close(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(attention_equals_plain_attention),
    cmocka_unit_test(reverse_equals_plain_reverse),
    cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
    cmocka_unit_test(cached_attention_equals_plain_attention),
    cmocka_unit_test(cache_keeps_its_other_rows),
    cmocka_unit_test(attention_refuses_segments_out_of_order),
};
LEVELS_MAIN(tests)
