/* Linear separators: the paper's examples by hand, the worst-case table, perceptrons as limits, and invariances. */
#include "testing.h"

#include "rank/perceptron.h"

static int setup(void **state)
{
    *state = crank_context_new();
    crank_set_threads(*state, 2);
    return 0;
}
static int teardown(void **state)
{
    crank_context_free(*state);
    return 0;
}

/* theta after each update. */
typedef struct path { double theta[64][4]; int64_t count, d; } path;
static bool keep(void *user, const perceptron_step *step, const double *theta)
{
    path *p = user;
    if (step->updates < 64) memcpy(p->theta[step->updates], theta, (size_t)p->d * sizeof *theta);
    p->count = step->updates;
    return true;
}

static perceptron_result run(crank_context *context, const perceptron_rows *rows, perceptron_rule rule, double gamma, int64_t most, path *p)
{
    double             theta[64];
    perceptron_result  result;
    perceptron_options o = {.rule = rule, .gamma = gamma, .most = most, .trace = p ? keep : NULL, .user = p};
    if (p) p->d = rows->d;
    assert_ok(context, perceptron_run(context, rows, &o, theta, &result));
    return result;
}

static double *worst_case(int64_t n)
{
    double *rows = malloc((size_t)n * 2 * sizeof *rows);
    for (int64_t i = 0; i < n; i++) rows[2 * i] = 0.5, rows[2 * i + 1] = i ? 1 : -1;
    return rows;
}

static void counts_of_the_worst_case_are_the_tables(void **state)
{
    static const struct { int64_t n; int64_t lr100, lr10, norm1, norm01, batch; } table[] = {{10, 4, 4, 7, 60, 4}, {100, 31, 55, 11, 110, 31}, {1000, 308, 729, 16, 157, 301}};
    for (int k = 0; k < 3; k++) {
        double         *x = worst_case(table[k].n);
        perceptron_rows rows = {.n = table[k].n, .d = 2, .dense = x};
        assert_int_equal(run(*state, &rows, PERCEPTRON_LR, 100, 1e5, NULL).updates, table[k].lr100);
        assert_int_equal(run(*state, &rows, PERCEPTRON_LR, 10, 1e5, NULL).updates, table[k].lr10);
        assert_int_equal(run(*state, &rows, PERCEPTRON_NORMALIZED_LR, 1, 1e5, NULL).updates, table[k].norm1);
        assert_int_equal(run(*state, &rows, PERCEPTRON_NORMALIZED_LR, 0.1, 1e5, NULL).updates, table[k].norm01);
        assert_int_equal(run(*state, &rows, PERCEPTRON_BATCH, 1, 1e5, NULL).updates, table[k].batch);
        assert_int_equal(table[k].batch, (3 * table[k].n + 2) / 10 + 1); /* the closed form */
        assert_int_equal(run(*state, &rows, PERCEPTRON_NORMALIZED_BATCH, 1, 1e5, NULL).updates, 2);
        assert_int_equal(run(*state, &rows, PERCEPTRON_ONE, 1, 1e5, NULL).updates, 2);
        free(x);
    }
}

/* Theorem 4.1: {(1,-1): +1, (-1,-4): -1}. */
static void two_rows_follow_the_theorem(void **state)
{
    double            x[] = {1, -1, 1, 4}, gamma = 1e4;
    perceptron_rows   rows = {.n = 2, .d = 2, .dense = x};
    path              p;
    perceptron_result r = run(*state, &rows, PERCEPTRON_LR, gamma, 10, &p);
    assert_true(fabs(p.theta[1][0] / gamma - 0.5) < 1e-12 && fabs(p.theta[1][1] / gamma - 0.75) < 1e-12);
    assert_true(fabs(p.theta[2][0] / gamma - 1) < 1e-6 && fabs(p.theta[2][1] / gamma - 0.25) < 1e-6);
    assert_true(r.separated && r.updates == 2);
    assert_true(fabs(r.largest_loss - 0.5 * (gamma / 4)) < 1e-6 * gamma); /* softplus(gamma/4)/2 at the first point */
    run(*state, &rows, PERCEPTRON_NORMALIZED_LR, 3, 1, &p);
    assert_true(fabs(p.theta[1][0] - 3) < 1e-12 && fabs(p.theta[1][1] - 4.5) < 1e-12); /* gamma times the mean row */
}

/* Rows of 3 columns on the right side of a planted plane. */
static void gaussian(double *x, int64_t n, int64_t d, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < d; j++) x[i * d + j] = (double)crank_draw_normal(crank_stream_make(seed, CRANK_RANDOM_TEST, 1), (uint64_t)(i * d + j));
        double m = x[i * d] + 0.5 * x[i * d + 1];
        for (int64_t j = 0; j < d; j++) x[i * d + j] *= m > 0 ? 1 : -1;
    }
}

static void a_huge_step_is_the_batch_perceptron(void **state)
{
    enum { N = 200, D = 3 };
    double          x[N * D], gamma = 1e6;
    perceptron_rows rows = {.n = N, .d = D, .dense = x};
    path            lr, batch;
    gaussian(x, N, D, 4);
    run(*state, &rows, PERCEPTRON_LR, gamma, 50, &lr);
    run(*state, &rows, PERCEPTRON_BATCH, 1, 50, &batch);
    assert_int_equal(lr.count, batch.count);
    for (int64_t t = 1; t <= batch.count; t++)
        for (int j = 0; j < D; j++) assert_true(fabs(lr.theta[t][j] / gamma - batch.theta[t][j]) < 1e-6);
}

/* The normalised step by two plain passes. */
static void one_pass_equals_two(void **state)
{
    enum { N = 700, D = 3 }; /* several blocks */
    double          x[N * D], theta[D] = {0};
    perceptron_rows rows = {.n = N, .d = D, .dense = x};
    path            p;
    gaussian(x, N, D, 5);
    run(*state, &rows, PERCEPTRON_NORMALIZED_LR, 0.3, 6, &p);
    for (int64_t t = 1; t <= p.count; t++) {
        double sum[D] = {0}, weights = 0;
        for (int i = 0; i < N; i++) {
            double m = 0;
            for (int j = 0; j < D; j++) m += x[i * D + j] * theta[j];
            double w = 1 / (1 + exp(m));
            weights += w;
            for (int j = 0; j < D; j++) sum[j] += w * x[i * D + j];
        }
        for (int j = 0; j < D; j++) theta[j] += 0.3 * sum[j] / weights;
        for (int j = 0; j < D; j++) assert_true(fabs(theta[j] - p.theta[t][j]) < 1e-12 * fmax(1, fabs(theta[j])));
    }
}

static void scaling_and_doubling_change_nothing(void **state)
{
    enum { N = 100, D = 3 };
    double          x[2 * N * D], scaled[N * D];
    perceptron_rows rows = {.n = N, .d = D, .dense = x}, other = {.n = N, .d = D, .dense = scaled}, twice = {.n = 2 * N, .d = D, .dense = x};
    path            a, b;
    gaussian(x, N, D, 6);
    for (int i = 0; i < N * D; i++) scaled[i] = 4 * x[i], x[N * D + i] = x[i];
    run(*state, &rows, PERCEPTRON_LR, 16, 20, &a);
    run(*state, &other, PERCEPTRON_LR, 1, 20, &b); /* c = 4: margins are those of gamma / c^2 */
    assert_int_equal(a.count, b.count);
    for (int64_t t = 0; t <= a.count; t++)
        for (int j = 0; j < D; j++) assert_true(fabs(a.theta[t][j] - 4 * b.theta[t][j]) < 1e-9 * fmax(1, fabs(a.theta[t][j])));
    for (int rule = PERCEPTRON_LR; rule <= PERCEPTRON_NORMALIZED_LR; rule++) {
        run(*state, &rows, (perceptron_rule)rule, 1, 20, &a);
        run(*state, &twice, (perceptron_rule)rule, 1, 20, &b);
        for (int64_t t = 0; t <= a.count; t++)
            for (int j = 0; j < D; j++) assert_true(fabs(a.theta[t][j] - b.theta[t][j]) < 1e-12 * fmax(1, fabs(a.theta[t][j])));
    }
}

static void compressed_signed_and_resumed_runs_are_the_dense_one(void **state)
{
    enum { N = 60, D = 3 };
    crank_context     *context = *state;
    double             x[N * D], values[N * D], sign[N], whole[D], halves[D];
    int64_t            starts[N + 1] = {0};
    int32_t            indices[N * D];
    perceptron_rows    dense = {.n = N, .d = D, .dense = x}, sparse = {.n = N, .d = D, .starts = starts, .indices = indices, .values = values, .sign = sign};
    perceptron_result  a, b;
    gaussian(x, N, D, 7);
    for (int i = 0; i < N; i++) {
        sign[i] = i % 2 ? 1 : -1;
        starts[i + 1] = (i + 1) * D;
        for (int j = 0; j < D; j++) indices[i * D + j] = j, values[i * D + j] = sign[i] * x[i * D + j];
    }
    for (int pick = PERCEPTRON_FIRST; pick <= PERCEPTRON_RANDOM; pick++)
        for (int rule = PERCEPTRON_LR; rule <= PERCEPTRON_ONE; rule++) {
            perceptron_options o = {.rule = (perceptron_rule)rule, .pick = (perceptron_pick)pick, .gamma = 0.7, .most = 8, .seed = 3};
            assert_ok(context, perceptron_run(context, &dense, &o, whole, &a));
            o.most = 3;
            assert_ok(context, perceptron_run(context, &sparse, &o, halves, &b));
            if (pick == PERCEPTRON_CYCLIC && rule == PERCEPTRON_ONE) continue; /* its turn is not part of theta */
            o.most = 8, o.resume = true;
            assert_ok(context, perceptron_run(context, &sparse, &o, halves, &b));
            assert_int_equal(a.updates, b.updates);
            for (int j = 0; j < D; j++) assert_true(fabs(whole[j] - halves[j]) < 1e-12);
        }
}

static void rows_that_cannot_be_separated_are_told_and_bad_ones_refused(void **state)
{
    crank_context     *context = *state;
    double             x[] = {1, -1}, theta[1], sign[] = {1, 2};
    perceptron_rows    rows = {.n = 2, .d = 1, .dense = x};
    perceptron_result  r = run(context, &rows, PERCEPTRON_ONE, 1, 100, NULL);
    perceptron_options o = {.rule = PERCEPTRON_LR, .gamma = 1, .most = 1};
    assert_true(!r.separated && r.updates == 100 && r.best_violated == 1);
    rows.sign = sign;
    assert_int_equal(perceptron_run(context, &rows, &o, theta, &r), CRANK_BAD_DATA);
    rows.sign = NULL, x[0] = NAN;
    assert_int_equal(perceptron_run(context, &rows, &o, theta, &r), CRANK_BAD_DATA);
    x[0] = 1, o.gamma = 0;
    assert_int_equal(perceptron_run(context, &rows, &o, theta, &r), CRANK_USAGE);
}

static void pairs_are_differences_within_a_list(void **state)
{
    float           x[] = {1, 2, 3, 5, 7, 11, 0, 0}, labels[] = {0, 1, 1, 2};
    int32_t         offsets[] = {0, 3, 4};
    letor_set       set = {.rows = 4, .columns = 2, .queries = 2, .dense = x, .labels = labels, .offsets = offsets};
    perceptron_rows rows;
    assert_ok(*state, perceptron_pairs(*state, &set, &rows));
    assert_int_equal(rows.n, 2);
    assert_true(rows.dense[0] == 2 && rows.dense[1] == 3 && rows.dense[2] == 6 && rows.dense[3] == 9);
    perceptron_pairs_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_of_the_worst_case_are_the_tables),
        cmocka_unit_test(two_rows_follow_the_theorem),
        cmocka_unit_test(a_huge_step_is_the_batch_perceptron),
        cmocka_unit_test(one_pass_equals_two),
        cmocka_unit_test(scaling_and_doubling_change_nothing),
        cmocka_unit_test(compressed_signed_and_resumed_runs_are_the_dense_one),
        cmocka_unit_test(rows_that_cannot_be_separated_are_told_and_bad_ones_refused),
        cmocka_unit_test(pairs_are_differences_within_a_list),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
