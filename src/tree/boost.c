/* boost.c - gradient boosting: rounds of trees until the number asked for, or until validation no longer improves. */
#include <stdlib.h>

#include "base/clock.h"
#include "tree/boost.h"
#include "tree/score.h"
#include "tree/shared.h"

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
        b->best_rounds = b->trees->count / b->outputs;
    }
    b->trees->best = value;
    return b->options->early_stopping_round > 0 && b->trees->count / b->outputs - b->best_rounds >= b->options->early_stopping_round;
}

/* Asked to stop: process 0 decides for all. */
static bool stops(booster *b, bool *good)
{
    uint8_t stop = crank_stop_requested(b->context);
    if (b->group && b->group->size > 1) *good = dist_broadcast(b->context, b->group, &stop, 1) == CRANK_OK;
    return stop;
}

/* One more round. *more false: no split gains any more. */
static bool iterate(booster *b, int64_t it, bool *more)
{
    return objective_gradient(&b->objective, b->scores, b->g, b->h) == CRANK_OK && booster_round(b, it, more);
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
            crank_log(b->context, CRANK_INFO, "validation has not improved for %lld rounds: %lld trees are kept", (long long)b->options->early_stopping_round, (long long)(b->best_rounds * b->outputs));
            break;
        }
    }
    if (!good) return false;
    if (!b->trees->count)
        crank_log(b->context, CRANK_WARNING, "no split is possible: fewer rows than twice tree.min_data_in_leaf (%lld), or labels that are all alike", (long long)b->options->min_data_in_leaf);
    while (b->options->early_stopping_round > 0 && !isnan(b->best) && b->trees->count > b->best_rounds * b->outputs) tree_free(&b->trees->trees[--b->trees->count]);
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
