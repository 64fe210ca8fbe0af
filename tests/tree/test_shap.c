/* Shapley values of columns: LightGBM's and XGBoost's own on their models, sums that are the scores; and cross-validation. */
#include "random_trees.h"

#include "base/file.h"

static int setup(void **state)
{
    *state = crank_context_new();
    return 0;
}
static int teardown(void **state)
{
    crank_context_free(*state);
    return 0;
}

enum { ROWS = 200 };

static double *contributions(crank_context *context, const crank_trees *trees, int rows, const float *x)
{
    double         *out = malloc((size_t)rows * 9 * (size_t)trees->outputs * sizeof *out);
    crank_tree_data data = {.rows = rows, .columns = 8, .dense = x};
    assert_ok(context, crank_trees_contributions(context, trees, &data, out));
    return out;
}

static void contributions_equal_those_of_lightgbm_and_xgboost(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(ROWS, 2);
    for (int which = 0; which < 2; which++) {
        size_t       length;
        crank_trees *trees = crank_trees_load(context, golden(which ? "tree/xgboost.json" : "tree/lightgbm.txt"));
        char        *bytes = file_read(context, golden(which ? "tree/xgboost.shap" : "tree/lightgbm.shap"), &length);
        if (!trees || !bytes) fail_msg("%s", crank_message(context));
        assert_int_equal(length, ROWS * 9 * (which ? 4 : 8));
        double *got = contributions(context, trees, ROWS, x);
        for (int i = 0; i < ROWS * 9; i++) {
            double expected;
            float  single;
            if (which) memcpy(&single, bytes + 4 * i, 4), expected = (double)single;
            else memcpy(&expected, bytes + 8 * i, 8);
            if (!(fabs(got[i] - expected) <= (which ? 1e-5 : 1e-9 + 1e-6 * fabs(expected)))) fail_msg("%s, row %d, column %d: %.9g, not %.9g", which ? "xgboost" : "lightgbm", i / 9, i % 9, got[i], expected);
        }
        free(got);
        crank_free(bytes);
        crank_trees_free(trees);
    }
    free(x);
}

static void contributions_sum_to_the_score(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(ROWS, 3);
    for (int outputs = 1; outputs < 4; outputs += 2) {
        crank_trees *trees = random_trees(context, 90, 9, outputs, 1, 40, 50);
        double       scores[ROWS * 3], *one, *many;
        trees->average = outputs == 3;
        walked_scores(trees, x, ROWS, scores);
        crank_set_threads(context, 1);
        one = contributions(context, trees, ROWS, x);
        crank_set_threads(context, 3);
        many = contributions(context, trees, ROWS, x);
        assert_memory_equal(one, many, (size_t)(ROWS * 9 * outputs) * sizeof *one);
        for (int i = 0; i < ROWS * outputs; i++) {
            double sum = 0;
            for (int j = 0; j < 9; j++) sum += one[i * 9 + j];
            assert_true(fabs(sum - scores[i]) < 1e-9);
        }
        free(one);
        free(many);
        crank_trees_free(trees);
    }
    free(x);
}

/* Shapley's formula over all subsets of the columns: the value of a subset follows known columns and averages over others. */
static double subset_value(const tree *t, int32_t node, const float *row, unsigned known)
{
    if (node < 0) return t->leaf_value[~node];
    if (known >> t->feature[node] & 1) return subset_value(t, node_decides(t, node, row[t->feature[node]]) ? t->left[node] : t->right[node], row, known);
    double l = (double)(t->left[node] >= 0 ? t->internal_count[t->left[node]] : t->leaf_count[~t->left[node]]), r = (double)(t->right[node] >= 0 ? t->internal_count[t->right[node]] : t->leaf_count[~t->right[node]]);
    return (l * subset_value(t, t->left[node], row, known) + r * subset_value(t, t->right[node], row, known)) / (l + r);
}

static void contributions_are_shapley_values(void **state)
{
    static const double factorial[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320};
    crank_context *context = *state;
    float         *x = make_rows(20, 4);
    crank_trees   *trees = random_trees(context, 17, 1, 1, 25, 25, 50);
    double        *got = contributions(context, trees, 20, x);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 8; j++) {
            double sum = 0;
            for (unsigned s = 0; s < 256; s++) {
                if (s >> j & 1) continue;
                int size = __builtin_popcount(s);
                sum += factorial[size] * factorial[7 - size] / factorial[8] * (subset_value(&trees->trees[0], 0, x + i * 8, s | 1u << j) - subset_value(&trees->trees[0], 0, x + i * 8, s));
            }
            assert_true(fabs(sum - got[i * 9 + j]) < 1e-10);
        }
    free(x);
    free(got);
    crank_trees_free(trees);
}

static void folds_hold_every_query_out_once(void **state)
{
    crank_context      *context = *state;
    crank_tree_options *o = crank_options_new(context, crank_trees_options(), sizeof *o);
    int                 n = 2000;
    float              *x = make_rows(n, 1), *labels = malloc((size_t)n * sizeof *labels);
    int32_t             offsets[101];
    for (int q = 0; q <= 100; q++) offsets[q] = q * 20;
    for (int i = 0; i < n; i++) labels[i] = x[i * 8] > 0.5f ? 2 : x[i * 8] > 0 ? 1 : 0;
    crank_tree_data data = {.rows = n, .columns = 8, .dense = x, .labels = labels, .queries = 100, .offsets = offsets};
    crank_tree_fold one[7], two[7];
    o->num_iterations = 30;
    o->early_stopping_round = 5;
    assert_ok(context, crank_trees_cv(context, o, &data, 7, one));
    crank_set_threads(context, 3);
    assert_ok(context, crank_trees_cv(context, o, &data, 7, two));
    assert_memory_equal(one, two, sizeof one);
    int64_t rows = 0, queries = 0;
    for (int f = 0; f < 7; f++) {
        rows += one[f].rows;
        queries += one[f].queries;
        assert_true(one[f].measure > 0.9 && one[f].trees > 0 && one[f].trees <= 30);
    }
    assert_true(rows == n && queries == 100);
    data.offsets = NULL;
    assert_int_equal(crank_options_set(context, crank_trees_options(), o, "objective", "regression", NULL), CRANK_OK);
    assert_ok(context, crank_trees_cv(context, o, &data, 2, one));
    assert_true(one[0].rows == 1000 && one[0].measure < 0.2);
    assert_int_equal(crank_trees_cv(context, o, &data, 1, one), CRANK_USAGE);
    crank_options_free(o);
    free(x);
    free(labels);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(contributions_equal_those_of_lightgbm_and_xgboost), TEST(contributions_sum_to_the_score), TEST(contributions_are_shapley_values), TEST(folds_hold_every_query_out_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
