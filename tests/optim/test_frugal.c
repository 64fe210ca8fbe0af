/* FRUGAL: 50 steps against float64 transcriptions, the exact properties of its card, and blocks in a trainer. */
#include "optim/golden_run.h"
#include "task/tiny.h"

enum { M = 6, N = 10 };

static const int64_t dims[] = { M, N };

static const golden_case cases[] = {
    { "frugal_columns", "frugal", "select=columns density=0.5 gap=7", 0.02, 0.1 },
    { "frugal_rows", "frugal", "select=rows density=0.5 gap=7 rate_scale=0.5 free_scale=0.25", 0.02, 0.1 },
    { "frugal_entries", "frugal", "select=entries density=0.3 gap=7 rule=sgd", 0.02, 0.1 },
    { "frugal_carried", "frugal", "select=columns density=0.5 gap=7 reset=false", 0.02, 0.1 },
    { "frugal_svd", "frugal", "select=svd density=0.5 gap=7 rule=sgd", 0.02, 0.1 },
    { "frugal_none", "frugal", "select=svd density=0.5 gap=7 rule=none", 0.02, 0.1 },
};

static void fifty_steps_equal_their_transcriptions(void **state)
{
    (void)state;
    check_cases(cases, sizeof cases / sizeof *cases);
}

static void all_columns_without_reset_are_adamw(void **state)
{
    (void)state;
    float  w[M * N], g[M * N], a[M * N], b[M * N];
    draw(w, M * N, 1);
    runner frugal = runner_open("frugal", "select=columns density=1 reset=false gap=3", CRANK_F32, 2, dims, w, 0.1);
    runner adamw = runner_open("adamw", "", CRANK_F32, 2, dims, w, 0.1);
    for (int t = 1; t <= 8; t++) {
        draw(g, M * N, 1 + (uint32_t)t);
        runner_step(&frugal, g, 0.01, t, 1, false), runner_step(&adamw, g, 0.01, t, 1, false);
    }
    runner_read(&frugal, "w", a, CRANK_F32), runner_read(&adamw, "w", b, CRANK_F32);
    for (int i = 0; i < M * N; i++) assert_true(fabs(a[i] - b[i]) <= 8 * 0x1p-23 * (1 + fabs(b[i]))); /* the step is rounded once more */
    runner_close(&frugal), runner_close(&adamw);
}

static void density_zero_is_the_sign(void **state)
{
    (void)state;
    static const char *const selects[] = { "block", "columns", "svd" };
    for (int k = 0; k < 3; k++) {
        float w[M * N] = { 0 }, g[M * N];
        char  settings[64];
        snprintf(settings, sizeof settings, "density=0 select=%s", selects[k]);
        runner r = runner_open("frugal", settings, CRANK_F32, 2, dims, w, 0);
        draw(g, M * N, 2);
        runner_step(&r, g, 0.25, 1, 1, false);
        runner_read(&r, "w", w, CRANK_F32);
        for (int i = 0; i < M * N; i++) assert_true(w[i] == (g[i] > 0 ? -0.25f : 0.25f));
        assert_int_equal(crank_params_count(r.params), 1);
        runner_close(&r);
    }
}

/* Adam's first step is the sign too: behind every switch the whole matrix moves by the rate. */
static void the_first_step_after_a_switch_is_sign_descent(void **state)
{
    (void)state;
    static const char *const selects[] = { "columns", "rows", "entries" };
    for (int k = 0; k < 3; k++) {
        float w[M * N] = { 0 }, before[M * N], g[M * N];
        char  settings[64];
        snprintf(settings, sizeof settings, "density=0.4 gap=3 select=%s", selects[k]);
        runner r = runner_open("frugal", settings, CRANK_F32, 2, dims, w, 0);
        for (int t = 1; t <= 7; t++) {
            draw(g, M * N, 1 + (uint32_t)t);
            runner_read(&r, "w", before, CRANK_F32);
            runner_step(&r, g, 0.25, t, 1, false);
            runner_read(&r, "w", w, CRANK_F32);
            int others = 0;
            for (int i = 0; i < M * N; i++) others += fabs(before[i] - w[i] - (g[i] > 0 ? 0.25 : -0.25)) > 1e-5;
            if ((t - 1) % 3 == 0)
                assert_int_equal(others, 0);
            else
                assert_true(others > 0);
        }
        runner_close(&r);
    }
}

static void chosen_columns_are_distinct_ascending_and_change(void **state)
{
    (void)state;
    float   w[M * N] = { 0 }, g[M * N] = { 0 };
    int32_t index[4], last[4] = { 0 };
    int     seen[N] = { 0 }, changes = 0;
    runner  r = runner_open("frugal", "density=0.4 gap=1 select=columns", CRANK_F32, 2, dims, w, 0);
    for (int t = 1; t <= 200; t++) {
        runner_period(&r, g, t);
        runner_read(&r, "w.frugal.index", index, CRANK_I32);
        for (int k = 0; k < 4; k++) {
            assert_true(index[k] >= 0 && index[k] < N && (k == 0 || index[k] > index[k - 1]));
            seen[index[k]]++;
        }
        changes += memcmp(index, last, sizeof index) != 0;
        memcpy(last, index, sizeof index);
    }
    for (int j = 0; j < N; j++) assert_true(seen[j] > 80 - 35 && seen[j] < 80 + 35); /* 200 * 0.4, five deviations of 6.9 */
    assert_true(changes > 190);
    runner_close(&r);
}

static void state_is_the_density_s_share(void **state)
{
    (void)state;
    float  w[M * N] = { 0 };
    runner r = runner_open("frugal", "density=0.3 select=columns", CRANK_F32, 2, dims, w, 0);
    size_t elements = 0;
    for (size_t i = 0; i < crank_params_count(r.params); i++)
        if (crank_params_at(r.params, i)->role == CRANK_ROLE_STATE) elements += (size_t)crank_view_count(&crank_params_at(r.params, i)->view);
    assert_int_equal(elements, 2 * 3 * M + 3); /* moments of three columns, and their indices */
    runner_close(&r);
}

/* ---- blocks ---- */

static void option(tiny *t, const char *key, const char *value)
{
    assert_ok(t->context, crank_options_set(t->context, t->recipe.optimizer->options, t->recipe.optimizer_options, key, value, "test"));
}

static tiny *open_blocks(const char *order, const char *rule, const char *density, const char *gap)
{
    tiny *t = tiny_open("frugal", "cross_entropy", 1);
    option(t, "order", order), option(t, "rule", rule), option(t, "density", density), option(t, "gap", gap);
    tiny_train_all(t), tiny_start(t);
    return t;
}

/* Bit i: matrix i of the layers moved in its elements by anything but the rate. */
static unsigned moved_by_adam(tiny *t, int step, int *matrices)
{
    unsigned bits = 0;
    float   *before[64] = { 0 };
    *matrices = 0;
    for (int i = 0; i < t->trainer->unit_count; i++) before[i] = tiny_values(t, t->trainer->units[i].param);
    tiny_step(t, step, 1);
    for (int i = 0; i < t->trainer->unit_count; i++) {
        const crank_unit *unit = &t->trainer->units[i];
        float            *after = tiny_values(t, unit->param);
        if (unit->block >= 0 && unit->param->view.rank == 2) {
            int64_t n = crank_view_count(&unit->param->view);
            int     other = 0;
            for (int64_t k = 0; k < n; k++) other += fabs(fabs(after[k] - before[i][k]) - 0.05) > 1e-4 && after[k] != before[i][k];
            if (other) bits |= 1u << *matrices;
            ++*matrices;
        }
        free(after), free(before[i]);
    }
    return bits;
}

static void a_window_covers_every_tensor_once(void **state)
{
    (void)state;
    static const char *const orders[] = { "ascending", "descending", "mirror" };
    for (int k = 0; k < 3; k++) {
        tiny    *t = open_blocks(orders[k], "sign", "0.2857142857", "2"); /* 4 of 14 */
        unsigned all = 0;
        int      matrices, count[4] = { 0 };
        for (int p = 0; p < 4; p++) {
            tiny_step(t, 2 * p + 1, 1); /* the first step behind a switch is the sign for all */
            unsigned bits = moved_by_adam(t, 2 * p + 2, &matrices);
            assert_int_equal(matrices, 14);
            for (int i = 0; i < 14; i++) count[p] += bits >> i & 1;
            if (p < 3) assert_int_equal(all & bits, 0);
            all |= bits;
            assert_true(count[p] == 4 || (p == 3 && k == 2 && count[p] == 2)); /* from both ends the last two meet */
        }
        assert_int_equal(all, (1u << 14) - 1);
        tiny_close(t);
    }
}

static void without_a_rule_other_blocks_rest(void **state)
{
    (void)state;
    tiny *t = open_blocks("random", "none", "0.25", "2");
    for (int step = 1; step <= 5; step++) {
        float *before[64];
        int    still = 0, matrices = 0;
        for (int i = 0; i < t->trainer->unit_count; i++) before[i] = tiny_values(t, t->trainer->units[i].param);
        tiny_step(t, step, 1);
        for (int i = 0; i < t->trainer->unit_count; i++) {
            const crank_unit *unit = &t->trainer->units[i];
            float            *after = tiny_values(t, unit->param);
            if (unit->block >= 0 && unit->param->view.rank == 2) {
                matrices++;
                still += !memcmp(before[i], after, (size_t)crank_view_count(&unit->param->view) * sizeof *after);
            }
            free(after), free(before[i]);
        }
        assert_int_equal(matrices - still, 4); /* round(0.25 * 14) */
    }
    tiny_close(t);
}

static void pools_hold_the_largest_blocks(void **state)
{
    (void)state;
    tiny *t = open_blocks("random", "sign", "0.2857142857", "2");
    assert_int_equal(crank_view_count(&tiny_param(t, "frugal.slots.m")->view), 4 * 8 * 12); /* gate, up, down of a layer are 8 x 12 */
    tiny_close(t);
}

static void a_mirror_with_an_odd_count_is_refused(void **state)
{
    (void)state;
    tiny *t = tiny_open("frugal", "cross_entropy", 1);
    option(t, "order", "mirror"), option(t, "density", "0.2142857142");
    tiny_train_all(t);
    t->trainer = trainer_new(t->context, t->model, &t->recipe, 100);
    assert_non_null(t->trainer);
    assert_int_equal(trainer_period(t->context, t->trainer, 0), CRANK_USAGE);
    tiny_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fifty_steps_equal_their_transcriptions),
        cmocka_unit_test(all_columns_without_reset_are_adamw),
        cmocka_unit_test(density_zero_is_the_sign),
        cmocka_unit_test(the_first_step_after_a_switch_is_sign_descent),
        cmocka_unit_test(chosen_columns_are_distinct_ascending_and_change),
        cmocka_unit_test(state_is_the_density_s_share),
        cmocka_unit_test(a_window_covers_every_tensor_once),
        cmocka_unit_test(without_a_rule_other_blocks_rest),
        cmocka_unit_test(pools_hold_the_largest_blocks),
        cmocka_unit_test(a_mirror_with_an_odd_count_is_refused),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
