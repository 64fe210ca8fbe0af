/* LaMDA: start, gradients, the freezing schedule, exports; LaMDA++'s ranks. */
#include "lowrank/steps.h"

enum { R = 4 };
static const char *const trained[] = { "proj.lamda.LDA", "proj.lamda.PMB", NULL };

static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    *attachment = world_attach(w, "lamda", settings, "proj");
    return linear;
}

static void every_start_is_the_base_and_off_is_the_base(void **state)
{
    (void)state;
    static const char *const settings[] = { "rank=4", "rank=4 init=zero", "rank=4 init=random", "rank=6" };
    for (int i = 0; i < 4; i++) {
        world         w = world_open(CRANK_F32);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        double       *base = outputs(&w, linear, x, CRANK_F32, false);
        crank_attachment *a = world_attach(&w, "lamda", settings[i], "proj");
        double       *start = outputs(&w, linear, x, CRANK_F32, false);
        assert_memory_equal(start, base, sizeof(double) * N * OUT);
        world_randomise(&w, "proj.lamda.PMB", 0.5);
        world_randomise(&w, "proj.lamda.LDA", 0.5);
        check_off(&w, linear, a, base);
        check_merge(&w, linear);
        check_unmerge(&w, linear);
        check_export(&w, linear, crank_map_find("lamda"), a, i == 3 ? 6 : R);
        free(base), free(start);
        world_close(&w);
    }
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=4", &a);
    world_randomise(&w, "proj.lamda.LDA", 0.5);
    check_differences(&w, linear, x, trained);
    check_input_gradient(&w, linear);
    world_close(&w);
}

static void projections_are_orthonormal_and_the_core_is_diagonal(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    setup(&w, CRANK_F64, "rank=4", &a);
    double *P = world_values(&w, "proj.lamda.PMA"), *Q = world_values(&w, "proj.lamda.PMB"), *L = world_values(&w, "proj.lamda.LDA"), PP[R * R], QQ[R * R];
    product(P, false, P, true, R, IN, R, PP);
    product(Q, true, Q, false, R, OUT, R, QQ);
    for (int i = 0; i < R * R; i++) {
        bool diagonal = i % (R + 1) == 0;
        assert_true(fabs(PP[i] - diagonal) < 1e-5 && fabs(QQ[i] - diagonal) < 1e-5 && (diagonal ? L[i] > 0 : L[i] == 0));
    }
    free(P), free(Q), free(L);
    world_close(&w);
}

/* r = 4, T = 20, eta = 0.3: f(t) = min(4, floor(4 t / 6)). Frozen columns keep their bits, the others move. */
static void columns_freeze_in_their_order_and_keep_their_bits(void **state)
{
    (void)state;
    for (int reverse = 0; reverse < 2; reverse++) {
        world             w;
        crank_attachment *a;
        crank_linear     *linear = setup(&w, CRANK_F32, reverse ? "rank=4 order=smallest" : "rank=4", &a);
        world_randomise(&w, "proj.lamda.LDA", 0.5);
        for (int t = 1; t <= 10; t++) {
            double *before = world_values(&w, "proj.lamda.PMB"), *core = world_values(&w, "proj.lamda.LDA");
            run_step(&w, linear, trained, &(step_of){ .rate = 0.01, .step = t, .progress = t / 20.0 });
            double *after = world_values(&w, "proj.lamda.PMB"), *moved = world_values(&w, "proj.lamda.LDA");
            int     f = 4 * t / 6 < 4 ? 4 * t / 6 : 4;
            for (int k = 0; k < R; k++) {
                int  place = reverse ? R - 1 - k : k;
                bool same = true;
                for (int o = 0; o < OUT; o++) same = same && before[o * R + k] == after[o * R + k];
                if (same != (place < f)) fail_msg("step %d, column %d: %s", t, k, same ? "frozen" : "moves");
            }
            assert_memory_not_equal(core, moved, R * R * sizeof *core);
            free(before), free(after), free(core), free(moved);
        }
        world_close(&w);
    }
}

static void eta_zero_trains_the_core_alone_and_a_large_eta_never_freezes_all(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=4 eta=0", &a);
    assert_false(world_param(&w, "proj.lamda.PMB")->trainable);
    double *before = world_values(&w, "proj.lamda.PMB");
    run_step(&w, linear, (const char *const[]){ "proj.lamda.LDA", NULL }, &(step_of){ .rate = 0.01, .step = 1, .progress = 1 });
    double *after = world_values(&w, "proj.lamda.PMB");
    assert_memory_equal(before, after, OUT * R * sizeof *before);
    free(before), free(after);
    world_close(&w);
    linear = setup(&w, CRANK_F32, "rank=4 eta=100", &a);
    before = world_values(&w, "proj.lamda.PMB");
    run_step(&w, linear, trained, &(step_of){ .rate = 0.01, .step = 20, .progress = 1 });
    after = world_values(&w, "proj.lamda.PMB");
    for (int k = 0; k < R; k++) assert_true(before[k] != after[k]);
    free(before), free(after);
    world_close(&w);
}

static void a_skipped_step_changes_nothing(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=4", &a);
    double           *before = world_values(&w, "proj.lamda.PMB");
    run_step(&w, linear, trained, &(step_of){ .rate = 0.01, .step = 1, .progress = 0.01, .skip = 1 });
    double *after = world_values(&w, "proj.lamda.PMB");
    assert_memory_equal(before, after, OUT * R * sizeof *before);
    free(before), free(after);
    world_close(&w);
}

static int64_t rank_of(world *w, const char *name) { return world_param(w, name)->view.dims[1]; }

static void candidates_follow_the_spectra_and_sum_to_the_budget(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    static const char *const names[] = { "a", "b", "c", "d" };
    for (int l = 0; l < 4; l++) {
        char   text[16];
        double W[8 * 8] = { 0 };
        world_linear(&w, names[l], CRANK_LINEAR_DENSE, 8, 8, false);
        for (int k = 0; k < 8; k++) W[k * 9] = pow(0.3 + 0.2 * l, k); /* the later, the flatter: the more lies between 2 and 6 */
        snprintf(text, sizeof text, "%s.weight", names[l]);
        world_write(&w, text, W);
    }
    world_try(&w, "lamda", "rank=4 candidates=2,6", &(crank_attach_options){ .targets = "all-linear" });
    int64_t sum = 0, last = 0;
    for (int l = 0; l < 4; l++) {
        char name[32];
        snprintf(name, sizeof name, "%s.lamda.PMB", names[l]);
        int64_t r = rank_of(&w, name);
        assert_true(r >= last);
        sum += last = r;
    }
    assert_int_equal(sum, 16);
    assert_int_equal(last, 6);
    world_close(&w);
    w = world_open(CRANK_F32);
    for (int l = 0; l < 2; l++) { /* equal spectra, equal ranks */
        double W[8 * 8] = { 0 };
        char   text[16];
        world_linear(&w, names[l], CRANK_LINEAR_DENSE, 8, 8, false);
        for (int k = 0; k < 8; k++) W[k * 9] = 1;
        snprintf(text, sizeof text, "%s.weight", names[l]);
        world_write(&w, text, W);
    }
    world_try(&w, "lamda", "rank=4 candidates=2,6", &(crank_attach_options){ .targets = "all-linear" });
    assert_int_equal(rank_of(&w, "a.lamda.PMB"), 4);
    assert_int_equal(rank_of(&w, "b.lamda.PMB"), 4);
    assert_null(world_try(&w, "lamda", "candidates=6,2", &(crank_attach_options){ .name = "n", .targets = "a" }));
    assert_non_null(strstr(crank_message(w.context), "rising"));
    assert_null(world_try(&w, "lamda", "rank=9", &(crank_attach_options){ .name = "n", .targets = "a" }));
    assert_non_null(strstr(crank_message(w.context), "lower lowrank.rank"));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_start_is_the_base_and_off_is_the_base),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(projections_are_orthonormal_and_the_core_is_diagonal),
        cmocka_unit_test(columns_freeze_in_their_order_and_keep_their_bits),
        cmocka_unit_test(eta_zero_trains_the_core_alone_and_a_large_eta_never_freezes_all),
        cmocka_unit_test(a_skipped_step_changes_nothing),
        cmocka_unit_test(candidates_follow_the_spectra_and_sum_to_the_budget),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
