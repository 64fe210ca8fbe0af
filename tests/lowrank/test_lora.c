/* LoRA: start, first gradients, closed formulas, finite differences, scales, biases, embeddings. */
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

/* c [m, n] = op(a) b, all row-major; trans_a: a is [k, m]. */
static void product(const double *a, bool trans_a, const double *b, bool trans_b, size_t m, size_t k, size_t n, double *c)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) sum += (trans_a ? a[l * m + i] : a[i * k + l]) * (trans_b ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] = sum;
        }
}

static void the_adapted_model_starts_equal_to_the_base(void **state)
{
    (void)state;
    static const char *const inits[] = { "init=kaiming", "init=gaussian" };
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        pass          base = { .n = N, .x = x, .compute = CRANK_F32, .training = true }, adapted = base;
        world_run(&w, linear, &base);
        world_attach(&w, "lora", inits[i], "all-linear");
        world_run(&w, linear, &adapted);
        assert_memory_equal(base.y, adapted.y, sizeof(double) * N * OUT);
        pass_free(&base);
        pass_free(&adapted);
        world_close(&w);
    }
}

static void initial_values_have_the_stated_distribution(void **state)
{
    (void)state;
    enum { BIG = 512, RANK = 16 };
    world w = world_open(CRANK_F32);
    world_linear(&w, "a", CRANK_LINEAR_DENSE, BIG, BIG, false);
    world_linear(&w, "b", CRANK_LINEAR_DENSE, BIG, BIG, false);
    world_linear(&w, "e", CRANK_LINEAR_EMBEDDING, 64, BIG, false);
    world_attach(&w, "lora", "rank=16 init=kaiming", "a\ne");
    world_try(&w, "lora", "rank=16 init=gaussian", &(crank_attach_options){ .name = "g", .targets = "b" });
    double *A = world_values(&w, "a.lora.A"), *B = world_values(&w, "a.lora.B"), *G = world_values(&w, "b.lora.g.A");
    double *EA = world_values(&w, "e.lora.A"), *EB = world_values(&w, "e.lora.B");
    double  bound = 1 / sqrt((double)BIG), square = 0, g_square = 0, e_square = 0, largest = 0;
    for (int i = 0; i < RANK * BIG; i++) {
        square += A[i] * A[i];
        g_square += G[i] * G[i];
        e_square += EB[i] * EB[i];
        largest = fmax(largest, fabs(A[i]));
        assert_true(B[i] == 0);
    }
    for (int i = 0; i < RANK * 64; i++) assert_true(EA[i] == 0);
    assert_true(largest <= bound && largest > 0.99 * bound);
    assert_true(fabs(square / (RANK * BIG) * 3 * BIG - 1) < 0.05);          /* variance 1/(3 in) */
    assert_true(fabs(g_square / (RANK * BIG) * RANK * RANK - 1) < 0.06);    /* deviation 1/r */
    assert_true(fabs(e_square / (RANK * BIG) - 1) < 0.06);                  /* N(0,1) */
    free(A), free(B), free(G), free(EA), free(EB);
    world_close(&w);
}

static void orthogonal_factors_cancel(void **state)
{
    (void)state;
    world w = world_open(CRANK_F64);
    world_linear(&w, "a", CRANK_LINEAR_DENSE, 20, 12, false);
    world_attach(&w, "lora", "rank=6 init=orthogonal", "a");
    double *A = world_values(&w, "a.lora.A"), *B = world_values(&w, "a.lora.B"), BA[12 * 20];
    product(B, false, A, false, 12, 6, 20, BA);
    for (int i = 0; i < 12 * 20; i++) assert_true(fabs(BA[i]) < 1e-7);
    double size = 0;
    for (int i = 0; i < 6 * 20; i++) size += fabs(A[i]);
    assert_true(size > 1);
    free(A), free(B);
    crank_attachment_remove(crank_linears_attachment(w.linears, 0));
    assert_null(world_try(&w, "lora", "rank=5 init=orthogonal", &(crank_attach_options){ .targets = "a" }));
    assert_non_null(strstr(crank_message(w.context), "even rank"));
    world_close(&w);
}

static void the_first_gradients_are_zero_and_s_G_At(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    world_attach(&w, "lora", "rank=3 alpha=12", "proj");
    static const char *const wrt[] = { "proj.lora.A", "proj.lora.B", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.lora.A"), G[OUT * IN], gB[OUT * R];
    product(dy, true, x, false, OUT, N, IN, G);
    product(G, false, A, true, OUT, IN, R, gB);
    for (int i = 0; i < OUT * R; i++) gB[i] *= 12.0 / 3;
    for (int i = 0; i < R * IN; i++) assert_true(p.grads[0][i] == 0);
    assert_near(p.grads[1], gB, OUT * R, 1e-13);
    free(A);
    pass_free(&p);
    world_close(&w);
}

static void gradients_follow_the_closed_formulas(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    world_attach(&w, "lora", "rank=3 alpha=6", "proj");
    world_randomise(&w, "proj.lora.B", 0.5);
    static const char *const wrt[] = { "proj.lora.A", "proj.lora.B", NULL };
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = wrt };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.lora.A"), *B = world_values(&w, "proj.lora.B"), *W = world_values(&w, "proj.weight");
    double  G[OUT * IN], gA[R * IN], gB[OUT * R], BA[OUT * IN], dx[N * IN];
    product(dy, true, x, false, OUT, N, IN, G);
    product(B, true, G, false, R, OUT, IN, gA);
    product(G, false, A, true, OUT, IN, R, gB);
    product(B, false, A, false, OUT, R, IN, BA);
    for (int i = 0; i < R * IN; i++) gA[i] *= 2;
    for (int i = 0; i < OUT * R; i++) gB[i] *= 2;
    for (int i = 0; i < OUT * IN; i++) BA[i] = W[i] + 2 * BA[i];
    product(dy, false, BA, false, N, OUT, IN, dx);
    assert_near(p.grads[0], gA, R * IN, 1e-12);
    assert_near(p.grads[1], gB, OUT * R, 1e-12);
    assert_near(p.dx, dx, N * IN, 1e-12);
    free(A), free(B), free(W);
    pass_free(&p);
    world_close(&w);
}

/* <dy, y> of one forward pass. */
static double loss(world *w, crank_linear *linear, const double *input, const double *seed)
{
    pass p = { .n = N, .x = input, .compute = CRANK_F64, .training = true, .step = 3 };
    world_run(w, linear, &p);
    double sum = 0;
    for (size_t i = 0; i < (size_t)(N * linear->out); i++) sum += p.y[i] * seed[i];
    pass_free(&p);
    return sum;
}

static void check_differences(world *w, crank_linear *linear, const double *input, const char *const *wrt)
{
    pass p = { .n = N, .x = input, .dy = dy, .compute = CRANK_F64, .training = true, .step = 3, .wrt = wrt };
    world_run(w, linear, &p);
    for (int k = 0; wrt[k]; k++) {
        double *values = world_values(w, wrt[k]);
        size_t  n = world_count(world_param(w, wrt[k]));
        double *numeric = calloc(n, sizeof *numeric);
        for (size_t i = 0; i < n; i++) {
            double kept = values[i], h = 1e-5;
            values[i] = kept + h;
            world_write(w, wrt[k], values);
            numeric[i] = loss(w, linear, input, dy);
            values[i] = kept - h;
            world_write(w, wrt[k], values);
            numeric[i] = (numeric[i] - loss(w, linear, input, dy)) / (2 * h);
            values[i] = kept;
        }
        world_write(w, wrt[k], values);
        assert_near(p.grads[k], numeric, n, 1e-8);
        free(values), free(numeric);
    }
    pass_free(&p);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    world_attach(&w, "lora", "rank=3 alpha=6 dropout=0.4 lora_bias=true bias=lora_only", "proj");
    world_randomise(&w, "proj.lora.B", 0.5);
    check_differences(&w, linear, x, (const char *const[]){ "proj.lora.A", "proj.lora.B", "proj.lora.bias", "proj.bias", NULL });
    world_close(&w);
}

static void an_embedding_gathers_and_its_gradients_equal_finite_differences(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "emb", CRANK_LINEAR_EMBEDDING, 9, OUT, false);
    world_attach(&w, "lora", "rank=3 alpha=6", "emb");
    world_randomise(&w, "emb.lora.A", 0.5);
    static const double ids[N] = { 3, 0, 8, 3, 5 };
    double *A = world_values(&w, "emb.lora.A"), *B = world_values(&w, "emb.lora.B"), *T = world_values(&w, "emb.weight"), y[N * OUT];
    for (int i = 0; i < N; i++)
        for (int o = 0; o < OUT; o++) {
            double sum = 0;
            for (int k = 0; k < R; k++) sum += A[k * 9 + (int)ids[i]] * B[o * R + k];
            y[i * OUT + o] = T[(int)ids[i] * OUT + o] + 2 * sum;
        }
    pass p = { .n = N, .x = ids, .compute = CRANK_F64 };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-13);
    pass_free(&p);
    check_differences(&w, linear, ids, (const char *const[]){ "emb.lora.A", "emb.lora.B", NULL });
    free(A), free(B), free(T);
    world_close(&w);
}

static void rslora_is_lora_with_a_larger_alpha_bit_for_bit(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=4 alpha=6 rslora=true", "rank=4 alpha=12" };
    pass p[2];
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        world_attach(&w, "lora", settings[i], "proj");
        world_randomise(&w, "proj.lora.B", 0.5);
        p[i] = (pass){ .n = N, .x = x, .compute = CRANK_F32, .training = true };
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    assert_memory_equal(p[0].y, p[1].y, sizeof(double) * N * OUT);
    pass_free(&p[0]);
    pass_free(&p[1]);
}

static void dropout_acts_in_training_and_on_the_branch_only(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    pass base = { .n = N, .x = x, .compute = CRANK_F32, .training = true }, start = base, trained = base, evaluated = base, again = base;
    evaluated.training = false;
    world_run(&w, linear, &base);
    world_attach(&w, "lora", "rank=3 dropout=0.5", "proj");
    world_run(&w, linear, &start);
    assert_memory_equal(base.y, start.y, sizeof(double) * N * OUT);
    world_randomise(&w, "proj.lora.B", 0.5);
    world_run(&w, linear, &trained);
    world_run(&w, linear, &again);
    world_run(&w, linear, &evaluated);
    assert_memory_equal(trained.y, again.y, sizeof(double) * N * OUT);
    assert_true(distance(trained.y, evaluated.y, N * OUT) > 0.01);
    pass_free(&base), pass_free(&start), pass_free(&trained), pass_free(&again), pass_free(&evaluated);
    world_close(&w);
}

static void lora_plus_sets_the_rate_of_B(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "lora", "lora_plus=16", "proj");
    assert_true(world_param(&w, "proj.lora.A")->rate_factor == 1);
    assert_true(world_param(&w, "proj.lora.B")->rate_factor == 16);
    world_close(&w);
}

static void biases_are_trained_as_the_option_says_and_restored_on_removal(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        bool        adapted, other;
    } cases[] = { { "bias=none", false, false }, { "bias=lora_only", true, false }, { "bias=all", true, true } };
    for (int i = 0; i < 3; i++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "q", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_linear(&w, "v", CRANK_LINEAR_DENSE, IN, OUT, true);
        crank_attachment *attachment = world_attach(&w, "lora", cases[i].settings, "q");
        assert_int_equal(world_param(&w, "q.bias")->trainable, cases[i].adapted);
        assert_int_equal(world_param(&w, "v.bias")->trainable, cases[i].other);
        crank_attachment_remove(attachment);
        assert_false(world_param(&w, "q.bias")->trainable);
        assert_false(world_param(&w, "v.bias")->trainable);
        assert_null(crank_params_find(w.params, "q.lora.A"));
        world_close(&w);
    }
}

static void bf16_weights_take_f32_factors(void **state)
{
    (void)state;
    world         w = world_open(CRANK_BF16);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    world_attach(&w, "lora", "rank=3 alpha=6", "proj");
    world_randomise(&w, "proj.lora.B", 0.5);
    assert_int_equal(world_param(&w, "proj.lora.A")->view.dtype, CRANK_F32);
    static const char *const wrt[] = { "proj.lora.A", "proj.lora.B", NULL };
    pass half = { .n = N, .x = x, .dy = dy, .compute = CRANK_BF16, .training = true, .wrt = wrt }, full = half;
    full.compute = CRANK_F32;
    world_run(&w, linear, &half);
    world_run(&w, linear, &full);
    assert_near(half.y, full.y, N * OUT, 0.02);
    assert_near(half.grads[0], full.grads[0], R * IN, 0.03);
    assert_near(half.grads[1], full.grads[1], OUT * R, 0.03);
    pass_free(&half);
    pass_free(&full);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_adapted_model_starts_equal_to_the_base),
        cmocka_unit_test(initial_values_have_the_stated_distribution),
        cmocka_unit_test(orthogonal_factors_cancel),
        cmocka_unit_test(the_first_gradients_are_zero_and_s_G_At),
        cmocka_unit_test(gradients_follow_the_closed_formulas),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(an_embedding_gathers_and_its_gradients_equal_finite_differences),
        cmocka_unit_test(rslora_is_lora_with_a_larger_alpha_bit_for_bit),
        cmocka_unit_test(dropout_acts_in_training_and_on_the_branch_only),
        cmocka_unit_test(lora_plus_sets_the_rate_of_B),
        cmocka_unit_test(biases_are_trained_as_the_option_says_and_restored_on_removal),
        cmocka_unit_test(bf16_weights_take_f32_factors),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
