/* RandLoRA and NOLA: equations, start, gradients, schedules, bases that are drawn again, merging, export, refusals. */
#include "lowrank/checks.h"

#include "crank/linalg.h"

/* ---- RandLoRA ---- */

static const char *const diagonals[] = {"proj.randlora.lambda", "proj.randlora.gamma", NULL};

static crank_linear *setup(world *w, crank_dtype type, int64_t in, int64_t out, const char *method, const char *settings)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, in, out, true);
    world_attach(w, method, settings, "proj");
    return linear;
}

/* dW = s P Q, index q pairs (q div n, q mod n) of Q with (q div r, q mod r) of P; transposed where out < in. */
static void the_update_of_randlora_follows_its_equation(void **state)
{
    (void)state;
    for (int r = 1; r <= 8; r += 3) { /* 4 does not divide 6, 7 is larger */
        world         w;
        char          settings[64];
        double        change[OUT * IN], y[N * OUT];
        int           d = OUT, n = (d + r - 1) / r; /* out is the smaller side */
        snprintf(settings, sizeof settings, "rank=%d alpha=%d", r, 3 * r);
        crank_linear *linear = setup(&w, CRANK_F64, IN, OUT, "randlora", settings);
        world_randomise(&w, "proj.randlora.lambda", 0.5);
        double *A = world_values(&w, "proj.randlora.basis_A"), *B = world_values(&w, "proj.randlora.basis_B");
        double *lambda = world_values(&w, diagonals[0]), *gamma = world_values(&w, diagonals[1]);
        double *W = world_values(&w, "proj.weight"), *b = world_values(&w, "proj.bias");
        assert_int_equal(world_count(world_param(&w, diagonals[0])) + world_count(world_param(&w, diagonals[1])), n * (r + d));
        for (int o = 0; o < OUT; o++)
            for (int i = 0; i < IN; i++) {
                change[o * IN + i] = W[o * IN + i];
                for (int q = 0; q < n * r; q++)
                    change[o * IN + i] += 3 * B[i * n * r + q] * lambda[q / n * n + q % n] * A[q / n * d + o] * gamma[q % n * d + o];
            }
        product(x, false, change, true, N, IN, OUT, y);
        for (int i = 0; i < N * OUT; i++) y[i] += b[i % OUT];
        double *own = outputs(&w, linear, x, CRANK_F64, false);
        assert_near(own, y, N * OUT, 1e-12);
        check_differences(&w, linear, x, diagonals);
        check_input_gradient(&w, linear);
        free(A), free(B), free(lambda), free(gamma), free(W), free(b), free(own);
        world_close(&w);
    }
}

static void both_schedules_agree_for_both_orders_of_sizes(void **state)
{
    (void)state;
    static double wide[N * OUT];
    world_fill(wide, N * OUT, 9, 1);
    for (int turned = 0; turned < 2; turned++) {
        double *y[2];
        for (int k = 0; k < 2; k++) {
            world         w;
            int64_t       in = turned ? OUT : IN, out = turned ? IN : OUT;
            crank_linear *linear = setup(&w, CRANK_F64, in, out, "randlora", k ? "rank=4 schedule=factored" : "rank=4 schedule=materialised");
            world_randomise(&w, diagonals[0], 0.1);
            y[k] = outputs(&w, linear, turned ? wide : x, CRANK_F64, false);
            world_close(&w);
        }
        assert_near(y[0], y[1], (size_t)(N * (turned ? IN : OUT)), 1e-12);
        free(y[0]), free(y[1]);
    }
}

static void the_update_has_full_rank_and_starts_at_zero(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double       *base = outputs(&w, linear, x, CRANK_F32, false), *before = world_values(&w, "proj.weight"), change[OUT * IN], s[OUT];
    crank_attachment *a = world_attach(&w, "randlora", "rank=2 alpha=4", "proj");
    double       *y = outputs(&w, linear, x, CRANK_F32, true);
    assert_memory_equal(y, base, sizeof(double) * N * OUT);
    pass p = {.n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = diagonals};
    world_run(&w, linear, &p);
    for (int i = 0; i < 3 * OUT; i++) assert_true(p.grads[1][i] == 0); /* gamma's */
    pass_free(&p);
    world_randomise(&w, diagonals[0], 0.5), world_randomise(&w, diagonals[1], 0.5);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_off(&w, linear, a, base);
    assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, false));
    double *after = world_values(&w, "proj.weight");
    for (int i = 0; i < OUT * IN; i++) change[i] = after[i] - before[i];
    assert_ok(w.context, crank_svd(w.context, crank_matrix_f64(change, OUT, IN), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    assert_true(s[OUT - 1] > 1e-4 * s[0]);
    free(base), free(before), free(y), free(after);
    world_close(&w);
}

/* Rank of W' - W by its singular values. */
static int rank_of_change(world *w, const double *before, int64_t out, int64_t in)
{
    int     rank = 0;
    double *after = world_values(w, "proj.weight"), s[IN];
    for (int64_t i = 0; i < out * in; i++) after[i] -= before[i];
    assert_ok(w->context, crank_svd(w->context, crank_matrix_f64(after, out, in), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none()));
    for (int i = 0; i < (in < out ? in : out); i++) rank += s[i] > 1e-9 * s[0];
    free(after);
    return rank;
}

static void variants_of_randlora_start_equal_learn_and_merge(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        int         rank;
        bool        dora;
    } cases[] = {{"rank=2 alpha=4 distinct=true", 6, false}, {"rank=2 alpha=4 variant=limited", 2, false}, {"rank=3 alpha=6 terms=1", 3, false},
                 {"rank=2 alpha=4 dora=true", 0, true}, {"rank=2 alpha=4 variant=limited dora=true schedule=factored", 0, true}};
    static double input[N * IN];
    for (int turned = 0; turned < 2; turned++)
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            world         w = world_open(CRANK_F64);
            int64_t       in = turned ? OUT : IN, out = turned ? IN : OUT;
            crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, in, out, true);
            world_fill(input, (size_t)(N * in), 9, 1);
            double *base = outputs(&w, linear, input, CRANK_F64, false), *before = world_values(&w, "proj.weight");
            world_attach(&w, "randlora", cases[k].settings, "proj");
            double *start = outputs(&w, linear, input, CRANK_F64, true);
            assert_near(start, base, (size_t)(N * out), 1e-6); /* the lengths of rows are f32 */
            world_randomise(&w, diagonals[0], 0.5), world_randomise(&w, diagonals[1], 0.5);
            if (!cases[k].dora && !turned) check_differences(&w, linear, input, diagonals);
            double *adapted = outputs(&w, linear, input, CRANK_F64, false);
            assert_ok(w.context, crank_linears_merge(w.context, w.linears, true, cases[k].dora));
            double *merged = outputs(&w, linear, input, CRANK_F64, false);
            assert_near(merged, adapted, (size_t)(N * out), 1e-9);
            if (!cases[k].dora) {
                assert_int_equal(rank_of_change(&w, before, out, in), cases[k].rank);
                assert_ok(w.context, crank_linears_unmerge(w.context, w.linears));
                double *after = world_values(&w, "proj.weight");
                assert_near(after, before, (size_t)(in * out), 1e-12);
                free(after);
            }
            free(base), free(before), free(start), free(adapted), free(merged);
            world_close(&w);
        }
}

static double deviation(const double *values, size_t n)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) mean += values[i] / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    return sqrt(squares / (double)(n - 1));
}

static void bases_have_unit_deviation_and_follow_the_key_alone(void **state)
{
    (void)state;
    static const char *const cases[] = {"rank=4", "rank=4 basis=normal", "rank=4 basis=ternary", "rank=4 basis=ternary sparsity=2", "rank=4 key=8",
                                        "rank=4 save_projection=false"};
    double *B[6];
    size_t  n = 0;
    for (int k = 0; k < 6; k++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "first", CRANK_LINEAR_DENSE, 40, 30, false);
        world_linear(&w, "second", CRANK_LINEAR_DENSE, 20, 50, false); /* widest side 50, narrowest 40 */
        world_attach(&w, "randlora", cases[k], "first\nsecond");
        B[k] = world_values(&w, "first.randlora.basis_B");
        n = world_count(world_param(&w, "first.randlora.basis_B"));
        assert_int_equal(n, 50 * 10 * 4);
        assert_null(crank_params_find(w.params, "second.randlora.basis_B"));
        assert_true(fabs(deviation(B[k], n) - 1) < 1e-5);
        world_close(&w);
    }
    assert_memory_equal(B[0], B[5], n * sizeof(double)); /* drawn again, the same */
    assert_memory_not_equal(B[0], B[4], n * sizeof(double));
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++) zeros += B[2][i] == 0;
    assert_true(zeros > n * 6 / 10 && zeros < n * 73 / 100);
    for (size_t i = 0; i < n; i++) assert_true(fabs(fabs(B[3][i]) - 1) < 0.01); /* binary */
    for (int k = 0; k < 6; k++) free(B[k]);
}

static void one_rank_serves_all_linears(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    world_linear(&w, "first", CRANK_LINEAR_DENSE, 8, 8, false);
    world_linear(&w, "second", CRANK_LINEAR_DENSE, 8, 8, false);
    assert_null(world_try(&w, "randlora", "rank=4", &(crank_attach_options){.targets = "first\nsecond", .rank_pattern = "second=2"}));
    assert_non_null(strstr(crank_message(w.context), "share the random bases"));
    world_close(&w);
}

/* ---- NOLA ---- */

static const char *const coefficients[] = {"proj.nola.a", "proj.nola.b", NULL};

static void nola_starts_equal_and_only_b_has_a_gradient(void **state)
{
    (void)state;
    world             w = world_open(CRANK_F32);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double           *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "nola", "rank=3 alpha=6 basis=10 basis_b=12", "proj");
    double           *y = outputs(&w, linear, x, CRANK_F32, true);
    pass              p = {.n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = coefficients};
    assert_memory_equal(y, base, sizeof(double) * N * OUT);
    world_run(&w, linear, &p);
    double size = 0;
    for (int i = 0; i < 10; i++) assert_true(p.grads[0][i] == 0);
    for (int i = 0; i < 12; i++) size += fabs(p.grads[1][i]);
    assert_true(size > 0);
    pass_free(&p);
    world_randomise(&w, "proj.nola.a", 0.5), world_randomise(&w, "proj.nola.b", 0.5);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_off(&w, linear, a, base);
    check_export(&w, linear, crank_map_find("nola"), a, 3);
    free(base), free(y);
    world_close(&w);
}

static void nola_gradients_equal_finite_differences(void **state)
{
    (void)state;
    world         w;
    crank_linear *linear = setup(&w, CRANK_F64, IN, OUT, "nola", "rank=3 alpha=6 basis=10 basis_b=12");
    world_randomise(&w, "proj.nola.a", 0.5), world_randomise(&w, "proj.nola.b", 0.5);
    check_differences(&w, linear, x, coefficients);
    check_input_gradient(&w, linear);
    world_close(&w);
}

/* Coefficients e_i: A = A0 + A_i / sqrt k, B = B_i / sqrt k. */
static void one_coefficient_picks_one_matrix(void **state)
{
    (void)state;
    world  w;
    double a[4] = {0, 0, 1, 0}, b[4] = {0, 1, 0, 0}, A[2 * IN], y[N * OUT], P[N * 2], B[OUT * 2];
    crank_linear *linear = setup(&w, CRANK_F64, IN, OUT, "nola", "rank=2 alpha=2 basis=4 matrices=stored");
    world_write(&w, "proj.nola.a", a), world_write(&w, "proj.nola.b", b);
    double *start = world_values(&w, "proj.nola.start"), *bA = world_values(&w, "proj.nola.basis_A"), *bB = world_values(&w, "proj.nola.basis_B");
    double *W = world_values(&w, "proj.weight"), *bias = world_values(&w, "proj.bias");
    for (int i = 0; i < 2 * IN; i++) A[i] = start[i] + bA[2 * 2 * IN + i] / 2;
    for (int i = 0; i < OUT * 2; i++) B[i] = bB[OUT * 2 + i] / 2;
    product(x, false, A, true, N, IN, 2, P);
    product(P, false, B, true, N, 2, OUT, y);
    double base[N * OUT];
    product(x, false, W, true, N, IN, OUT, base);
    for (int i = 0; i < N * OUT; i++) y[i] += base[i] + bias[i % OUT];
    double *own = outputs(&w, linear, x, CRANK_F64, false);
    assert_near(own, y, N * OUT, 1e-13);
    free(start), free(bA), free(bB), free(W), free(bias), free(own);
    world_close(&w);
}

static void matrices_follow_the_seed_and_may_be_shared_by_size(void **state)
{
    (void)state;
    static const char *const cases[] = {"rank=2 basis=4 matrices=stored", "rank=2 basis=4 matrices=stored", "rank=2 basis=4 seed=2 matrices=stored",
                                        "rank=2 basis=4 share=true matrices=stored"};
    double *first[4];
    size_t  n = 4 * 2 * 8;
    for (int k = 0; k < 4; k++) {
        world w = world_open(CRANK_F32);
        world_linear(&w, "first", CRANK_LINEAR_DENSE, 8, 6, false);
        world_linear(&w, "second", CRANK_LINEAR_DENSE, 8, 6, false);
        world_attach(&w, "nola", cases[k], "first\nsecond");
        first[k] = world_values(&w, "first.nola.basis_A");
        assert_int_equal(crank_params_find(w.params, "second.nola.basis_A") == NULL, k == 3);
        assert_non_null(crank_params_find(w.params, "second.nola.start"));
        world_close(&w);
    }
    assert_memory_equal(first[0], first[1], n * sizeof(double));
    assert_memory_not_equal(first[0], first[2], n * sizeof(double));
    for (int k = 0; k < 4; k++) free(first[k]);
}

/* Sizes with a last tile that is not full; outputs, coefficients' gradients and dx. */
static void matrices_that_are_drawn_again_equal_those_in_memory(void **state)
{
    (void)state;
    if (getenv("CRANK_TEST_DEVICE")) skip(); /* matrices are drawn again, and coefficients rounded, on the CPU alone */
    enum { WIDE = 700 };
    static const char *const cases[] = {"rank=4 alpha=4 basis=9 basis_b=5 matrices=stored", "rank=4 alpha=4 basis=9 basis_b=5 matrices=streamed",
                                        "rank=4 alpha=4 basis=9 basis_b=5 share=true matrices=streamed"};
    double *input = calloc(N * WIDE, sizeof *input);
    pass    passes[2][3];
    world_fill(input, N * WIDE, 3, 1);
    for (int threads = 1; threads <= 2; threads++)
        for (int k = 0; k < 3; k++) {
            world         w = world_open(CRANK_F32);
            crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, WIDE, OUT, false);
            crank_set_threads(w.context, threads);
            world_attach(&w, "nola", cases[k], "proj");
            if (k) assert_null(crank_params_find(w.params, "proj.nola.basis_A"));
            world_randomise(&w, "proj.nola.a", 0.5), world_randomise(&w, "proj.nola.b", 0.5);
            passes[threads - 1][k] = (pass){.n = N, .x = input, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = coefficients};
            world_run(&w, linear, &passes[threads - 1][k]);
            world_close(&w);
        }
    for (int k = 0; k < 2; k++) {
        pass *one = passes[0], *two = passes[1];
        size_t n = k ? 5 : 9;
        assert_near(one[1].grads[k], one[0].grads[k], n, 1e-12);
        assert_memory_equal(one[1].grads[k], two[1].grads[k], n * sizeof(double));
        assert_memory_not_equal(one[1].grads[k], one[2].grads[k], n * sizeof(double)); /* shared: other matrices */
    }
    assert_near(passes[0][1].y, passes[0][0].y, N * OUT, 1e-12);
    assert_near(passes[0][1].dx, passes[0][0].dx, N * WIDE, 1e-12);
    assert_memory_equal(passes[0][1].y, passes[1][1].y, N * OUT * sizeof(double));
    for (int k = 0; k < 6; k++) pass_free(&passes[k / 3][k % 3]);
    free(input);
}

/* Four bits: the outputs of coefficients that are rounded by hand, the gradients of those that are not; the export holds the rounded ones. */
static void coefficients_act_with_the_bits_that_they_have(void **state)
{
    (void)state;
    if (getenv("CRANK_TEST_DEVICE")) skip(); /* matrices are drawn again, and coefficients rounded, on the CPU alone */
    pass passes[3];
    for (int k = 0; k < 3; k++) {
        static const char *const settings[] = {"rank=3 alpha=6 basis=10 bits=4", "rank=3 alpha=6 basis=10", "rank=3 alpha=6 basis=10"};
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        double       *base = outputs(&w, linear, x, CRANK_F64, false);
        crank_attachment *a = world_attach(&w, "nola", settings[k], "proj");
        world_randomise(&w, "proj.nola.a", 0.5), world_randomise(&w, "proj.nola.b", 0.5);
        for (int i = 0; k == 1 && i < 2; i++) {
            double *c = world_values(&w, coefficients[i]), largest = 0;
            for (int j = 0; j < 10; j++) largest = fmax(largest, fabs(c[j]));
            for (int j = 0; j < 10; j++) c[j] = nearbyint(c[j] / largest * 7) / 7 * largest;
            world_write(&w, coefficients[i], c);
            free(c);
        }
        passes[k] = (pass){.n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = coefficients};
        world_run(&w, linear, &passes[k]);
        if (k == 0) check_export(&w, linear, crank_map_find("nola"), a, 3);
        free(base);
        world_close(&w);
    }
    assert_near(passes[0].y, passes[1].y, N * OUT, 1e-6); /* parameters are f32 */
    assert_true(distance(passes[0].y, passes[2].y, N * OUT) > 1e-3);
    assert_near(passes[0].grads[0], passes[1].grads[0], 10, 1e-6);
    for (int k = 0; k < 3; k++) pass_free(&passes[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_update_of_randlora_follows_its_equation),
        cmocka_unit_test(both_schedules_agree_for_both_orders_of_sizes),
        cmocka_unit_test(the_update_has_full_rank_and_starts_at_zero),
        cmocka_unit_test(variants_of_randlora_start_equal_learn_and_merge),
        cmocka_unit_test(bases_have_unit_deviation_and_follow_the_key_alone),
        cmocka_unit_test(one_rank_serves_all_linears),
        cmocka_unit_test(nola_starts_equal_and_only_b_has_a_gradient),
        cmocka_unit_test(nola_gradients_equal_finite_differences),
        cmocka_unit_test(one_coefficient_picks_one_matrix),
        cmocka_unit_test(matrices_follow_the_seed_and_may_be_shared_by_size),
        cmocka_unit_test(coefficients_act_with_the_bits_that_they_have),
        cmocka_unit_test(matrices_that_are_drawn_again_equal_those_in_memory),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
