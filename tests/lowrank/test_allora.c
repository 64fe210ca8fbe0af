/* ALLoRA: gains, scaled gradients of the factors, the true gradient of x, variants, merging. */
#include "lowrank/checks.h"

enum { R = 3 };

static const char *const factors[] = { "proj.allora.A", "proj.allora.B", NULL };

static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    *attachment = world_attach(w, "allora", settings, "proj");
    return linear;
}

static void it_starts_as_the_base_merges_and_off_is_the_base(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double       *base = outputs(&w, linear, x, CRANK_F32, true);
    crank_attachment *a = world_attach(&w, "allora", "rank=3", "proj");
    double       *start = outputs(&w, linear, x, CRANK_F32, true);
    assert_memory_equal(start, base, sizeof(double) * N * OUT);
    world_randomise(&w, "proj.allora.B", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("allora"), a, R);
    free(base), free(start);
    world_close(&w);
}

/* gB = diag(c) G A^T and gA = B^T diag(c) G with c from the rows of B A, in f64; dx is that of plain LoRA. */
static void gradients_are_those_of_the_scaled_rows(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=3 eta=1.5", &a);
    world_randomise(&w, "proj.allora.B", 0.5);
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.allora.A"), *B = world_values(&w, "proj.allora.B"), BA[OUT * IN], G[OUT * IN], gA[R * IN], gB[OUT * R];
    product(B, false, A, false, OUT, R, IN, BA);
    product(dy, true, x, false, OUT, N, IN, G);
    for (int o = 0; o < OUT; o++) {
        double square = 0;
        for (int i = 0; i < IN; i++) square += BA[o * IN + i] * BA[o * IN + i];
        double c = 1 / sqrt(sqrt(square) + 1 / (1.5 * 1.5));
        for (int i = 0; i < IN; i++) G[o * IN + i] *= c;
    }
    product(B, true, G, false, R, OUT, IN, gA);
    product(G, false, A, true, OUT, IN, R, gB);
    assert_near(p.grads[0], gA, R * IN, 1e-12);
    assert_near(p.grads[1], gB, OUT * R, 1e-12);
    check_input_gradient(&w, linear);
    free(A), free(B);
    pass_free(&p);
    world_close(&w);
}

static void the_first_gradients_are_those_of_lora_scaled_by_eta(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=3 eta=2", &a);
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.allora.A"), G[OUT * IN], gB[OUT * R];
    product(dy, true, x, false, OUT, N, IN, G);
    product(G, false, A, true, OUT, IN, R, gB);
    for (int i = 0; i < OUT * R; i++) gB[i] *= 2;
    for (int i = 0; i < R * IN; i++) assert_true(p.grads[0][i] == 0);
    assert_near(p.grads[1], gB, OUT * R, 1e-13);
    free(A);
    pass_free(&p);
    world_close(&w);
}

/* A row of B A of norm 3 with eta 1 has the gain 1/2; with a huge eta the gain is norm^-1/2. */
static void gains_follow_the_formula_by_hand(void **state)
{
    (void)state;
    static const double gains[2] = { 0.5, 0.57735026918962576 };
    for (int i = 0; i < 2; i++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F64, i ? "rank=1 eta=1e6" : "rank=1 eta=1", &a);
        double            row[IN] = { 1, 0, 0, 0, 0, 0, 0 }, column[OUT] = { 3, -3, 3, 3, 3, 3 };
        world_write(&w, "proj.allora.A", row), world_write(&w, "proj.allora.B", column);
        pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
        world_run(&w, linear, &p);
        for (int o = 0; o < OUT; o++) {
            double g = 0;
            for (int n = 0; n < N; n++) g += dy[n * OUT + o] * x[n * IN];
            assert_true(fabs(p.grads[1][o] - gains[i] * g) < 1e-6);
        }
        pass_free(&p);
        world_close(&w);
    }
}

static void by_output_each_value_has_its_own_gain(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=3 eta=1.5 variant=output", &a);
    world_randomise(&w, "proj.allora.B", 0.5);
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.allora.A"), *B = world_values(&w, "proj.allora.B"), P[N * R], f[N * OUT], scaled[N * OUT], Q[N * R], gA[R * IN], gB[OUT * R];
    product(x, false, A, true, N, IN, R, P);
    product(P, false, B, true, N, R, OUT, f);
    for (int i = 0; i < N * OUT; i++) scaled[i] = dy[i] / sqrt(fabs(f[i]) + 1 / (1.5 * 1.5));
    product(scaled, false, B, false, N, OUT, R, Q);
    product(Q, true, x, false, R, N, IN, gA);
    product(scaled, true, P, false, OUT, N, R, gB);
    assert_near(p.grads[0], gA, R * IN, 1e-12);
    assert_near(p.grads[1], gB, OUT * R, 1e-12);
    check_input_gradient(&w, linear);
    free(A), free(B);
    pass_free(&p);
    world_close(&w);
}

static void asf_scales_the_forward_pass_and_is_not_mergeable(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    world_attach(&w, "asf-lora", "rank=3 eta=1.5", "proj");
    world_randomise(&w, "proj.asf-lora.B", 0.5);
    check_differences(&w, linear, x, (const char *const[]){ "proj.asf-lora.A", "proj.asf-lora.B", NULL });
    assert_int_equal(crank_linears_merge(w.context, w.linears, true, true), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "not affine"));
    world_close(&w);
}

static void an_embedding_scales_its_output_dimensions(void **state)
{
    (void)state;
    world               w = world_open(CRANK_F64);
    crank_linear       *linear = world_linear(&w, "proj", CRANK_LINEAR_EMBEDDING, 9, OUT, false);
    static const double ids[N] = { 3, 0, 8, 3, 5 };
    world_attach(&w, "allora", "rank=3 eta=2", "proj");
    double *zero = calloc(OUT * R, sizeof *zero);
    world_randomise(&w, "proj.allora.A", 0.5);
    world_write(&w, "proj.allora.B", zero);
    pass p = { .n = N, .x = ids, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
    world_run(&w, linear, &p);
    double *A = world_values(&w, "proj.allora.A");
    for (int o = 0; o < OUT; o++)
        for (int k = 0; k < R; k++) {
            double g = 0;
            for (int n = 0; n < N; n++) g += 2 * dy[n * OUT + o] * A[k * 9 + (int)ids[n]];
            assert_true(fabs(p.grads[1][o * R + k] - g) < 1e-12);
        }
    free(A), free(zero);
    pass_free(&p);
    world_close(&w);
}

static void bf16_computes_gains_in_f32(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_BF16, "rank=3", &a);
    world_randomise(&w, "proj.allora.B", 0.5);
    pass half = { .n = N, .x = x, .dy = dy, .compute = CRANK_BF16, .training = true, .wrt = factors }, full = half;
    full.compute = CRANK_F32;
    world_run(&w, linear, &half);
    world_run(&w, linear, &full);
    assert_near(half.y, full.y, N * OUT, 0.02);
    assert_near(half.grads[0], full.grads[0], R * IN, 0.03);
    assert_near(half.grads[1], full.grads[1], OUT * R, 0.03);
    pass_free(&half), pass_free(&full);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_as_the_base_merges_and_off_is_the_base),
        cmocka_unit_test(gradients_are_those_of_the_scaled_rows),
        cmocka_unit_test(the_first_gradients_are_those_of_lora_scaled_by_eta),
        cmocka_unit_test(gains_follow_the_formula_by_hand),
        cmocka_unit_test(by_output_each_value_has_its_own_gain),
        cmocka_unit_test(asf_scales_the_forward_pass_and_is_not_mergeable),
        cmocka_unit_test(an_embedding_scales_its_output_dimensions),
        cmocka_unit_test(bf16_computes_gains_in_f32),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
