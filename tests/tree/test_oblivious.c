/* Oblivious trees: one split a level, against exhaustive search; lower losses; the same bits for any number of threads; scores by bits. */
#include "brute.h"

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
    assert_ok(context, crank_options_set(context, crank_trees_options(), o, "grow_policy", "oblivious", NULL));
    for (; pairs && pairs[0]; pairs += 2) assert_ok(context, crank_options_set(context, crank_trees_options(), o, crank_trees_option(pairs[0]), pairs[1], NULL));
    return o;
}

#define OPTIONS(context, ...) options_of(context, (const char *const[]){__VA_ARGS__, NULL})

/* Depth of a node, from its way up. */
static int depth_of(const tree *t, int node)
{
    int depth = 0;
    for (int above = node; above != 0; depth++)
        for (int i = 0; i < t->leaves - 1; i++)
            if (t->left[i] == above || t->right[i] == above) {
                above = i;
                break;
            }
    return depth;
}

static void all_nodes_of_a_level_ask_the_same(void **state)
{
    crank_context      *context = *state;
    float              *x = make_rows(4000, 1), *labels = malloc(4000 * sizeof *labels);
    bool                categorical[8] = {[5] = true};
    crank_tree_data     data = {.rows = 4000, .columns = 8, .dense = x, .labels = labels, .categorical = categorical};
    crank_tree_options *o = OPTIONS(context, "objective", "regression", "num_iterations", "20", "num_leaves", "32", "bagging_fraction", "0.8", "bagging_freq", "1");
    for (int i = 0; i < 4000; i++) labels[i] = x[i * 8] * x[i * 8 + 2] + (isnan(x[i * 8 + 3]) ? 0.5f : x[i * 8 + 3] * x[i * 8 + 4]) + (x[i * 8 + 5] == 3);
    crank_trees *trees = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(context));
    for (int64_t i = 0; i < trees->count; i++) {
        const tree *t = &trees->trees[i];
        int         like[16] = {0}, levels = 0;
        for (int k = 0; k < 16; k++) like[k] = -1;
        for (int n = 0; n < t->leaves - 1; n++) {
            int d = depth_of(t, n);
            if (like[d] < 0) like[d] = n, levels++;
            assert_int_equal(t->feature[n], t->feature[like[d]]);
            assert_int_equal(t->kind[n], t->kind[like[d]]);
            if (!(t->kind[n] & NODE_CATEGORICAL)) assert_true(t->threshold[n] == t->threshold[like[d]]);
        }
        assert_int_equal(t->leaves, 1 << levels);
        assert_int_equal(levels, 5);
    }
    crank_trees_free(trees);
    crank_options_free(o);
    free(x);
    free(labels);
}

/* Level by level: the split of largest gain summed over the leaves; a leaf with a side of too few rows gains nothing and keeps its values. */
static void levels_equal_exhaustive_search(void **state)
{
    crank_context *context = *state;
    for (uint64_t seed = 1; seed < 9; seed++) {
        int         outputs = seed % 3 == 0 ? 3 : 1, least = seed % 2 ? 1 : 30, leaf_of[BRUTE_ROWS] = {0};
        double      value[32][3];
        brute_data *d = brute_open(seed + 20, outputs);
        d->categorical[4] = seed % 4 == 1;
        crank_tree_options  *o = OPTIONS(context, "num_leaves", "32", "min_data_in_leaf", seed % 2 ? "1" : "30", "lambda_l2", "0.5", "learning_rate", "1", "multi_strategy", "multi_output_tree", "min_data_in_bin", "1");
        crank_trees_learner *l = crank_trees_learner_new(context, o, &d->data, outputs, NULL);
        if (!l) fail_msg("%s", crank_message(context));
        assert_ok(context, crank_trees_learner_step(l, d->g, d->h, NULL));
        crank_trees *trees = crank_trees_learner_finish(l);
        const tree  *t = trees->trees;
        assert_int_equal(trees->count, outputs);
        int leaves = 1;
        for (int k = 0; k < outputs; k++) value[0][k] = brute_value(d, leaf_of, 0, outputs, k, 0.5);
        for (; leaves < 32; leaves *= 2) {
            int         count = leaves;
            brute_split best = brute_best(d, leaf_of, 0, count, outputs, 0.5, least, 0);
            if (!(best.gain > 0)) break;
            brute_same(d, t, count - 1, &best);
            for (int i = 0; i < count; i++) {
                bool allowed = isfinite(brute_gain(d, leaf_of, i, &best, outputs, 0.5, least, -INFINITY));
                for (int r = 0; r < BRUTE_ROWS; r++)
                    if (leaf_of[r] == i && !brute_left(d, &best, r)) leaf_of[r] = count + i;
                for (int k = 0; k < outputs; k++) {
                    value[count + i][k] = allowed ? brute_value(d, leaf_of, count + i, outputs, k, 0.5) : value[i][k];
                    value[i][k] = allowed ? brute_value(d, leaf_of, i, outputs, k, 0.5) : value[i][k];
                }
            }
        }
        assert_int_equal(t->leaves, leaves);
        assert_true(leaves >= 16);
        for (int i = 0; i < leaves; i++)
            for (int k = 0; k < outputs; k++) assert_true(fabs(t[k].leaf_value[i] - value[i][k]) < 1e-9);
        for (int r = 0; r < BRUTE_ROWS; r++) {
            double score[3];
            crank_trees_score(trees, d->x + r * BRUTE_COLUMNS, score);
            for (int k = 0; k < outputs; k++) assert_true(score[k] == t[k].leaf_value[leaf_of[r]]);
        }
        crank_trees_free(trees);
        crank_options_free(o);
        free(d);
    }
}

typedef struct losses {
    double last;
    int    rises, rounds;
} losses;

static void watch(void *user, int64_t iteration, double measure)
{
    losses *l = user;
    l->rises += iteration > 1 && measure > l->last;
    l->last = measure;
    l->rounds++;
}

static void every_tree_lowers_the_loss_of_training(void **state)
{
    crank_context  *context = *state;
    float          *x = make_rows(3000, 1), *labels = malloc(3000 * sizeof *labels);
    crank_tree_data data = {.rows = 3000, .columns = 8, .dense = x, .labels = labels};
    for (int i = 0; i < 3000; i++) labels[i] = (float)(x[i * 8] * x[i * 8 + 2] > (isnan(x[i * 8 + 3]) ? 0.2f : x[i * 8 + 4] * 0.3f));
    static const char *const objectives[] = {"regression", "binary", "multiclass", "multiclass"};
    for (int i = 0; i < 4; i++) {
        losses              l = {0};
        crank_tree_options *o = OPTIONS(context, "objective", objectives[i], "num_class", i > 1 ? "2" : "1", "num_iterations", "40", "multi_strategy", i == 3 ? "multi_output_tree" : "one_output_per_tree", "max_depth", "4", "min_data_in_leaf", i == 1 ? "60" : "5");
        crank_trees        *trees = crank_trees_fit(context, o, &data, &data, NULL, watch, &l);
        if (!trees) fail_msg("%s", crank_message(context));
        assert_int_equal(l.rounds, 40);
        assert_int_equal(l.rises, 0);
        assert_int_equal(trees->trees[0].leaves, 16);
        crank_trees_free(trees);
        crank_options_free(o);
    }
    free(x);
    free(labels);
}

/* Lists of 20 rows, so that the ranking objectives learn as well. */
static void threads_and_room_for_histograms_change_nothing(void **state)
{
    crank_context      *context = *state;
    float              *x = make_rows(6000, 1), *labels = malloc(6000 * sizeof *labels);
    int32_t             offsets[301];
    bool                categorical[8] = {[5] = true};
    crank_tree_data     data = {.rows = 6000, .columns = 8, .dense = x, .labels = labels, .categorical = categorical, .queries = 300, .offsets = offsets};
    crank_tree_options *o = OPTIONS(context, "num_iterations", "5", "num_leaves", "64");
    char               *one = NULL;
    for (int i = 0; i < 301; i++) offsets[i] = 20 * i;
    for (int i = 0; i < 6000; i++) labels[i] = (float)((x[i * 8] > 0) + (x[i * 8 + 2] * x[i * 8 + 4] > 0.1f) + (x[i * 8 + 5] == 3));
    for (int threads = 1; threads < 5; threads++) {
        crank_set_threads(context, threads);
        o->histogram_pool_size = threads == 3 ? 0 : 1024;
        crank_trees *trees = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL);
        if (!trees) fail_msg("%s", crank_message(context));
        char *text = trees_write_lightgbm(context, trees);
        if (one) assert_string_equal(one, text);
        else one = strdup(text);
        crank_free(text);
        crank_trees_free(trees);
    }
    free(one);
    free(x);
    free(labels);
    crank_options_free(o);
}

/* With scores from bits and from masks (the sets of column 5), for one row and many, of few and of many levels. */
static void scores_by_bits_equal_those_of_a_walk(void **state)
{
    crank_context  *context = *state;
    float          *x = make_rows(3000, 1), *labels = malloc(3000 * sizeof *labels);
    bool            categorical[8] = {[5] = true};
    crank_tree_data data = {.rows = 3000, .columns = 8, .dense = x, .labels = labels};
    double         *expected = malloc(6000 * sizeof *expected), *got = malloc(6000 * sizeof *got);
    for (int i = 0; i < 3000; i++) labels[i] = (float)(x[i * 8] * x[i * 8 + 2] > (isnan(x[i * 8 + 3]) ? 0.2f : x[i * 8 + 4] * 0.3f) || x[i * 8 + 5] == 3);
    static const char *const leaves[] = {"2", "32", "2048", "32", "64"};
    static const int levels[] = {1, 5, 11, 0, 6};
    for (int i = 0; i < 5; i++) {
        data.categorical = i == 3 ? categorical : NULL;
        crank_tree_options *o = OPTIONS(context, "objective", i == 4 ? "multiclass" : "binary", "num_class", i == 4 ? "2" : "1", "num_iterations", "21", "num_leaves", leaves[i], "min_data_in_leaf", "1", "multi_strategy", i == 4 ? "multi_output_tree" : "one_output_per_tree");
        crank_trees        *trees = crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL);
        if (!trees) fail_msg("%s", crank_message(context));
        assert_int_equal(trees->scorer->tree[0].levels, levels[i]);
        if (i == 4) assert_true(trees->scorer->tree[1].same && !trees->scorer->tree[2].same);
        walked_scores(trees, x, 3000, expected);
        assert_ok(context, crank_trees_predict(context, trees, &data, true, got));
        assert_memory_equal(expected, got, (size_t)(3000 * trees->outputs) * sizeof *got);
        for (int r = 0; r < 300; r++) crank_trees_score(trees, x + r * 8, got + r * trees->outputs);
        assert_memory_equal(expected, got, (size_t)(300 * trees->outputs) * sizeof *got);
        score_masks *bodies[3] = {score_masks_plain};
        int          count = 1;
        if (__builtin_cpu_supports("avx2")) bodies[count++] = score_masks_avx2;
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) bodies[count++] = score_masks_avx512;
        for (int b = 0; b < count; b++) {
            assert_true(score_rows(context, trees->scorer, &data, bodies[b], got));
            for (int64_t k = 0; k < 3000 * trees->outputs; k++) assert_true(got[k] + trees->base[k % trees->outputs] == expected[k]);
        }
        crank_trees_free(trees);
        crank_options_free(o);
    }
    free(expected);
    free(got);
    free(x);
    free(labels);
}

static void constraints_that_levels_cannot_keep_are_told(void **state)
{
    crank_context  *context = *state;
    float          *x = make_rows(200, 1);
    float           labels[200] = {1};
    crank_tree_data data = {.rows = 200, .columns = 8, .dense = x, .labels = labels};
    static const char *const words[][3] = {{"monotone_constraints", "1,0,0,0,0,0,0,0", "monotone_constraints does not go with grow_policy=oblivious"}, {"path_smooth", "2", "path_smooth does not go with grow_policy=oblivious"}};
    for (int i = 0; i < 2; i++) {
        crank_tree_options *o = OPTIONS(context, "objective", "regression", words[i][0], words[i][1]);
        assert_null(crank_trees_fit(context, o, &data, NULL, NULL, NULL, NULL));
        if (!strstr(crank_message(context), words[i][2])) fail_msg("%s", crank_message(context));
        crank_options_free(o);
    }
    free(x);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(all_nodes_of_a_level_ask_the_same), TEST(levels_equal_exhaustive_search), TEST(every_tree_lowers_the_loss_of_training), TEST(threads_and_room_for_histograms_change_nothing),
        TEST(scores_by_bits_equal_those_of_a_walk), TEST(constraints_that_levels_cannot_keep_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
