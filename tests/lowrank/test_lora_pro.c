/* LoRA-Pro: the change of the weight is the projection of its gradient, whatever X is; first step, full mode, skipped steps. */
#include "lowrank/steps.h"

enum { R = 3 };
static const char *const trained[] = { "proj.lora-pro.A", "proj.lora-pro.B", NULL };

static crank_linear *setup(world *w, const char *settings, bool started)
{
    *w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(w, "lora-pro", settings, "proj");
    if (started) world_randomise(w, "proj.lora-pro.B", 0.5);
    return linear;
}

/* s B A */
static void change_of(world *w, double s, int64_t r, double *out)
{
    double *A = world_values(w, "proj.lora-pro.A"), *B = world_values(w, "proj.lora-pro.B");
    product(B, false, A, false, OUT, (size_t)r, IN, out);
    for (int i = 0; i < OUT * IN; i++) out[i] *= s;
    free(A), free(B);
}

/* Orthonormal columns of a [m, r] by Gram-Schmidt, and a projected onto them: P = Q Q^T [m, m]. */
static void projector(const double *a, size_t m, size_t r, double *P)
{
    double Q[OUT * IN];
    for (size_t k = 0; k < r; k++)
        for (size_t i = 0; i < m; i++) Q[i * r + k] = a[i * r + k];
    for (size_t k = 0; k < r; k++)
        for (int again = 0; again < 2; again++) {
            double norm = 0;
            for (size_t j = 0; j < k; j++) {
                double dot = 0;
                for (size_t i = 0; i < m; i++) dot += Q[i * r + j] * Q[i * r + k];
                for (size_t i = 0; i < m; i++) Q[i * r + k] -= dot * Q[i * r + j];
            }
            for (size_t i = 0; i < m; i++) norm += Q[i * r + k] * Q[i * r + k];
            for (size_t i = 0; i < m; i++) Q[i * r + k] /= sqrt(norm);
        }
    product(Q, false, Q, true, m, r, m, P);
}

/* G - (I - PB) G (I - PA) */
static void nearest(world *w, double *G, double *out)
{
    double *A = world_values(w, "proj.lora-pro.A"), *B = world_values(w, "proj.lora-pro.B"), At[IN * R], PA[IN * IN], PB[OUT * OUT], left[OUT * IN], both[OUT * IN];
    for (int k = 0; k < R; k++)
        for (int i = 0; i < IN; i++) At[i * R + k] = A[k * IN + i];
    projector(At, IN, R, PA);
    projector(B, OUT, R, PB);
    for (int i = 0; i < IN * IN; i++) PA[i] = (i % (IN + 1) == 0) - PA[i];
    for (int i = 0; i < OUT * OUT; i++) PB[i] = (i % (OUT + 1) == 0) - PB[i];
    product(PB, false, G, false, OUT, OUT, IN, left);
    product(left, false, PA, false, OUT, IN, IN, both);
    for (int i = 0; i < OUT * IN; i++) out[i] = G[i] - both[i];
    free(A), free(B);
}

static void the_weight_moves_along_the_nearest_low_rank_gradient_whatever_X_is(void **state)
{
    (void)state;
    static const char *const xs[] = { "sylvester", "zero", "symmetry" };
    double                   G[OUT * IN], s = 4 / sqrt(R), rate = 1e-6;
    product(dy, true, x, false, OUT, N, IN, G);
    for (int i = 0; i < 3; i++) {
        world  w;
        char   settings[80];
        double before[OUT * IN], after[OUT * IN], wanted[OUT * IN];
        snprintf(settings, sizeof settings, "rank=3 alpha=4 mode=sgd delta=0 x=%s", xs[i]);
        crank_linear *linear = setup(&w, settings, true);
        nearest(&w, G, wanted);
        change_of(&w, s, R, before);
        run_step(&w, linear, trained, &(step_of){ .rate = rate, .step = 1 });
        change_of(&w, s, R, after);
        for (int k = 0; k < OUT * IN; k++) after[k] = (before[k] - after[k]) / rate;
        assert_near(after, wanted, OUT * IN, 1e-4); /* up to O(rate) */
        world_close(&w);
    }
}

/* With B = 0: Delta W = -rate G P_A. */
static void the_first_step_projects_onto_the_rows_of_A(void **state)
{
    (void)state;
    world  w;
    double G[OUT * IN], At[IN * R], PA[IN * IN], wanted[OUT * IN], after[OUT * IN];
    crank_linear *linear = setup(&w, "rank=3 alpha=4 mode=sgd delta=0", false);
    double       *A = world_values(&w, "proj.lora-pro.A");
    for (int k = 0; k < R; k++)
        for (int i = 0; i < IN; i++) At[i * R + k] = A[k * IN + i];
    projector(At, IN, R, PA);
    product(dy, true, x, false, OUT, N, IN, G);
    product(G, false, PA, false, OUT, IN, IN, wanted);
    run_step(&w, linear, trained, &(step_of){ .rate = 0.0078125, .step = 1 });
    change_of(&w, 4 / sqrt(R), R, after);
    for (int i = 0; i < OUT * IN; i++) after[i] /= -0.0078125;
    assert_near(after, wanted, OUT * IN, 1e-9);
    double *moved = world_values(&w, "proj.lora-pro.A");
    assert_near(moved, A, R * IN, 1e-12); /* A has no gradient yet */
    free(A), free(moved);
    world_close(&w);
}

/* The closed form: X solves its equation, so the adjusted pair is the nearest to the ordinary gradients among all X: the gradient of
 * |gA - gA_l|^2 + |gB - gB_l|^2 by X vanishes: (gA - gA_l) A^T = B^T (gB - gB_l). */
static void the_sylvester_choice_stays_nearest_to_the_ordinary_gradients(void **state)
{
    (void)state;
    world         w;
    double        s = 4 / sqrt(R), rate = 1e-3, G[OUT * IN], gA[R * IN], gB[OUT * R], left[R * R], right[R * R];
    crank_linear *linear = setup(&w, "rank=3 alpha=4 mode=sgd delta=0", true);
    double       *A = world_values(&w, "proj.lora-pro.A"), *B = world_values(&w, "proj.lora-pro.B");
    product(dy, true, x, false, OUT, N, IN, G);
    product(B, true, G, false, R, OUT, IN, gA);
    product(G, false, A, true, OUT, IN, R, gB);
    run_step(&w, linear, trained, &(step_of){ .rate = rate, .step = 1 });
    double *A1 = world_values(&w, "proj.lora-pro.A"), *B1 = world_values(&w, "proj.lora-pro.B");
    for (int i = 0; i < R * IN; i++) gA[i] = (A[i] - A1[i]) / rate - s * gA[i];
    for (int i = 0; i < OUT * R; i++) gB[i] = (B[i] - B1[i]) / rate - s * gB[i];
    product(gA, false, A, true, R, IN, R, left);
    product(B, true, gB, false, R, OUT, R, right);
    assert_near(left, right, R * R, 1e-7);
    free(A), free(B), free(A1), free(B1);
    world_close(&w);
}

/* r = out: B is square, so every change of the weight can be reached, and full mode's first step is AdamW's: -rate sign(G). */
static void at_full_rank_it_is_full_adam(void **state)
{
    (void)state;
    world  w;
    double G[OUT * IN], before[OUT * IN], after[OUT * IN], rate = 1e-6;
    crank_linear *linear = setup(&w, "rank=6 alpha=4 mode=full delta=0", true);
    product(dy, true, x, false, OUT, N, IN, G);
    change_of(&w, 4 / sqrt(6), 6, before);
    run_step(&w, linear, trained, &(step_of){ .rate = rate, .step = 1 });
    change_of(&w, 4 / sqrt(6), 6, after);
    for (int i = 0; i < OUT * IN; i++) assert_true(fabs((before[i] - after[i]) / rate - (G[i] > 0 ? 1 : -1)) < 1e-3);
    world_close(&w);
}

static void modes_step_and_a_skipped_step_changes_nothing(void **state)
{
    (void)state;
    static const char *const modes[] = { "rank=3 mode=full", "rank=3 mode=efficient decay=0.1", "rank=3 mode=sgd compat=true" };
    for (int i = 0; i < 3; i++)
        for (int skip = 0; skip < 2; skip++) {
            world         w;
            crank_linear *linear = setup(&w, modes[i], true);
            double       *A = world_values(&w, "proj.lora-pro.A");
            run_step(&w, linear, trained, &(step_of){ .rate = 1e-3, .step = 1, .skip = skip });
            double *after = world_values(&w, "proj.lora-pro.A");
            assert_int_equal(memcmp(A, after, sizeof(double) * R * IN) == 0, skip);
            for (int k = 0; k < R * IN; k++) assert_true(isfinite(after[k]));
            free(A), free(after);
            world_close(&w);
        }
}

/* A tenth of |g|: the weight moves a tenth as far, in the same direction; a limit above |g| changes nothing. */
static void the_limit_clips_the_norm_of_the_stand_in(void **state)
{
    (void)state;
    double moved[3][OUT * IN], rate = 1e-6, norm = 0, limit = 0;
    for (int k = 0; k < 3; k++) {
        world  w;
        char   settings[96];
        double before[OUT * IN], s = 4 / sqrt(R);
        snprintf(settings, sizeof settings, "rank=3 alpha=4 mode=sgd delta=0 limit=%.12g", k == 0 ? 0 : k == 1 ? limit : 100 * limit);
        crank_linear *linear = setup(&w, settings, true);
        change_of(&w, s, R, before);
        run_step(&w, linear, trained, &(step_of){ .rate = rate, .step = 1 });
        change_of(&w, s, R, moved[k]);
        for (int i = 0; i < OUT * IN; i++) moved[k][i] = (before[i] - moved[k][i]) / rate;
        for (int i = 0; k == 0 && i < OUT * IN; i++) norm += moved[0][i] * moved[0][i];
        if (k == 0) limit = sqrt(norm) / 10;
        world_close(&w);
    }
    for (int i = 0; i < OUT * IN; i++) moved[1][i] *= 10;
    assert_near(moved[1], moved[0], OUT * IN, 1e-3); /* up to O(rate) */
    assert_near(moved[2], moved[0], OUT * IN, 1e-9);
}

/* Sixty steps: the second moment grows as in f32, where rounding to the nearest would stop it at once; a skipped step leaves its bits. */
static void moments_in_bf16_follow_those_in_f32(void **state)
{
    (void)state;
    static const char *const types[] = { "rank=3 mode=full beta2=0.999", "rank=3 mode=full beta2=0.999 moments=bf16" };
    double sums[2] = { 0 }, *B[2];
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "lora-pro", types[k], "proj");
        world_randomise(&w, "proj.lora-pro.B", 0.5);
        for (int step = 1; step <= 60; step++) run_step(&w, linear, trained, &(step_of){ .rate = 1e-3, .step = step });
        double *V = world_values(&w, "proj.lora-pro.V");
        for (int i = 0; i < OUT * IN; i++) sums[k] += V[i];
        B[k] = world_values(&w, "proj.lora-pro.B");
        run_step(&w, linear, trained, &(step_of){ .rate = 1e-3, .step = 61, .skip = 1 });
        double *same = world_values(&w, "proj.lora-pro.V");
        assert_memory_equal(same, V, sizeof(double) * OUT * IN);
        assert_int_equal(world_param(&w, "proj.lora-pro.V")->view.dtype, k ? CRANK_BF16 : CRANK_F32);
        free(V), free(same);
        world_close(&w);
    }
    assert_true(fabs(sums[1] / sums[0] - 1) < 0.03);
    assert_near(B[1], B[0], OUT * R, 0.02);
    free(B[0]), free(B[1]);
}

static void it_starts_as_the_base_merges_and_exports(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double       *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "lora-pro", "rank=3", "proj");
    double       *start = outputs(&w, linear, x, CRANK_F32, false);
    assert_memory_equal(start, base, sizeof(double) * N * OUT);
    assert_true(world_param(&w, "proj.lora-pro.A")->moved);
    world_randomise(&w, "proj.lora-pro.B", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("lora-pro"), a, R);
    free(base), free(start);
    assert_null(world_try(&w, "lora-pro", "rank=9", &(crank_attach_options){ .name = "n", .targets = "proj" }));
    assert_non_null(strstr(crank_message(w.context), "lower lowrank.rank"));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weight_moves_along_the_nearest_low_rank_gradient_whatever_X_is),
        cmocka_unit_test(the_first_step_projects_onto_the_rows_of_A),
        cmocka_unit_test(the_sylvester_choice_stays_nearest_to_the_ordinary_gradients),
        cmocka_unit_test(at_full_rank_it_is_full_adam),
        cmocka_unit_test(modes_step_and_a_skipped_step_changes_nothing),
        cmocka_unit_test(the_limit_clips_the_norm_of_the_stand_in),
        cmocka_unit_test(moments_in_bf16_follow_those_in_f32),
        cmocka_unit_test(it_starts_as_the_base_merges_and_exports),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
