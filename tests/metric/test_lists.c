/* Measures of scored lists, paired tests and fusion against closed forms and SciPy's numbers. */
#include <math.h>
#include <string.h>

#include "metric/fuse.h"
#include "metric/significance.h"
#include "testing.h"

static const int32_t two[] = { 0, 4, 7 };
static const float   scores[] = { 2, 1, 0, -1, 5, 5, 1 }, labels[] = { 0, 2, 1, 0, 0, 0, 0 };

static double mean_of(crank_context *context, const char *name, crank_metric_options options, int64_t lists, int64_t *counted)
{
    double mean = -1;
    assert_ok(context, crank_metric(context, name, &options, lists, two, scores, labels, NULL, &mean, counted, NULL));
    return mean;
}

static void conformance_query_gives_the_card_values(void **state)
{
    crank_metric_options letor = { .discount = CRANK_DISCOUNT_LETOR }, plain = { 0 };
    assert_true(fabs(mean_of(*state, "ndcg", plain, 1, NULL) - 0.659002) < 1e-6);
    assert_true(fabs(mean_of(*state, "ndcg@2", letor, 1, NULL) - 0.75) < 1e-12);
    assert_true(fabs(mean_of(*state, "ndcg@3", letor, 1, NULL) - 0.907732) < 1e-6);
    assert_true(fabs(mean_of(*state, "err", plain, 1, NULL) - 0.110677) < 1e-6);
    assert_true(fabs(mean_of(*state, "map", plain, 1, NULL) - (0.5 + 2.0 / 3) / 2) < 1e-12);
    assert_true(mean_of(*state, "mrr", plain, 1, NULL) == 0.5 && mean_of(*state, "p@2", plain, 1, NULL) == 0.5 && mean_of(*state, "recall@2", plain, 1, NULL) == 0.5);
}

static void empty_lists_count_as_the_option_says(void **state)
{
    int64_t counted;
    double  one = mean_of(*state, "ndcg", (crank_metric_options){ 0 }, 1, NULL);
    assert_true(mean_of(*state, "ndcg", (crank_metric_options){ .empty = CRANK_EMPTY_ZERO }, 2, &counted) == one / 2 && counted == 2);
    assert_true(mean_of(*state, "ndcg", (crank_metric_options){ .empty = CRANK_EMPTY_ONE }, 2, &counted) == (one + 1) / 2 && counted == 2);
    assert_true(mean_of(*state, "ndcg", (crank_metric_options){ .empty = CRANK_EMPTY_SKIP }, 2, &counted) == one && counted == 1);
}

static void nan_and_unknown_measures_are_refused(void **state)
{
    const int32_t one[] = { 0, 1 };
    float         bad = NAN, good = 1;
    double        mean;
    assert_int_equal(crank_metric(*state, "ndcg", NULL, 1, one, &bad, &good, NULL, &mean, NULL, NULL), CRANK_BAD_DATA);
    assert_int_equal(crank_metric(*state, "ndcg@0", NULL, 1, one, &good, &good, NULL, &mean, NULL, NULL), CRANK_USAGE);
    assert_int_equal(crank_metric(*state, "dcgn", NULL, 1, one, &good, &good, NULL, &mean, NULL, NULL), CRANK_USAGE);
}

static void paired_tests_equal_scipy(void **state)
{
    /* scipy.stats.ttest_rel, wilcoxon (exact) and permutation_test over all 2^8 sign patterns */
    const double a[] = { 0.10, 0.25, 0.40, 0.33, 0.52, 0.61, 0.05, 0.70 }, b[] = { 0.15, 0.24, 0.55, 0.36, 0.63, 0.59, 0.12, 0.78 };
    paired_tests r;
    assert_ok(*state, paired_compare(*state, a, b, 8, 100000, 1, &r));
    assert_true(fabs(r.difference - 0.0575) < 1e-12);
    assert_true(fabs(r.t - 2.8159077024002097) < 1e-10 && fabs(r.student - 0.025925092047373612) < 1e-10);
    assert_true(fabs(r.wilcoxon - 0.0390625) < 1e-10 && fabs(r.fisher - 0.0390625) < 1e-10);
    assert_ok(*state, paired_compare(*state, a, a, 8, 1000, 1, &r));
    assert_true(r.student == 1 && r.wilcoxon == 1 && r.fisher == 1);
}

static void holm_steps_down(void **state)
{
    double p[] = { 0.01, 0.04, 0.03, 0.005 };
    assert_ok(*state, holm(*state, p, 4));
    assert_true(fabs(p[3] - 0.02) < 1e-15 && fabs(p[0] - 0.03) < 1e-15 && fabs(p[2] - 0.06) < 1e-15 && fabs(p[1] - 0.06) < 1e-15);
}

static void fusion_follows_its_formulas(void **state)
{
    static const char *const texts[] = { "1 Q0 a 1 4 x\n1 Q0 b 2 2 x\n1 Q0 c 3 0 x\n", "1 Q0 b 1 10 y\n1 Q0 d 2 0 y\n2 Q0 e 1 3 y\n" };
    static const struct { fuse_rule rule; const char *text; } cases[] = {
        { FUSE_COMBSUM, "1 Q0 b 1 1.5 t\n1 Q0 a 2 1 t\n1 Q0 d 3 0 t\n1 Q0 c 4 0 t\n2 Q0 e 1 1 t\n" },
        { FUSE_COMBMNZ, "1 Q0 b 1 3 t\n1 Q0 a 2 1 t\n1 Q0 d 3 0 t\n1 Q0 c 4 0 t\n2 Q0 e 1 1 t\n" },
        { FUSE_INTERPOLATE, "1 Q0 b 1 0.75 t\n1 Q0 a 2 0.5 t\n1 Q0 d 3 0 t\n1 Q0 c 4 0 t\n2 Q0 e 1 0.5 t\n" },
        { FUSE_RRF, "1 Q0 b 1 0.8333333333333333 t\n1 Q0 a 2 0.5 t\n1 Q0 d 3 0.3333333333333333 t\n1 Q0 c 4 0.25 t\n2 Q0 e 1 0.5 t\n" },
    };
    trec_file runs[2];
    for (int r = 0; r < 2; r++) {
        char  path[256];
        snprintf(path, sizeof path, "%s/fuse_%d_%d", CRANK_BINARY_DIR, r, (int)getpid());
        FILE *file = fopen(path, "w");
        fputs(texts[r], file);
        fclose(file);
        assert_ok(*state, trec_file_read(*state, path, TREC_RUN, false, runs + r));
        remove(path);
    }
    for (int i = 0; i < 4; i++) {
        fuse_options options = { .rule = cases[i].rule, .norm = FUSE_MINMAX, .k = 1, .depth = 1000, .tag = "t" };
        char        *text = NULL;
        assert_ok(*state, fuse_runs(*state, runs, 2, &options, "-", &text));
        assert_string_equal(text, cases[i].text);
        crank_free(text);
    }
    trec_file_free(runs);
    trec_file_free(runs + 1);
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
        cmocka_unit_test(conformance_query_gives_the_card_values),
        cmocka_unit_test(empty_lists_count_as_the_option_says),
        cmocka_unit_test(nan_and_unknown_measures_are_refused),
        cmocka_unit_test(paired_tests_equal_scipy),
        cmocka_unit_test(holm_steps_down),
        cmocka_unit_test(fusion_follows_its_formulas),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
