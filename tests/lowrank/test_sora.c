/* SoRA: start, gradients, the three proximal operators, the penalty, stages, pruning on export. */
#include "lowrank/checks.h"

enum { R = 4 };

static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    *attachment = world_attach(w, "sora", settings, "proj");
    return linear;
}

static void the_adapted_model_starts_equal_to_the_base_and_off_is_the_base(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double       *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "sora", "rank=4", "proj");
    double       *start = outputs(&w, linear, x, CRANK_F32, false);
    assert_near(start, base, N * OUT, 1e-7); /* the bias is added behind the map */
    world_randomise(&w, "proj.sora.B", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    free(base), free(start);
    world_close(&w);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=4 alpha=6 dropout=0.3", &a);
    world_randomise(&w, "proj.sora.B", 0.5);
    double g[R] = { 0.7, 0, -1.2, 0.3 };
    world_write(&w, "proj.sora.gate", g);
    check_differences(&w, linear, x, (const char *const[]){ "proj.sora.A", "proj.sora.B", "proj.sora.gate", NULL });
    check_input_gradient(&w, linear);
    world_close(&w);
}

static void a_gate_at_zero_stops_its_factors_but_learns_itself(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=4", &a);
    world_randomise(&w, "proj.sora.B", 0.5);
    world_write(&w, "proj.sora.gate", (double[R]){ 0.7, 0, -1.2, 0.3 });
    static const char *const wrt[] = { "proj.sora.A", "proj.sora.B", "proj.sora.gate", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    for (int i = 0; i < IN; i++) assert_true(p.grads[0][1 * IN + i] == 0 && p.grads[0][i] != 0);
    for (int o = 0; o < OUT; o++) assert_true(p.grads[1][o * R + 1] == 0 && p.grads[1][o * R] != 0);
    assert_true(p.grads[2][1] != 0);
    pass_free(&p);
    world_close(&w);
}

static void with_gates_of_one_it_is_lora(void **state)
{
    (void)state;
    pass p[2];
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, i ? "sora" : "lora", i ? "rank=3 alpha=6 gate=one lambda=0 threshold=0" : "rank=3 alpha=6", "proj");
        double A[3 * IN], B[OUT * 3];
        world_fill(A, 3 * IN, 21, 0.5), world_fill(B, OUT * 3, 22, 0.5);
        world_write(&w, i ? "proj.sora.A" : "proj.lora.A", A), world_write(&w, i ? "proj.sora.B" : "proj.lora.B", B);
        static const char *const names[2][3] = { { "proj.lora.A", "proj.lora.B", NULL }, { "proj.sora.A", "proj.sora.B", NULL } };
        p[i] = (pass){ .n = N, .x = x, .dy = dy, .compute = CRANK_F32, .training = true, .wrt = names[i] };
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    assert_memory_equal(p[0].y, p[1].y, sizeof(double) * N * OUT);
    assert_memory_equal(p[0].grads[0], p[1].grads[0], sizeof(double) * 3 * IN);
    assert_memory_equal(p[0].grads[1], p[1].grads[1], sizeof(double) * OUT * 3);
    pass_free(&p[0]), pass_free(&p[1]);
}

/* ---- the proximal step ---- */

/* Runs after_step once at the rate. */
static void step(world *w, float rate, float skip)
{
    float        scalars[CRANK_SCALARS] = { [CRANK_SCALAR_RATE] = rate, [CRANK_SCALAR_SKIP] = skip };
    bool         changed;
    crank_graph *graph = crank_graph_new(w->context, w->device);
    crank_graph_set_compute(graph, w->type);
    assert_ok(w->context, crank_linears_period(w->context, w->linears, 1, &changed));
    assert_false(changed);
    crank_linears_after_step(graph, w->linears);
    assert_ok(w->context, crank_plan(graph, NULL, NULL));
    assert_ok(w->context, crank_write(crank_step_scalars(graph), scalars));
    assert_ok(w->context, crank_run(graph));
    crank_graph_free(graph);
}

enum { GRID = 9 };
static const double grid[GRID] = { -1, -0.25, -0.15, -0.05, 0, 0.05, 0.15, 0.25, 1 };

static void check_operator(const char *settings, double rate, const double *expected)
{
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_F64, settings, &a);
    world_write(&w, "proj.sora.gate", grid);
    step(&w, (float)rate, 0);
    double *g = world_values(&w, "proj.sora.gate");
    for (int i = 0; i < GRID; i++)
        if (fabs(g[i] - expected[i]) > 1e-7 || (expected[i] == 0) != (g[i] == 0)) fail_msg("%s: %g becomes %g, not %g", settings, grid[i], g[i], expected[i]);
    free(g);
    world_close(&w);
}

static void proximal_steps_follow_their_closed_forms(void **state)
{
    (void)state;
    static const double soft[GRID] = { -0.9, -0.15, -0.05, 0, 0, 0, 0.05, 0.15, 0.9 };
    static const double jump[GRID] = { -0.9, -0.15, 0, 0, 0, 0, 0, 0.15, 0.9 };
    check_operator("rank=9 prox=soft threshold=0.1", 0.5, soft);
    check_operator("rank=9 prox=rate threshold=0.2", 0.5, soft);
    check_operator("rank=9 prox=rate threshold=0.05 gate_rate=4", 0.5, soft);
    check_operator("rank=9 prox=jump threshold=0.1", 0.5, jump);
    check_operator("rank=9 prox=soft threshold=0", 0.5, grid);
}

static void a_skipped_step_changes_no_gate(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_F32, "rank=4 prox=soft threshold=0.1", &a);
    double *before = world_values(&w, "proj.sora.gate");
    step(&w, 1, 1);
    double *after = world_values(&w, "proj.sora.gate");
    assert_memory_equal(before, after, R * sizeof *before);
    free(before), free(after);
    world_close(&w);
}

/* Gradient descent with the proximal step on 0.5 (g - a)^2 + lambda |g| ends at the soft threshold of a. */
static void proximal_gradient_reaches_the_soft_threshold(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_F64, "rank=4 prox=rate threshold=0.3", &a);
    static const double aim[R] = { 1, 0.2, -0.9, 0.31 }, expected[R] = { 0.7, 0, -0.6, 0.01 };
    for (int i = 0; i < 200; i++) {
        double *g = world_values(&w, "proj.sora.gate");
        for (int k = 0; k < R; k++) g[k] -= 0.2 * (g[k] - aim[k]);
        world_write(&w, "proj.sora.gate", g);
        free(g);
        step(&w, 0.2f, 0);
    }
    double *g = world_values(&w, "proj.sora.gate");
    for (int k = 0; k < R; k++) assert_true(fabs(g[k] - expected[k]) < 1e-6);
    free(g);
    world_close(&w);
}

static void thresholds_rise_in_stages(void **state)
{
    (void)state;
    static const struct {
        const char *spacing;
        double      middle;
    } cases[] = { { "linear", 0.025 }, { "log", 0.02 }, { "exp", 0.01 + 0.03 * 0.26894142 } };
    for (int i = 0; i < 3; i++) {
        world             w;
        crank_attachment *a;
        char              settings[200];
        bool              changed;
        snprintf(settings, sizeof settings, "rank=4 prox=soft stages=3 stage_steps=10 threshold=0.01 threshold_last=0.04 spacing=%s", cases[i].spacing);
        setup(&w, CRANK_F64, settings, &a);
        static const int64_t steps[] = { 1, 10, 11, 20, 21, 99 };
        for (int k = 0; k < 6; k++) {
            assert_ok(w.context, crank_linears_period(w.context, w.linears, steps[k], &changed));
            double *t = world_values(&w, "proj.sora.threshold"), expected = k < 2 ? 0.01 : k < 4 ? cases[i].middle : 0.04;
            assert_true(fabs(*t - expected) < 1e-7);
            free(t);
        }
        world_close(&w);
    }
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    assert_null(world_try(&w, "sora", "stages=3", &(crank_attach_options){ .targets = "proj" }));
    assert_non_null(strstr(crank_message(w.context), "`stage_steps`"));
    world_close(&w);
}

static void the_penalty_is_the_mean_of_all_gates_in_the_model(void **state)
{
    (void)state;
    world w = world_open(CRANK_F64);
    world_linear(&w, "a", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_linear(&w, "b", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_try(&w, "sora", "rank=2 lambda=3", &(crank_attach_options){ .targets = "a\nb", .rank_pattern = "b=4" });
    world_write(&w, "a.sora.gate", (double[]){ 1, -2 });
    world_write(&w, "b.sora.gate", (double[]){ 0, 0.5, -0.5, 2 });
    crank_graph *graph = crank_graph_new(w.context, w.device);
    crank_graph_set_compute(graph, CRANK_F64);
    crank_tensor *penalty = crank_keep(crank_linears_penalty(graph, w.linears));
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    assert_ok(w.context, crank_run(graph));
    assert_true(fabs(crank_read_scalar(penalty) - 3.0 * 6 / 6) < 1e-12);
    crank_graph_free(graph);
    world_close(&w);
}

static void the_export_holds_the_ranks_that_are_left(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=4 alpha=6", &a);
    world_randomise(&w, "proj.sora.B", 0.5);
    world_write(&w, "proj.sora.gate", (double[R]){ 0.7, 0, -1.2, 0 });
    check_export(&w, linear, crank_map_find("sora"), a, 2);
    world_write(&w, "proj.sora.gate", (double[R]){ 0, 0, 0, 0 });
    check_export(&w, linear, crank_map_find("sora"), a, 0);
    world_close(&w);
}

static void gates_are_f32_and_never_decay(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_BF16, "rank=4 gate_rate=3", &a);
    assert_int_equal(world_param(&w, "proj.sora.gate")->view.dtype, CRANK_F32);
    assert_true(world_param(&w, "proj.sora.gate")->no_decay);
    assert_true(world_param(&w, "proj.sora.gate")->rate_factor == 3);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_adapted_model_starts_equal_to_the_base_and_off_is_the_base),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(a_gate_at_zero_stops_its_factors_but_learns_itself),
        cmocka_unit_test(with_gates_of_one_it_is_lora),
        cmocka_unit_test(proximal_steps_follow_their_closed_forms),
        cmocka_unit_test(a_skipped_step_changes_no_gate),
        cmocka_unit_test(proximal_gradient_reaches_the_soft_threshold),
        cmocka_unit_test(thresholds_rise_in_stages),
        cmocka_unit_test(the_penalty_is_the_mean_of_all_gates_in_the_model),
        cmocka_unit_test(the_export_holds_the_ranks_that_are_left),
        cmocka_unit_test(gates_are_f32_and_never_decay),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
