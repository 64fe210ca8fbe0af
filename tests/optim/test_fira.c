/* Fira: 50 steps against float64 transcriptions of both modes, and the exact properties that its card lists. */
#include "optim/golden_run.h"

#include "crank/linalg.h"

enum { M = 6, N = 10, R = 2 };

static const int64_t wide_dims[] = { M, N }, tall_dims[] = { N, M };

static const golden_case cases[] = {
    { "fira_official", "fira", "rank=3 gap=7 refresh=svd", 0.05, 0 },
    { "fira_paper", "fira", "rank=3 gap=7 refresh=svd mode=paper", 0.05, 0.1 },
    { "fira_matrix", "fira", "rank=3 gap=7 refresh=svd scaling=matrix", 0.05, 0 },
    { "fira_unscaled", "fira", "rank=3 gap=7 refresh=svd scaling=none mode=paper", 0.05, 0 },
    { "fira_unlimited", "fira", "rank=3 gap=7 refresh=svd growth=0 mode=paper", 0.05, 0 },
    { "fira_rmsprop", "fira", "rank=3 gap=7 refresh=svd moments=rmsprop beta2=0.9", 0.05, 0 },
};

static void fifty_steps_equal_their_transcriptions(void **state)
{
    (void)state;
    check_cases(cases, sizeof cases / sizeof *cases);
}

static void fifty_steps_equal_the_published_code(void **state)
{
    static const golden_case published[] = { /* fira 1.0.2 */
        { "fira", "fira", "rank=3 gap=7 refresh=svd", 0.05, 0 },
        { "fira_decay", "fira", "rank=3 gap=7 refresh=svd", 0.05, 0.1 },
    };
    check_published(*state, published, 2);
}

/* The step that an optimiser takes: before - after. */
static void step_of(runner *r, const float *g, int t, double rate, double *step)
{
    double before[M * N], after[M * N];
    runner_read(r, "w", before, CRANK_F64);
    runner_step(r, g, rate, t, 1, false);
    runner_read(r, "w", after, CRANK_F64);
    for (int i = 0; i < M * N; i++) step[i] = before[i] - after[i];
}

static void in_the_whole_space_it_is_galore(void **state)
{
    (void)state;
    float  w[M * N], g[M * N], a[M * N], b[M * N];
    draw(w, M * N, 1);
    runner fira = runner_open("fira", "rank=100 gap=3 mode=paper epsilon=1e-8", CRANK_F32, 2, wide_dims, w, 0.1);
    runner galore = runner_open("galore", "rank=100 gap=3", CRANK_F32, 2, wide_dims, w, 0.1);
    for (int t = 1; t <= 6; t++) {
        draw(g, M * N, 1 + (uint32_t)t);
        runner_step(&fira, g, 0.05, t, 1, false), runner_step(&galore, g, 0.05, t, 1, false);
    }
    runner_read(&fira, "w", a, CRANK_F32), runner_read(&galore, "w", b, CRANK_F32);
    for (int i = 0; i < M * N; i++) assert_true(fabs(a[i] - b[i]) < 2e-3); /* the rest is 0 up to rounding, times phi */
    assert_true(relative_error(a, b, M * N) < 1e-3);
    runner_close(&fira), runner_close(&galore);
}

/* With N in the paper's form the first step of column j has phi_j |R_j| = sqrt(r). */
static void the_first_factor_is_the_root_of_the_rank(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N];
    double step[M * N], P[M * R];
    runner r = runner_open("fira", "rank=2 gap=100 mode=paper scale=1 epsilon=0", CRANK_F32, 2, wide_dims, w, 0);
    draw(g, M * N, 2);
    step_of(&r, g, 1, 1, step);
    runner_read(&r, "w.fira.left", P, CRANK_F64);
    for (int j = 0; j < N; j++) {
        double rest = 0, size = 0, projected = 0;
        for (int i = 0; i < M; i++) {
            double inside = 0, moved = 0;
            for (int a = 0; a < R; a++) {
                double sum = 0, back = 0;
                for (int k = 0; k < M; k++) sum += P[k * R + a] * g[k * N + j], back += P[k * R + a] * step[k * N + j];
                inside += P[i * R + a] * sum, moved += P[i * R + a] * back;
                if (i == 0) projected += sum * sum;
            }
            rest += (g[i * N + j] - inside) * (g[i * N + j] - inside);
            size += (step[i * N + j] - moved) * (step[i * N + j] - moved);
        }
        /* |S_j| = phi_j |rest_j|: the closed form against the explicit rest */
        assert_true(fabs(sqrt(size) - sqrt(R) / sqrt(projected) * sqrt(rest)) < 1e-4 * sqrt(size));
    }
    runner_close(&r);
}

static void the_norm_of_the_rest_grows_by_the_limit_at_most(void **state)
{
    (void)state;
    for (int paper = 0; paper < 2; paper++) {
        float  w[M * N] = { 0 }, g[M * N];
        double before = 0, now;
        int    limited = 0;
        runner r = runner_open("fira", paper ? "rank=2 gap=5 mode=paper" : "rank=2 gap=5", CRANK_F32, 2, wide_dims, w, 0);
        for (int t = 1; t <= 20; t++) {
            draw(g, M * N, (uint32_t)t);
            runner_step(&r, g, 0.01, t, 1, false);
            runner_read(&r, "w.fira.norm", &now, CRANK_F64);
            if (t > 1) assert_true(now <= 1.0101 * before);
            limited += t > 1 && now > 1.0099 * before;
            before = now;
        }
        assert_true(limited > 0);
        runner_close(&r);
    }
}

/* P^T S = 0 in paper mode: what lies inside of the subspace is GaLore's step alone; officially (1 - scale) R diag(phi) / l more. */
static void the_rest_lies_outside_of_the_subspace(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N];
    double fira[M * N], galore[M * N], P[M * R];
    runner a = runner_open("fira", "rank=2 gap=100 mode=paper epsilon=1e-8", CRANK_F32, 2, wide_dims, w, 0);
    runner b = runner_open("galore", "rank=2 gap=100", CRANK_F32, 2, wide_dims, w, 0);
    for (int t = 1; t <= 4; t++) {
        draw(g, M * N, 2 + (uint32_t)t);
        step_of(&a, g, t, 1, fira), step_of(&b, g, t, 1, galore);
        runner_read(&a, "w.fira.left", P, CRANK_F64);
        double rest = 0;
        for (int k = 0; k < R; k++)
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int i = 0; i < M; i++) sum += P[i * R + k] * (fira[i * N + j] - galore[i * N + j]);
                assert_true(fabs(sum) < 1e-4);
            }
        for (int i = 0; i < M * N; i++) rest += fabs(fira[i] - galore[i]);
        assert_true(rest > 1);
    }
    runner_close(&a), runner_close(&b);
}

static void a_transposed_weight_takes_transposed_steps(void **state)
{
    (void)state;
    float w[M * N], wt[M * N], g[M * N], gt[M * N];
    draw(w, M * N, 1);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) wt[j * M + i] = w[i * N + j];
    runner a = runner_open("fira", "rank=2 gap=3", CRANK_F32, 2, wide_dims, w, 0), b = runner_open("fira", "rank=2 gap=3", CRANK_F32, 2, tall_dims, wt, 0);
    for (int t = 1; t <= 6; t++) {
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

static void zero_columns_and_zero_gradients_stay_finite_and_free_the_limiter(void **state)
{
    (void)state;
    float  w[M * N], g[M * N], zero[M * N] = { 0 }, norm;
    draw(w, M * N, 1), draw(g, M * N, 2);
    for (int i = 0; i < M; i++) g[i * N + 3] = 0;
    runner r = runner_open("fira", "rank=2 gap=100", CRANK_F32, 2, wide_dims, w, 0);
    runner_step(&r, g, 0.1, 1, 1, false);
    runner_step(&r, zero, 0.1, 2, 1, false);
    runner_read(&r, "w.fira.norm", &norm, CRANK_F32);
    assert_true(norm == 0);
    runner_step(&r, g, 0.1, 3, 1, false);
    runner_read(&r, "w", w, CRANK_F32), runner_read(&r, "w.fira.norm", &norm, CRANK_F32);
    for (int i = 0; i < M * N; i++) assert_true(isfinite(w[i]));
    assert_true(norm > 1e-3);
    runner_close(&r);
}

static void eight_bits_follow_the_wide_moments(void **state)
{
    (void)state;
    float  w[M * N], g[M * N], out[2][M * N];
    draw(w, M * N, 1);
    for (int k = 0; k < 2; k++) {
        runner r = runner_open("fira", k ? "rank=2 gap=5 mode=paper moments=adam8bit" : "rank=2 gap=5 mode=paper", CRANK_F32, 2, wide_dims, w, 0);
        for (int t = 1; t <= 10; t++) {
            draw(g, M * N, 20);
            runner_step(&r, g, 0.01, t, 1, false);
        }
        runner_read(&r, "w", out[k], CRANK_F32);
        for (int i = 0; i < M * N; i++) out[k][i] -= w[i];
        runner_close(&r);
    }
    double error = relative_error(out[1], out[0], M * N);
    if (!(error < 0.1)) fail_msg("8-bit moments lead %g away", error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_their_transcriptions),
        cmocka_unit_test(fifty_steps_equal_the_published_code),
        cmocka_unit_test(in_the_whole_space_it_is_galore),
        cmocka_unit_test(the_first_factor_is_the_root_of_the_rank),
        cmocka_unit_test(the_norm_of_the_rest_grows_by_the_limit_at_most),
        cmocka_unit_test(the_rest_lies_outside_of_the_subspace),
        cmocka_unit_test(a_transposed_weight_takes_transposed_steps),
        cmocka_unit_test(zero_columns_and_zero_gradients_stay_finite_and_free_the_limiter),
        cmocka_unit_test(eight_bits_follow_the_wide_moments),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
