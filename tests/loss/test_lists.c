/* List objectives: derivatives against differences, invariants, and what is refused. */
#include "crank/loss.h"
#include "testing.h"

enum { ITEMS = 9, LISTS = 3 };

static const int32_t offsets[LISTS + 1] = { 0, 4, 5, 9 };
static float         scores[ITEMS] = { 0.3f, -1.2f, 0.8f, 0.1f, 2, -0.4f, 0.6f, 0.6f, -2 }, labels[ITEMS] = { 0, 2, 1, 1, 3, 0.5f, 0.5f, 2, 1 };
static const float   weights[ITEMS] = { 1, 0.5f, 2, 1, 1, 1, 0, 1, 3 };

static crank_list_result run(crank_context *context, const char *name, const crank_lists *lists, float *d1, float *d2)
{
    const crank_list_objective *objective = crank_list_objective_find(name);
    crank_list_result           result = { .d1 = d1, .d2 = d2 };
    assert_non_null(objective);
    void *options = crank_options_new(context, objective->options, objective->options_size);
    assert_ok(context, objective->run(context, lists, options, &result));
    crank_options_free(options);
    return result;
}

static void derivatives_are_those_of_the_numerator(void **state)
{
    crank_context *context = *state;
    {
        const char *name = "pair_logistic";
        float       d1[ITEMS], d2[ITEMS], up[ITEMS], down[ITEMS];
        crank_lists lists = { LISTS, 1, offsets, scores, labels, weights };
        run(context, name, &lists, d1, d2);
        for (int i = 0; i < ITEMS; i++) {
            const float h = 1.0f / 64, at = scores[i];
            scores[i] = at + h;
            double high = run(context, name, &lists, up, NULL).numerator;
            scores[i] = at - h;
            double low = run(context, name, &lists, down, NULL).numerator;
            scores[i] = at;
            if (fabs((high - low) / (2 * h) - d1[i]) > 1e-3) fail_msg("%s: d1[%d]", name, i);
            if (fabs(((double)up[i] - down[i]) / (2 * h) - d2[i]) > 1e-3) fail_msg("%s: d2[%d]", name, i);
        }
    }
}

static void pair_logistic_counts_pairs_and_sums_to_zero(void **state)
{
    crank_context    *context = *state;
    float             zero[ITEMS] = { 0 }, d1[ITEMS];
    double            sum = 0;
    crank_lists       lists = { LISTS, 1, offsets, zero, labels, NULL };
    crank_list_result result = run(context, "pair_logistic", &lists, d1, NULL);
    assert_true(fabs(result.numerator - 10 * log(2)) < 1e-12); /* 5 ordered pairs in the first list, 5 in the third */
    assert_true(result.denominator == 2);                      /* a list of one item has no pair */
    for (int i = 0; i < ITEMS; i++) sum += d1[i];
    assert_true(fabs(sum) < 1e-6);
}

static void huge_margins_stay_finite(void **state)
{
    crank_context    *context = *state;
    const int32_t     two[] = { 0, 2 };
    float             wide[] = { -3e30f, 3e30f }, order[] = { 1, 0 }, d1[2], d2[2];
    crank_lists       lists = { 1, 1, two, wide, order, NULL };
    crank_list_result result = run(context, "pair_logistic", &lists, d1, d2);
    assert_true(isfinite(result.numerator) && d1[0] == -1 && d1[1] == 1 && d2[0] == 0);
}

static crank_status run_nothing(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result)
{
    (void)context, (void)lists, (void)options, (void)result;
    return CRANK_OK;
}

static void list_objectives_are_registered_by_name_once(void **state)
{
    crank_context                    *context = *state;
    static const crank_list_objective own = { .name = "mine", .run = run_nothing }, lacking = { .name = "lacking" };
    assert_ok(context, crank_register_list_objective(context, &own));
    assert_ptr_equal(crank_list_objective_find("mine"), &own);
    assert_int_equal(crank_register_list_objective(context, &own), CRANK_USAGE);
    assert_int_equal(crank_register_list_objective(context, &lacking), CRANK_USAGE);
}

static void items_of_several_scores_are_refused(void **state)
{
    crank_context    *context = *state;
    float             d1[2 * ITEMS];
    crank_lists       lists = { LISTS, 2, offsets, scores, labels, NULL };
    crank_list_result result = { .d1 = d1 };
    assert_int_equal(crank_list_objective_find("pair_logistic")->run(context, &lists, NULL, &result), CRANK_USAGE);
}

static int open_context(void **state) { return (*state = crank_context_new()) ? 0 : 1; }
static int close_context(void **state)
{
    crank_context_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_are_those_of_the_numerator),
        cmocka_unit_test(pair_logistic_counts_pairs_and_sums_to_zero),
        cmocka_unit_test(huge_margins_stay_finite),
        cmocka_unit_test(items_of_several_scores_are_refused),
        cmocka_unit_test(list_objectives_are_registered_by_name_once),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
