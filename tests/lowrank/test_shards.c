/* Bat (bone) and MiSS: equations of every mode, start, gradients, merging, export, several adapters, refusals. */
#define CHECKS_IN  8
#define CHECKS_OUT 12
#include "lowrank/checks.h"

#include "crank/linalg.h"

enum { R = 4, BLOCKS = OUT / R, SHARDS = IN / R };

static const char *const trained[] = {"proj.bone.B", NULL};

static crank_linear *setup(world *w, crank_dtype type, const char *method, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    *attachment = world_attach(w, method, settings, "proj");
    return linear;
}

static const struct {
    const char *settings;
    int         rows, columns; /* periods of the sharing; 0: see the test */
    bool        out;
} modes[] = {
    {"rank=4", BLOCKS, 1, false},
    {"rank=4 mode=row", 1, SHARDS, false},
    {"rank=4 mode=free rows=3 columns=2", 3, 2, false},
    {"rank=4 mode=free", 1, 1, false},
    {"rank=4 mode=free rows=3 columns=1", 3, 1, false},
    {"rank=4 side=out", BLOCKS, 1, true},
};

/* y = x (W + dW)^T + b by the definition: dW_ac = W_ac B + B, or B W_ac + B. */
static void by_definition(const double *W, const double *b, const double *B, int p, int q, bool out, double *y)
{
    double changed[OUT * IN];
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            int           a = o / R, c = i / R;
            const double *t = B + ((a % p) * q + c % q) * R * R;
            double        sum = W[o * IN + i] + t[o % R * R + i % R];
            for (int k = 0; k < R; k++)
                sum += out ? t[o % R * R + k] * W[(a * R + k) * IN + i] : W[o * IN + c * R + k] * t[k * R + i % R];
            changed[o * IN + i] = sum;
        }
    product(x, false, changed, true, N, IN, OUT, y);
    for (int i = 0; i < N * OUT; i++) y[i] += b[i % OUT];
}

static void every_mode_follows_the_definition(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        world             w;
        crank_attachment *a;
        double            y[N * OUT];
        crank_linear     *linear = setup(&w, CRANK_F64, "bone", modes[m].settings, &a);
        world_randomise(&w, "proj.bone.B", 0.3);
        double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias"), *B = world_values(&w, "proj.bone.B");
        by_definition(W, b, B, modes[m].rows, modes[m].columns, modes[m].out, y);
        double *own = outputs(&w, linear, x, CRANK_F64, false);
        assert_near(own, y, N * OUT, 1e-13);
        check_differences(&w, linear, x, trained);
        check_input_gradient(&w, linear);
        free(W), free(b), free(B), free(own);
        world_close(&w);
    }
}

static void two_tensors_multiply_and_add(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    double            changed[OUT * IN], y[N * OUT];
    crank_linear     *linear = setup(&w, CRANK_F64, "bone", "rank=4 mode=ab", &a);
    world_randomise(&w, "proj.bone.A", 0.3), world_randomise(&w, "proj.bone.B", 0.3);
    double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias"), *A = world_values(&w, "proj.bone.A"), *B = world_values(&w, "proj.bone.B");
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            changed[o * IN + i] = W[o * IN + i] + B[i / R * R * R + o % R * R + i % R];
            for (int k = 0; k < R; k++) changed[o * IN + i] += W[o * IN + i / R * R + k] * A[i / R * R * R + k * R + i % R];
        }
    product(x, false, changed, true, N, IN, OUT, y);
    for (int i = 0; i < N * OUT; i++) y[i] += b[i % OUT];
    double *own = outputs(&w, linear, x, CRANK_F64, false);
    assert_near(own, y, N * OUT, 1e-13);
    check_differences(&w, linear, x, (const char *const[]){"proj.bone.A", "proj.bone.B", NULL});
    free(W), free(b), free(A), free(B), free(own);
    world_close(&w);
}

/* D[i mod r, o], also where r does not divide the inputs (3) and where outputs share (mini). */
static void miss_adds_one_tensor_to_every_shard(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        int         r, q;
    } cases[] = {{"rank=4", 4, OUT}, {"rank=3", 3, OUT}, {"rank=4 mini=6", 4, 6}, {"rank=2 mini=12", 2, OUT}, {"rank=8", 8, OUT}};
    for (size_t m = 0; m < sizeof cases / sizeof *cases; m++) {
        world             w;
        crank_attachment *a;
        double            changed[OUT * IN], y[N * OUT];
        int               r = cases[m].r, q = cases[m].q;
        crank_linear     *linear = setup(&w, CRANK_F64, "miss", cases[m].settings, &a);
        world_randomise(&w, "proj.miss.D", 0.3);
        double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias"), *D = world_values(&w, "proj.miss.D");
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) changed[o * IN + i] = W[o * IN + i] + D[i % r * q + o % q];
        product(x, false, changed, true, N, IN, OUT, y);
        for (int i = 0; i < N * OUT; i++) y[i] += b[i % OUT];
        double *own = outputs(&w, linear, x, CRANK_F64, false);
        assert_near(own, y, N * OUT, 1e-13);
        check_differences(&w, linear, x, (const char *const[]){"proj.miss.D", NULL});
        check_input_gradient(&w, linear);
        check_export(&w, linear, crank_map_find("miss"), a, r);
        free(W), free(b), free(D), free(own);
        world_close(&w);
    }
}

static void the_adapted_model_starts_equal_and_merges(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"bone", "rank=4", "proj.bone.B"},          {"bone", "rank=2 mode=row", "proj.bone.B"}, {"bone", "rank=4 mode=free rows=3 columns=2", "proj.bone.B"},
        {"bone", "rank=4 mode=ab", "proj.bone.B"}, {"bone", "rank=4 side=out", "proj.bone.B"}, {"miss", "rank=3", "proj.miss.D"},
        {"miss", "rank=4 mini=3", "proj.miss.D"},
    };
    for (size_t m = 0; m < sizeof cases / sizeof *cases; m++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        double       *base = outputs(&w, linear, x, CRANK_F32, false);
        crank_attachment *a = world_attach(&w, cases[m][0], cases[m][1], "proj");
        double       *y = outputs(&w, linear, x, CRANK_F32, true);
        assert_memory_equal(y, base, sizeof(double) * N * OUT);
        world_randomise(&w, cases[m][2], 0.3);
        check_merge(&w, linear);
        check_unmerge(&w, linear);
        check_off(&w, linear, a, base);
        free(base), free(y);
        world_close(&w);
    }
}

/* The second adapter changes the weight that the first one left. */
static void adapters_act_one_after_the_other(void **state)
{
    (void)state;
    double y[2][N * OUT];
    for (int merged = 0; merged < 2; merged++) {
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        world_attach(&w, "lora", "rank=2 alpha=4", "proj");
        world_randomise(&w, "proj.lora.B", 0.3);
        if (merged) assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
        if (!world_try(&w, "bone", "rank=4", &(crank_attach_options){.targets = "proj", .name = "second"})) fail_msg("%s", crank_message(w.context));
        world_randomise(&w, "proj.bone.second.B", 0.3);
        double *own = outputs(&w, linear, x, CRANK_F64, false);
        memcpy(y[merged], own, sizeof y[merged]);
        free(own);
        world_close(&w);
    }
    assert_near(y[0], y[1], N * OUT, 1e-6); /* merging rounds once, to f32 */
}

static void the_change_of_bat_has_a_rank_above_its_width(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"bone", "rank=2", "proj.bone.B"}, {"miss", "rank=2", "proj.miss.D"}};
    for (int m = 0; m < 2; m++) {
        world             w;
        crank_attachment *a;
        double            change[OUT * IN], s[IN];
        crank_linear     *linear = setup(&w, CRANK_F32, cases[m][0], cases[m][1], &a);
        double           *before = world_values(&w, "proj.weight");
        world_randomise(&w, cases[m][2], 0.5);
        assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
        double *after = world_values(&w, "proj.weight");
        for (int i = 0; i < OUT * IN; i++) change[i] = after[i] - before[i];
        assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(change, OUT, IN), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
        int rank = 0;
        for (int i = 0; i < IN; i++) rank += s[i] > 1e-5 * s[0];
        assert_true(m ? rank <= 2 : rank > 2);
        (void)linear;
        free(before), free(after);
        world_close(&w);
    }
}

static void sizes_that_do_not_divide_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"bone", "rank=3", "rank 3 must divide"}, {"bone", "rank=8", "rank 8 must divide"}, {"miss", "rank=4 mini=5", "mini 5"},
                                           {"miss", "rank=9", "rank 9"}, {"bone", "rank=4 mode=row side=out", "mode must be col"},
                                           {"bone", "rank=4 mode=free rows=2", "periods"}};
    for (size_t m = 0; m < sizeof cases / sizeof *cases; m++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        assert_null(world_try(&w, cases[m][0], cases[m][1], &(crank_attach_options){.targets = "proj"}));
        if (!strstr(crank_message(w.context), cases[m][2])) fail_msg("%s", crank_message(w.context));
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_follows_the_definition),
        cmocka_unit_test(two_tensors_multiply_and_add),
        cmocka_unit_test(miss_adds_one_tensor_to_every_shard),
        cmocka_unit_test(the_adapted_model_starts_equal_and_merges),
        cmocka_unit_test(adapters_act_one_after_the_other),
        cmocka_unit_test(the_change_of_bat_has_a_rank_above_its_width),
        cmocka_unit_test(sizes_that_do_not_divide_are_refused),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
