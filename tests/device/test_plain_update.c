/* Plain bodies of updates and step scalars, against the equations of torch and of the papers written out once more. */
#include "check.h"

enum { N = 9 };

/* rate 0.1 at step `count`, clip factor 0.5 */
static crank_view scalars_at(bench *b, double count, double skip)
{
    return GIVEN(b, CRANK_F32, DIMS(8), 0.125, count, 0.5, skip, 4, 0, 0, 0);
}

static void adamw_first_step_moves_by_the_rate(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view w = GIVEN(&b, CRANK_F64, DIMS(3), 1, 2, 3), g = GIVEN(&b, CRANK_F64, DIMS(3), 5, -0.01, 0);
    crank_view m = GIVEN(&b, CRANK_F64, DIMS(3), 0, 0, 0), v = GIVEN(&b, CRANK_F64, DIMS(3), 0, 0, 0),
               s = scalars_at(&b, 1, 0);
    crank_adam_attributes a = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-12, .rate_factor = 2};
    apply(&b, "adamw", VIEWS(w, g, m, v, s), VIEWS(w, m, v), &a);
    ASSERT_VALUES(&w, 1e-8, 0.75, 2.25, 3);
    ASSERT_VALUES(&m, 1e-12, 0.25, -0.0005, 0);
    bench_close(&b);
}

/* Three steps of torch.optim.AdamW and of Adam with L2 decay, in the algorithm's own order. */
static void adamw_follows_torch(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int l2 = 0; l2 < 2; l2++) {
        crank_adam_attributes a = {
            .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .decay = 0.3, .rate_factor = 1, .l2 = l2};
        crank_view w = drawn(&b, CRANK_F32, -1, 1, DIMS(N)), m = drawn(&b, CRANK_F32, 0, 0, DIMS(N)),
                   v = drawn(&b, CRANK_F32, 0, 0, DIMS(N));
        double weight[N], first[N] = {0}, second[N] = {0};
        for (int i = 0; i < N; i++) weight[i] = value(&w, i);
        for (int t = 1; t <= 3; t++) {
            crank_view g = drawn(&b, CRANK_F32, -1, 1, DIMS(N)), s = scalars_at(&b, t, 0);
            apply(&b, "adamw", VIEWS(w, g, m, v, s), VIEWS(w, m, v), &a);
            for (int i = 0; i < N; i++) {
                double gradient = value(&g, i) * 0.5 + (l2 ? 0.3 * weight[i] : 0);
                if (!l2) weight[i] *= 1 - 0.125 * 0.3;
                first[i] += (gradient - first[i]) * 0.2;
                second[i] = second[i] * 0.95 + gradient * gradient * 0.05;
                double denominator = sqrt(second[i]) / sqrt(1 - pow(0.95, t)) + 1e-3;
                weight[i] -= 0.125 / (1 - pow(0.8, t)) * first[i] / denominator;
            }
            assert_values(&w, weight, 1e-6);
            assert_values(&v, second, 1e-6);
        }
    }
    bench_close(&b);
}

static void sgd_follows_torch(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    for (int form = 0; form < 3; form++) { /* plain, momentum with dampening, nesterov */
        crank_sgd_attributes a = {.momentum = form ? 0.9 : 0,
                                  .dampening = form == 1 ? 0.5 : 0,
                                  .decay = 0.1,
                                  .rate_factor = 1,
                                  .nesterov = form == 2};
        crank_view w = drawn(&b, CRANK_F64, -1, 1, DIMS(N)), buffer = form ? fresh(&b, CRANK_F64, DIMS(N)) : ABSENT;
        double     weight[N], kept[N];
        for (int i = 0; i < N; i++) weight[i] = value(&w, i);
        for (int t = 1; t <= 3; t++) {
            crank_view g = drawn(&b, CRANK_F64, -1, 1, DIMS(N)), s = scalars_at(&b, t, 0);
            apply(&b, "sgd", VIEWS(w, g, buffer, s), VIEWS(w, buffer), &a);
            for (int i = 0; i < N; i++) {
                double move = value(&g, i) / 2 + 0.1 * weight[i];
                if (form) {
                    kept[i] = t == 1 ? move : 0.9 * kept[i] + (form == 1 ? 0.5 : 1) * move;
                    move = form == 2 ? move + 0.9 * kept[i] : kept[i];
                }
                weight[i] -= move / 8;
            }
            assert_values(&w, weight, 1e-15);
        }
    }
    bench_close(&b);
}

static void lion_follows_its_paper(void **state)
{
    (void)state;
    bench                 b = bench_open("plain");
    crank_lion_attributes a = {.beta1 = 0.5, .beta2 = 0.75, .decay = 0.4, .rate_factor = 1};
    crank_view            w = GIVEN(&b, CRANK_F64, DIMS(3), 1, -1, 2), g = GIVEN(&b, CRANK_F64, DIMS(3), 2, -8, 0),
               m = GIVEN(&b, CRANK_F64, DIMS(3), -2, 2, 0);
    apply(&b, "lion", VIEWS(w, g, m, scalars_at(&b, 1, 0)), VIEWS(w, m), &a);
    ASSERT_VALUES(&w, 1e-15, 1 - 0.05 + 0.125, -1 + 0.05 + 0.125, 2 - 0.1); /* c = -0.5, -1, 0 */
    ASSERT_VALUES(&m, 1e-15, -1.25, 0.5, 0);
    bench_close(&b);
}

static void skipped_step_changes_nothing(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view w = drawn(&b, CRANK_F32, -1, 1, DIMS(N)), g = drawn(&b, CRANK_F32, -1, 1, DIMS(N)),
               m = drawn(&b, CRANK_F32, -1, 1, DIMS(N)), v = drawn(&b, CRANK_F32, 0, 1, DIMS(N));
    crank_view old[3] = {copied(&b, &w, CRANK_F32), copied(&b, &m, CRANK_F32), copied(&b, &v, CRANK_F32)},
               s = scalars_at(&b, 2, 1);
    crank_view codes = fresh(&b, CRANK_U8, DIMS(N)), amax = drawn(&b, CRANK_F32, 1, 1, DIMS(1));
    apply(&b, "adamw", VIEWS(w, g, m, v, s), VIEWS(w, m, v),
          &(crank_adam_attributes){.beta1 = 0.9, .beta2 = 0.99, .rate_factor = 1});
    apply(&b, "adamw8bit", VIEWS(w, g, codes, codes, amax, amax, s), VIEWS(w, codes, codes, amax, amax),
          &(crank_adam_attributes){.rate_factor = 1});
    apply(&b, "sgd", VIEWS(w, g, m, s), VIEWS(w, m), &(crank_sgd_attributes){.momentum = 0.9, .rate_factor = 1});
    apply(&b, "lion", VIEWS(w, g, m, s), VIEWS(w, m), &(crank_lion_attributes){.rate_factor = 1});
    assert_true(distance(&w, &old[0]) == 0 && distance(&m, &old[1]) == 0 && distance(&v, &old[2]) == 0);
    for (int i = 0; i < N; i++) assert_int_equal(value(&codes, i), 255);
    bench_close(&b);
}

static void bf16_weights_are_rounded_stochastically_without_bias(void **state)
{
    (void)state;
    bench b = bench_open("plain");
    enum { MANY = 20000 };
    crank_view w = fresh(&b, CRANK_BF16, DIMS(MANY)), g = fresh(&b, CRANK_F32, DIMS(MANY)), s = scalars_at(&b, 7, 0);
    crank_sgd_attributes a = {.rate_factor = 1, .seed = 3, .index = 4};
    crank_stream         stream = crank_stream_make(3, CRANK_RANDOM_ROUNDING, 4);
    double               sum = 0;
    for (int i = 0; i < MANY; i++) set(&w, i, 1), set(&g, i, -0x1p-7 * 0.3 * 16); /* moves by 0.3 of a bf16 step */
    apply(&b, "sgd", VIEWS(w, g, ABSENT, s), VIEWS(w, ABSENT), &a);
    for (int i = 0; i < MANY; i++) {
        uint32_t bits = crank_draw_bits(stream, ((uint64_t)7 << 34) + (uint64_t)i) >> 16;
        assert_true(value(&w, i) == (bits + (uint32_t)lround(0.3 * 65536) >= 65536 ? 1 + 0x1p-7 : 1));
        sum += value(&w, i) - 1;
    }
    assert_near(sum / MANY / 0x1p-7, 0.3, 0.013); /* four deviations */
    bench_close(&b);
}

static void assign_copies_or_adds(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view x = GIVEN(&b, CRANK_F32, DIMS(2), 1.5, -2), t = GIVEN(&b, CRANK_F64, DIMS(2), 10, 20);
    apply(&b, "assign", VIEWS(x, t), VIEWS(t), &(crank_assign_attributes){true});
    ASSERT_VALUES(&t, 0, 11.5, 18);
    apply(&b, "assign", VIEWS(x, t), VIEWS(t), &(crank_assign_attributes){false});
    ASSERT_VALUES(&t, 0, 1.5, -2);
    bench_close(&b);
}

static void clip_scale_limits_the_norm_of_the_mean_gradient(void **state)
{
    (void)state;
    bench      b = bench_open("plain");
    crank_view squares = GIVEN(&b, CRANK_F32, DIMS(2), 9, 1591), s = scalars_at(&b, 1, 0),
               norm = fresh(&b, CRANK_F32, SCALAR);
    /* sum 1600: norm 40, mean gradient 10 */
    apply(&b, "clip_scale", VIEWS(squares, s), VIEWS(s, norm), &(crank_clip_attributes){2.5});
    ASSERT_VALUES(&norm, 0, 10);
    ASSERT_VALUES(&s, 1e-7, 0.125, 1, 0.0625, 0, 4, 0, 0, 0);
    apply(&b, "clip_scale", VIEWS(squares, s), VIEWS(s, norm), &(crank_clip_attributes){0});
    assert_near(value(&s, CRANK_SCALAR_CLIP), 0.25, 0);
    set(&squares, 0, NAN);
    apply(&b, "clip_scale", VIEWS(squares, s), VIEWS(s, norm), &(crank_clip_attributes){2.5});
    assert_near(value(&s, CRANK_SCALAR_SKIP), 1, 0);
    set(&squares, 0, 9); /* a flag that the loss has set stays */
    apply(&b, "clip_scale", VIEWS(squares, s), VIEWS(s, norm), &(crank_clip_attributes){2.5});
    assert_near(value(&s, CRANK_SCALAR_SKIP), 1, 0);
    bench_close(&b);
}

static void check_finite_sets_the_skip_flag_only(void **state)
{
    (void)state;
    bench        b = bench_open("plain");
    const double losses[] = {1, NAN, INFINITY};
    for (int k = 0; k < 3; k++) {
        crank_view loss = GIVEN(&b, CRANK_F32, SCALAR, losses[k]), s = scalars_at(&b, 2, 0);
        apply(&b, "check_finite", VIEWS(loss, s), VIEWS(s), NULL);
        ASSERT_VALUES(&s, 0, 0.125, 2, 0.5, k > 0, 4, 0, 0, 0);
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_first_step_moves_by_the_rate),
        cmocka_unit_test(adamw_follows_torch),
        cmocka_unit_test(sgd_follows_torch),
        cmocka_unit_test(lion_follows_its_paper),
        cmocka_unit_test(skipped_step_changes_nothing),
        cmocka_unit_test(bf16_weights_are_rounded_stochastically_without_bias),
        cmocka_unit_test(assign_copies_or_adds),
        cmocka_unit_test(clip_scale_limits_the_norm_of_the_mean_gradient),
        cmocka_unit_test(check_finite_sets_the_skip_flag_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
