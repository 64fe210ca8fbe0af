/* SMoRA: start, gates, gradients away from ties, special cases, the bias that evens the load, refusals. */
#include "linear/stack.h"
#include "lowrank/steps.h"

static const char *const trained[] = { "proj.smora.A", "proj.smora.B", "proj.smora.router", NULL };

static crank_linear *setup(world *w, crank_dtype type, const char *settings)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(w, "smora", settings, "proj");
    return linear;
}

static void it_starts_as_the_base_and_cannot_be_merged(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double       *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "smora", "rank=8 active=3", "proj");
    double       *start = outputs(&w, linear, x, CRANK_F32, false);
    assert_memory_equal(start, base, sizeof(double) * N * OUT);
    world_randomise(&w, "proj.smora.B", 0.5);
    check_off(&w, linear, a, base);
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    free(base), free(start);
    world_close(&w);
}

static void outputs_follow_the_equation(void **state)
{
    (void)state;
    enum { TOTAL = 6, K = 2 };
    static const int parts[] = { 1, 2 };
    for (int c = 0; c < 2; c++) {
        world w;
        int   p = parts[c], experts = TOTAL / p;
        char  settings[80];
        snprintf(settings, sizeof settings, "rank=6 active=2 alpha=3 partition=%d", p);
        crank_linear *linear = setup(&w, CRANK_F64, settings);
        world_randomise(&w, "proj.smora.B", 0.5);
        world_randomise(&w, "proj.smora.bias", 0.1);
        double *A = world_values(&w, "proj.smora.A"), *B = world_values(&w, "proj.smora.B"), *T = world_values(&w, "proj.smora.router"), *b = world_values(&w, "proj.smora.bias");
        double *W = world_values(&w, "proj.weight"), y[N * OUT];
        product(x, false, W, true, N, IN, OUT, y);
        for (int n = 0; n < N; n++) {
            double s[TOTAL], sum = 0;
            bool   chosen[TOTAL] = { false };
            for (int e = 0; e < experts; e++) {
                double z = 0;
                for (int i = 0; i < IN; i++) z += T[e * IN + i] * x[n * IN + i];
                s[e] = 1 / (1 + exp(-z)) + b[e];
            }
            for (int k = 0; k < K / p; k++) {
                int best = -1;
                for (int e = 0; e < experts; e++)
                    if (!chosen[e] && (best < 0 || s[e] > s[best])) best = e;
                chosen[best] = true;
                sum += s[best];
            }
            for (int k = 0; k < TOTAL; k++) {
                double u = 0, g = chosen[k / p] ? s[k / p] / sum : 0;
                for (int i = 0; i < IN; i++) u += A[k * IN + i] * x[n * IN + i];
                for (int o = 0; o < OUT; o++) y[n * OUT + o] += 3.0 / p * g * u * B[o * TOTAL + k];
            }
        }
        double *own = outputs(&w, linear, x, CRANK_F64, false);
        assert_near(own, y, N * OUT, 1e-12);
        free(A), free(B), free(T), free(b), free(W), free(own);
        world_close(&w);
    }
}

/* Blocks of two ranks with softmax gates are a mixture of three LoRAs of rank 2, each with alpha / 2, the best two by softmax, their weights
 * over the sum of the two. */
static void blocks_with_softmax_gates_are_moe_lora(void **state)
{
    (void)state;
    enum { EXPERTS = 3, RANK = 2, TOTAL = EXPERTS * RANK };
    world         w;
    crank_linear *linear = setup(&w, CRANK_F64, "rank=6 active=4 partition=2 gate=softmax alpha=3 mu=0");
    world_randomise(&w, "proj.smora.B", 0.5);
    double *A = world_values(&w, "proj.smora.A"), *B = world_values(&w, "proj.smora.B"), *T = world_values(&w, "proj.smora.router"), *W = world_values(&w, "proj.weight"), y[N * OUT];
    product(x, false, W, true, N, IN, OUT, y);
    for (int n = 0; n < N; n++) {
        double p[EXPERTS], sum = 0;
        int    least = 0;
        for (int e = 0; e < EXPERTS; e++) {
            double z = 0;
            for (int i = 0; i < IN; i++) z += T[e * IN + i] * x[n * IN + i];
            sum += p[e] = exp(z);
        }
        for (int e = 0; e < EXPERTS; e++) p[e] /= sum;
        for (int e = 1; e < EXPERTS; e++)
            if (p[e] < p[least]) least = e;
        for (int e = 0; e < EXPERTS; e++) {
            double expert[OUT] = { 0 };
            for (int k = e * RANK; k < (e + 1) * RANK; k++) {
                double u = 0;
                for (int i = 0; i < IN; i++) u += A[k * IN + i] * x[n * IN + i];
                for (int o = 0; o < OUT; o++) expert[o] += 3.0 / RANK * B[o * TOTAL + k] * u;
            }
            for (int o = 0; e != least && o < OUT; o++) y[n * OUT + o] += p[e] / (1 - p[least]) * expert[o];
        }
    }
    double *own = outputs(&w, linear, x, CRANK_F64, false);
    assert_near(own, y, N * OUT, 1e-12);
    free(A), free(B), free(T), free(W), free(own);
    world_close(&w);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=6 active=2", "rank=6 active=4 partition=2 gate_uses_bias=false", "rank=6 active=2 gate=softmax" };
    for (int i = 0; i < 3; i++) {
        world         w;
        crank_linear *linear = setup(&w, CRANK_F64, settings[i]);
        world_randomise(&w, "proj.smora.B", 0.5);
        check_differences(&w, linear, x, trained);
        check_input_gradient(&w, linear);
        world_close(&w);
    }
}

/* All ranks active and equal scores: every gate is 1 / R, which is LoRA of scale alpha / R. */
static void with_equal_scores_and_all_ranks_it_is_lora(void **state)
{
    (void)state;
    double *y[2];
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, i ? "smora" : "lora", i ? "rank=4 active=4 alpha=6" : "rank=4 alpha=6", "proj");
        double A[4 * IN], B[OUT * 4], zero[4 * IN] = { 0 };
        world_fill(A, 4 * IN, 21, 0.5), world_fill(B, OUT * 4, 22, 0.5);
        world_write(&w, i ? "proj.smora.A" : "proj.lora.A", A), world_write(&w, i ? "proj.smora.B" : "proj.lora.B", B);
        if (i) world_write(&w, "proj.smora.router", zero);
        y[i] = outputs(&w, linear, x, CRANK_F64, false);
        world_close(&w);
    }
    assert_near(y[1], y[0], N * OUT, 1e-12);
    free(y[0]), free(y[1]);
}

/* Ties go to the lowest ranks: with a router of zeros all rows take ranks 0 and 1, which then lose exactly mu while the others gain it. */
static void the_bias_evens_the_load_by_mu(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = setup(&w, CRANK_F64, "rank=4 active=2 mu=0.125");
    double        zero[4 * IN] = { 0 };
    world_write(&w, "proj.smora.router", zero);
    run_step(&w, linear, trained, &(step_of){ .rate = 0, .step = 1 });
    double *bias = world_values(&w, "proj.smora.bias"), *load = world_values(&w, "proj.smora.load"), *counts = world_values(&w, "proj.smora.counts");
    for (int k = 0; k < 4; k++) {
        assert_true(bias[k] == (k < 2 ? -0.125 : 0.125));
        assert_true(load[k] == (k < 2 ? N : 0));
        assert_true(counts[k] == 0);
    }
    free(bias), free(load), free(counts);
    run_step(&w, linear, trained, &(step_of){ .rate = 0, .step = 2 }); /* now the others are chosen */
    bias = world_values(&w, "proj.smora.bias");
    for (int k = 0; k < 4; k++) assert_true(bias[k] == 0);
    free(bias);
    run_step(&w, linear, trained, &(step_of){ .rate = 0, .step = 3, .skip = 1 });
    bias = world_values(&w, "proj.smora.bias");
    for (int k = 0; k < 4; k++) assert_true(bias[k] == 0);
    free(bias);
    world_close(&w);
}

/* Rows 3 and 4 of a batch are filler: the router sends every row to the first two experts. */
static void filler_rows_do_not_count(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = setup(&w, CRANK_F64, "rank=4 active=2 mu=0.125");
    double        zero[4 * IN] = { 0 };
    float         filler[N] = { 0, 0, 0, 1, 1 };
    world_write(&w, "proj.smora.router", zero);
    crank_graph *graph = crank_graph_new(w.context, w.device);
    crank_graph_set_compute(graph, w.type);
    crank_tensor *input = crank_input(graph, "x", w.type, 2, (const int64_t[]){ N, IN });
    crank_keep(crank_linear_forward(graph, linear, input));
    assert_non_null(linear_filler_input(graph));
    assert_null(linear_filler(graph, N + 1)); /* another number of rows */
    assert_ok(w.context, crank_plan(graph, NULL, NULL));
    world_to_input(w.context, input, x, N * IN);
    assert_ok(w.context, crank_write(linear_filler_input(graph), filler));
    assert_ok(w.context, crank_run(graph));
    double *counts = world_values(&w, "proj.smora.counts");
    for (int k = 0; k < 4; k++) assert_true(counts[k] == (k < 2 ? 3 : 0));
    free(counts);
    crank_graph_free(graph);
    world_close(&w);
}

static void hear(void *user, crank_level level, const char *line)
{
    (void)level;
    if (strstr(line, "entropy")) snprintf(user, 256, "%s", line);
}

/* Two of four experts take all rows: log 2 / log 4. */
static void the_entropy_of_the_load_is_told(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = setup(&w, CRANK_F64, "rank=4 active=2 mu=0");
    double        zero[4 * IN] = { 0 };
    char          heard[256] = "";
    bool          changed = false;
    int           count;
    world_write(&w, "proj.smora.router", zero);
    run_step(&w, linear, trained, &(step_of){ .rate = 0, .step = 100 });
    crank_set_log(w.context, hear, heard);
    crank_attachment *attachment = crank_linears_attachment(w.linears, 0);
    assert_ok(w.context, crank_map_find("smora")->period(w.context, crank_attachment_sites(attachment, &count), 1, 101, &changed));
    crank_set_log(w.context, NULL, NULL);
    assert_non_null(strstr(heard, "in step 100"));
    assert_non_null(strstr(heard, "0.500"));
    world_close(&w);
}

static void impossible_sizes_are_told(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=4 active=5", "rank=4 active=2 partition=3", "rank=6 active=2 partition=3" };
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    for (int i = 0; i < 3; i++) assert_null(world_try(&w, "smora", settings[i], &(crank_attach_options){ .targets = "proj" }));
    assert_non_null(strstr(crank_message(w.context), "must divide"));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_as_the_base_and_cannot_be_merged), cmocka_unit_test(outputs_follow_the_equation),
        cmocka_unit_test(blocks_with_softmax_gates_are_moe_lora), cmocka_unit_test(gradients_equal_finite_differences),         cmocka_unit_test(with_equal_scores_and_all_ranks_it_is_lora),
        cmocka_unit_test(the_bias_evens_the_load_by_mu),              cmocka_unit_test(impossible_sizes_are_told),
        cmocka_unit_test(filler_rows_do_not_count),
        cmocka_unit_test(the_entropy_of_the_load_is_told),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
