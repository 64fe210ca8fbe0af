/* booster.c - one model's learning: data in bins, scores so far, and rounds of trees grown on gradients and added with the learning rate. */
#include <stdlib.h>

#include "tree/boost.h"
#include "tree/score.h"

/* "1,0,-1" by column -> by feature */
static bool read_monotone(booster *b)
{
    const char *cursor = b->options->monotone_constraints;
    char        word[16];
    if (!cursor || !*cursor) return true;
    b->monotone = crank_alloc(b->context, (size_t)b->mapper->features + 1, 1, "monotone constraints");
    int64_t column = 0;
    bool    any = false;
    for (; b->monotone && crank_list_next(&cursor, word, sizeof word, NULL, 0); column++) {
        int direction = atoi(word);
        if (strcmp(word, "-1") && strcmp(word, "0") && strcmp(word, "1"))
            return crank_fail(b->context, CRANK_USAGE, "monotone_constraints: `%s` is none of -1, 0, 1", word), false;
        int32_t f = column < b->mapper->columns ? b->mapper->of_column[column] : -1;
        if (f < 0) continue;
        if (direction && b->mapper->feature[f].categorical)
            return crank_fail(b->context, CRANK_USAGE, "monotone_constraints: column %lld is categorical", (long long)column), false;
        b->monotone[f] = (int8_t)direction;
        any |= direction != 0;
    }
    if (!b->monotone) return false;
    if (column != b->mapper->columns)
        return crank_fail(b->context, CRANK_USAGE, "monotone_constraints has %lld values for %lld columns", (long long)column, (long long)b->mapper->columns), false;
    if (!any) {
        crank_free(b->monotone);
        b->monotone = NULL;
    }
    return true;
}

/* Names and ranges of columns, for readers of the model. */
static bool describe(booster *b)
{
    crank_trees *t = b->trees;
    size_t       columns = (size_t)t->columns + 1;
    t->low = crank_alloc(b->context, columns, sizeof *t->low, "ranges of columns");
    t->high = crank_alloc(b->context, columns, sizeof *t->high, "ranges of columns");
    if (!t->low || !t->high) return false;
    for (int64_t j = 0; j < t->columns; j++) {
        int32_t             f = b->mapper->of_column[j];
        const feature_bins *bins = f >= 0 ? &b->mapper->feature[f] : NULL;
        t->low[j] = bins && !bins->categorical ? bins->low : bins ? 0 : 1;
        t->high[j] = bins && !bins->categorical ? bins->high : bins ? bins->largest : 0;
    }
    if (!b->train->names) return true;
    if (!(t->names = crank_alloc(b->context, columns, sizeof *t->names, "names of columns"))) return false;
    for (int64_t j = 0; j < t->columns; j++)
        if (b->train->names[j] && !(t->names[j] = crank_strdup(b->context, b->train->names[j]))) return false;
    return true;
}

/* The model so far: that of `init`, or an empty one that starts from the labels' mean. */
static bool start_model(booster *b, const crank_trees *init)
{
    if (init && (init->outputs != b->outputs || init->columns != b->train->columns || init->average))
        return crank_fail(b->context, CRANK_USAGE, "the model to start from has %lld outputs and %lld columns%s; learning goes on from a boosted model of %lld outputs and %lld columns",
                          (long long)init->outputs, (long long)init->columns, init->average ? " and averages its trees" : "", (long long)b->outputs, (long long)b->train->columns), false;
    b->trees = trees_new(b->context, b->train->columns, b->outputs, b->given ? "custom" : objective_name(&b->objective));
    if (!b->trees || !describe(b)) return false;
    b->trees->sigmoid = b->options->sigmoid;
    for (int64_t k = 0; k < b->outputs; k++) b->trees->base[k] = init ? init->base[k] : b->train->init || b->given ? 0 : objective_base(&b->objective, k);
    if (!init) return true;
    for (int64_t i = 0; i < init->count; i++) {
        tree *t = trees_add(b->context, b->trees);
        if (!t || !tree_copy(b->context, t, &init->trees[i])) return false;
        b->trees->count++;
    }
    return true;
}

static crank_status check_init(const booster *b, const crank_tree_data *data)
{
    int64_t outputs = data->init_outputs > 0 ? data->init_outputs : 1;
    if (!data->init || outputs == b->outputs) return CRANK_OK;
    return crank_fail(b->context, CRANK_BAD_DATA, "the data have %lld scores a row to start from, and the model learns %lld", (long long)outputs, (long long)b->outputs);
}

/* scores [outputs, rows] */
static bool start_scores(booster *b, const crank_tree_data *data, double **scores)
{
    int64_t n = data->rows, K = b->outputs;
    *scores = crank_alloc(b->context, ((size_t)n + 1) * (size_t)K, sizeof **scores, "scores");
    if (!*scores || check_init(b, data) != CRANK_OK) return false;
    for (int64_t i = 0; i < n * K; i++) (*scores)[i] = b->trees->base[i / n];
    if (b->trees->count > 0) {
        double *rows = crank_alloc(b->context, ((size_t)n + 1) * (size_t)K, sizeof *rows, "scores");
        bool    good = rows && crank_trees_predict(b->context, b->trees, data, true, rows) == CRANK_OK;
        for (int64_t i = 0; good && i < n * K; i++) (*scores)[i % K * n + i / K] = rows[i];
        crank_free(rows);
        if (!good) return false;
    }
    for (int64_t i = 0; data->init && i < n * K; i++) (*scores)[i % K * n + i / K] += data->init[i];
    return true;
}

/* Whether trees are grown by wide.c, which must do what the options ask. */
static bool choose_grower(booster *b)
{
    const crank_tree_options *o = b->options;
    bool                      oblivious = strcmp(o->grow_policy, "oblivious") == 0;
    b->is_wide = oblivious || (b->outputs > 1 && strcmp(o->multi_strategy, "multi_output_tree") == 0);
    if (!b->is_wide) return true;
    const char *wrong = b->monotone ? "monotone_constraints" : o->path_smooth > 0 ? "path_smooth" : NULL;
    if (wrong) return crank_fail(b->context, CRANK_USAGE, "%s does not go with %s: leave one of them out", wrong, oblivious ? "grow_policy=oblivious" : "multi_strategy=multi_output_tree"), false;
    int64_t together = strcmp(o->multi_strategy, "multi_output_tree") == 0 ? b->outputs : 1;
    return wide_open(&b->grower, together, oblivious, &b->wide);
}

static bool open_objective(booster *b)
{
    if (data_check(b->context, b->train, !b->given) != CRANK_OK || (b->valid && data_check(b->context, b->valid, true) != CRANK_OK)) return false;
    if (b->given && b->train->rows < 1) return crank_fail(b->context, CRANK_BAD_DATA, "no rows to learn from"), false;
    if (b->given) return true;
    if (!objective_open(b->context, b->options, b->train, &b->objective)) return false;
    b->outputs = b->objective.outputs;
    return true;
}

bool booster_open(booster *b, const crank_trees *init)
{
    b->resolved = *b->options;
    if (b->given) b->resolved.objective = "custom";
    objective_defaults(&b->resolved);
    b->options = &b->resolved;
    if (!open_objective(b) || !(b->mapper = mapper_find(b->context, b->options, b->train))) return false;
    if (b->mapper->features == 0) return crank_fail(b->context, CRANK_BAD_DATA, "no column of the data has two different values: there is nothing to learn from"), false;
    if (matrix_fill(b->context, b->mapper, b->train, true, &b->matrix) != CRANK_OK || !read_monotone(b) || !start_model(b, init)) return false;
    if (!start_scores(b, b->train, &b->scores)) return false;
    size_t gradients = (size_t)b->train->rows * (size_t)b->outputs + 1;
    b->g = crank_alloc(b->context, gradients, sizeof *b->g, "gradients");
    b->h = crank_alloc(b->context, gradients, sizeof *b->h, "gradients");
    if (!b->g || !b->h || !sample_open(b->context, b->options, b->train->rows, &b->sample)) return false;
    if (!grower_open(b->context, b->options, b->mapper, &b->matrix, b->monotone, b->group, &b->grower) || !choose_grower(b)) return false;
    if (!b->valid) return true;
    return matrix_fill(b->context, b->mapper, b->valid, false, &b->valid_matrix) == CRANK_OK && start_scores(b, b->valid, &b->valid_scores) &&
           measure_open(b->context, b->options, b->valid, &b->measure);
}

void booster_close(booster *b)
{
    objective_close(&b->objective);
    measure_close(&b->measure);
    sample_close(&b->sample);
    wide_close(&b->wide);
    grower_close(&b->grower);
    matrix_free(&b->matrix);
    matrix_free(&b->valid_matrix);
    mapper_free(b->mapper);
    crank_free(b->monotone);
    crank_free(b->scores);
    crank_free(b->valid_scores);
    crank_free(b->g);
    crank_free(b->h);
}

/* Adds the leaves of the tree just grown, as one of output k, to the scores of all rows. */
static void add_scores(booster *b, const tree *t, int64_t k)
{
    const grower *g = &b->grower;
    int           threads = crank_threads(b->context);
    int64_t       rows = b->train->rows;
    double       *scores = b->scores + k * rows, *held = b->valid ? b->valid_scores + k * b->valid->rows : NULL;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int32_t i = 0; i < g->leaves; i++)
        for (int64_t r = g->leaf[i].first; r < g->leaf[i].first + g->leaf[i].count; r++) scores[g->rows[r]] += t->leaf_value[i];
    if (b->sample.taken && b->sample.count < rows)
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < rows; i++)
            if (!b->sample.taken[i]) scores[i] += t->leaf_value[grower_leaf(g, b->matrix.by_row + i * b->matrix.slots)];
    if (held)
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < b->valid->rows; i++) held[i] += t->leaf_value[grower_leaf(g, b->valid_matrix.by_row + i * b->valid_matrix.slots)];
}

/* A tree of one leaf, of value 0: an output without a split in a round where others have one. */
static bool add_leaf(booster *b)
{
    tree *t = trees_add(b->context, b->trees);
    if (!t || !tree_alloc(b->context, t, 1, 0, 0)) return false;
    b->trees->count++;
    return true;
}

/* Grows the trees of outputs k .. k + count - 1, several of them one of vectors. *grown false: nothing to split, nothing was added. */
static bool grow_together(booster *b, int64_t it, int64_t k, int64_t count, bool *grown)
{
    grower      *g = &b->grower;
    const float *gradient = b->g + k * b->train->rows, *hessian = b->h + k * b->train->rows;
    *grown = false;
    g->number = it * b->outputs + k;
    if (!sample_features(b->context, b->options, it * b->outputs + k, b->mapper->features, g->wanted)) return false;
    memcpy(g->rows, b->sample.rows, (size_t)b->sample.count * sizeof *g->rows);
    bool parted = b->is_wide ? wide_grow(&b->wide, gradient, hessian, b->train->rows, b->sample.count) : grower_grow(g, gradient, hessian, b->sample.count);
    if (!parted) return crank_last_status(b->context) == CRANK_OK;
    for (int64_t j = 0; j < count; j++) {
        tree       *t = trees_add(b->context, b->trees);
        const float *own_g = gradient + j * b->train->rows, *own_h = hessian + j * b->train->rows;
        if (!t || !(b->is_wide ? wide_tree(&b->wide, j, own_g, own_h, b->options->learning_rate, t) : grower_tree(g, own_g, own_h, b->options->learning_rate, t))) return false;
        b->trees->count++;
        add_scores(b, t, k + j);
    }
    return *grown = true;
}

bool booster_round(booster *b, int64_t it, bool *more)
{
    int64_t together = b->is_wide ? b->wide.outputs : 1, before = b->trees->count;
    *more = false;
    sample_rows(b->options, b->train, it, b->outputs, b->g, b->h, &b->sample);
    for (int64_t k = 0; k < b->outputs; k += together) {
        bool grown;
        if (!grow_together(b, it, k, together, &grown)) return false;
        if (!grown && !add_leaf(b)) return false;
        for (int64_t j = 1; !grown && j < together; j++)
            if (!add_leaf(b)) return false;
        *more |= grown;
    }
    while (!*more && b->trees->count > before) tree_free(&b->trees->trees[--b->trees->count]);
    return true;
}
