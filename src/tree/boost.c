/* boost.c - gradient boosting: each tree is grown on the gradients of the scores so far and added with the learning rate. */
#include <stdlib.h>

#include "base/clock.h"
#include "tree/grow.h"
#include "tree/objective.h"
#include "tree/sample.h"
#include "tree/score.h"
#include "tree/shared.h"

typedef struct booster {
    crank_context            *context;
    const dist_group         *group;         /* NULL: one process */
    const crank_tree_options *options;
    const crank_tree_data    *train, *valid;
    crank_trees  *trees;
    bin_mapper   *mapper;
    bin_matrix    matrix, valid_matrix;
    int8_t       *monotone;
    grower        grower;
    objective     objective;
    measure       measure;
    row_sample    sample;
    double       *scores, *valid_scores;
    float        *g, *h;
    int64_t       best_count;                /* trees at the best measure */
    double        best;
} booster;

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
    static const char *const names[] = {"regression", "binary", "lambdarank"};
    const char *name = b->objective.kind == OBJECTIVE_LIST ? b->options->objective : names[b->objective.kind];
    if (init && (init->outputs != 1 || init->columns != b->train->columns || init->average))
        return crank_fail(b->context, CRANK_USAGE, "the model to start from has %lld outputs and %lld columns%s; learning goes on from a boosted model of 1 output and %lld columns",
                          (long long)init->outputs, (long long)init->columns, init->average ? " and averages its trees" : "", (long long)b->train->columns), false;
    b->trees = trees_new(b->context, b->train->columns, 1, name);
    if (!b->trees || !describe(b)) return false;
    b->trees->sigmoid = b->options->sigmoid;
    if (!init) {
        b->trees->base[0] = b->train->init ? 0 : objective_base(&b->objective);
        return true;
    }
    b->trees->base[0] = init->base[0];
    for (int64_t i = 0; i < init->count; i++) {
        tree *t = trees_add(b->context, b->trees);
        if (!t || !tree_copy(b->context, t, &init->trees[i])) return false;
        b->trees->count++;
    }
    return true;
}

static bool start_scores(booster *b, const crank_tree_data *data, double **scores)
{
    *scores = crank_alloc(b->context, (size_t)data->rows + 1, sizeof **scores, "scores");
    if (!*scores) return false;
    if (b->trees->count > 0) {
        if (crank_trees_predict(b->context, b->trees, data, true, *scores) != CRANK_OK) return false;
    } else
        for (int64_t i = 0; i < data->rows; i++) (*scores)[i] = b->trees->base[0];
    for (int64_t i = 0; data->init && i < data->rows; i++) (*scores)[i] += data->init[i];
    return true;
}

static bool booster_open(booster *b, const crank_trees *init)
{
    if (data_check(b->context, b->train, true) != CRANK_OK || (b->valid && data_check(b->context, b->valid, true) != CRANK_OK)) return false;
    if (!objective_open(b->context, b->options, b->train, &b->objective)) return false;
    if (!(b->mapper = mapper_find(b->context, b->options, b->train))) return false;
    if (b->mapper->features == 0) return crank_fail(b->context, CRANK_BAD_DATA, "no column of the data has two different values: there is nothing to learn from"), false;
    if (matrix_fill(b->context, b->mapper, b->train, true, &b->matrix) != CRANK_OK || !read_monotone(b) || !start_model(b, init)) return false;
    if (!start_scores(b, b->train, &b->scores)) return false;
    b->g = crank_alloc(b->context, (size_t)b->train->rows + 1, sizeof *b->g, "gradients");
    b->h = crank_alloc(b->context, (size_t)b->train->rows + 1, sizeof *b->h, "gradients");
    if (!b->g || !b->h || !sample_open(b->context, b->options, b->train->rows, &b->sample)) return false;
    if (!grower_open(b->context, b->options, b->mapper, &b->matrix, b->monotone, b->group, &b->grower)) return false;
    if (!b->valid) return true;
    return matrix_fill(b->context, b->mapper, b->valid, false, &b->valid_matrix) == CRANK_OK && start_scores(b, b->valid, &b->valid_scores) &&
           measure_open(b->context, b->options, b->valid, &b->measure);
}

static void booster_close(booster *b)
{
    objective_close(&b->objective);
    measure_close(&b->measure);
    sample_close(&b->sample);
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

/* Adds the tree's leaves to the scores of all rows. */
static void add_scores(booster *b, const tree *t)
{
    const grower *g = &b->grower;
    int           threads = crank_threads(b->context);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int32_t i = 0; i < g->leaves; i++)
        for (int64_t k = g->leaf[i].first; k < g->leaf[i].first + g->leaf[i].count; k++) b->scores[g->rows[k]] += t->leaf_value[i];
    if (b->sample.taken && b->sample.count < b->train->rows)
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < b->train->rows; i++)
            if (!b->sample.taken[i]) b->scores[i] += t->leaf_value[grower_leaf(g, b->matrix.by_row + i * b->matrix.slots)];
    if (b->valid)
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < b->valid->rows; i++) b->valid_scores[i] += t->leaf_value[grower_leaf(g, b->valid_matrix.by_row + i * b->valid_matrix.slots)];
}

/* One more tree. *more false: no split gains any more. */
static bool iterate(booster *b, int64_t it, bool *more)
{
    grower *g = &b->grower;
    *more = false;
    if (objective_gradient(&b->objective, b->scores, b->g, b->h) != CRANK_OK) return false;
    sample_rows(b->options, b->train, it, b->g, b->h, &b->sample);
    if (!sample_features(b->context, b->options, it, b->mapper->features, g->wanted)) return false;
    memcpy(g->rows, b->sample.rows, (size_t)b->sample.count * sizeof *g->rows);
    if (!grower_grow(g, b->g, b->h, b->sample.count)) return crank_last_status(b->context) == CRANK_OK;
    tree *t = trees_add(b->context, b->trees);
    if (!t || !grower_tree(g, b->g, b->h, b->options->learning_rate, t)) return false;
    b->trees->count++;
    add_scores(b, t);
    *more = true;
    return true;
}

/* Measures validation. True: stop. */
static bool judge(booster *b, int64_t it, crank_trees_progress *progress, void *user)
{
    double value = NAN;
    bool   last = it + 1 == b->options->num_iterations;
    if (b->valid && ((it + 1) % b->options->metric_freq == 0 || last)) value = measure_of(&b->measure, b->valid_scores);
    if (progress) progress(user, it + 1, value);
    if (isnan(value)) return false;
    if (isnan(b->best) || (b->measure.more_is_better ? value > b->best : value < b->best)) {
        b->best = value;
        b->best_count = b->trees->count;
    }
    b->trees->best = value;
    return b->options->early_stopping_round > 0 && b->trees->count - b->best_count >= b->options->early_stopping_round;
}

/* Asked to stop: process 0 decides for all. */
static bool stops(booster *b, bool *good)
{
    uint8_t stop = crank_stop_requested(b->context);
    if (b->group && b->group->size > 1) *good = dist_broadcast(b->context, b->group, &stop, 1) == CRANK_OK;
    return stop;
}

static bool boost(booster *b, crank_trees_progress *progress, void *user)
{
    bool more = true, bagging = b->sample.taken != NULL, good = true;
    for (int64_t it = 0, idle = 0; it < b->options->num_iterations; it++) {
        if (stops(b, &good) || !good) break; /* the trees so far are a model */
        if (!iterate(b, it, &more)) return false;
        if (more) idle = 0;
        else if (!bagging || ++idle >= 10) {
            crank_log(b->context, CRANK_INFO, "after %lld trees no split gains any more", (long long)b->trees->count);
            break;
        }
        if (judge(b, it, progress, user)) {
            crank_log(b->context, CRANK_INFO, "validation has not improved for %lld trees: %lld trees are kept", (long long)b->options->early_stopping_round, (long long)b->best_count);
            break;
        }
    }
    if (!good) return false;
    if (!b->trees->count)
        crank_log(b->context, CRANK_WARNING, "no split is possible: fewer rows than twice tree.min_data_in_leaf (%lld), or labels that are all alike", (long long)b->options->min_data_in_leaf);
    while (b->options->early_stopping_round > 0 && !isnan(b->best) && b->trees->count > b->best_count) tree_free(&b->trees->trees[--b->trees->count]);
    if (b->options->early_stopping_round > 0) b->trees->best = b->best;
    return true;
}

crank_trees *trees_fit_shared(crank_context *context, const dist_group *group, const crank_tree_options *options, const crank_tree_data *train, const crank_tree_data *valid,
                              const crank_trees *init, crank_trees_progress *progress, void *user)
{
    booster b = {.context = context, .group = group, .options = options, .train = train, .valid = valid, .best = NAN};
    double  start = clock_seconds();
    bool    good = booster_open(&b, init);
    double  ready = clock_seconds();
    if (good) crank_log(context, CRANK_DEBUG, "bins: %.3f s, %d of %lld columns", ready - start, (int)b.mapper->features, (long long)train->columns);
    good = good && boost(&b, progress, user);
    if (good) crank_log(context, CRANK_DEBUG, "train: %.3f s, %lld trees", clock_seconds() - ready, (long long)b.trees->count);
    good = good && (b.trees->scorer = scorer_make(context, b.trees));
    booster_close(&b);
    if (good) return b.trees;
    crank_trees_free(b.trees);
    return NULL;
}

crank_trees *crank_trees_fit(crank_context *context, const crank_tree_options *options, const crank_tree_data *train, const crank_tree_data *valid, const crank_trees *init,
                             crank_trees_progress *progress, void *user)
{
    return trees_fit_shared(context, NULL, options, train, valid, init, progress, user);
}
