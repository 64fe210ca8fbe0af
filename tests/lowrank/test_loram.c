/* LoRA on a sparse base: zeros stay in the adapted and merged weight, gradients come from kept places alone, special cases. */
#include "lowrank/checks.h"

static const char *const factors[] = { "proj.loram.A", "proj.loram.B", NULL };

/* Every third weight of the base is zero; B is random. */
static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double       *W = world_values(w, "proj.weight");
    for (int i = 0; i < IN * OUT; i += 3) W[i] = 0;
    world_write(w, "proj.weight", W);
    free(W);
    *attachment = world_attach(w, "loram", settings, "proj");
    return linear;
}

static void it_starts_as_the_base(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=2 alpha=3", &a);
    double           *y = outputs(&w, linear, x, CRANK_F32, true);
    crank_attachment_set(a, false, 1);
    double *base = outputs(&w, linear, x, CRANK_F32, true);
    assert_near(y, base, N * OUT, 1e-6);
    free(y), free(base);
    world_close(&w);
}

static void outputs_and_gradients_are_those_of_the_masked_product(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=2 alpha=3", &a);
    world_randomise(&w, "proj.loram.B", 0.5);
    double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias"), *A = world_values(&w, "proj.loram.A"), *B = world_values(&w, "proj.loram.B");
    double  D[OUT * IN], G[OUT * IN], y[N * OUT], gA[2 * IN], gB[OUT * 2];
    product(B, false, A, false, OUT, 2, IN, D);
    product(dy, true, x, false, OUT, N, IN, G);
    for (int i = 0; i < OUT * IN; i++) {
        D[i] = W[i] == 0 ? 0 : W[i] + 1.5 * D[i];
        G[i] = W[i] == 0 ? 0 : 1.5 * G[i];
    }
    product(x, false, D, true, N, IN, OUT, y);
    for (int i = 0; i < N * OUT; i++) y[i] += b[i % OUT];
    product(B, true, G, false, 2, OUT, IN, gA);
    product(G, false, A, true, OUT, IN, 2, gB);
    pass p = { .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors };
    world_run(&w, linear, &p);
    assert_near(p.y, y, N * OUT, 1e-12);
    assert_near(p.grads[0], gA, 2 * IN, 1e-12);
    assert_near(p.grads[1], gB, OUT * 2, 1e-12);
    pass_free(&p);
    check_differences(&w, linear, x, factors);
    check_input_gradient(&w, linear);
    free(W), free(b), free(A), free(B);
    world_close(&w);
}

static void a_merge_keeps_the_zeros_and_can_be_undone(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=2 alpha=3", &a);
    world_randomise(&w, "proj.loram.B", 0.5);
    float rows[OUT * IN];
    assert_ok(w.context, crank_linear_effective(w.context, linear, rows));
    for (int i = 0; i < IN * OUT; i++) assert_true((rows[i] == 0) == (i % 3 == 0));
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_as_the_base),
        cmocka_unit_test(outputs_and_gradients_are_those_of_the_masked_product),
        cmocka_unit_test(a_merge_keeps_the_zeros_and_can_be_undone),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
