/* Boosted trees: exact sums, splits and gradients against plain ones, LightGBM's golden run, the same bits for any number of threads,
 * models that survive their file, and broken model files. */
#include "testing.h"

#include "base/file.h"
#include "data/letor.h"
#include "tree/grow.h"
#include "tree/lambda.h"
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

typedef struct world {
    crank_context      *context;
    crank_tree_options *options;
    crank_tree_data     data;
    float              *x, *labels;
    int32_t            *offsets;
    bool                categorical[8];
} world;

static void set_option(world *w, const char *key, const char *value)
{
    assert_ok(w->context, crank_options_set(w->context, crank_trees_options(), w->options, crank_trees_option(key), value, NULL));
}

static world open_world(crank_context *context, int rows)
{
    world w = {.context = context, .options = crank_options_new(context, crank_trees_options(), sizeof *w.options), .x = make_rows(rows, 1)};
    w.labels = malloc((size_t)rows * sizeof *w.labels);
    w.offsets = malloc(((size_t)rows / 20 + 1) * sizeof *w.offsets);
    for (int q = 0; q <= rows / 20; q++) w.offsets[q] = q * 20;
    for (int i = 0; i < rows; i++) {
        const float *r = w.x + i * 8;
        double       s = (double)r[0] + (isnan(r[3]) ? 0.7 : (double)(r[3] * r[3])) + (isnan(r[5]) ? 0 : sin((double)r[5] * 2.1)) + 0.3 * (double)r[6];
        w.labels[i] = (float)(s < 0 ? 0 : s < 0.6 ? 1 : s < 1.2 ? 2 : 3);
    }
    w.categorical[5] = true;
    w.data = (crank_tree_data){.rows = rows, .columns = 8, .dense = w.x, .labels = w.labels, .queries = rows / 20, .offsets = w.offsets};
    return w;
}

static void close_world(world *w)
{
    crank_options_free(w->options);
    free(w->x);
    free(w->labels);
    free(w->offsets);
}

static char *fit_text(world *w, const crank_tree_data *valid)
{
    crank_trees *trees = crank_trees_fit(w->context, w->options, &w->data, valid, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(w->context));
    char *text = trees_write_lightgbm(w->context, trees);
    crank_trees_free(trees);
    return text;
}

static void lambdas_follow_their_definition(void **state)
{
    (void)state;
    static const double score[] = {2, 1, 0, -1};
    static const float  gain[] = {0, 3, 1, 0};
    static const double off[] = {.344219, -.262047, -.107030, .024858}, off_h[] = {.074413, .091506, .032392, .021126}, on[] = {.314433, -.279386, -.051712, .016665},
                        on_h[] = {.074456, .091783, .027911, .013827};
    double g[4], h[4];
    for (int norm = 0; norm < 2; norm++) {
        lambda_reference(score, gain, 4, 30, 1, norm, g, h);
        for (int i = 0; i < 4; i++) {
            assert_true(fabs(g[i] - (norm ? on : off)[i]) < 1e-5);
            assert_true(fabs(h[i] - (norm ? on_h : off_h)[i]) < 1e-5);
        }
    }
}

static void fast_lambdas_equal_the_reference(void **state)
{
    crank_context *context = *state;
    world          w = open_world(context, 4000);
    int            sizes[] = {1, 2, 15, 16, 17, 33, 100, 400, 1000, 2416};
    for (int q = 0; q < 10; q++) w.offsets[q + 1] = (q ? w.offsets[q] : 0) + sizes[q];
    w.offsets[0] = 0;
    w.data.queries = 10;
    double *scores = malloc(4000 * sizeof *scores), *g64 = malloc(4000 * sizeof *g64), *h64 = malloc(4000 * sizeof *h64);
    float  *g = malloc(4000 * sizeof *g), *h = malloc(4000 * sizeof *h);
    for (int i = 0; i < 4000; i++) scores[i] = (double)w.x[i * 8 + 2] * 3;
    for (int norm = 0; norm < 2; norm++) {
        lambda_data l;
        set_option(&w, "lambdarank_norm", norm ? "true" : "false");
        assert_true(lambda_open(context, w.options, &w.data, w.offsets, 10, &l));
        assert_ok(context, lambda_gradient(context, w.options, &l, scores, NULL, g, h));
        for (int q = 0; q < 10; q++) lambda_reference(scores + w.offsets[q], l.gain + w.offsets[q], sizes[q], 30, 1, norm, g64 + w.offsets[q], h64 + w.offsets[q]);
        double error = 0, scale = 0;
        for (int i = 0; i < 4000; i++) error = fmax(error, fabs((double)g[i] - g64[i]) + fabs((double)h[i] - h64[i])), scale = fmax(scale, fabs(g64[i]));
        assert_true(error < 1e-5 * scale);
        lambda_close(&l);
    }
    free(scores);
    free(g64);
    free(h64);
    free(g);
    free(h);
    close_world(&w);
}

static void every_instruction_set_gives_the_same_lambdas_splits_and_bins(void **state)
{
    crank_context *context = *state;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx2")) skip();
    world w = open_world(context, 4000);
    float score[128], gain[128], discount[128], place[128], g[3][128], h[3][128];
    lambda_pairs *pairs[] = {lambda_pairs_plain, lambda_pairs_avx2, lambda_pairs_avx512};
    memset(g, 0, sizeof g);
    memset(h, 0, sizeof h);
    for (int i = 0; i < 128; i++) score[i] = 3 - (float)i / 20, gain[i] = (float)(i * 7 % 4), discount[i] = 1 / log2f(2 + (float)i), place[i] = i < 120 ? (float)i : -1;
    for (int v = 0; v < 3; v++) {
        lambda_query q = {.score = score, .gain = gain, .discount = discount, .place = place, .g = g[v], .h = h[v], .n = 120, .truncation = 30, .slope = 1, .inverse_best = 0.1f, .divide = true};
        pairs[v](&q);
        assert_memory_equal(g[0], g[v], sizeof g[0]);
        assert_memory_equal(h[0], h[v], sizeof h[0]);
    }
    packed hist[256], sum = 0;
    for (int trial = 0; trial < 300; trial++) {
        int bins = 2 + trial % 255;
        sum = 0;
        for (int b = 0; b < bins; b++) sum += hist[b] = (int64_t)((uint64_t)(int64_t)((int)(w.x[(trial + b) % 4000 * 8] * 1e5f)) << 32) + (trial * b) % 5000 + 1;
        scan_leaf    leaf = {.sum = sum, .count = 1000, .g_unit = 1e-4, .h_unit = 1e-4, .l1 = trial % 3, .l2 = trial % 2, .least = 100, .options = w.options};
        split        best[3] = {{0}};
        scan_numbers *scans[] = {scan_numbers_plain, scan_numbers_avx2, scan_numbers_avx512};
        for (int v = 0; v < 3; v++) {
            scans[v](hist, bins, trial % 4 == 0 && bins > 2, &leaf, 0, &best[v]);
            assert_memory_equal(&best[0], &best[v], sizeof best[0]);
        }
    }
    bin_mapper *m = mapper_find(context, w.options, &w.data);
    bins_search *searches[] = {bins_search_plain, bins_search_avx2, bins_search_avx512};
    for (int v = 0; v < 3; v++) {
        uint8_t out[1000];
        searches[v](w.x, 8, 1000, m->feature[0].cut, m->feature[0].bins, 0, out);
        for (int i = 0; i < 1000; i++) {
            int b = 0;
            while (m->feature[0].cut[b] < w.x[i * 8]) b++;
            assert_int_equal(out[i], b);
        }
    }
    mapper_free(m);
    close_world(&w);
}

static void histograms_equal_plain_sums(void **state)
{
    crank_context *context = *state;
    world          w = open_world(context, 4000);
    bin_matrix     matrix;
    w.data.categorical = w.categorical;
    bin_mapper *m = mapper_find(context, w.options, &w.data);
    assert_non_null(m);
    assert_ok(context, matrix_fill(context, m, &w.data, true, &matrix));
    packed  *row = calloc(4000, sizeof *row), *fast = calloc((size_t)m->entries, sizeof *fast), *plain = calloc((size_t)m->entries, sizeof *plain);
    int32_t  rows[3000], blocks[64];
    for (int i = 0; i < 4000; i++) row[i] = (int64_t)((uint64_t)(int64_t)(i % 2001 - 1000) << 32) + i;
    for (int i = 0; i < 3000; i++) rows[i] = i * 4 / 3;
    for (int k = 0; k < m->blocks; k++) blocks[k] = k;
    for (int given = 0; given < 2; given++) {
        memset(fast, 0, (size_t)m->entries * sizeof *fast);
        memset(plain, 0, (size_t)m->entries * sizeof *plain);
        histogram_add(m, &matrix, row, given ? rows : NULL, 3000, blocks, m->blocks, fast);
        histogram_add_plain(m, &matrix, row, given ? rows : NULL, 3000, plain);
        assert_memory_equal(fast, plain, (size_t)m->entries * sizeof *fast);
    }
    free(row);
    free(fast);
    free(plain);
    matrix_free(&matrix);
    mapper_free(m);
    close_world(&w);
}

static void scans_find_what_exhaustive_search_finds(void **state)
{
    crank_context *context = *state;
    world          w = open_world(context, 4000);
    packed         hist[256];
    set_option(&w, "min_data_in_leaf", "0");
    for (int trial = 0; trial < 1000; trial++) {
        int    bins = 3 + trial % 60, rows = 0;
        packed sum = 0;
        bool   missing = trial % 2;
        for (int b = 0; b < bins; b++) {
            int n = (trial * 31 + b * 17) % 9;
            rows += n;
            sum += hist[b] = (int64_t)((uint64_t)(int64_t)((int)(w.x[(trial * 7 + b) % 4000 * 8] * 1000 * (float)n)) << 32) + n * 1000;
        }
        scan_leaf leaf = {.sum = sum, .count = rows, .g_unit = 1e-3, .h_unit = 1e-3, .l2 = 1000, .least = 2000, .low = -INFINITY, .high = INFINITY, .options = w.options};
        double    G = packed_g(sum), H = packed_h(sum), parent = G * G / (H + 1000), best = 0;
        split     found = {0};
        scan_numbers_plain(hist, bins, missing, &leaf, parent, &found);
        for (int way = 0; way < 1 + missing; way++)
            for (int cut = 0; cut < bins - 1 - missing + way; cut++) {
                double g = 0, h = 0;
                for (int b = 0; b <= cut; b++) g += packed_g(hist[b]), h += packed_h(hist[b]);
                if (missing && way == 0) g += packed_g(hist[bins - 1]), h += packed_h(hist[bins - 1]);
                if (h < 2000 || H - h < 2000) continue;
                best = fmax(best, (g * g / (h + 1000) + (G - g) * (G - g) / (H - h + 1000) - parent) * 1e-3);
            }
        assert_true(fabs(found.gain - best) <= 1e-9 * (1 + best));
    }
    close_world(&w);
}

static void the_number_of_threads_changes_nothing(void **state)
{
    crank_context *context = *state;
    static const char *const worlds[][4] = {{"num_leaves", "31", "objective", "lambdarank"}, {"bagging_fraction", "0.6", "bagging_freq", "2"}, {"data_sample_strategy", "goss", "learning_rate", "0.3"},
                                            {"grow_policy", "depthwise", "max_depth", "4"}, {"objective", "regression", "feature_fraction", "0.6"}};
    for (size_t i = 0; i < 5; i++) {
        world w = open_world(context, 20000);
        w.data.categorical = w.categorical;
        set_option(&w, "num_iterations", "8");
        set_option(&w, worlds[i][0], worlds[i][1]);
        set_option(&w, worlds[i][2], worlds[i][3]);
        crank_set_threads(context, 1);
        char *one = fit_text(&w, NULL);
        for (int threads = 2; threads < 5; threads++) {
            crank_set_threads(context, threads);
            char *many = fit_text(&w, NULL);
            assert_string_equal(one, many);
            crank_free(many);
        }
        crank_free(one);
        close_world(&w);
    }
}

/* Gradients with a long tail: few levels for most, sums that are right on average, the same for any number of threads. */
static void few_levels_keep_the_sums(void **state)
{
    enum { N = 40000 };
    crank_context *context = *state;
    world          w = open_world(context, 20);
    float         *g = malloc(N * sizeof *g), *h = malloc(N * sizeof *h);
    quantised      q = {.row = malloc(N * sizeof *q.row)}, again = {.row = malloc(N * sizeof *again.row)};
    uint64_t       random = 3;
    double         sum_g = 0, sum_h = 0, squares = 0, levels_g = 0, levels_h = 0;
    int            small = 0, different = 0;
    set_option(&w, "use_quantized_grad", "true");
    for (int i = 0; i < N; i++) {
        float u = (float)(next_random(&random) % 20000) / 10000 - 1;
        g[i] = u * u * u * (i % 100 ? 0.1f : 5) + 0.01f;
        h[i] = fabsf(g[i]) + 0.01f;
        sum_g += (double)g[i], sum_h += (double)h[i], squares += (double)g[i] * (double)g[i];
    }
    assert_true(quantise(context, w.options, 0, g, h, NULL, N, &q));
    for (int i = 0; i < N; i++) {
        levels_g += (double)(int32_t)(q.row[i] >> 32), levels_h += (double)(uint32_t)q.row[i];
        small += abs((int32_t)(q.row[i] >> 32)) <= 2;
        assert_true(fabs((double)(int32_t)(q.row[i] >> 32) * q.g_unit - (double)g[i]) <= q.g_unit * 1.001);
    }
    assert_true(fabs(q.g_unit / (sqrt(3 * squares / N) / 2) - 1) < 1e-6); /* of 4 levels */
    assert_true(small > N * 0.95);
    assert_true(fabs(levels_g * q.g_unit - sum_g) < 4 * q.g_unit * sqrt(N / 4.0)); /* deviations of N draws */
    assert_true(fabs(levels_h * q.h_unit - sum_h) < 4 * q.h_unit * sqrt(N / 4.0));
    for (int threads = 1; threads < 4; threads++) {
        crank_set_threads(context, threads);
        assert_true(quantise(context, w.options, 0, g, h, NULL, N, &again));
        assert_memory_equal(q.row, again.row, N * sizeof *q.row);
    }
    assert_true(quantise(context, w.options, 1, g, h, NULL, N, &again)); /* another tree, other chances */
    for (int i = 0; i < N; i++) different += q.row[i] != again.row[i];
    assert_true(different > N / 10);
    free(g);
    free(h);
    free(q.row);
    free(again.row);
    close_world(&w);
}

static void few_levels_learn_as_well(void **state)
{
    world       w = open_world(*state, 20000);
    double      best[4];
    static const char *const words[][2] = {{"use_quantized_grad", "false"}, {"use_quantized_grad", "true"}, {"quant_train_renew_leaf", "false"}, {"stochastic_rounding", "false"}};
    for (int i = 0; i < 4; i++) {
        set_option(&w, "num_iterations", "40");
        set_option(&w, words[i][0], words[i][1]);
        crank_trees *trees = crank_trees_fit(w.context, w.options, &w.data, &w.data, NULL, NULL, NULL);
        if (!trees) fail_msg("%s", crank_message(w.context));
        best[i] = crank_trees_best(trees);
        crank_trees_free(trees);
    }
    assert_true(best[0] > 0.98);
    assert_true(best[1] > best[0] - 0.002);
    assert_true(best[2] > best[0] - 0.01); /* values from levels */
    close_world(&w);
}

static void a_small_pool_of_histograms_changes_nothing(void **state)
{
    world w = open_world(*state, 20000);
    set_option(&w, "n_estimators", "5");
    char *large = fit_text(&w, NULL);
    set_option(&w, "histogram_pool_size", "1");
    w.options->histogram_pool_size = 0; /* room for three */
    char *small = fit_text(&w, NULL);
    assert_string_equal(large, small);
    crank_free(large);
    crank_free(small);
    close_world(&w);
}

static void leaves_keep_their_rows_and_bounds(void **state)
{
    world w = open_world(*state, 4000);
    set_option(&w, "min_child_samples", "37");
    set_option(&w, "monotone_constraints", "1,0,0,0,0,0,-1,0");
    set_option(&w, "objective", "regression");
    crank_trees *trees = crank_trees_fit(w.context, w.options, &w.data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(w.context));
    for (int64_t i = 0; i < trees->count; i++)
        for (int32_t k = 0; k < trees->trees[i].leaves; k++) assert_true(trees->trees[i].leaf_count[k] >= 37);
    for (int i = 0; i < 500; i++) {
        float  row[8];
        double before[2] = {-1e9, 1e9}, score;
        memcpy(row, w.x + i * 8, sizeof row);
        for (int k = 0; k < 20; k++) {
            row[0] = (float)k / 10 - 1;
            crank_trees_score(trees, row, &score);
            assert_true(score >= before[0]);
            before[0] = score;
        }
        for (int k = 0; k < 20; k++) {
            row[6] = (float)k / 10 - 1;
            crank_trees_score(trees, row, &score);
            assert_true(score <= before[1]);
            before[1] = score;
        }
    }
    crank_trees_free(trees);
    close_world(&w);
}

/* Two of eight features a tree; column 5 stands in a block of its own, which many trees do not scan. */
static void trees_use_the_features_drawn_for_them_alone(void **state)
{
    world w = open_world(*state, 4000);
    w.data.categorical = w.categorical;
    set_option(&w, "feature_fraction", "0.25");
    set_option(&w, "min_data_in_leaf", "40");
    crank_trees *trees = crank_trees_fit(w.context, w.options, &w.data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(w.context));
    for (int64_t i = 0; i < trees->count; i++) {
        unsigned used = 0;
        for (int32_t n = 0; n < trees->trees[i].leaves - 1; n++) used |= 1u << trees->trees[i].feature[n];
        assert_true(__builtin_popcount(used) <= 2);
        for (int32_t k = 0; k < trees->trees[i].leaves; k++) assert_true(trees->trees[i].leaf_count[k] >= 40);
    }
    crank_trees_free(trees);
    close_world(&w);
}

static void training_lowers_the_loss_and_validation_stops_it(void **state)
{
    world       w = open_world(*state, 8000);
    crank_tree_data train = w.data, valid = w.data;
    train.rows = 6000, train.queries = 300;
    valid = (crank_tree_data){.rows = 2000, .columns = 8, .dense = w.x + 6000 * 8, .labels = w.labels + 6000, .queries = 100, .offsets = w.offsets};
    w.data = train;
    w.data.categorical = valid.categorical = w.categorical;
    set_option(&w, "early_stopping", "10");
    set_option(&w, "num_round", "300");
    crank_trees *trees = crank_trees_fit(w.context, w.options, &w.data, &valid, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(w.context));
    assert_true(crank_trees_best(trees) > 0.95 && crank_trees_count(trees) < 300);
    crank_trees_free(trees);
    close_world(&w);
}

static void a_model_gives_the_same_scores_after_its_file(void **state)
{
    world w = open_world(*state, 4000);
    char  path[96];
    snprintf(path, sizeof path, "/tmp/crank_tree_%ld", (long)getpid());
    w.data.categorical = w.categorical;
    set_option(&w, "objective", "binary");
    crank_trees *trees = crank_trees_fit(w.context, w.options, &w.data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(w.context));
    assert_ok(w.context, crank_trees_save(w.context, trees, path));
    crank_trees *again = crank_trees_load(w.context, path), *more;
    unlink(path);
    if (!again) fail_msg("%s", crank_message(w.context));
    double *a = malloc(4000 * sizeof *a), *b = malloc(4000 * sizeof *b);
    assert_ok(w.context, crank_trees_predict(w.context, trees, &w.data, true, a));
    assert_ok(w.context, crank_trees_predict(w.context, again, &w.data, true, b));
    for (int i = 0; i < 4000; i++) assert_true(fabs(a[i] - b[i]) < 1e-12);
    more = crank_trees_fit(w.context, w.options, &w.data, NULL, again, NULL, NULL); /* learning goes on */
    assert_non_null(more);
    assert_int_equal(crank_trees_count(more), 200);
    free(a);
    free(b);
    crank_trees_free(trees);
    crank_trees_free(again);
    crank_trees_free(more);
    close_world(&w);
}

static void a_model_of_lightgbm_gives_its_scores(void **state)
{
    crank_context *context = *state;
    crank_trees   *trees = crank_trees_load(context, golden("tree/lightgbm.txt"));
    if (!trees) fail_msg("%s", crank_message(context));
    size_t  length;
    char   *bytes = file_read(context, golden("tree/lightgbm.scores"), &length);
    float  *x = make_rows(10000, 2);
    double *scores = malloc(10000 * sizeof *scores), expected;
    crank_tree_data data = {.rows = 10000, .columns = 8, .dense = x};
    assert_int_equal(length, 80000);
    assert_ok(context, crank_trees_predict(context, trees, &data, true, scores));
    for (int i = 0; i < 10000; i++) {
        memcpy(&expected, bytes + 8 * i, sizeof expected);
        if (!(fabs(scores[i] - expected) < 1e-6)) fail_msg("row %d: %.9g, not %.9g", i, scores[i], expected);
    }
    crank_free(bytes);
    free(x);
    free(scores);
    crank_trees_free(trees);
}

static void broken_models_are_refused_or_can_be_used(void **state)
{
    crank_context *context = *state;
    size_t         length;
    char          *text = file_read(context, golden("tree/lightgbm.txt"), &length), *copy = malloc(length + 1);
    float         *x = make_rows(50, 3);
    double         scores[50];
    crank_tree_data data = {.rows = 50, .columns = 8, .dense = x};
    int            refused = 0;
    srand(7);
    for (int trial = 0; trial < 600; trial++) {
        size_t size = trial < 100 ? length * (size_t)trial / 130 : length;
        memcpy(copy, text, length + 1);
        for (int k = 0; trial >= 100 && k < 3; k++) copy[(size_t)rand() % length] = "0123456789-. =\ne"[rand() % 16];
        copy[size] = 0;
        crank_clear(context);
        crank_trees *trees = trees_read_lightgbm(context, "model.txt", copy, size);
        if (!trees) {
            assert_true(*crank_message(context));
            refused++;
        } else
            assert_ok(context, crank_trees_predict(context, trees, &data, true, scores));
        crank_trees_free(trees);
    }
    assert_true(refused >= 100);
    crank_free(text);
    free(copy);
    free(x);
}

static void lightgbms_golden_run_is_reproduced(void **state)
{
    crank_context *context = *state;
    const char    *path = real_data("ltr/lightgbm-rank.train.gz");
    if (!path) skip();
    letor_options *read = crank_options_new(context, letor_option_table, sizeof *read);
    letor_set     *set = letor_read(context, path, read);
    if (!set) fail_msg("%s", crank_message(context));
    world w = open_world(context, 20);
    w.data = (crank_tree_data){.rows = set->rows, .columns = set->columns, .dense = set->dense, .starts = set->starts, .indices = set->indices, .values = set->values, .labels = set->labels,
                               .queries = set->queries, .offsets = set->offsets};
    set_option(&w, "num_iterations", "1");
    set_option(&w, "min_data_in_leaf", "50");
    set_option(&w, "min_sum_hessian", "5");
    set_option(&w, "count", "estimate");
    set_option(&w, "lambda_l2", "0");
    crank_trees *trees = crank_trees_fit(context, w.options, &w.data, NULL, NULL, NULL, NULL);
    if (!trees) fail_msg("%s", crank_message(context));
    static const int32_t feature[] = {100, 69, 239, 100, 36}, left[] = {1, 5, 4, 19, 16}, right[] = {3, 2, 6, -5, 7};
    static const double  threshold[] = {.895, .665, .825, .985, .405}, gain[] = {46.8311, 10.5711, 9.65833, 7.58779, 7.48016}, leaf[] = {-.0625607568, .0091211150, -.0641103341, -.0411249154, .1844083822};
    const tree *t = &trees->trees[0];
    assert_int_equal(t->leaves, 24);
    assert_true(t->internal_count[0] == 3005 && fabs(t->internal_weight[0] - 156.496) < 1e-3);
    for (int i = 0; i < 5; i++) {
        assert_true(t->feature[i] == feature[i] && t->left[i] == left[i] && t->right[i] == right[i]);
        assert_true(fabs(t->threshold[i] - threshold[i]) < 1e-6 && fabs(t->gain[i] / gain[i] - 1) < 1e-5);
        assert_true(fabs(t->leaf_value[i] - leaf[i]) < 1e-6);
    }
    crank_trees_free(trees);
    letor_free(set);
    crank_options_free(read);
    close_world(&w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(lambdas_follow_their_definition), TEST(fast_lambdas_equal_the_reference), TEST(every_instruction_set_gives_the_same_lambdas_splits_and_bins),
        TEST(histograms_equal_plain_sums), TEST(scans_find_what_exhaustive_search_finds), TEST(the_number_of_threads_changes_nothing),
        TEST(few_levels_keep_the_sums), TEST(few_levels_learn_as_well), TEST(a_small_pool_of_histograms_changes_nothing), TEST(leaves_keep_their_rows_and_bounds), TEST(trees_use_the_features_drawn_for_them_alone),
        TEST(training_lowers_the_loss_and_validation_stops_it),
        TEST(a_model_gives_the_same_scores_after_its_file), TEST(a_model_of_lightgbm_gives_its_scores), TEST(broken_models_are_refused_or_can_be_used),
        TEST(lightgbms_golden_run_is_reproduced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
