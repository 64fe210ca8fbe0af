/* GradNormLoRP: start, norms without the product, gradients through the norm, orthogonality, merging. */
#include "linear/world.h"

enum { N = 5, IN = 7, OUT = 6, R = 3 };

static double x[N * IN], dy[N * OUT];

static int fill(void **state)
{
    (void)state;
    world_fill(x, N * IN, 1, 1);
    world_fill(dy, N * OUT, 2, 1);
    return 0;
}

static void the_adapted_model_starts_equal_to_the_base(void **state)
{
    (void)state;
    static const crank_dtype types[] = { CRANK_F32, CRANK_F64, CRANK_BF16 };
    for (int i = 0; i < 3; i++) {
        world         w = world_open(types[i]);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        pass          base = { .n = N, .x = x, .compute = types[i], .training = true }, adapted = base;
        world_run(&w, linear, &base);
        world_attach(&w, "gradnormlorp", "rank=3", "proj");
        world_run(&w, linear, &adapted);
        assert_memory_equal(base.y, adapted.y, sizeof(double) * N * OUT); /* g / c is exactly 1 */
        pass_free(&base), pass_free(&adapted);
        world_close(&w);
    }
}

static void setup(world *w, const char *settings, bool factors)
{
    world_attach(w, "gradnormlorp", settings, "proj");
    if (factors) world_randomise(w, "proj.gradnormlorp.I", 0.5);
    double *g = world_values(w, "proj.gradnormlorp.g");
    for (int o = 0; o < OUT; o++) g[o] *= 1 + 0.1 * world_normal(9, (uint64_t)o);
    world_write(w, "proj.gradnormlorp.g", g);
    free(g);
}

/* V = W0 + I J [OUT, IN] and its row norms. */
static void direction(world *w, bool factors, double *V, double *c)
{
    double *W = world_values(w, "proj.weight"), *I = factors ? world_values(w, "proj.gradnormlorp.I") : NULL,
           *J = factors ? world_values(w, "proj.gradnormlorp.J") : NULL;
    for (int o = 0; o < OUT; o++) {
        double square = 0;
        for (int i = 0; i < IN; i++) {
            V[o * IN + i] = W[o * IN + i];
            for (int k = 0; factors && k < R; k++) V[o * IN + i] += I[o * R + k] * J[k * IN + i];
            square += V[o * IN + i] * V[o * IN + i];
        }
        c[o] = sqrt(square);
    }
    free(W), free(I), free(J);
}

static void output_and_merge_equal_the_dense_weight(void **state)
{
    (void)state;
    for (int factors = 0; factors < 2; factors++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        setup(&w, factors ? "rank=3" : "rank=0", factors);
        double V[OUT * IN], c[OUT], y[N * OUT], *g = world_values(&w, "proj.gradnormlorp.g"), *b = world_values(&w, "proj.bias");
        direction(&w, factors, V, c);
        for (int n = 0; n < N; n++)
            for (int o = 0; o < OUT; o++) {
                double sum = 0;
                for (int i = 0; i < IN; i++) sum += x[n * IN + i] * V[o * IN + i];
                y[n * OUT + o] = g[o] / c[o] * sum + b[o];
            }
        pass p = { .n = N, .x = x, .compute = CRANK_F64 }, merged = p;
        world_run(&w, linear, &p);
        assert_near(p.y, y, N * OUT, 1e-12);
        assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
        world_run(&w, linear, &merged);
        assert_near(merged.y, y, N * OUT, 1e-12);
        free(g), free(b);
        pass_free(&p), pass_free(&merged);
        world_close(&w);
    }
}

static void gradients_go_through_the_norm_unless_it_is_detached(void **state)
{
    (void)state;
    for (int detached = 0; detached < 2; detached++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        setup(&w, detached ? "rank=3 norm=detached" : "rank=3", true);
        double  V[OUT * IN], c[OUT], D[OUT * IN], gI[OUT * R] = { 0 }, gJ[R * IN] = { 0 }, gg[OUT] = { 0 };
        double *g = world_values(&w, "proj.gradnormlorp.g"), *I = world_values(&w, "proj.gradnormlorp.I"), *J = world_values(&w, "proj.gradnormlorp.J");
        direction(&w, true, V, c);
        for (int o = 0; o < OUT; o++) {
            double G[IN] = { 0 }, along = 0, across = 0;
            for (int i = 0; i < IN; i++) {
                for (int n = 0; n < N; n++) G[i] += dy[n * OUT + o] * x[n * IN + i];
                along += G[i] * V[o * IN + i];
            }
            gg[o] = along / c[o];
            for (int i = 0; i < IN; i++) {
                D[o * IN + i] = g[o] / c[o] * (G[i] - (detached ? 0 : along * V[o * IN + i] / (c[o] * c[o])));
                across += D[o * IN + i] * V[o * IN + i];
                for (int k = 0; k < R; k++) gI[o * R + k] += D[o * IN + i] * J[k * IN + i], gJ[k * IN + i] += I[o * R + k] * D[o * IN + i];
            }
            if (!detached) assert_true(fabs(across) < 1e-12); /* D is orthogonal to V */
        }
        static const char *const wrt[] = { "proj.gradnormlorp.I", "proj.gradnormlorp.J", "proj.gradnormlorp.g", NULL };
        pass                     p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
        world_run(&w, linear, &p);
        assert_near(p.grads[0], gI, OUT * R, 1e-12);
        assert_near(p.grads[1], gJ, R * IN, 1e-12);
        assert_near(p.grads[2], gg, OUT, 1e-12);
        free(g), free(I), free(J);
        pass_free(&p);
        world_close(&w);
    }
}

static void rows_of_zeros_stay_finite(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double       *W = world_values(&w, "proj.weight");
    for (int i = 0; i < IN; i++) W[2 * IN + i] = 0;
    world_write(&w, "proj.weight", W);
    world_attach(&w, "gradnormlorp", "rank=3", "proj");
    static const char *const wrt[] = { "proj.gradnormlorp.I", "proj.gradnormlorp.J", "proj.gradnormlorp.g", NULL };
    pass                     p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F32, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    for (int i = 0; i < N * OUT; i++) assert_true(isfinite(p.y[i]));
    for (int i = 0; i < OUT * R; i++) assert_true(isfinite(p.grads[0][i]));
    for (int i = 0; i < R * IN; i++) assert_true(isfinite(p.grads[1][i]));
    free(W);
    pass_free(&p);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_adapted_model_starts_equal_to_the_base),
        cmocka_unit_test(output_and_merge_equal_the_dense_weight),
        cmocka_unit_test(gradients_go_through_the_norm_unless_it_is_detached),
        cmocka_unit_test(rows_of_zeros_stay_finite),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
