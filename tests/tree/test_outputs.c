/* Several outputs: classes as LightGBM and XGBoost learn, hold and score them (goldens of tests/oracle/gbdt.py and xgboost_models.py), trees
 * whose leaves hold a vector against exhaustive search, and learning from gradients of the caller's. */
#include "brute.h"

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

static crank_tree_options *options_of(crank_context *context, const char *const *pairs)
{
    crank_tree_options *o = crank_options_new(context, crank_trees_options(), sizeof *o);
    for (; pairs && pairs[0]; pairs += 2) assert_ok(context, crank_options_set(context, crank_trees_options(), o, crank_trees_option(pairs[0]), pairs[1], NULL));
    return o;
}

#define OPTIONS(context, ...) options_of(context, (const char *const[]){__VA_ARGS__, NULL})

/* The classes of tests/oracle/gbdt.py */
static float *classes_of(const float *x, int n)
{
    float *labels = malloc((size_t)n * sizeof *labels);
    for (int i = 0; i < n; i++) labels[i] = (float)(x[i * 8] > 0) + (float)(x[i * 8 + 2] + x[i * 8 + 4] > 0.3f || x[i * 8 + 6] > 0.7f);
    return labels;
}

static void compare(crank_context *context, const crank_trees *trees, const char *path, double bound)
{
    size_t  length;
    char   *bytes = file_read(context, golden(path), &length);
    float  *x = make_rows(2000, 2), expected;
    double *scores = malloc(6000 * sizeof *scores);
    crank_tree_data data = {.rows = 2000, .columns = 8, .dense = x};
    assert_int_equal(length, 6000 * sizeof expected);
    assert_int_equal(crank_trees_outputs(trees), 3);
    assert_ok(context, crank_trees_predict(context, trees, &data, false, scores));
    for (int i = 0; i < 6000; i++) {
        memcpy(&expected, bytes + (size_t)i * sizeof expected, sizeof expected);
        if (!(fabs(scores[i] - (double)expected) < bound)) fail_msg("%s: score %d: %.9g, not %.9g", path, i, scores[i], (double)expected);
    }
    crank_free(bytes);
    free(x);
    free(scores);
}

static void models_of_classes_score_here_as_there(void **state)
{
    static const char *const names[][2] = {{"lightgbm-multiclass", "txt"}, {"lightgbm-multiclassova", "txt"}, {"xgboost-multiclass", "json"}};
    for (int i = 0; i < 3; i++) {
        char path[96];
        snprintf(path, sizeof path, "tree/%s.%s", names[i][0], names[i][1]);
        crank_trees *trees = crank_trees_load(*state, golden(path));
        if (!trees) fail_msg("%s", crank_message(*state));
        snprintf(path, sizeof path, "tree/%s.scores", names[i][0]);
        compare(*state, trees, path, 1e-6);
        crank_trees_free(trees);
    }
}

/* The same rows, options and rule of rows in a leaf: the same trees, so the same probabilities. */
static void classes_are_learned_as_lightgbm_learns_them(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(4000, 1), *labels = classes_of(x, 4000);
    crank_tree_data data = {.rows = 4000, .columns = 8, .dense = x, .labels = labels};
    for (int ova = 0; ova < 2; ova++) {
        crank_tree_options *o = OPTIONS(context, "objective", ova ? "ova" : "softmax", "num_class", "3", "num_leaves", "7", "num_iterations", "5", "count", "estimate");
        crank_trees        *trees = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL);
        if (!trees) fail_msg("%s", crank_message(context));
        assert_int_equal(crank_trees_count(trees), 15);
        assert_string_equal(crank_trees_objective(trees), ova ? "multiclassova" : "multiclass");
        compare(context, trees, ova ? "tree/lightgbm-multiclassova.scores" : "tree/lightgbm-multiclass.scores", 1e-5);
        crank_trees_free(trees);
        crank_options_free(o);
    }
    free(x);
    free(labels);
}

static void models_of_classes_survive_every_format(void **state)
{
    static const char *const ends[] = {"txt", "json", "trees"};
    crank_context *context = *state;
    float         *x = make_rows(1000, 1), *labels = classes_of(x, 1000);
    crank_tree_data data = {.rows = 1000, .columns = 8, .dense = x, .labels = labels};
    double         *a = malloc(3000 * sizeof *a), *b = malloc(3000 * sizeof *b);
    for (int vector = 0; vector < 2; vector++) {
        crank_tree_options *o = OPTIONS(context, "objective", "multiclass", "num_class", "3", "num_iterations", "4", "multi_strategy", vector ? "multi_output_tree" : "one_output_per_tree");
        crank_trees        *trees = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL), *more;
        if (!trees) fail_msg("%s", crank_message(context));
        assert_ok(context, crank_trees_predict(context, trees, &data, false, a));
        for (int e = 0; e < 3; e++) {
            char path[96];
            snprintf(path, sizeof path, "/tmp/crank_classes_%ld.%s", (long)getpid(), ends[e]);
            assert_ok(context, crank_trees_save(context, trees, path));
            crank_trees *again = crank_trees_load(context, path);
            if (!again) fail_msg("%s", crank_message(context));
            assert_ok(context, crank_trees_predict(context, again, &data, false, b));
            for (int i = 0; i < 3000; i++) assert_true(fabs(a[i] - b[i]) < (e == 1 ? 1e-6 : 1e-12));
            if (!(more = crank_trees_fit(context, o, &data, NULL, again, NULL, NULL))) fail_msg("%s", crank_message(context)); /* learning goes on */
            assert_int_equal(crank_trees_count(more), 24);
            crank_trees_free(more);
            crank_trees_free(again);
            unlink(path);
        }
        crank_trees_free(trees);
        crank_options_free(o);
    }
    free(a);
    free(b);
    free(x);
    free(labels);
}

static void validation_of_classes_is_their_loss_and_stops_learning(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(3000, 1), *labels = classes_of(x, 3000);
    uint64_t       random = 4;
    for (int i = 0; i < 3000; i++)
        if (next_random(&random) % 4 == 0) labels[i] = (float)(next_random(&random) % 3); /* noise, which later trees learn by heart */
    crank_tree_data train = {.rows = 2000, .columns = 8, .dense = x, .labels = labels}, valid = {.rows = 1000, .columns = 8, .dense = x + 16000, .labels = labels + 2000};
    for (int vector = 0; vector < 2; vector++) {
        crank_tree_options *o = OPTIONS(context, "objective", "multiclass", "num_class", "3", "num_iterations", "200", "early_stopping_round", "5", "learning_rate", "0.3", "multi_strategy", vector ? "multi_output_tree" : "one_output_per_tree");
        crank_trees        *trees = crank_trees_fit(context, o, &train, &valid, NULL, NULL, NULL);
        if (!trees) fail_msg("%s", crank_message(context));
        double *p = malloc(3000 * sizeof *p), loss = 0;
        assert_ok(context, crank_trees_predict(context, trees, &valid, false, p));
        for (int i = 0; i < 1000; i++) loss -= log(p[3 * i + (int)valid.labels[i]]) / 1000;
        assert_true(fabs(crank_trees_best(trees) - loss) < 1e-9);
        assert_true(loss < 0.8 && crank_trees_count(trees) < 600 && crank_trees_count(trees) % 3 == 0);
        free(p);
        crank_trees_free(trees);
        crank_options_free(o);
    }
    free(x);
    free(labels);
}

/* Leaf by leaf: the split of largest summed gain, over all leaves, and values -G_k / (H_k + l2). */
static void vectors_in_leaves_equal_exhaustive_search(void **state)
{
    crank_context *context = *state;
    for (uint64_t seed = 1; seed < 5; seed++) {
        brute_data *d = brute_open(seed, 3);
        int         leaf_of[BRUTE_ROWS] = {0}, leaves = 1;
        d->categorical[4] = seed % 2;
        crank_tree_options  *o = OPTIONS(context, "num_leaves", "12", "min_data_in_leaf", "15", "lambda_l2", "0.5", "learning_rate", "1", "multi_strategy", "multi_output_tree", "min_data_in_bin", "1");
        crank_trees_learner *l = crank_trees_learner_new(context, o, &d->data, 3, NULL);
        bool                 grew;
        if (!l) fail_msg("%s", crank_message(context));
        assert_ok(context, crank_trees_learner_step(l, d->g, d->h, &grew));
        assert_true(grew);
        crank_trees *trees = crank_trees_learner_finish(l);
        assert_int_equal(crank_trees_count(trees), 3);
        const tree *t = trees->trees;
        for (int node = 0; leaves < 12; node++) {
            brute_split best = {.gain = 0};
            int         which = 0;
            for (int i = 0; i < leaves; i++) {
                brute_split each = brute_best(d, leaf_of, i, 1, 3, 0.5, 15, -INFINITY);
                if (each.gain > best.gain) best = each, which = i;
            }
            if (!(best.gain > 0)) {
                assert_int_equal(t->leaves, leaves);
                break;
            }
            brute_same(d, t, node, &best);
            assert_true(fabs(t[0].gain[node] + t[1].gain[node] + t[2].gain[node] - best.gain) < 1e-4 * best.gain);
            for (int i = 0; i < BRUTE_ROWS; i++)
                if (leaf_of[i] == which && !brute_left(d, &best, i)) leaf_of[i] = leaves;
            leaves++;
        }
        assert_int_equal(t->leaves, leaves);
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < leaves; i++) assert_true(fabs(t[k].leaf_value[i] - brute_value(d, leaf_of, i, 3, k, 0.5)) < 1e-9);
        crank_trees_free(trees);
        crank_options_free(o);
        free(d);
    }
}

static char *text_of(crank_context *context, const crank_tree_options *o, const crank_tree_data *data)
{
    crank_trees *trees = crank_trees_fit(context, o, data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(context));
    char *text = trees_write_lightgbm(context, trees);
    crank_trees_free(trees);
    return text;
}

static void threads_and_room_for_histograms_change_nothing(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(6000, 1), *labels = classes_of(x, 6000);
    bool           categorical[8] = {[5] = true};
    crank_tree_data data = {.rows = 6000, .columns = 8, .dense = x, .labels = labels, .categorical = categorical};
    static const char *const strategies[] = {"one_output_per_tree", "multi_output_tree", "multi_output_tree", "one_output_per_tree"};
    for (int i = 0; i < 4; i++) {
        crank_tree_options *o = OPTIONS(context, "objective", "multiclass", "num_class", "3", "num_iterations", "4", "multi_strategy", strategies[i], i == 3 ? "data_sample_strategy" : "bagging_freq", i == 3 ? "goss" : "1",
                                        "bagging_fraction", i == 2 ? "0.7" : "1", "learning_rate", "0.5");
        crank_set_threads(context, 1);
        char *one = text_of(context, o, &data);
        for (int threads = 2; threads < 4; threads++) {
            crank_set_threads(context, threads);
            o->histogram_pool_size = threads == 3 ? 0 : 1024;
            char *many = text_of(context, o, &data);
            assert_string_equal(one, many);
            crank_free(many);
        }
        crank_free(one);
        crank_options_free(o);
    }
    free(x);
    free(labels);
}

/* Two outputs with the same gradient are one: the same splits as a tree of one output, learned step by step as fit learns it. */
static void gradients_of_the_callers_give_the_trees_of_fit(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(3000, 1), *labels = malloc(3000 * sizeof *labels), *g = malloc(6000 * sizeof *g);
    double        *scores = malloc(6000 * sizeof *scores), *expected = malloc(3000 * sizeof *expected);
    for (int i = 0; i < 3000; i++) labels[i] = x[i * 8] + x[i * 8 + 2] * x[i * 8 + 4];
    crank_tree_data      data = {.rows = 3000, .columns = 8, .dense = x, .labels = labels}, rows = {.rows = 3000, .columns = 8, .dense = x};
    crank_tree_options  *o = OPTIONS(context, "objective", "regression", "boost_from_average", "false", "num_iterations", "6", "multi_strategy", "multi_output_tree");
    crank_trees_learner *l = crank_trees_learner_new(context, o, &rows, 2, NULL);
    if (!l) fail_msg("%s", crank_message(context));
    for (int it = 0; it < 6; it++) {
        crank_trees_learner_scores(l, scores);
        for (int i = 0; i < 6000; i++) g[i] = (float)(scores[i] - (double)labels[i / 2]);
        assert_ok(context, crank_trees_learner_step(l, g, NULL, NULL));
    }
    g[17] = NAN;
    assert_int_equal(crank_trees_learner_step(l, g, NULL, NULL), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(context), "row 9, output 1"));
    crank_trees *made = crank_trees_learner_finish(l), *fitted = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL);
    assert_int_equal(crank_trees_count(made), 12);
    assert_ok(context, crank_trees_predict(context, made, &rows, true, scores));
    assert_ok(context, crank_trees_predict(context, fitted, &rows, true, expected));
    for (int i = 0; i < 6000; i++) assert_true(fabs(scores[i] - expected[i / 2]) < 1e-9);
    crank_trees_free(made);
    crank_trees_free(fitted);
    crank_options_free(o);
    free(x);
    free(labels);
    free(g);
    free(scores);
    free(expected);
}

static void refuse(crank_context *context, crank_tree_options *o, const crank_tree_data *data, const char *because)
{
    assert_null(crank_trees_fit(context, o, data, NULL, NULL, NULL, NULL));
    if (!strstr(crank_message(context), because)) fail_msg("%s", crank_message(context));
    crank_options_free(o);
}

static void what_cannot_be_learned_is_told(void **state)
{
    crank_context *context = *state;
    float         *x = make_rows(100, 1), *labels = classes_of(x, 100);
    double         init[200] = {0};
    crank_tree_data data = {.rows = 100, .columns = 8, .dense = x, .labels = labels};
    refuse(context, OPTIONS(context, "objective", "multiclass"), &data, "num_class");
    refuse(context, OPTIONS(context, "objective", "regression", "num_class", "3"), &data, "num_class is 3");
    labels[7] = 3;
    refuse(context, OPTIONS(context, "objective", "multiclass", "num_class", "3"), &data, "row 8: label 3 is no class");
    labels[7] = 0.5f;
    refuse(context, OPTIONS(context, "objective", "multiclassova", "num_class", "3"), &data, "row 8: label 0.5 is no class");
    labels[7] = 1;
    refuse(context, OPTIONS(context, "objective", "multiclas", "num_class", "3"), &data, "did you mean `multiclass`");
    refuse(context, OPTIONS(context, "objective", "multiclass", "num_class", "3", "multi_strategy", "multi_output_tree", "path_smooth", "1"), &data, "path_smooth does not go with multi_strategy");
    data.init = init;
    data.init_outputs = 2;
    refuse(context, OPTIONS(context, "objective", "multiclass", "num_class", "3"), &data, "2 scores a row");
    free(x);
    free(labels);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(models_of_classes_score_here_as_there), TEST(classes_are_learned_as_lightgbm_learns_them), TEST(models_of_classes_survive_every_format), TEST(validation_of_classes_is_their_loss_and_stops_learning),
        TEST(vectors_in_leaves_equal_exhaustive_search), TEST(threads_and_room_for_histograms_change_nothing), TEST(gradients_of_the_callers_give_the_trees_of_fit), TEST(what_cannot_be_learned_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
