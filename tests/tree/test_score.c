/* Scoring: every body and path gives the bits of walking the trees; missing, zero and categorical values; large and small trees. */
#include "random_trees.h"

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

enum { ROWS = 333 };

/* make_rows with more zeros, tiny values, infinities and categories that are no categories. */
static float *hard_rows(void)
{
    static const float odd[] = {0, -0.0f, 1e-36f, -1e-36f, INFINITY, -INFINITY, NAN, -3, 2.7f, 1e30f, 19.9f};
    float   *x = make_rows(ROWS, 9);
    uint64_t state = 4;
    for (int i = 0; i < ROWS * 8; i++)
        if (next_random(&state) % 6 == 0) x[i] = odd[next_random(&state) % (sizeof odd / sizeof *odd)];
    return x;
}

static void check(crank_context *context, const crank_trees *trees)
{
    float          *x = hard_rows();
    size_t          n = (size_t)ROWS * (size_t)trees->outputs;
    double         *expected = malloc(n * sizeof *expected), *got = malloc(n * sizeof *got);
    crank_tree_data data = {.rows = ROWS, .columns = 8, .dense = x};
    score_masks    *bodies[3] = {score_masks_plain};
    int             count = 1;
    if (__builtin_cpu_supports("avx2")) bodies[count++] = score_masks_avx2;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) bodies[count++] = score_masks_avx512;
    walked_scores(trees, x, ROWS, expected);
    assert_ok(context, crank_trees_predict(context, trees, &data, true, got));
    assert_memory_equal(expected, got, n * sizeof *got);
    for (int i = 0; i < ROWS; i++) crank_trees_score(trees, x + i * 8, got + i * trees->outputs);
    assert_memory_equal(expected, got, n * sizeof *got);
    for (int b = 0; b < count; b++) {
        assert_true(score_rows(context, trees->scorer, &data, bodies[b], got));
        for (size_t i = 0; i < n; i++) {
            if (trees->average) got[i] /= (double)(trees->count / trees->outputs);
            got[i] += trees->base[(int64_t)i % trees->outputs];
        }
        assert_memory_equal(expected, got, n * sizeof *got);
    }
    free(x);
    free(expected);
    free(got);
}

static void every_body_gives_the_bits_of_a_walk(void **state)
{
    static const struct {
        int      count, outputs, least, most;
        uint32_t levels;
    } models[] = {{1, 1, 1, 1, 9}, {3, 1, 2, 2, 9}, {40, 1, 1, 40, 20}, {30, 3, 200, 256, 50}, {12, 2, 257, 700, 3000}, {5, 1, 1020, 1030, 200}, {3, 1, 3000, 4000, 100000}, {1, 1, 66000, 66000, 100000}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        crank_trees *trees = random_trees(*state, i + 1, models[i].count, models[i].outputs, models[i].least, models[i].most, models[i].levels);
        check(*state, trees);
        trees->average = true;
        check(*state, trees);
        crank_trees_free(trees);
    }
}

static void the_number_of_threads_and_rows_changes_nothing(void **state)
{
    crank_context  *context = *state;
    crank_trees    *trees = random_trees(context, 77, 30, 1, 50, 300, 100);
    int             n = 3000;
    float          *x = make_rows(n, 5);
    double         *expected = malloc((size_t)n * sizeof *expected), *got = malloc((size_t)n * sizeof *got);
    crank_tree_data data = {.columns = 8, .dense = x};
    walked_scores(trees, x, n, expected);
    for (int threads = 1; threads < 5; threads++)
        for (int rows = n; rows >= 0; rows = rows * 2 / 3 - 1) {
            crank_set_threads(context, threads);
            data.rows = rows;
            assert_ok(context, crank_trees_predict(context, trees, &data, true, got));
            assert_memory_equal(expected, got, (size_t)rows * sizeof *got);
        }
    free(x);
    free(expected);
    free(got);
    crank_trees_free(trees);
}

/* Compressed rows, and data with fewer columns than the model. */
static void compressed_rows_score_as_dense_ones(void **state)
{
    crank_context *context = *state;
    crank_trees   *trees = random_trees(context, 5, 20, 1, 50, 100, 100);
    for (int absent = 0; absent < 2; absent++)
        for (int columns = 8; columns >= 4; columns -= 2) {
            float   *x = make_rows(ROWS, 6), *values = malloc(ROWS * 8 * sizeof *values);
            int64_t  starts[ROWS + 1] = {0};
            int32_t *indices = malloc(ROWS * 8 * sizeof *indices);
            double   expected[ROWS], got[ROWS];
            int64_t  n = 0;
            for (int i = 0; i < ROWS; i++) {
                for (int j = 0; j < 8; j++) {
                    bool keep = (i + j) % 3 && j < columns;
                    if (keep) indices[n] = j, values[n++] = x[i * 8 + j];
                    else x[i * 8 + j] = absent ? NAN : 0;
                }
                starts[i + 1] = n;
            }
            crank_tree_data data = {.rows = ROWS, .columns = columns, .starts = starts, .indices = indices, .values = values, .absent_missing = absent};
            walked_scores(trees, x, ROWS, expected);
            assert_ok(context, crank_trees_predict(context, trees, &data, true, got));
            assert_memory_equal(expected, got, sizeof got);
            data.rows = 7;
            assert_ok(context, crank_trees_predict(context, trees, &data, true, got));
            assert_memory_equal(expected, got, 7 * sizeof *got);
            free(x);
            free(values);
            free(indices);
        }
    crank_trees_free(trees);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(every_body_gives_the_bits_of_a_walk), TEST(the_number_of_threads_and_rows_changes_nothing), TEST(compressed_rows_score_as_dense_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
