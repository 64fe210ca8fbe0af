/* WeLore: ranks from one threshold, factors, what trains, and planted ranks. */
#include "linear/world.h"
#include "lowrank/welore_ranks.h"

#include "crank/linalg.h"

enum { N = 5, IN = 9, OUT = 6, D = 6 };

static double x[N * IN], dy[N * OUT];

static int fill(void **state)
{
    (void)state;
    world_fill(x, N * IN, 1, 1);
    world_fill(dy, N * OUT, 2, 1);
    return 0;
}

/* ---- thresholds ---- */

static const double steep[] = { 100, 50, 20, 10, 5, 2, 1, 0.5 }, slow[] = { 10, 9.5, 9, 8.5, 8, 7.5, 7, 1 }, flat[] = { 3, 3, 3, 3 };

static int models(welore_matrix out[3])
{
    out[0] = (welore_matrix){ .sigma = steep, .rows = 8, .cols = 12 };
    out[1] = (welore_matrix){ .sigma = slow, .rows = 10, .cols = 8 };
    out[2] = (welore_matrix){ .sigma = flat, .rows = 4, .cols = 4 };
    return 3;
}

static void ranks_fall_as_the_threshold_rises(void **state)
{
    (void)state;
    welore_matrix m[3];
    int           count = models(m);
    int64_t       last[3] = { 8, 8, 4 };
    assert_true(welore_at(m, count, 0, 0, WELORE_RANKS) == 0);
    for (double tau = 0.001; tau < 1.01; tau += 0.01) {
        welore_at(m, count, tau, 0, WELORE_RANKS);
        for (int i = 0; i < 3; i++) {
            assert_true(m[i].k <= last[i] && m[i].k >= 1);
            last[i] = m[i].k;
        }
        if (tau < 1) assert_int_equal(m[2].k, 4); /* a flat spectrum is not pruned */
    }
}

static void the_target_is_reached_with_one_value_to_spare(void **state)
{
    (void)state;
    for (int measure = WELORE_RANKS; measure <= WELORE_PARAMETERS; measure++)
        for (double target = 0.05; target < 0.7; target += 0.05) {
            welore_matrix m[3];
            int           count = models(m);
            double        tau, reached;
            crank_context *context = crank_context_new();
            assert_ok(context, welore_choose(context, m, count, target, 0, (welore_measure)measure, &tau, &reached));
            assert_true(reached >= target - 1e-9);
            /* one of 20 values; a value of the largest matrix is 20 of 192 parameters */
            assert_true(reached <= target + (measure == WELORE_RANKS ? 1.0 / 20 : 20.0 / 192) + 1e-9);
            assert_true(fabs(welore_at(m, count, tau, 0, (welore_measure)measure) - reached) < 1e-12);
            crank_context_free(context);
        }
}

static void a_gate_leaves_matrices_whole(void **state)
{
    (void)state;
    welore_matrix m[3];
    int           count = models(m);
    welore_at(m, count, 0.1, 0.4999, WELORE_RANKS);
    assert_true(m[0].low && m[0].k == 3); /* 100, 50, 20 are above 0.1 */
    assert_true(!m[1].low && m[1].k == 8 && !m[2].low);
    assert_true(welore_uniform(m, count, 0.5, WELORE_RANKS) == 0.5);
    assert_true(m[0].k == 4 && m[1].k == 4 && m[2].k == 2);
}

/* Planted ranks 4, 16, 64, 128 of 128 with 1 % noise: at a reduction of 50 % the threshold finds them, and equal ranks destroy the full one. */
static void planted_ranks_are_found(void **state)
{
    (void)state;
    enum { SIZE = 128 };
    static const int ranks[] = { 4, 16, 64, 128 };
    static float     W[4][SIZE * SIZE];
    static double    sigma[4][SIZE];
    crank_context   *context = crank_context_new();
    welore_matrix    m[4];
    for (int l = 0; l < 4; l++) {
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) { /* orthonormal cosines: all planted values are 1 */
                double sum = 0;
                for (int k = 0; k < ranks[l]; k++)
                    sum += (k ? 2.0 : 1.0) / SIZE * cos(M_PI * (i + 0.5) * k / SIZE) * cos(M_PI * (j + 0.5) * k / SIZE);
                W[l][i * SIZE + j] = (float)(sum + 0.01 / sqrt(SIZE) * crank_draw_normal(crank_stream_make(4, CRANK_RANDOM_TEST, (uint32_t)l), (uint64_t)(i * SIZE + j)));
            }
        assert_ok(context, crank_svd(context, crank_matrix_f32(W[l], SIZE, SIZE), CRANK_INSIDE_F64, crank_matrix_none(), sigma[l], crank_matrix_none()));
        m[l] = (welore_matrix){ .sigma = sigma[l], .rows = SIZE, .cols = SIZE };
    }
    double error[2] = { 0 };
    assert_ok(context, welore_choose(context, m, 4, 0.5, 0, WELORE_RANKS, NULL, NULL));
    for (int l = 0; l < 4; l++) assert_true(m[l].k >= ranks[l] - 4 && m[l].k <= ranks[l] + 44); /* 300 values are noise, 256 go */
    for (int l = 0; l < 4; l++)
        for (int64_t i = m[l].k; i < SIZE; i++) error[0] += sigma[l][i] * sigma[l][i];
    welore_uniform(m, 4, 0.5, WELORE_RANKS);
    for (int l = 0; l < 4; l++)
        for (int64_t i = m[l].k; i < SIZE; i++) error[1] += sigma[l][i] * sigma[l][i];
    assert_true(sqrt(error[1] / error[0]) > 5);
    crank_context_free(context);
}

/* ---- factors ---- */

static void factors_are_the_best_of_their_rank_and_share_the_values(void **state)
{
    (void)state;
    world w = world_open(CRANK_F64);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "welore", "target=0.5 gate=0", "proj");
    double *W = world_values(&w, "proj.weight"), *A = world_values(&w, "proj.welore.A"), *B = world_values(&w, "proj.welore.B"), s[D];
    int64_t k = world_param(&w, "proj.welore.A")->view.dims[1];
    double  error = 0, tail = 0, a = 0, b = 0, kept = 0;
    assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(W, OUT, IN), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            double sum = 0;
            for (int64_t j = 0; j < k; j++) sum += A[o * k + j] * B[j * IN + i];
            error += (W[o * IN + i] - sum) * (W[o * IN + i] - sum);
        }
    for (int64_t j = 0; j < D; j++) *(j < k ? &kept : &tail) += j < k ? s[j] : s[j] * s[j];
    for (int64_t j = 0; j < OUT * k; j++) a += A[j] * A[j];
    for (int64_t j = 0; j < k * IN; j++) b += B[j] * B[j];
    assert_true(k < D && fabs(error - tail) < 1e-6 * tail);
    assert_true(fabs(a - kept) < 1e-6 * kept && fabs(b - kept) < 1e-6 * kept);
    free(W), free(A), free(B);
    world_close(&w);
}

static void scaling_a_weight_leaves_its_rank(void **state)
{
    (void)state;
    int64_t ranks[2];
    for (int scaled = 0; scaled < 2; scaled++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        double *W = world_values(&w, "proj.weight");
        for (int i = 0; i < OUT * IN; i++) W[i] *= scaled ? 64 : 1;
        world_write(&w, "proj.weight", W);
        world_attach(&w, "welore", "target=0.3 gate=0", "proj");
        ranks[scaled] = world_param(&w, "proj.welore.A")->view.dims[1];
        free(W);
        world_close(&w);
    }
    assert_int_equal(ranks[0], ranks[1]);
}

static void the_whole_rank_and_the_merge_reproduce_the_function(void **state)
{
    (void)state;
    static const char *const settings[] = { "target=0", "target=0.5 gate=0" };
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        pass          before = { .n = N, .x = x, .compute = CRANK_F32 }, after = before, merged = before;
        world_run(&w, linear, &before);
        world_attach(&w, "welore", settings[k], "proj");
        world_run(&w, linear, &after);
        if (!k) assert_near(after.y, before.y, N * OUT, 1e-5);
        assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
        world_run(&w, linear, &merged);
        assert_near(merged.y, after.y, N * OUT, 1e-5);
        pass_free(&before), pass_free(&after), pass_free(&merged);
        world_close(&w);
    }
}

static void what_trains_is_chosen(void **state)
{
    (void)state;
    static const char *const trains[] = { "low", "rest", "none" };
    for (int k = 0; k < 3; k++) {
        world  w = world_open(CRANK_F32);
        char   settings[64];
        world_linear(&w, "steep", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_linear(&w, "plain", CRANK_LINEAR_DENSE, IN, OUT, false);
        double *W = world_values(&w, "steep.weight"); /* nearly of rank 1 */
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) W[o * IN + i] = 0.01 * W[o * IN + i] + (o + 1) * (i - 4);
        world_write(&w, "steep.weight", W);
        snprintf(settings, sizeof settings, "target=0.4 train=%s", trains[k]);
        world_attach(&w, "welore", settings, "steep\nplain");
        assert_null(crank_params_find(w.params, "plain.welore.A"));
        assert_int_equal(world_param(&w, "steep.welore.A")->trainable, k == 0);
        assert_int_equal(world_param(&w, "plain.weight")->trainable, k == 1);
        assert_false(world_param(&w, "steep.weight")->trainable);
        free(W);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_fall_as_the_threshold_rises),
        cmocka_unit_test(the_target_is_reached_with_one_value_to_spare),
        cmocka_unit_test(a_gate_leaves_matrices_whole),
        cmocka_unit_test(planted_ranks_are_found),
        cmocka_unit_test(factors_are_the_best_of_their_rank_and_share_the_values),
        cmocka_unit_test(scaling_a_weight_leaves_its_rank),
        cmocka_unit_test(the_whole_rank_and_the_merge_reproduce_the_function),
        cmocka_unit_test(what_trains_is_chosen),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
