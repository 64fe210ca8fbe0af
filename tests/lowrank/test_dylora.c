/* DyLoRA: start, drawn ranks, gradients of ranks that are not drawn, frozen and masked steps, cutting, merging, export, refusals. */
#include "lowrank/checks.h"

#include "lowrank/dylora.h"

static const char *const factors[] = {"proj.dylora.A", "proj.dylora.B", NULL};

static crank_linear *setup(world *w, crank_dtype type, const char *settings, crank_attachment **attachment)
{
    *w = world_open(type);
    crank_linear *linear = world_linear(w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    *attachment = world_attach(w, "dylora", settings, "proj");
    world_randomise(w, "proj.dylora.B", 0.5);
    return linear;
}

/* The rank that a step draws, read from the mask. */
static int64_t draw(world *w, int64_t step)
{
    bool    changed;
    int64_t b = 0;
    assert_ok(w->context, crank_linears_period(w->context, w->linears, step, &changed));
    assert_false(changed);
    double *mask = world_values(w, "proj.dylora.mask");
    size_t  r = world_count(world_param(w, "proj.dylora.mask"));
    for (size_t i = 0; i < r; i++) b += mask[i] != 0;
    for (size_t i = 0; i < r; i++) assert_true(fabs(mask[i] - ((int64_t)i < b ? 16.0 / (double)b : 0)) < 1e-5);
    free(mask);
    return b;
}

static void it_starts_equal_to_the_base_at_every_rank(void **state)
{
    (void)state;
    world             w = world_open(CRANK_F32);
    crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
    double           *base = outputs(&w, linear, x, CRANK_F32, false);
    crank_attachment *a = world_attach(&w, "dylora", "rank=4", "proj");
    int               count;
    for (int64_t c = 1; c <= 4; c++) {
        assert_ok(w.context, dylora_set_rank(w.context, crank_attachment_sites(a, &count), c));
        double *y = outputs(&w, linear, x, CRANK_F32, false);
        assert_memory_equal(y, base, sizeof(double) * N * OUT);
        free(y);
    }
    world_randomise(&w, "proj.dylora.B", 0.5);
    check_off(&w, linear, a, base);
    free(base);
    world_close(&w);
}

/* At the largest rank, each step is LoRA's with the same factors. */
static void at_full_rank_it_is_lora(void **state)
{
    (void)state;
    pass   p[2];
    double A[4 * IN], B[OUT * 4], turned[4 * OUT];
    world_fill(A, 4 * IN, 21, 0.5), world_fill(B, OUT * 4, 22, 0.5);
    for (int i = 0; i < OUT; i++)
        for (int k = 0; k < 4; k++) turned[k * OUT + i] = B[i * 4 + k];
    for (int i = 0; i < 2; i++) {
        static const char *const names[2][3] = {{"proj.lora.A", "proj.lora.B", NULL}, {"proj.dylora.A", "proj.dylora.B", NULL}};
        world         w = world_open(CRANK_F64);
        crank_linear *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, true);
        bool          changed;
        world_attach(&w, i ? "dylora" : "lora", i ? "rank=4 rank_min=4 alpha=16" : "rank=4 alpha=16", "proj");
        assert_ok(w.context, crank_linears_period(w.context, w.linears, 1, &changed));
        world_write(&w, names[i][0], A), world_write(&w, names[i][1], i ? turned : B);
        p[i] = (pass){.n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = names[i]};
        world_run(&w, linear, &p[i]);
        world_close(&w);
    }
    assert_near(p[1].y, p[0].y, N * OUT, 1e-15);
    assert_near(p[1].dx, p[0].dx, N * IN, 1e-14);
    assert_near(p[1].grads[0], p[0].grads[0], 4 * IN, 1e-14);
    for (int i = 0; i < OUT; i++)
        for (int k = 0; k < 4; k++) assert_true(fabs(p[1].grads[1][k * OUT + i] - p[0].grads[1][i * 4 + k]) < 1e-12);
    pass_free(&p[0]), pass_free(&p[1]);
}

static void ranks_behind_the_drawn_one_have_no_gradient(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F64, "rank=4", &a);
    for (int64_t step = 1; step < 12; step++) {
        int64_t b = draw(&w, step);
        pass    p = {.n = N, .x = x, .dy = dy, .compute = CRANK_F64, .training = true, .wrt = factors};
        world_run(&w, linear, &p);
        for (int64_t i = 0; i < 4 * IN; i++) assert_int_equal(p.grads[0][i] != 0, i / IN < b);
        for (int64_t i = 0; i < 4 * OUT; i++) assert_int_equal(p.grads[1][i] != 0, i / OUT < b);
        pass_free(&p);
        check_differences(&w, linear, x, factors);
    }
    world_close(&w);
}

/* Chi-square of 3 degrees of freedom: 16.3 is passed once in a thousand. */
static void drawn_ranks_follow_their_law_and_come_again(void **state)
{
    (void)state;
    static const struct {
        const char *settings;
        double      shares[4];
    } cases[] = {{"rank=4", {.25, .25, .25, .25}},
                 {"rank=4 distribution=geometric p=0.5", {8 / 15., 4 / 15., 2 / 15., 1 / 15.}},
                 {"rank=4 distribution=list probabilities=1,2,3,4", {.1, .2, .3, .4}},
                 {"rank=8 unit=2 rank_min=2", {.25, .25, .25, .25}}};
    enum { STEPS = 2000 };
    for (size_t m = 0; m < sizeof cases / sizeof *cases; m++) {
        world             w;
        crank_attachment *a;
        double            chi = 0, seen[4] = {0};
        setup(&w, CRANK_F32, cases[m].settings, &a);
        int64_t unit = m == 3 ? 2 : 1, first = draw(&w, 1);
        for (int64_t step = 1; step <= STEPS; step++) {
            int64_t b = draw(&w, step);
            assert_true(b % unit == 0);
            seen[b / unit - 1]++;
        }
        assert_int_equal(draw(&w, 1), first);
        for (int k = 0; k < 4; k++) chi += pow(seen[k] - cases[m].shares[k] * STEPS, 2) / (cases[m].shares[k] * STEPS);
        if (chi > 16.3) fail_msg("%s: chi-square %g", cases[m].settings, chi);
        world_close(&w);
    }
}

static void masked_ranks_count_the_steps_in_which_they_train(void **state)
{
    (void)state;
    static const char *const cases[] = {"rank=4 state=masked", "rank=4 state=masked mode=frozen"};
    for (int frozen = 0; frozen < 2; frozen++) {
        world             w;
        crank_attachment *a;
        double            steps[4] = {0};
        setup(&w, CRANK_F32, cases[frozen], &a);
        for (int64_t step = 1; step < 30; step++) {
            int64_t b = draw(&w, step);
            double *clock = world_values(&w, "proj.dylora.clock");
            for (int i = 0; i < 4; i++) {
                bool awake = frozen ? i == b - 1 : i < b;
                steps[i] += awake;
                assert_true(clock[3 * i] == steps[i] && clock[3 * i + 1] == 1 && clock[3 * i + 2] == !awake);
            }
            free(clock);
        }
        world_close(&w);
    }
}

static void it_merges_and_exports_at_every_rank(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    crank_linear     *linear = setup(&w, CRANK_F32, "rank=4 dropout=0.2", &a);
    int               count;
    for (int64_t c = 1; c <= 4; c++) {
        assert_ok(w.context, dylora_set_rank(w.context, crank_attachment_sites(a, &count), c));
        check_export(&w, linear, crank_map_find("dylora"), a, c);
        check_merge(&w, linear);
    }
    world_close(&w);
}

static void ranks_that_were_not_trained_are_refused(void **state)
{
    (void)state;
    world             w;
    crank_attachment *a;
    int               count;
    setup(&w, CRANK_F32, "rank=4 rank_min=2", &a);
    crank_site *site = crank_attachment_sites(a, &count);
    assert_int_equal(dylora_set_rank(w.context, site, 1), CRANK_USAGE);
    assert_int_equal(dylora_set_rank(w.context, site, 5), CRANK_USAGE);
    assert_non_null(strstr(crank_message(w.context), "2 to 4"));
    world_close(&w);
    static const char *const wrong[] = {"rank=5 unit=2", "rank=4 rank_min=5", "rank=4 distribution=list probabilities=1,2", "rank=4 distribution=list probabilities=0,0,0,0",
                                        "rank=4 evaluate_rank=5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = world_open(CRANK_F32);
        world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        assert_null(world_try(&w, "dylora", wrong[i], &(crank_attach_options){.targets = "proj"}));
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_equal_to_the_base_at_every_rank),
        cmocka_unit_test(at_full_rank_it_is_lora),
        cmocka_unit_test(ranks_behind_the_drawn_one_have_no_gradient),
        cmocka_unit_test(drawn_ranks_follow_their_law_and_come_again),
        cmocka_unit_test(masked_ranks_count_the_steps_in_which_they_train),
        cmocka_unit_test(it_merges_and_exports_at_every_rank),
        cmocka_unit_test(ranks_that_were_not_trained_are_refused),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
