/* Hydra: start, both forms, gradients, merging with biases, export, special cases. */
#include "lowrank/checks.h"

static const char *const all[] = { "proj.hydra.A", "proj.hydra.B", "proj.hydra.As", "proj.hydra.Bs", NULL };
static const char *const with_biases[] = { "proj.hydra.A",      "proj.hydra.B",      "proj.hydra.As",      "proj.hydra.Bs", "proj.hydra.A.bias",
                                           "proj.hydra.B.bias", "proj.hydra.As.bias", NULL };

static crank_linear *setup(world *w, crank_dtype type, const char *settings, bool bias, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, bias);
    *attachment = world_attach(w, "hydra", settings, "proj");
    return linear;
}

static void randomise(world *w, bool biases)
{
    static const char *const ups[] = { "proj.hydra.B", "proj.hydra.Bs" };
    static const char *const more[] = { "proj.hydra.A.bias", "proj.hydra.B.bias", "proj.hydra.As.bias", "proj.hydra.Bs.bias" };
    for (int i = 0; i < 2; i++)
        if (crank_params_find(w->params, ups[i])) world_randomise(w, ups[i], 0.5);
    for (int i = 0; biases && i < 4; i++) world_randomise(w, more[i], 0.5);
}

static void the_adapted_model_starts_equal_to_the_base(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=2 sequential=3", "rank=0 sequential=2 init=xavier", "rank=2 sequential=2 biases=true learn_scale=true init=normal",
                                            "form=direct scale=3" };
    for (int i = 0; i < 4; i++) {
        world             w;
        crank_attachment *a;
        world             plain = world_open(CRANK_F32);
        crank_linear     *bare = world_linear(&plain, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        crank_linear     *linear = setup(&w, CRANK_F32, settings[i], false, &a);
        double           *y0 = outputs(&plain, bare, x, CRANK_F32, true), *y = outputs(&w, linear, x, CRANK_F32, true);
        assert_memory_equal(y, y0, sizeof(double) * N * OUT);
        free(y), free(y0);
        world_close(&w), world_close(&plain);
    }
}

static void both_forms_agree_in_outputs_and_all_gradients(void **state)
{
    (void)state;
    pass p[2];
    for (int i = 0; i < 2; i++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F64, i ? "rank=2 sequential=3 scale=1.5 biases=true form=direct" : "rank=2 sequential=3 scale=1.5 biases=true", true, &a);
        randomise(&w, true);
        p[i] = (pass){ .n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = with_biases };
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    static const size_t counts[] = { 2 * IN, OUT * 2, 3 * OUT, OUT * 3, 2, OUT, 3 };
    assert_near(p[0].y, p[1].y, N * OUT, 1e-12);
    assert_near(p[0].dx, p[1].dx, N * IN, 1e-12);
    for (int k = 0; k < 7; k++) assert_near(p[0].grads[k], p[1].grads[k], counts[k], 1e-12);
    pass_free(&p[0]), pass_free(&p[1]);
}

static void outputs_follow_the_equation(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=2 sequential=3 scale=1.5 biases=true", true, &a);
    randomise(&w, true);
    double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias"), *A = world_values(&w, "proj.hydra.A"), *B = world_values(&w, "proj.hydra.B");
    double *As = world_values(&w, "proj.hydra.As"), *Bs = world_values(&w, "proj.hydra.Bs"), *ba = world_values(&w, "proj.hydra.A.bias");
    double *bs = world_values(&w, "proj.hydra.As.bias"), *da = world_values(&w, "proj.hydra.B.bias"), *ds = world_values(&w, "proj.hydra.Bs.bias");
    double  f0[N * OUT], u[N * 2], v[N * 3], y[N * OUT], head[N * OUT];
    product(x, false, W, true, N, IN, OUT, f0);
    for (int i = 0; i < N * OUT; i++) f0[i] += b[i % OUT];
    product(x, false, A, true, N, IN, 2, u);
    for (int i = 0; i < N * 2; i++) u[i] += ba[i % 2];
    product(f0, false, As, true, N, OUT, 3, v);
    for (int i = 0; i < N * 3; i++) v[i] += bs[i % 3];
    product(u, false, B, true, N, 2, OUT, y);
    product(v, false, Bs, true, N, 3, OUT, head);
    for (int i = 0; i < N * OUT; i++) y[i] = f0[i] + 1.5 * (y[i] + da[i % OUT] + head[i] + ds[i % OUT]);
    double *own = outputs(&w, linear, x, CRANK_F64, false);
    assert_near(own, y, N * OUT, 1e-13);
    free(W), free(b), free(A), free(B), free(As), free(Bs), free(ba), free(bs), free(da), free(ds), free(own);
    world_close(&w);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    static const char *const forms[] = { "rank=2 sequential=3 scale=1.5 biases=true learn_scale=true dropout=0.3",
                                         "rank=2 sequential=3 scale=1.5 biases=true learn_scale=true dropout=0.3 form=direct" };
    for (int i = 0; i < 2; i++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F64, forms[i], true, &a);
        randomise(&w, true);
        check_differences(&w, linear, x, with_biases);
        check_differences(&w, linear, x, (const char *const[]){ "proj.hydra.scale", "proj.hydra.Bs.bias", NULL });
        check_input_gradient(&w, linear);
        world_close(&w);
    }
}

static void merging_gives_the_adapted_outputs(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        bool        bias, biases;
    } cases[] = { { "rank=2 sequential=3 scale=0.7", false, false },
                  { "rank=2 sequential=3 scale=0.7 biases=true", true, true },
                  { "rank=0 sequential=3", true, false },
                  { "rank=3 sequential=0", false, false },
                  { "rank=2 sequential=3 form=direct", true, false } };
    for (int i = 0; i < 5; i++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F32, cases[i].settings, cases[i].bias, &a);
        randomise(&w, cases[i].biases);
        check_merge(&w, linear);
        check_unmerge(&w, linear);
        world_close(&w);
    }
}

/* B_s = -A_s^T / |A_s|^2 takes a direction away from the weight for good. */
static void a_merge_that_loses_a_direction_cannot_be_undone(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_F32, "rank=0 sequential=1", false, &a);
    double *As = world_values(&w, "proj.hydra.As"), Bs[OUT], square = 0;
    for (int o = 0; o < OUT; o++) square += As[o] * As[o];
    for (int o = 0; o < OUT; o++) Bs[o] = -As[o] / square;
    world_write(&w, "proj.hydra.Bs", Bs);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    assert_int_equal(crank_linears_unmerge(w.context, w.linears), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(w.context), "singular"));
    free(As);
    world_close(&w);
}

static void off_is_the_base_bit_for_bit(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double           *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "hydra", "rank=2 sequential=2", "proj");
    randomise(&w, false);
    check_off(&w, linear, a, base);
    free(base);
    world_close(&w);
}

static void without_the_sequential_branch_it_is_lora_bit_for_bit(void **state)
{
    (void)state;
    pass p[2];
    for (int i = 0; i < 2; i++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_attach(&w, i ? "hydra" : "lora", i ? "rank=3 sequential=0 scale=2" : "rank=3 alpha=6", "proj");
        double A[3 * IN], B[OUT * 3];
        world_fill(A, 3 * IN, 21, 0.5), world_fill(B, OUT * 3, 22, 0.5);
        world_write(&w, i ? "proj.hydra.A" : "proj.lora.A", A), world_write(&w, i ? "proj.hydra.B" : "proj.lora.B", B);
        static const char *const names[2][3] = { { "proj.lora.A", "proj.lora.B", NULL }, { "proj.hydra.A", "proj.hydra.B", NULL } };
        p[i] = (pass){ .n = N, .x = x, .dy = dy, .compute = CRANK_F32, .training = true, .wrt = names[i] };
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    assert_memory_equal(p[0].y, p[1].y, sizeof(double) * N * OUT);
    assert_memory_equal(p[0].grads[0], p[1].grads[0], sizeof(double) * 3 * IN);
    assert_memory_equal(p[0].grads[1], p[1].grads[1], sizeof(double) * OUT * 3);
    pass_free(&p[0]), pass_free(&p[1]);
}

static void the_export_is_a_pair_of_both_ranks(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=2 sequential=3 scale=1.5 learn_scale=true", false, &a);
    randomise(&w, false);
    check_export(&w, linear, crank_map_find("hydra"), a, 5);
    world_close(&w);
    setup(&w, CRANK_F32, "rank=2 sequential=3", true, &a);
    int64_t rank;
    double  scale;
    float  *A, *B;
    int     count;
    assert_int_equal(crank_map_find("hydra")->as_lora(w.context, crank_attachment_sites(a, &count), &rank, &scale, &A, &B), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "bias"));
    world_close(&w);
}

static void the_sequential_update_lies_in_the_row_space_of_the_weight(void **state)
{
    (void)state;
    enum { TALL = 9 }; /* W [TALL, 4] has a row space of 4 in 7 dimensions: its null space must stay untouched */
    world         w = world_open(CRANK_F64);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, TALL, false);
    double       *W = world_values(&w, "proj.weight");
    for (int o = 0; o < TALL; o++)
        for (int i = 4; i < IN; i++) W[o * IN + i] = 0;
    world_write(&w, "proj.weight", W);
    world_attach(&w, "hydra", "rank=0 sequential=3", "proj");
    world_randomise(&w, "proj.hydra.Bs", 0.5);
    double unit[N * IN] = { 0 };
    for (int n = 0; n < 3; n++) unit[n * IN + 4 + n] = 1;
    double *y = outputs(&w, linear, unit, CRANK_F64, false);
    for (int i = 0; i < 3 * TALL; i++) assert_true(y[i] == 0);
    free(y), free(W);
    world_close(&w);
}

static void an_embedding_takes_both_branches(void **state)
{
    (void)state;
    world              w = world_open(CRANK_F64);
    crank_linear      *linear = world_linear(&w, "proj", CRANK_LINEAR_EMBEDDING, 9, OUT, false);
    static const double ids[N] = { 3, 0, 8, 3, 5 };
    world_attach(&w, "hydra", "rank=2 sequential=3", "proj");
    randomise(&w, false);
    check_differences(&w, linear, ids, all);
    world_close(&w);
}

static void no_branch_at_all_is_refused(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    assert_null(world_try(&w, "hydra", "rank=0 sequential=0", &(crank_attach_options){ .targets = "proj" }));
    assert_non_null(strstr(crank_message(w.context), "`rank` or `sequential`"));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_adapted_model_starts_equal_to_the_base),
        cmocka_unit_test(both_forms_agree_in_outputs_and_all_gradients),
        cmocka_unit_test(outputs_follow_the_equation),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(merging_gives_the_adapted_outputs),
        cmocka_unit_test(a_merge_that_loses_a_direction_cannot_be_undone),
        cmocka_unit_test(off_is_the_base_bit_for_bit),
        cmocka_unit_test(without_the_sequential_branch_it_is_lora_bit_for_bit),
        cmocka_unit_test(the_export_is_a_pair_of_both_ranks),
        cmocka_unit_test(the_sequential_update_lies_in_the_row_space_of_the_weight),
        cmocka_unit_test(an_embedding_takes_both_branches),
        cmocka_unit_test(no_branch_at_all_is_refused),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
