/* GaLore on weight-normalised matrices: against a transcription in f64, GaLore itself, and the properties of magnitude and direction. */
#include "optim/run.h"

enum { M = 6, N = 10 };

static const int64_t dims[] = { M, N };

static void draw(double *out, uint32_t index)
{
    float x[M * N];
    crank_fill_normal(crank_stream_make(12, CRANK_RANDOM_TEST, index), 0, 0, 1, x, M * N);
    for (int i = 0; i < M * N; i++) out[i] = x[i];
}

/* The whole space and plain steps: v -= rate scale dv, g -= rate dg, both decay, W = g v / |v|. */
static void transcription(double *v, double *g, const double *G, double rate, double scale, double decay, bool detached)
{
    for (int i = 0; i < M; i++) {
        double norm = 0, inner = 0, dv[N];
        for (int j = 0; j < N; j++) norm += v[i * N + j] * v[i * N + j], inner += G[i * N + j] * v[i * N + j];
        norm = sqrt(norm);
        for (int j = 0; j < N; j++) dv[j] = g[i] / norm * (G[i * N + j] - (detached ? 0 : inner * v[i * N + j] / (norm * norm)));
        for (int j = 0; j < N; j++) v[i * N + j] = (v[i * N + j] - rate * scale * dv[j]) * (1 - rate * decay);
        g[i] -= rate * inner / norm;
    }
}

static void weight_of(const double *v, const double *g, double *W)
{
    for (int i = 0; i < M; i++) {
        double norm = 0;
        for (int j = 0; j < N; j++) norm += v[i * N + j] * v[i * N + j];
        for (int j = 0; j < N; j++) W[i * N + j] = g[i] * v[i * N + j] / sqrt(norm);
    }
}

static void steps_equal_a_transcription(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=10 gap=3 refresh=svd inner=sgd inner_options=momentum=0 scale=0.5", "rank=10 gap=3 refresh=svd inner=sgd inner_options=momentum=0 scale=0.5 norm=detached" };
    for (int k = 0; k < 2; k++) {
        float  start[M * N];
        double w[M * N], v[M * N], g[M], G[M * N], W[M * N], wanted[M * N];
        draw(w, 1);
        memcpy(v, w, sizeof v);
        for (int i = 0; i < M * N; i++) start[i] = (float)w[i];
        for (int i = 0; i < M; i++) {
            g[i] = 0;
            for (int j = 0; j < N; j++) g[i] += w[i * N + j] * w[i * N + j];
            g[i] = sqrt(g[i]);
        }
        runner r = runner_open("gradnorm", settings[k], CRANK_F64, 2, dims, start, 0);
        for (int t = 1; t <= 12; t++) {
            draw(G, 1 + (uint32_t)t);
            runner_step(&r, G, 0.05, t, 1, false);
            transcription(v, g, G, 0.05, 0.5, 0, k == 1);
        }
        runner_read(&r, "w", W, CRANK_F64);
        weight_of(v, g, wanted);
        double error = 0, size = 0;
        for (int i = 0; i < M * N; i++) error = fmax(error, fabs(W[i] - wanted[i])), size = fmax(size, fabs(wanted[i]));
        if (!(error < 1e-6 * size)) fail_msg("%s: %g away", settings[k], error / size);
        runner_close(&r);
    }
}

/* The published optimiser moves v as GaLore moves W, from the same gradients. */
static void officially_the_direction_moves_as_galore_does(void **state)
{
    (void)state;
    float  w[M * N], g[M * N], W[M * N], ratio[M], galore[M * N];
    crank_fill_normal(crank_stream_make(12, CRANK_RANDOM_TEST, 1), 0, 0, 1, w, M * N);
    runner a = runner_open("gradnorm", "rank=3 gap=1000 refresh=svd compat=official", CRANK_F32, 2, dims, w, 0.1);
    runner b = runner_open("galore", "rank=3 gap=1000 refresh=svd compat=official", CRANK_F32, 2, dims, w, 0.1);
    for (int t = 1; t <= 20; t++) {
        crank_fill_normal(crank_stream_make(12, CRANK_RANDOM_TEST, 1 + (uint32_t)t), 0, 0, 1, g, M * N);
        runner_step(&a, g, 0.05, t, 1, false), runner_step(&b, g, 0.05, t, 1, false);
    }
    runner_read(&a, "w", W, CRANK_F32), runner_read(&a, "w.gradnorm.ratio", ratio, CRANK_F32), runner_read(&b, "w", galore, CRANK_F32);
    for (int i = 0; i < M * N; i++) W[i] *= ratio[i / N];
    assert_true(relative_error(W, galore, M * N) < 1e-5);
    runner_close(&a), runner_close(&b);
}

/* |W_i| is the magnitude; a skipped step keeps every bit; rows of zeros stay finite; warm and 8-bit runs do too. */
static void rows_have_the_length_of_their_magnitude(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=3 gap=4", "rank=3 gap=4 refresh=svd compat=official", "rank=3 gap=2 inner=adamw8bit" };
    for (int k = 0; k < 3; k++) {
        float w[M * N], g[M * N], W[M * N], again[M * N], magnitude[M];
        crank_fill_normal(crank_stream_make(12, CRANK_RANDOM_TEST, 1), 0, 0, 1, w, M * N);
        for (int j = 0; j < N; j++) w[2 * N + j] = 0;
        runner r = runner_open("gradnorm", settings[k], CRANK_F32, 2, dims, w, 0);
        for (int t = 1; t <= 9; t++) {
            crank_fill_normal(crank_stream_make(12, CRANK_RANDOM_TEST, 1 + (uint32_t)t), 0, 0, 1, g, M * N);
            runner_step(&r, g, 0.02, t, 1, false);
        }
        runner_read(&r, "w", W, CRANK_F32), runner_read(&r, "w.gradnorm.magnitude", magnitude, CRANK_F32);
        for (int i = 0; i < M; i++) {
            double norm = 0;
            for (int j = 0; j < N; j++) norm += (double)W[i * N + j] * W[i * N + j];
            assert_true(isfinite(norm));
            if (i != 2) assert_true(fabs(sqrt(norm) - fabs((double)magnitude[i])) < 1e-4 * sqrt(norm));
        }
        runner_step(&r, g, 0.02, 10, 1, true);
        runner_read(&r, "w", again, CRANK_F32);
        assert_memory_equal(W, again, sizeof W);
        runner_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_a_transcription),
        cmocka_unit_test(officially_the_direction_moves_as_galore_does),
        cmocka_unit_test(rows_have_the_length_of_their_magnitude),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
