/* Bases that are refreshed by operations of the step: orthonormal whatever the gradient is, near the best ones, and the same in every way
 * of running a step. */
#include <malloc.h>

#include "optim/run.h"
#include "optim/subspace.h"
#include "task/tiny.h"

#include "crank/linalg.h"

enum { M = 48, N = 80, R = 12 };

static const int64_t wide_dims[] = { M, N }, tall_dims[] = { N, M };

/* Singular values (1 + i / 4)^-decay along random directions; those from `rank` on are 0. */
static void gradient(float *g, double decay, int rank, uint32_t seed)
{
    crank_context *context = crank_context_new();
    double         u[M * M], v[N * M];
    crank_fill_normal(crank_stream_make(9, CRANK_RANDOM_TEST, 2 * seed), 0, 0, 1, g, M * M);
    for (int i = 0; i < M * M; i++) u[i] = g[i];
    float *wide = calloc(N * M, sizeof *wide);
    crank_fill_normal(crank_stream_make(9, CRANK_RANDOM_TEST, 2 * seed + 1), 0, 0, 1, wide, N * M);
    for (int i = 0; i < N * M; i++) v[i] = wide[i];
    free(wide);
    assert_ok(context, crank_orthonormalise(context, crank_matrix_f64(u, M, M), CRANK_INSIDE_F64));
    assert_ok(context, crank_orthonormalise(context, crank_matrix_f64(v, N, M), CRANK_INSIDE_F64));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < rank; k++) sum += u[i * M + k] * v[j * M + k] * pow(1 + k / 4.0, -decay);
            g[i * N + j] = (float)(100 * sum);
        }
    crank_context_free(context);
}

/* Largest entry of |P^T P - 1|, and the share of |G|^2 in P [M,R]. */
static double orthonormality(const float *P)
{
    double worst = 0;
    for (int a = 0; a < R; a++)
        for (int b = 0; b < R; b++) {
            double dot = 0;
            for (int i = 0; i < M; i++) dot += (double)P[i * R + a] * P[i * R + b];
            worst = fmax(worst, fabs(dot - (a == b)));
        }
    return worst;
}

static double energy(const float *P, const float *g)
{
    double kept = 0, all = 0;
    for (int a = 0; a < R; a++)
        for (int j = 0; j < N; j++) {
            double dot = 0;
            for (int i = 0; i < M; i++) dot += (double)P[i * R + a] * g[i * N + j];
            kept += dot * dot;
        }
    for (int i = 0; i < M * N; i++) all += (double)g[i] * g[i];
    return kept / all;
}

static double best_energy(double decay)
{
    double kept = 0, all = 0;
    for (int k = 0; k < M; k++) all += pow(1 + k / 4.0, -2 * decay), kept += k < R ? pow(1 + k / 4.0, -2 * decay) : 0;
    return kept / all;
}

static void bases_are_orthonormal_and_hold_nearly_the_best_energy(void **state)
{
    (void)state;
    static const double decays[] = { 0.5, 1, 2, 6 }, first[] = { 0.93, 0.98, 0.999, 0.999 };
    for (int k = 0; k < 4; k++) {
        float  w[M * N] = { 0 }, g[M * N], P[M * R];
        runner r = runner_open("galore", "rank=12 gap=1", CRANK_F32, 2, wide_dims, w, 0);
        gradient(g, decays[k], M, 1);
        for (int t = 1; t <= 4; t++) {
            runner_step(&r, g, 0.01, t, 1, false);
            runner_read(&r, "w.galore.left", P, CRANK_F32);
            double share = energy(P, g) / best_energy(decays[k]), off = orthonormality(P), told;
            runner_read(&r, "w.galore.energy", &told, CRANK_F64);
            if (!(off < 2e-6)) fail_msg("decay %g, step %d: P^T P is %g away from 1", decays[k], t, off);
            if (!(share > (t == 1 ? first[k] : first[k] + (1 - first[k]) / 2))) fail_msg("decay %g, step %d: %g of the best energy", decays[k], t, share);
            if (!(fabs(told - energy(P, g)) < 1e-4)) fail_msg("decay %g, step %d: told %g, is %g", decays[k], t, told, energy(P, g));
        }
        runner_close(&r);
    }
}

/* Products in 16 bits, up to square bases. */
static void bases_of_16_bit_products_are_orthonormal_in_f32(void **state)
{
    (void)state;
    for (int rank = 8; rank <= M; rank += 20) {
        float  w[M * N] = { 0 }, g[M * N], P[M * M];
        char   settings[32];
        snprintf(settings, sizeof settings, "rank=%d gap=1", rank);
        runner r = runner_open("galore", settings, CRANK_F32, 2, wide_dims, w, 0);
        r.compute = CRANK_BF16;
        if (!r.device->bf16) {
            runner_close(&r);
            skip();
        }
        for (int t = 1; t <= 3; t++) {
            gradient(g, t - 1, M, (uint32_t)t);
            runner_step(&r, g, 0.01, t, 1, false);
            runner_read(&r, "w.galore.left", P, CRANK_F32);
            for (int a = 0; a < rank; a++)
                for (int b = 0; b < rank; b++) {
                    double dot = 0;
                    for (int i = 0; i < M; i++) dot += (double)P[i * rank + a] * P[i * rank + b];
                    if (!(fabs(dot - (a == b)) < 1e-5)) fail_msg("rank %d, step %d: P^T P is %g away from 1", rank, t, fabs(dot - (a == b)));
                }
        }
        runner_close(&r);
    }
}

/* Gradients of low rank, of one column, of none, huge and tiny ones. */
static void a_poor_gradient_leaves_an_orthonormal_basis(void **state)
{
    (void)state;
    static const double scales[] = { 1, 1e12, 1e-12, 0 };
    for (int rank = 1; rank <= 4; rank += 3)
        for (int k = 0; k < 4; k++) {
            float  w[M * N] = { 0 }, g[M * N], P[M * R];
            runner r = runner_open("galore", "rank=12 gap=1", CRANK_F32, 2, wide_dims, w, 0);
            for (int t = 1; t <= 3; t++) {
                gradient(g, 1, rank, (uint32_t)t);
                for (int i = 0; i < M * N; i++) g[i] = (float)(g[i] * scales[k]);
                runner_step(&r, g, 0.01, t, 1, false);
                runner_read(&r, "w.galore.left", P, CRANK_F32);
                double off = orthonormality(P);
                if (!(off < 2e-6)) fail_msg("rank %d times %g, step %d: P^T P is %g away from 1", rank, scales[k], t, off);
            }
            if (scales[k] == 1 && !(energy(P, g) > 0.9999)) fail_msg("a gradient of rank %d keeps %g in 12 dimensions", rank, energy(P, g));
            runner_close(&r);
        }
}

static void a_gradient_that_is_not_finite_leaves_the_start(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N], P[M * R];
    runner r = runner_open("fira", "rank=12 gap=1", CRANK_F32, 2, wide_dims, w, 0);
    gradient(g, 1, M, 1);
    g[3] = INFINITY;
    runner_step(&r, g, 0.01, 1, 1, true);
    runner_read(&r, "w.fira.left", P, CRANK_F32);
    assert_true(orthonormality(P) < 2e-6);
    runner_close(&r);
}

static void bases_turn_little_between_refreshes(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[2][M * N], P[2][M * R];
    runner r = runner_open("galore", "rank=12 gap=1", CRANK_F32, 2, wide_dims, w, 0);
    gradient(g[0], 1, M, 1), gradient(g[1], 1, M, 2);
    for (int i = 0; i < M * N; i++) g[1][i] = 0.95f * g[0][i] + 0.2f * g[1][i];
    for (int t = 1; t <= 3; t++) {
        runner_step(&r, g[t / 3], 0.01, t, 1, false);
        if (t > 1) runner_read(&r, "w.galore.left", P[t - 2], CRANK_F32);
    }
    double trace = 0;
    for (int i = 0; i < M * R; i++) trace += (double)P[0][i] * P[1][i];
    assert_true(trace / R > 0.8); /* an exact decomposition scatters it around 0 */
    runner_close(&r);
}

static void a_transposed_gradient_gives_the_transposed_basis(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N], gt[M * N], P[M * R], Q[R * M];
    runner a = runner_open("galore", "rank=12 gap=1", CRANK_F32, 2, wide_dims, w, 0), b = runner_open("galore", "rank=12 gap=1", CRANK_F32, 2, tall_dims, w, 0);
    gradient(g, 1, M, 1);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) gt[j * M + i] = g[i * N + j];
    runner_step(&a, g, 0.01, 1, 1, false), runner_step(&b, gt, 0.01, 1, 1, false);
    runner_read(&a, "w.galore.left", P, CRANK_F32), runner_read(&b, "w.galore.right", Q, CRANK_F32);
    for (int i = 0; i < M; i++)
        for (int k = 0; k < R; k++) assert_true(fabs(P[i * R + k] - Q[k * M + i]) < 1e-4);
    runner_close(&a), runner_close(&b);
}

/* M <- C M, V <- (C o C) V with C = P_new^T P_old: at rate 0 and with betas of 1 nothing else moves them. */
static void moments_turn_with_the_basis(void **state)
{
    (void)state;
    float  w[M * N] = { 0 }, g[M * N], P[2][M * R], m[2][R * N], v[2][R * N];
    runner r = runner_open("galore", "rank=12 gap=2 on_refresh=rotate inner_options=beta1=0.999999", CRANK_F32, 2, wide_dims, w, 0);
    for (int t = 1; t <= 3; t++) {
        gradient(g, 1, M, (uint32_t)t);
        if (t == 3) memset(g, 0, sizeof g); /* the basis stays: C = 1 */
        runner_step(&r, g, 0.01, t, 1, false);
        if (t < 2) continue;
        runner_read(&r, "w.galore.left", P[t - 2], CRANK_F32), runner_read(&r, "w.galore.adamw.m", m[t - 2], CRANK_F32);
        runner_read(&r, "w.galore.adamw.v", v[t - 2], CRANK_F32);
    }
    assert_true(relative_error(P[1], P[0], M * R) < 1e-5);
    assert_true(relative_error(m[1], m[0], R * N) < 1e-4);
    runner_close(&r);
    r = runner_open("galore", "rank=12 gap=2 on_refresh=rotate", CRANK_F32, 2, wide_dims, w, 0);
    for (int t = 1; t <= 3; t++) {
        gradient(g, 1, M, (uint32_t)t);
        runner_step(&r, g, 0.01, t, 1, false);
        if (t < 2) continue;
        runner_read(&r, "w.galore.left", P[t - 2], CRANK_F32), runner_read(&r, "w.galore.adamw.m", m[t - 2], CRANK_F32);
        runner_read(&r, "w.galore.adamw.v", v[t - 2], CRANK_F32);
    }
    for (int a = 0; a < R; a++)
        for (int j = 0; j < N; j++) {
            double mean = 0, square = 0, now = 0;
            for (int b = 0; b < R; b++) {
                double C = 0;
                for (int i = 0; i < M; i++) C += (double)P[1][i * R + a] * P[0][i * R + b];
                mean += C * m[0][b * N + j], square += C * C * v[0][b * N + j];
            }
            for (int i = 0; i < M; i++) now += (double)P[1][i * R + a] * g[i * N + j];
            assert_true(fabs(m[1][a * N + j] - (0.9 * mean + 0.1 * now)) < 1e-3);
            assert_true(fabs(v[1][a * N + j] - (0.999 * square + 0.001 * now * now)) < 1e-3);
        }
    runner_close(&r);
}

/* ---- in the trainer ---- */

static void set(tiny *t, const char *key, const char *value)
{
    assert_ok(t->context, crank_options_set(t->context, t->recipe.optimizer->options, t->recipe.optimizer_options, key, value, "test"));
}

static tiny *open_tiny(const char *optimizer, int64_t accumulate, bool inside, const char *stagger)
{
    tiny *t = tiny_open(optimizer, "cross_entropy", accumulate);
    set(t, "rank", "3"), set(t, "gap", "2"), set(t, "stagger", stagger);
    t->train.inside = inside;
    tiny_train_all(t), tiny_start(t);
    return t;
}

static void assert_same_bits(const tiny *a, const tiny *b)
{
    const crank_params *params = crank_model_params(a->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_WEIGHT && param->role != CRANK_ROLE_STATE) continue;
        float *x = tiny_values(a, param), *y = tiny_values(b, tiny_param(b, param->name));
        if (memcmp(x, y, (size_t)crank_view_count(&param->view) * sizeof *x) != 0) fail_msg("%s differs", param->name);
        free(x), free(y);
    }
}

static void refreshes_inside_the_backward_pass_change_no_bit(void **state)
{
    (void)state;
    static const char *const optimizers[] = { "galore", "fira" };
    for (int k = 0; k < 4; k++) {
        const char *name = optimizers[k / 2], *stagger = k % 2 ? "true" : "false";
        tiny       *after = open_tiny(name, 1, false, stagger), *inside = open_tiny(name, 1, true, stagger);
        for (int step = 1; step <= 5; step++) tiny_step(after, step, 1), tiny_step(inside, step, 1);
        assert_same_bits(after, inside);
        tiny_close(after), tiny_close(inside);
    }
}

/* The basis comes from the first micro-batch, whatever follows it. */
static void a_window_refreshes_from_its_first_micro_batch(void **state)
{
    (void)state;
    static const char  right[] = "model.layers.0.self_attn.q_proj.weight.galore.right";
    tiny              *one = open_tiny("galore", 1, false, "false"), *two = open_tiny("galore", 2, false, "false");
    tiny_step(one, 1, 1), tiny_step(two, 1, 2);
    assert_true(tiny_distance(one, two, right) < 1e-6);
    tiny_close(one), tiny_close(two);
}

/* A step that refreshes every basis needs no more than one whole gradient of a layer at a time. */
static void a_refresh_holds_one_gradient_at_a_time(void **state)
{
    (void)state;
    tiny              *t = open_tiny("galore", 1, true, "false");
    crank_plan_summary plain = { 0 }, fresh = { 0 };
    assert_non_null(trainer_graph(t->context, t->trainer, 64, 4, VARIANT_ONLY, &plain));
    assert_ok(t->context, trainer_period(t->context, t->trainer, 1));
    assert_true(trainer_refreshes(t->trainer));
    assert_non_null(trainer_graph(t->context, t->trainer, 64, 4, VARIANT_REFRESH, &fresh));
    size_t most = 12 * 8 * sizeof(float); /* of one matrix */
    if (!(fresh.arena <= plain.arena + 8 * most)) fail_msg("%zu bytes with a refresh, %zu without", fresh.arena, plain.arena);
    tiny_close(t);
}

static int graphs_of(const tiny *t, variant kind, const crank_graph **last)
{
    int n = 0;
    for (const shaped *shape = t->trainer->graphs; shape; shape = shape->next)
        if (shape->kind == kind) n++, *last = shape->graph;
    return n;
}

/* Recorded at the plan and kept: later refreshes run the same graph and take no memory; an ordinary step's graph stays too. */
static void a_refresh_is_recorded_once(void **state)
{
    (void)state;
    static const char *const optimizers[] = { "galore", "fira" };
    for (int k = 0; k < 4; k++) {
        bool               shares = k % 2; /* windows of two micro-batches */
        variant            kinds[2] = { shares ? VARIANT_REFRESH_FIRST : VARIANT_REFRESH, shares ? VARIANT_FIRST : VARIANT_ONLY };
        tiny              *t = open_tiny(optimizers[k / 2], 1 + shares, false, "false");
        const crank_graph *then[2] = { NULL }, *now[2] = { NULL };
        for (int step = 1; step <= 3; step++) tiny_step(t, step, 1 + shares);
        for (int i = 0; i < 2; i++) assert_int_equal(graphs_of(t, kinds[i], &then[i]), 1);
        size_t arena = crank_pool_bytes(t->trainer->pool);
        for (int step = 4; step <= 6; step++) tiny_step(t, step, 1 + shares);
        size_t heap = mallinfo2().uordblks;
        for (int step = 7; step <= 12; step++) tiny_step(t, step, 1 + shares);
        if (mallinfo2().uordblks > heap) fail_msg("%zu bytes more after three refreshes", mallinfo2().uordblks - heap);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(graphs_of(t, kinds[i], &now[i]), 1);
            assert_ptr_equal(now[i], then[i]);
        }
        assert_int_equal(crank_pool_bytes(t->trainer->pool), arena);
        tiny_close(t);
    }
}

static void graphs_that_are_kept_change_no_bit(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        const char *name = k / 2 ? "fira" : "galore", *stagger = k % 2 ? "true" : "false";
        tiny       *kept = open_tiny(name, 1, false, stagger), *fresh = open_tiny(name, 1, false, stagger);
        for (int step = 1; step <= 7; step++) {
            tiny_step(kept, step, 1);
            trainer_drop_graphs(fresh->trainer), tiny_step(fresh, step, 1);
        }
        assert_same_bits(kept, fresh);
        tiny_close(kept), tiny_close(fresh);
    }
}

/* With `stagger` no more than an eighth of the matrices refresh in a step behind the first, and each once in a gap. */
static void waves_share_the_gap(void **state)
{
    (void)state;
    for (int index = 0; index < 40; index++) {
        assert_int_equal(subspace_last_refresh(200, true, index, 1), 1);
        int refreshes = 0;
        for (int64_t step = 202; step < 402; step++) refreshes += subspace_last_refresh(200, true, index, step) == step;
        assert_int_equal(refreshes, 1);
    }
    for (int64_t step = 2; step < 402; step++) {
        int most = 0;
        for (int index = 0; index < 40; index++) most += subspace_last_refresh(200, true, index, step) == step;
        assert_true(most <= 5);
    }
    assert_int_equal(subspace_last_refresh(3, true, 7, 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bases_are_orthonormal_and_hold_nearly_the_best_energy),
        cmocka_unit_test(bases_of_16_bit_products_are_orthonormal_in_f32),
        cmocka_unit_test(a_poor_gradient_leaves_an_orthonormal_basis),
        cmocka_unit_test(a_gradient_that_is_not_finite_leaves_the_start),
        cmocka_unit_test(bases_turn_little_between_refreshes),
        cmocka_unit_test(a_transposed_gradient_gives_the_transposed_basis),
        cmocka_unit_test(moments_turn_with_the_basis),
        cmocka_unit_test(refreshes_inside_the_backward_pass_change_no_bit),
        cmocka_unit_test(a_window_refreshes_from_its_first_micro_batch),
        cmocka_unit_test(a_refresh_holds_one_gradient_at_a_time),
        cmocka_unit_test(a_refresh_is_recorded_once),
        cmocka_unit_test(graphs_that_are_kept_change_no_bit),
        cmocka_unit_test(waves_share_the_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
