/* DoRA: start, cheap norms, gradients with detached norms, dropout as PEFT does it, embeddings. */
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
        world_attach(&w, "dora", "rank=3", "proj");
        world_run(&w, linear, &adapted);
        assert_memory_equal(base.y, adapted.y, sizeof(double) * N * OUT); /* k is exactly 1 */
        pass_free(&base);
        pass_free(&adapted);
        world_close(&w);
    }
}

/* W' = diag(mu / |rows of V|) V with V = W + s B A, and the norms nu. V is [OUT, IN]. */
static void dense_reference(world *w, double s, double *V, double *nu)
{
    double *W = world_values(w, "proj.weight"), *A = world_values(w, "proj.dora.A"), *B = world_values(w, "proj.dora.B");
    for (int o = 0; o < OUT; o++) {
        double square = 0;
        for (int i = 0; i < IN; i++) {
            double sum = 0;
            for (int k = 0; k < R; k++) sum += B[o * R + k] * A[k * IN + i];
            V[o * IN + i] = W[o * IN + i] + s * sum;
            square += V[o * IN + i] * V[o * IN + i];
        }
        nu[o] = sqrt(square);
    }
    free(W), free(A), free(B);
}

static void setup(world *w, const char *settings)
{
    world_attach(w, "dora", settings, "proj");
    world_randomise(w, "proj.dora.B", 0.5);
    double *mu = world_values(w, "proj.dora.magnitude");
    for (int o = 0; o < OUT; o++) mu[o] *= 1 + 0.1 * world_normal(9, (uint64_t)o);
    world_write(w, "proj.dora.magnitude", mu);
    free(mu);
}

static void norms_without_the_product_equal_dense_norms(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    setup(&w, "rank=3 alpha=6");
    double V[OUT * IN], nu[OUT], y[N * OUT], *mu = world_values(&w, "proj.dora.magnitude"), *b = world_values(&w, "proj.bias");
    dense_reference(&w, 2, V, nu);
    for (int i = 0; i < N; i++)
        for (int o = 0; o < OUT; o++) {
            double sum = 0;
            for (int k = 0; k < IN; k++) sum += x[i * IN + k] * V[o * IN + k];
            y[i * OUT + o] = mu[o] / nu[o] * sum + b[o];
        }
    pass p = { .n = N, .x = x, .compute = CRANK_F64 };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-12);
    free(mu), free(b);
    pass_free(&p);
    world_close(&w);
}

/* Gradients of sum_o k_o <dy_o, x V_o> at fixed k = mu / nu: those of the surrogate whose norms are constants. */
static void gradients_are_those_of_constant_norms(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    setup(&w, "rank=3 alpha=6");
    double  V[OUT * IN], nu[OUT], G[OUT * IN], gA[R * IN] = { 0 }, gB[OUT * R] = { 0 }, gm[OUT] = { 0 }, gx[N * IN] = { 0 };
    double *mu = world_values(&w, "proj.dora.magnitude"), *A = world_values(&w, "proj.dora.A"), *B = world_values(&w, "proj.dora.B");
    dense_reference(&w, 2, V, nu);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            double sum = 0, k = mu[o] / nu[o];
            for (int n = 0; n < N; n++) {
                sum += dy[n * OUT + o] * x[n * IN + i];
                gx[n * IN + i] += k * dy[n * OUT + o] * V[o * IN + i];
            }
            G[o * IN + i] = k * sum;
            gm[o] += sum * V[o * IN + i] / nu[o];
        }
    for (int k = 0; k < R; k++)
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) {
                gA[k * IN + i] += 2 * B[o * R + k] * G[o * IN + i];
                gB[o * R + k] += 2 * G[o * IN + i] * A[k * IN + i];
            }
    static const char *const wrt[] = { "proj.dora.A", "proj.dora.B", "proj.dora.magnitude", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    assert_near(p.grads[0], gA, R * IN, 1e-12);
    assert_near(p.grads[1], gB, OUT * R, 1e-12);
    assert_near(p.grads[2], gm, OUT, 1e-12);
    assert_near(p.dx, gx, N * IN, 1e-12);
    free(mu), free(A), free(B);
    pass_free(&p);
    world_close(&w);
}

static void the_gradient_of_the_magnitude_equals_finite_differences(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    setup(&w, "rank=3 alpha=6 dropout=0.3");
    static const char *const wrt[] = { "proj.dora.magnitude", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    double *mu = world_values(&w, wrt[0]), numeric[OUT];
    for (int o = 0; o < OUT; o++) {
        double sum[2], kept = mu[o];
        for (int side = 0; side < 2; side++) {
            mu[o] = kept + (side ? -1e-5 : 1e-5);
            world_write(&w, wrt[0], mu);
            pass q = { .n = N, .x = x, .compute = CRANK_F64, .training = true };
            world_run(&w, linear, &q);
            sum[side] = 0;
            for (int i = 0; i < N * OUT; i++) sum[side] += q.y[i] * dy[i];
            pass_free(&q);
        }
        numeric[o] = (sum[0] - sum[1]) / 2e-5;
        mu[o] = kept;
    }
    assert_near(p.grads[0], numeric, OUT, 1e-8);
    free(mu);
    pass_free(&p);
    world_close(&w);
}

/* With dropout: y = W x + (k - 1) W x~ + k s B A x~. Choosing k = 1 leaves LoRA with the same drawn mask. */
static void dropout_leaves_the_base_output_undropped(void **state)
{
    (void)state;
    pass p[2];
    static const char *const methods[] = { "lora", "dora" };
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F64);
        char          name[32];
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_attach(&w, methods[i], "rank=3 alpha=6 dropout=0.5", "proj");
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "proj.%s.%c", methods[i], "AB"[k]);
            double values[R * IN];
            world_fill(values, world_count(world_param(&w, name)), 20 + (uint32_t)k, 0.5);
            world_write(&w, name, values);
        }
        if (i) {
            double V[OUT * IN], nu[OUT];
            dense_reference(&w, 2, V, nu);
            world_write(&w, "proj.dora.magnitude", nu);
        }
        p[i] = (pass){ .n = N, .x = x, .compute = CRANK_F64, .training = true };
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    assert_near(p[1].y, p[0].y, N * OUT, 1e-13);
    pass_free(&p[0]);
    pass_free(&p[1]);
}

static void an_embedding_scales_its_columns(void **state)
{
    (void)state;
    enum { V = 9 };
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "emb", CRANK_LINEAR_EMBEDDING, V, OUT, false);
    static const double ids[N] = { 3, 0, 8, 3, 5 };
    world_attach(&w, "dora", "rank=3 alpha=6", "emb");
    world_randomise(&w, "emb.dora.A", 0.5);
    double *T = world_values(&w, "emb.weight"), *A = world_values(&w, "emb.dora.A"), *B = world_values(&w, "emb.dora.B");
    double *mu = world_values(&w, "emb.dora.magnitude"), full[V * OUT], y[N * OUT];
    for (int o = 0; o < OUT; o++) {
        double square = 0;
        for (int v = 0; v < V; v++) {
            double sum = 0;
            for (int k = 0; k < R; k++) sum += A[k * V + v] * B[o * R + k];
            full[v * OUT + o] = T[v * OUT + o] + 2 * sum;
            square += full[v * OUT + o] * full[v * OUT + o];
        }
        for (int i = 0; i < N; i++) y[i * OUT + o] = mu[o] / sqrt(square) * full[(int)ids[i] * OUT + o];
    }
    pass p = { .n = N, .x = ids, .compute = CRANK_F64 };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-12);
    free(T), free(A), free(B), free(mu);
    pass_free(&p);
    world_close(&w);
}

static void kept_norms_follow_a_changed_base_weight(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "dora", "rank=3", "proj");
    double *W = world_values(&w, "proj.weight");
    for (int i = 0; i < OUT * IN; i++) W[i] *= 2;
    world_write(&w, "proj.weight", W);
    pass p = { .n = N, .x = x, .compute = CRANK_F64 };
    world_run(&w, linear, &p);
    double y[N * OUT]; /* rows twice as long, the same magnitudes: the old output */
    for (int i = 0; i < N; i++)
        for (int o = 0; o < OUT; o++) {
            y[i * OUT + o] = 0;
            for (int k = 0; k < IN; k++) y[i * OUT + o] += x[i * IN + k] * W[o * IN + k] / 2;
        }
    assert_near(p.y, y, N * OUT, 1e-13);
    free(W);
    pass_free(&p);
    world_close(&w);
}

static void norms_are_made_again_where_the_base_is_trained(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    setup(&w, "rank=3 alpha=6");
    pass frozen = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true }, trained = frozen;
    world_run(&w, linear, &frozen);
    linear->weight->trainable = true;
    double *norms = world_values(&w, "proj.dora.norms");
    for (int o = 0; o < OUT; o++) norms[o] = 1e9; /* nobody reads them now */
    world_write(&w, "proj.dora.norms", norms);
    static const char *const wrt[] = { "proj.weight", NULL };
    trained.wrt = wrt;
    world_run(&w, linear, &trained);
    assert_near(trained.y, frozen.y, N * OUT, 1e-13);
    assert_non_null(trained.grads[0]);
    free(norms);
    pass_free(&frozen), pass_free(&trained);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_adapted_model_starts_equal_to_the_base),
        cmocka_unit_test(norms_without_the_product_equal_dense_norms),
        cmocka_unit_test(gradients_are_those_of_constant_norms),
        cmocka_unit_test(the_gradient_of_the_magnitude_equals_finite_differences),
        cmocka_unit_test(dropout_leaves_the_base_output_undropped),
        cmocka_unit_test(an_embedding_scales_its_columns),
        cmocka_unit_test(kept_norms_follow_a_changed_base_weight),
        cmocka_unit_test(norms_are_made_again_where_the_base_is_trained),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
