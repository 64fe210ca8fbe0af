/* LoRA-GA: the identity of the first step, all directions and scales, the subtracted start, export of rank 2r. */
#include "lowrank/observe.h"

enum { R = 2, ROWS = 40 };

/* A linear whose attachment has seen ROWS rows; G [OUT, IN] their gradient. */
static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment, double *G)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    float        *rows = observe_data(ROWS, IN, 0.7, 31), *dys = observe_data(ROWS, OUT, 0.6, 32);
    for (int i = 0; G && i < OUT * IN; i++) {
        G[i] = 0;
        for (int n = 0; n < ROWS; n++) G[i] += (double)dys[n * OUT + i / IN] * rows[n * IN + i % IN];
    }
    *attachment = observe_start(w, "lora-ga", settings, &(crank_attach_options){ .targets = "proj" });
    observe_rows(w, *attachment, linear, rows, dys, ROWS, 16);
    assert_ok(w->context, crank_attachment_finish(w->context, *attachment));
    free(rows), free(dys);
    return linear;
}

static void it_starts_as_the_base_and_off_is_the_base_bit_for_bit(void **state)
{
    (void)state;
    world             w, plain = world_open(CRANK_F32);
    crank_attachment *a;
    crank_linear     *bare = world_linear(&plain, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    double           *base = outputs(&plain, bare, x, CRANK_F32, false);
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=2", &a, NULL);
    double           *start = outputs(&w, linear, x, CRANK_F32, false);
    assert_near(start, base, N * OUT, 1e-6);
    world_randomise(&w, "proj.lora-ga.B", 0.5);
    check_off(&w, linear, a, base);
    check_merge(&w, linear);
    check_unmerge(&w, linear);
    check_export(&w, linear, crank_map_find("lora-ga"), a, 2 * R);
    free(base), free(start);
    world_close(&w), world_close(&plain);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=2", "rank=2 dropout=0.3" };
    for (int i = 0; i < 2; i++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F64, settings[i], &a, NULL);
        world_randomise(&w, "proj.lora-ga.B", 0.5);
        check_differences(&w, linear, x, (const char *const[]){ "proj.lora-ga.A", "proj.lora-ga.B", NULL });
        world_close(&w);
    }
}

/* s^2 (G A^T A + B B^T G) = zeta [G]_2r with zeta = s^2 sqrt(out) / gamma, for every partition of the top 2r directions. */
static void the_first_step_is_the_best_approximation_of_the_gradient(void **state)
{
    (void)state;
    static const char *const directions[] = { "ArB2r", "A2rBr", "ArBr" };
    double                   G[OUT * IN], first[OUT * IN];
    for (int d = 0; d < 3; d++) {
        world             w;
        crank_attachment *a;
        char              settings[100];
        snprintf(settings, sizeof settings, "rank=2 alpha=3 gamma=5 direction=%s", directions[d]);
        setup(&w, CRANK_F64, settings, &a, G);
        double *A = world_values(&w, "proj.lora-ga.A"), *B = world_values(&w, "proj.lora-ga.B"), AA[IN * IN], BB[OUT * OUT], left[OUT * IN], right[OUT * IN];
        double  s = 3 / sqrt(2), zeta = s * s * sqrt(OUT) / 5, square = 0, residual = 0;
        product(A, true, A, false, IN, R, IN, AA);
        product(B, false, B, true, OUT, R, OUT, BB);
        product(G, false, AA, false, OUT, IN, IN, left);
        product(BB, false, G, false, OUT, OUT, IN, right);
        for (int i = 0; i < OUT * IN; i++) left[i] = s * s * (left[i] + right[i]) / zeta;
        if (d == 0) memcpy(first, left, sizeof first);
        assert_near(left, first, OUT * IN, 1e-5); /* any partition gives the same matrix */
        for (int i = 0; i < OUT * IN; i++) { /* and it is a projection of G: <G - P, P> = 0 */
            square += left[i] * left[i];
            residual += (G[i] - left[i]) * left[i];
        }
        assert_true(fabs(residual) < 1e-5 * square);
        double AAt[R * R];
        product(A, false, A, true, R, IN, R, AAt);
        for (int i = 0; i < R * R; i++) assert_true(fabs(AAt[i] - (i % (R + 1) == 0 ? sqrt(OUT) / 5 : 0)) < 1e-5);
        free(A), free(B);
        world_close(&w);
    }
}

static void scales_and_styles_have_their_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        double      a, b; /* lengths of A's first row and B's first column; 0: of the gradient's singular value */
    } cases[] = { { "scale=unit", 1, 1 }, { "scale=gd alpha=4", 0.35355339, 0.35355339 }, { "scale=stable style=peft gamma=4", 1, 0 } };
    for (int c = 0; c < 3; c++) {
        world             w;
        crank_attachment *at;
        char              settings[100];
        double            G[OUT * IN], a = 0, b = 0;
        snprintf(settings, sizeof settings, "rank=2 %s", cases[c].settings);
        setup(&w, CRANK_F64, settings, &at, G);
        double *A = world_values(&w, "proj.lora-ga.A"), *B = world_values(&w, "proj.lora-ga.B");
        for (int i = 0; i < IN; i++) a += A[i] * A[i];
        for (int i = 0; i < OUT; i++) b += B[i * R] * B[i * R];
        assert_true(fabs(sqrt(a) - cases[c].a) < 1e-5);
        if (cases[c].b > 0) assert_true(fabs(sqrt(b) - cases[c].b) < 1e-5);
        else { /* out^(1/4) / sqrt(gamma) times the third singular value of the mean gradient of the three batches */
            double u[OUT], Gu[IN], sigma = 0;
            for (int i = 0; i < OUT; i++) u[i] = B[i * R] / sqrt(b);
            product(u, false, G, false, 1, OUT, IN, Gu);
            for (int i = 0; i < IN; i++) sigma += Gu[i] * Gu[i];
            assert_true(fabs(sqrt(b) - pow(OUT, 0.25) / 2 * sqrt(sigma) / 3) < 1e-5 * sqrt(b));
        }
        free(A), free(B);
        world_close(&w);
    }
}

static void random_directions_are_disjoint_and_reproducible(void **state)
{
    (void)state;
    double *first = NULL;
    for (int i = 0; i < 2; i++) {
        world             w;
        crank_attachment *a;
        setup(&w, CRANK_F64, "rank=2 direction=random scale=unit", &a, NULL);
        double *A = world_values(&w, "proj.lora-ga.A"), AAt[R * R];
        product(A, false, A, true, R, IN, R, AAt);
        for (int k = 0; k < R * R; k++) assert_true(fabs(AAt[k] - (k % (R + 1) == 0)) < 1e-5);
        if (first) assert_memory_equal(first, A, sizeof(double) * R * IN);
        free(first);
        first = A;
        world_close(&w);
    }
    free(first);
}

static void impossible_ranks_and_zero_gradients_are_told(void **state)
{
    (void)state;
    world         w = world_open(CRANK_F32);
    crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    float        *rows = observe_data(ROWS, IN, 0.7, 31), *dys = calloc(ROWS * OUT, sizeof *dys);
    crank_attachment *a = observe_start(&w, "lora-ga", "rank=4", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, dys, ROWS, 16);
    assert_int_equal(crank_attachment_finish(w.context, a), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "rank_pattern"));
    crank_attachment_remove(a);
    a = observe_start(&w, "lora-ga", "rank=2", &(crank_attach_options){ .targets = "proj" });
    observe_rows(&w, a, linear, rows, dys, ROWS, 16);
    assert_ok(w.context, crank_attachment_finish(w.context, a));
    double *B = world_values(&w, "proj.lora-ga.B"), *B0 = world_values(&w, "proj.lora-ga.B0");
    for (int i = 0; i < OUT * R; i++) assert_true(B[i] == 0 && B0[i] == 0);
    free(B), free(B0), free(rows), free(dys);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_as_the_base_and_off_is_the_base_bit_for_bit),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(the_first_step_is_the_best_approximation_of_the_gradient),
        cmocka_unit_test(scales_and_styles_have_their_lengths),
        cmocka_unit_test(random_directions_are_disjoint_and_reproducible),
        cmocka_unit_test(impossible_ranks_and_zero_gradients_are_told),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
