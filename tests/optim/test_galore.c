/* GaLore, Muon, Adafactor and signSGD: 50 steps against float64 transcriptions of their equations, and the exact properties that
 * GaLore promises. */
#include "optim/golden_run.h"

#include "crank/linalg.h"

static const golden_case cases[] = {
    { "galore", "galore", "rank=3 gap=7 refresh=svd", 0.05, 0 },
    { "galore_decay", "galore", "rank=3 gap=7 refresh=svd", 0.05, 0.5 },
    { "galore_official", "galore", "rank=3 gap=7 refresh=svd compat=official", 0.05, 0 },
    { "galore_reverse", "galore", "rank=3 gap=7 refresh=svd side=reverse", 0.05, 0 },
    { "galore_full", "galore", "rank=3 gap=7 refresh=svd side=full inner_options=epsilon=1e-3", 0.05, 0 },
    { "galore_reset", "galore", "rank=3 gap=7 refresh=svd on_refresh=reset", 0.05, 0 },
    { "galore_rotate", "galore", "rank=3 gap=7 refresh=svd on_refresh=rotate", 0.05, 0 },
    { "galore_adafactor", "galore", "rank=3 gap=7 refresh=svd inner=adafactor", 0.05, 0 },
    { "galore_whole", "galore", "rank=100 gap=7 refresh=svd", 0.05, 0 },
    { "muon", "muon", "", 0.02, 0.1 },
    { "adafactor", "adafactor", "", 0.02, 0.1 },
    { "adafactor_momentum", "adafactor", "beta1=0.9", 0.02, 0.1 },
};

static void fifty_steps_equal_their_transcriptions(void **state)
{
    (void)state;
    check_cases(cases, sizeof cases / sizeof *cases);
}

static void fifty_steps_equal_the_published_code(void **state)
{
    static const golden_case published[] = { /* galore-torch 1.0 */
        { "galore", "galore", "rank=3 gap=7 refresh=svd compat=official", 0.05, 0 },
        { "galore_decay", "galore", "rank=3 gap=7 refresh=svd compat=official", 0.05, 0.5 },
        { "galore_adafactor", "galore", "rank=3 gap=7 refresh=svd inner=adafactor", 0.05, 0 },
    };
    check_published(*state, published, 3);
}

/* ---- exact properties ---- */

enum { M = 6, N = 10 };

static const int64_t wide_dims[] = { M, N }, tall_dims[] = { N, M };

static void bases_are_orthonormal_and_hold_the_leading_energy(void **state)
{
    (void)state;
    static const char *const ways[] = { "svd", "gram", "random", "warm", "orthonormal", "coordinates" };
    float                    w[M * N] = { 0 }, g[M * N];
    double                   P[M * 3];
    for (int k = 0; k < 6; k++) {
        char settings[64];
        snprintf(settings, sizeof settings, "rank=3 gap=1 passes=16 refresh=%s", ways[k]);
        runner r = runner_open("galore", settings, CRANK_F32, 2, wide_dims, w, 0);
        for (int t = 1; t <= 3; t++) {
            draw(g, M * N, 1);
            runner_step(&r, g, 0.01, t, 1, false);
        }
        runner_read(&r, "w.galore.left", P, CRANK_F64);
        double kept = 0, all = 0, best = 0, s[M];
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++) {
                double dot = 0;
                for (int i = 0; i < M; i++) dot += P[i * 3 + a] * P[i * 3 + b];
                assert_true(fabs(dot - (a == b)) < 1e-5);
            }
        for (int a = 0; a < 3; a++)
            for (int j = 0; j < N; j++) {
                double dot = 0;
                for (int i = 0; i < M; i++) dot += P[i * 3 + a] * g[i * N + j];
                kept += dot * dot;
            }
        assert_ok(r.context, crank_svd(r.context, crank_matrix_f32(g, M, N), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        for (int i = 0; i < M; i++) all += s[i] * s[i], best += i < 3 ? s[i] * s[i] : 0;
        /* a residual within 1.05 of the smallest one; random bases hold about their share */
        if (k < 2) assert_true(fabs(kept - best) < 1e-4 * all);
        else if (k < 4) assert_true(all - kept < 1.05 * (all - best));
        else assert_true(kept > 0 && kept < all);
        runner_close(&r);
    }
}

static void the_whole_space_with_plain_descent_is_plain_descent(void **state)
{
    (void)state;
    static const char *const sides[] = { "left", "right", "full" };
    for (int k = 0; k < 3; k++) {
        float w[M * N], g[M * N], now[M * N];
        char  settings[96];
        draw(w, M * N, 1);
        /* right and full reach all of G only where r is the longer side: there on the rows of what they hold */
        snprintf(settings, sizeof settings, "rank=%d gap=5 scale=1 inner=sgd inner_options=momentum=0 side=%s", M, sides[k]);
        runner r = runner_open("galore", settings, CRANK_F32, 2, wide_dims, w, 0);
        draw(g, M * N, 2);
        runner_step(&r, g, 0.5, 1, 1, false);
        runner_read(&r, "w", now, CRANK_F32);
        for (int i = 0; i < M * N; i++) assert_true(fabs(now[i] - (w[i] - 0.5 * g[i])) < 1e-5);
        runner_close(&r);
    }
}

/* First step of Adam: -rate scale P sign(R). */
static void the_first_step_is_the_sign_of_the_projection(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N], P[M * 2], now[M * N];
    runner r = runner_open("galore", "rank=2 gap=5 scale=0.5", CRANK_F32, 2, wide_dims, w, 0);
    draw(g, M * N, 3);
    runner_step(&r, g, 0.25, 1, 1, false);
    runner_read(&r, "w", now, CRANK_F32), runner_read(&r, "w.galore.left", P, CRANK_F32);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double expected = 0;
            for (int a = 0; a < 2; a++) {
                double R = 0;
                for (int k = 0; k < M; k++) R += (double)P[k * 2 + a] * g[k * N + j];
                expected -= 0.25 * 0.5 * P[i * 2 + a] * (R > 0 ? 1 : -1);
            }
            assert_true(fabs(now[i * N + j] - expected) < 1e-5);
        }
    runner_close(&r);
}

static void steps_of_k_periods_have_rank_k_r(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N], now[M * N];
    double s[M];
    runner r = runner_open("galore", "rank=2 gap=4", CRANK_F32, 2, wide_dims, w, 0);
    for (int t = 1; t <= 8; t++) {
        draw(g, M * N, 10 + (uint32_t)t);
        runner_step(&r, g, 0.1, t, 1, false);
        runner_read(&r, "w", now, CRANK_F32);
        assert_ok(r.context, crank_svd(r.context, crank_matrix_f32(now, M, N), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        assert_int_equal(crank_numerical_rank(s, M, 1e-4), t <= 4 ? 2 : 4);
    }
    runner_close(&r);
}

static void a_transposed_weight_takes_transposed_steps(void **state)
{
    (void)state;
    static const char *const methods[] = { "galore", "muon" };
    for (int k = 0; k < 2; k++) {
        float        w[M * N], wt[M * N], g[M * N], gt[M * N];
        const char  *settings = k ? "" : "rank=3 gap=2";
        draw(w, M * N, 1);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) wt[j * M + i] = w[i * N + j];
        runner a = runner_open(methods[k], settings, CRANK_F32, 2, wide_dims, w, 0.1), b = runner_open(methods[k], settings, CRANK_F32, 2, tall_dims, wt, 0.1);
        if (k) b.unit.rate_factor = sqrt((double)M / N), b.unit.decay = 0.1 * sqrt((double)N / M);
        for (int t = 1; t <= 5; t++) {
            draw(g, M * N, 1 + (uint32_t)t);
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) gt[j * M + i] = g[i * N + j];
            runner_step(&a, g, 0.05, t, 1, false), runner_step(&b, gt, 0.05, t, 1, false);
        }
        runner_read(&a, "w", w, CRANK_F32), runner_read(&b, "w", wt, CRANK_F32);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) assert_true(fabs(wt[j * M + i] - w[i * N + j]) < 1e-4);
        runner_close(&a), runner_close(&b);
    }
}

static void a_broken_gradient_keeps_the_basis(void **state)
{
    (void)state;
    static const char *const ways[] = { "rank=2 gap=1 refresh=svd", "rank=2 gap=1" };
    for (int k = 0; k < 2; k++) {
        float  w[M * N] = { 0 }, g[M * N], P[2][M * 2];
        runner r = runner_open("galore", ways[k], CRANK_F32, 2, wide_dims, w, 0);
        draw(g, M * N, 3);
        runner_step(&r, g, 0.1, 1, 1, false);
        runner_read(&r, "w.galore.left", P[0], CRANK_F32);
        g[7] = NAN;
        runner_step(&r, g, 0.1, 2, 1, true);
        runner_read(&r, "w.galore.left", P[1], CRANK_F32);
        assert_memory_equal(P[0], P[1], sizeof P[0]);
        runner_close(&r);
    }
}

static void moments_have_the_shape_of_the_projection(void **state)
{
    (void)state;
    float  w[M * N] = { 0 };
    runner r = runner_open("galore", "rank=2", CRANK_F32, 2, wide_dims, w, 0);
    size_t elements = 0;
    for (size_t i = 0; i < crank_params_count(r.params); i++)
        if (crank_params_at(r.params, i)->role == CRANK_ROLE_STATE) elements += (size_t)crank_view_count(&crank_params_at(r.params, i)->view);
    assert_int_equal(elements, M * 2 + 2 * 2 * N); /* P, and the two moments */
    runner_close(&r);
}

static void an_inner_optimiser_that_cannot_serve_is_refused(void **state)
{
    (void)state;
    float  w[M * N] = { 0 };
    runner r = runner_open("adamw", "", CRANK_F32, 2, wide_dims, w, 0);
    static const char *const wrong[][2] = { { "inner", "galore" }, { "inner", "adamx" }, { "inner_options", "beta3=1" } };
    const crank_optimizer   *galore = crank_optimizer_find("galore");
    for (int k = 0; k < 3; k++) {
        char       st[1024] = { 0 }, model[1024] = { 0 };
        void      *options = crank_options_new(r.context, galore->options, galore->options_size);
        crank_unit unit = { .optimizer = galore, .param = r.param, .options = options, .state = st, .model = model };
        crank_unit all = { .optimizer = galore, .model = model };
        assert_ok(r.context, crank_options_set(r.context, galore->options, options, wrong[k][0], wrong[k][1], "test"));
        assert_int_equal(galore->attach(r.context, &unit), CRANK_USAGE);
        galore->release(&unit), galore->release(&all);
        crank_options_free(options);
    }
    runner_close(&r);
}

static void signs_move_by_the_rate(void **state)
{
    (void)state;
    float  w[4] = { 1, 1, 1, 1 }, g[4] = { 3, -1e-20f, 0, 1e20f };
    int64_t four = 4;
    runner r = runner_open("signsgd", "", CRANK_F32, 1, &four, w, 0);
    runner_step(&r, g, 0.25, 1, 1, false);
    runner_read(&r, "w", w, CRANK_F32);
    assert_true(w[0] == 0.75f && w[1] == 1.25f && w[2] == 1 && w[3] == 0.75f);
    assert_int_equal(crank_params_count(r.params), 1); /* no state */
    runner_close(&r);
}

static void muon_brings_singular_values_near_one(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N];
    double s[M];
    runner r = runner_open("muon", "", CRANK_F32, 2, wide_dims, w, 0);
    draw(g, M * N, 4);
    runner_step(&r, g, 1, 1, 1, false);
    runner_read(&r, "w", w, CRANK_F32);
    assert_ok(r.context, crank_svd(r.context, crank_matrix_f32(w, M, N), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    for (int i = 0; i < M; i++) assert_true(s[i] > 0.5 && s[i] < 1.5);
    runner_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_their_transcriptions),
        cmocka_unit_test(fifty_steps_equal_the_published_code),
        cmocka_unit_test(bases_are_orthonormal_and_hold_the_leading_energy),
        cmocka_unit_test(the_whole_space_with_plain_descent_is_plain_descent),
        cmocka_unit_test(the_first_step_is_the_sign_of_the_projection),
        cmocka_unit_test(steps_of_k_periods_have_rank_k_r),
        cmocka_unit_test(a_transposed_weight_takes_transposed_steps),
        cmocka_unit_test(a_broken_gradient_keeps_the_basis),
        cmocka_unit_test(moments_have_the_shape_of_the_projection),
        cmocka_unit_test(an_inner_optimiser_that_cannot_serve_is_refused),
        cmocka_unit_test(signs_move_by_the_rate),
        cmocka_unit_test(muon_brings_singular_values_near_one),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
