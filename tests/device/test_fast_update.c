/* Vectorised updates against the plain bodies: types, decay forms, several steps, odd sizes, strided parameters. */
#include "fast_check.h"

typedef struct pair {
    crank_dtype w, g;
} pair;
static const pair pairs[] = {{CRANK_F32, CRANK_F32}, {CRANK_BF16, CRANK_F32}, {CRANK_BF16, CRANK_BF16}};

typedef void update_check(levels *l, pair types, int64_t rows, int64_t columns, int64_t gap);

static void for_shapes(update_check *check)
{
    levels l;
    levels_open(&l);
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < SIZES; i++) {
            check(&l, pairs[p], 1, sizes[i], 0);
            check(&l, pairs[p], 5, sizes[i], 3);
        }
        check(&l, pairs[p], 34, 1001, 0);
        check(&l, pairs[p], 34, 1001, 1);
    }
    levels_close(&l);
}

static crank_view operand(levels *l, crank_dtype type, int64_t rows, int64_t columns, int64_t gap, double low)
{
    return draw_into(&l->b, fresh_rows(&l->b, type, gap, DIMS(rows, columns)), low, 2);
}

/* rate 0.01, clip 0.5 */
static crank_view scalars_at(levels *l, double step)
{
    return GIVEN(&l->b, CRANK_F32, DIMS(8), 0.01, step, 0.5, 0, 1, 0, 0, 0);
}

static void check_adamw(levels *l, pair types, int64_t rows, int64_t columns, int64_t gap)
{
    for (int l2 = 0; l2 < 2; l2++) {
        crank_adam_attributes a = {.beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .epsilon = 1e-8,
                                   .decay = 0.1,
                                   .rate_factor = 3,
                                   .l2 = l2,
                                   .seed = 9,
                                   .index = 4};
        crank_view w = operand(l, types.w, rows, columns, gap, -2), g = operand(l, types.g, rows, columns, 0, -2);
        crank_view m = operand(l, CRANK_F32, rows, columns, gap, -2), v = operand(l, CRANK_F32, rows, columns, 0, 0);
        compare_levels(l, "adamw", VIEWS(w, g, m, v, scalars_at(l, 1 + 30 * l2)), VIEWS(w, m, v), &a,
                       (const int[]){1, 3, 4}, tolerance_of(types.w), true);
    }
}

static void check_sgd(levels *l, pair types, int64_t rows, int64_t columns, int64_t gap)
{
    for (int form = 0; form < 4; form++) { /* no buffer, first step, dampened, nesterov */
        crank_sgd_attributes a = {.momentum = 0.9,
                                  .dampening = form == 2 ? 0.3 : 0,
                                  .decay = 0.1,
                                  .rate_factor = 3,
                                  .nesterov = form == 3,
                                  .seed = 9,
                                  .index = 4};
        crank_view w = operand(l, types.w, rows, columns, gap, -2), g = operand(l, types.g, rows, columns, 0, -2);
        crank_view buffer = form ? operand(l, CRANK_F32, rows, columns, gap, -2) : ABSENT, s = scalars_at(l, form);
        compare_levels(l, "sgd", VIEWS(w, g, buffer, s), VIEWS(w, buffer), &a, (const int[]){1, 3},
                       tolerance_of(types.w), true);
    }
}

static void check_lion(levels *l, pair types, int64_t rows, int64_t columns, int64_t gap)
{
    crank_lion_attributes a = {.beta1 = 0.9, .beta2 = 0.99, .decay = 0.1, .rate_factor = 3, .seed = 9, .index = 4};
    crank_view w = operand(l, types.w, rows, columns, gap, -2), g = operand(l, types.g, rows, columns, 0, -2),
               m = operand(l, CRANK_F32, rows, columns, 0, -2);
    compare_levels(l, "lion", VIEWS(w, g, m, scalars_at(l, 3)), VIEWS(w, m), &a, (const int[]){1, 3},
                   tolerance_of(types.w), true);
}

static void check_assign(levels *l, pair types, int64_t rows, int64_t columns, int64_t gap)
{
    for (int add = 0; add < 2; add++) {
        crank_assign_attributes a = {add};
        crank_view x = operand(l, types.w, rows, columns, gap, -2), t = operand(l, types.g, rows, columns, 1, -2);
        compare_levels(l, "assign", VIEWS(x, t), &t, 1, &a, (const int[]){2}, tolerance_of(types.w), true);
        compare_levels(l, "assign", VIEWS(t, x), &x, 1, &a, (const int[]){2}, tolerance_of(types.w), true);
    }
}

static void adamw_equals_the_plain_body(void **state)
{
    (void)state;
    for_shapes(check_adamw);
}
static void sgd_equals_the_plain_body(void **state)
{
    (void)state;
    for_shapes(check_sgd);
}
static void lion_equals_the_plain_body(void **state)
{
    (void)state;
    for_shapes(check_lion);
}
static void assign_equals_the_plain_body(void **state)
{
    (void)state;
    for_shapes(check_assign);
}

/* Every bf16 weight is one of the two neighbours, the one that its own draw chooses: but for a draw on the edge, the
 * same. */
static void stochastic_rounding_uses_the_draws_of_the_plain_body(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    enum { N = 40001 };
    crank_sgd_attributes a = {.rate_factor = 1, .seed = 3, .index = 4};
    crank_view           w = drawn(&l.b, CRANK_BF16, -2, 2, DIMS(N)), g = drawn(&l.b, CRANK_F32, -0.5, 0.5, DIMS(N)),
               expected = cloned(&l.b, &w), s = scalars_at(&l, 7);
    apply(&l.b, "sgd", VIEWS(expected, g, ABSENT, s), VIEWS(expected, ABSENT), &a);
    for (int level = 1; level < l.count; level++) {
        crank_view got = cloned(&l.b, &w);
        int        different = 0;
        apply(&l.device[level], "sgd", VIEWS(got, g, ABSENT, s), VIEWS(got, ABSENT), &a);
        for (int i = 0; i < N; i++) different += value(&got, i) != value(&expected, i);
        assert_in_range(different, 0, 20); /* of 40001: the last f32 bit against 16 bits of draw */
    }
    levels_close(&l);
}

typedef struct adam8 {
    crank_view w, g, codes_m, codes_v, amax_m, amax_v;
} adam8;

static void adam8_step(bench *b, const adam8 *s, const crank_adam_attributes *a, const crank_view *scalars)
{
    apply(b, "adamw8bit", VIEWS(s->w, s->g, s->codes_m, s->codes_v, s->amax_m, s->amax_v, *scalars),
          VIEWS(s->w, s->codes_m, s->codes_v, s->amax_m, s->amax_v), a);
}

/* Codes may differ by one where a value lies on the edge of two; that must be rare. */
static void assert_codes_alike(const crank_view *got, const crank_view *want, const char *level)
{
    int different = 0, n = (int)crank_view_count(want);
    for (int i = 0; i < n; i++) {
        double off = fabs(value(got, i) - value(want, i));
        different += off > 0;
        if (off > 1) fail_msg("code %d is %g, not %g at level %s", i, value(got, i), value(want, i), level);
    }
    if (different > 1 + n / 200) fail_msg("%d of %d codes differ at level %s", different, n, level);
}

static void check_adam8(levels *l, pair types, int64_t n, bool l2)
{
    crank_adam_attributes a = {
        .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.1, .rate_factor = 3, .l2 = l2, .seed = 5, .index = 6};
    int64_t    blocks = (n + 255) / 256;
    adam8      s = {drawn(&l->b, types.w, -2, 2, DIMS(n)),         drawn(&l->b, types.g, -2, 2, DIMS(n)),
                    drawn(&l->b, CRANK_U8, 0, 256, DIMS(n)),       drawn(&l->b, CRANK_U8, 0, 256, DIMS(n)),
                    drawn(&l->b, CRANK_F32, 0.1, 2, DIMS(blocks)), drawn(&l->b, CRANK_F32, 0.1, 2, DIMS(blocks))};
    crank_view scalars = scalars_at(l, 5);
    for (int64_t i = 0; i < n; i += 3) set(&s.g, i, value(&s.g, i) * 1e-4); /* small states reach all decades */
    for (int64_t i = 256; i < n && i < 512; i++)
        set(&s.g, i, 0), set(&s.codes_m, i, 127), set(&s.codes_v, i, 0); /* a block of zeros */
    if (n > 600) set(&s.g, 600, NAN), set(&s.g, 601, -INFINITY);
    adam8 expected = {cloned(&l->b, &s.w),       s.g,
                      cloned(&l->b, &s.codes_m), cloned(&l->b, &s.codes_v),
                      cloned(&l->b, &s.amax_m),  cloned(&l->b, &s.amax_v)};
    adam8_step(&l->b, &expected, &a, &scalars);
    for (int level = 1; level < l->count; level++) {
        adam8 got = {cloned(&l->b, &s.w),       s.g,
                     cloned(&l->b, &s.codes_m), cloned(&l->b, &s.codes_v),
                     cloned(&l->b, &s.amax_m),  cloned(&l->b, &s.amax_v)};
        adam8_step(&l->device[level], &got, &a, &scalars);
        assert_true(distance(&got.w, &expected.w) <= tolerance_of(types.w));
        assert_true(distance(&got.amax_m, &expected.amax_m) <= 1e-6 && distance(&got.amax_v, &expected.amax_v) <= 1e-6);
        assert_codes_alike(&got.codes_m, &expected.codes_m, l->names[level]);
        assert_codes_alike(&got.codes_v, &expected.codes_v, l->names[level]);
    }
}

static void adamw8bit_equals_the_plain_body(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    const int64_t counts[] = {1, 7, 63, 255, 256, 257, 1000, 40001};
    for (int p = 0; p < 3; p++)
        for (int k = 0; k < 8; k++) check_adam8(&l, pairs[p], counts[k], k % 2);
    levels_close(&l);
}

/* From codes alone (beta 1, no gradient): what is decoded is encoded as the same code. */
static void codes_survive_a_step_that_changes_nothing(void **state)
{
    levels l;
    (void)state;
    levels_open(&l);
    crank_adam_attributes a = {.beta1 = 1 - 1e-12, .beta2 = 1 - 1e-12, .epsilon = 1e-8, .rate_factor = 0};
    crank_view            scalars = scalars_at(&l, 5);
    for (int level = 0; level < l.count; level++) {
        bench *b = level ? &l.device[level] : &l.b;
        adam8  s = {drawn(&l.b, CRANK_F32, -1, 1, DIMS(256)), drawn(&l.b, CRANK_F32, 0, 0, DIMS(256)),
                    fresh(&l.b, CRANK_U8, DIMS(256)),         fresh(&l.b, CRANK_U8, DIMS(256)),
                    drawn(&l.b, CRANK_F32, 1, 1, DIMS(1)),    drawn(&l.b, CRANK_F32, 1, 1, DIMS(1))};
        for (int i = 0; i < 256; i++) set(&s.codes_m, i, i), set(&s.codes_v, i, i);
        adam8_step(b, &s, &a, &scalars);
        for (int i = 0; i < 256; i++)
            if (value(&s.codes_m, i) != i || value(&s.codes_v, i) != i)
                fail_msg("code %d became %g and %g at level %s", i, value(&s.codes_m, i), value(&s.codes_v, i),
                         l.names[level]);
    }
    levels_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_equals_the_plain_body),
        cmocka_unit_test(sgd_equals_the_plain_body),
        cmocka_unit_test(lion_equals_the_plain_body),
        cmocka_unit_test(assign_equals_the_plain_body),
        cmocka_unit_test(stochastic_rounding_uses_the_draws_of_the_plain_body),
        cmocka_unit_test(adamw8bit_equals_the_plain_body),
        cmocka_unit_test(codes_survive_a_step_that_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
