/* Invariants of single methods that follow from their equations: what batches, orders, scales and draws may not change. */
#include "lowrank/observe.h"

enum { ROWS = 64 };

/* ---- data-driven starts ---- */

static double *start_of(const char *method, const char *settings, const char *name, int64_t size, bool products)
{
    world             w = world_open(CRANK_F32);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    crank_attachment *attachment = observe_start(&w, method, settings, &(crank_attach_options){ .targets = "proj" });
    float            *rows = observe_data(ROWS, IN, 0.8, 1), *dys = observe_data(ROWS, OUT, 0.8, 2);
    if (products)
        for (int64_t at = 0; at < ROWS; at += size) {
            float g[OUT * IN] = { 0 };
            for (int64_t n = at; n < at + size; n++)
                for (int o = 0; o < OUT; o++)
                    for (int i = 0; i < IN; i++) g[o * IN + i] += dys[n * OUT + o] * rows[n * IN + i];
            assert_ok(w.context, crank_attachment_observe(w.context, attachment, linear, &(crank_observation){ .g = g, .n = size }));
        }
    else observe_rows(&w, attachment, linear, rows, dys, ROWS, size);
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    double *values = world_values(&w, name);
    free(rows), free(dys);
    world_close(&w);
    return values;
}

/* Sums over batches are one sum, handed over as rows or as products made elsewhere. */
static void a_start_from_gradients_does_not_depend_on_the_batches(void **state)
{
    (void)state;
    static const struct {
        const char *method, *settings, *name;
        int64_t     count;
    } cases[] = { { "lora-ga", "rank=2", "proj.lora-ga.A", 2 * IN }, { "lora-ga", "rank=2", "proj.lora-ga.B0", 2 * OUT }, { "lora-sb", "rank=3 start=raw step=1", "proj.lora-sb.B", 3 * OUT } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double *whole = start_of(cases[c].method, cases[c].settings, cases[c].name, ROWS, false);
        for (int k = 0; k < 3; k++) {
            double *parts = start_of(cases[c].method, cases[c].settings, cases[c].name, k == 1 ? ROWS : 16, k > 0);
            assert_near(parts, whole, (size_t)cases[c].count, 2e-4);
            free(parts);
        }
        free(whole);
    }
}

/* For dy independent of x: E |gB|^2 over rows of dy is |dy|^2 tr(A S A^T), S = x x^T of the row; so the leading components make it largest. */
static void the_expected_first_gradient_is_the_variance_that_A_sees(void **state)
{
    (void)state;
    enum { DRAWS = 4000 };
    world             w = world_open(CRANK_F64);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    crank_attachment *attachment = observe_start(&w, "eva", "rank=2 alpha=2 rho=1", &(crank_attach_options){ .targets = "proj" });
    float            *rows = observe_data(ROWS, IN, 0.7, 31);
    observe_rows(&w, attachment, linear, rows, NULL, ROWS, ROWS);
    assert_ok(w.context, crank_attachment_finish(w.context, attachment));
    double *A = world_values(&w, "proj.eva.A"), expected = 0, mean = 0, noise[OUT];
    for (int64_t n = 0; n < ROWS; n++)
        for (int k = 0; k < 2; k++) {
            double along = 0;
            for (int i = 0; i < IN; i++) along += A[k * IN + i] * (double)rows[n * IN + i];
            expected += along * along * OUT / ROWS; /* E dy_o^2 = 1 */
        }
    for (int d = 0; d < DRAWS; d++) {
        int64_t n = d % ROWS;
        for (int o = 0; o < OUT; o++) noise[o] = world_normal(901, (uint64_t)(d * OUT + o));
        for (int o = 0; o < OUT; o++)
            for (int k = 0; k < 2; k++) { /* gB = s dy (A x)^T, s = 1 */
                double along = 0;
                for (int i = 0; i < IN; i++) along += A[k * IN + i] * (double)rows[n * IN + i];
                mean += noise[o] * noise[o] * along * along / DRAWS;
            }
    }
    assert_true(fabs(mean - expected) < 0.1 * expected);
    free(rows), free(A);
    world_close(&w);
}

/* ---- orders and scales ---- */

/* The gain of a row is that of its own length: outputs in another order have the same gradients in that order. */
static void allora_does_not_know_the_order_of_outputs(void **state)
{
    (void)state;
    enum { R = 3 };
    double *gB[2];
    for (int turned = 0; turned < 2; turned++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "allora", "rank=3 eta=1.5", "proj");
        double B[OUT * R], seed[N * OUT];
        for (int o = 0; o < OUT; o++) {
            int from = turned ? OUT - 1 - o : o;
            for (int k = 0; k < R; k++) B[o * R + k] = world_normal(55, (uint64_t)(from * R + k));
            for (int n = 0; n < N; n++) seed[n * OUT + o] = dy[n * OUT + from];
        }
        world_write(&w, "proj.allora.B", B);
        pass p = { .n = N, .x = x, .dy = seed, .compute = CRANK_F64, .training = true, .wrt = (const char *const[]){ "proj.allora.B", NULL } };
        world_run(&w, linear, &p);
        gB[turned] = calloc(OUT * R, sizeof **gB);
        for (int o = 0; o < OUT; o++)
            for (int k = 0; k < R; k++) gB[turned][(turned ? OUT - 1 - o : o) * R + k] = p.grads[0][o * R + k];
        pass_free(&p);
        world_close(&w);
    }
    assert_near(gB[0], gB[1], OUT * R, 1e-12);
    free(gB[0]), free(gB[1]);
}

/* The first gradient of lambda is linear in the scale, that of gamma is zero. */
static void a_doubled_scale_doubles_randloras_first_gradient(void **state)
{
    (void)state;
    double *lambda[2];
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "randlora", k ? "rank=2 alpha=6" : "rank=2 alpha=3", "proj");
        pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = (const char *const[]){ "proj.randlora.lambda", "proj.randlora.gamma", NULL } };
        world_run(&w, linear, &p);
        lambda[k] = calloc(2 * 3, sizeof **lambda);
        for (int i = 0; i < 2 * 3; i++) lambda[k][i] = p.grads[0][i] * (k ? 1 : 2);
        for (size_t i = 0; i < world_count(world_param(&w, "proj.randlora.gamma")); i++) assert_true(p.grads[1][i] == 0);
        pass_free(&p);
        world_close(&w);
    }
    assert_near(lambda[0], lambda[1], 2 * 3, 1e-12);
    free(lambda[0]), free(lambda[1]);
}

/* Coefficients of NOLA are as many whatever the rank; the tiled identity of MiSS has none of its own. */
static void parameters_are_as_many_as_the_equations_say(void **state)
{
    (void)state;
    static const char *const ranks[] = { "rank=1 basis=9 basis_b=11", "rank=3 basis=9 basis_b=11", "rank=6 basis=9 basis_b=11" };
    for (int k = 0; k < 3; k++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "nola", ranks[k], "proj");
        size_t trained = 0;
        for (size_t i = 0; i < crank_params_count(w.params); i++)
            if (crank_params_at(w.params, i)->trainable) trained += world_count(crank_params_at(w.params, i));
        assert_int_equal(trained, 9 + 11);
        world_close(&w);
    }
}

/* D of MiSS in LoRA's place: A the identity tiled over the inputs, B = D^T. */
static void miss_is_lora_with_a_tiled_identity(void **state)
{
    (void)state;
    enum { R = 3 };
    double *y[2], D[R * OUT], A[R * IN] = { 0 }, B[OUT * R];
    world_fill(D, R * OUT, 71, 0.4);
    for (int i = 0; i < IN; i++) A[i % R * IN + i] = 1;
    for (int o = 0; o < OUT; o++)
        for (int k = 0; k < R; k++) B[o * R + k] = D[k * OUT + o];
    for (int k = 0; k < 2; k++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, k ? "lora" : "miss", k ? "rank=3 alpha=3" : "rank=3", "proj");
        if (k) world_write(&w, "proj.lora.A", A), world_write(&w, "proj.lora.B", B);
        else world_write(&w, "proj.miss.D", D);
        y[k] = outputs(&w, linear, x, CRANK_F64, false);
        world_close(&w);
    }
    assert_near(y[0], y[1], N * OUT, 1e-7); /* values pass through f32 */
    free(y[0]), free(y[1]);
}

/* Whatever a method is made of, it changes nothing before it is trained. */
static void methods_start_as_the_base(void **state)
{
    (void)state;
    static const char *const methods[] = { "lora", "dora", "randlora", "nola", "sora", "dylora", "miss", "hydra", "allora", "loram" };
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        double       *base = outputs(&w, linear, x, CRANK_F32, false);
        world_attach(&w, methods[m], "rank=2", "proj");
        double *y = outputs(&w, linear, x, CRANK_F32, false);
        for (int i = 0; i < N * OUT; i++)
            if (!(fabs(y[i] - base[i]) < 1e-5)) fail_msg("%s starts %g from the base", methods[m], y[i] - base[i]);
        free(base), free(y);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_from_gradients_does_not_depend_on_the_batches),
        cmocka_unit_test(the_expected_first_gradient_is_the_variance_that_A_sees),
        cmocka_unit_test(allora_does_not_know_the_order_of_outputs),
        cmocka_unit_test(a_doubled_scale_doubles_randloras_first_gradient),
        cmocka_unit_test(parameters_are_as_many_as_the_equations_say),
        cmocka_unit_test(miss_is_lora_with_a_tiled_identity),
        cmocka_unit_test(methods_start_as_the_base),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
