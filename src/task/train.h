/* train.h - the training program: a recipe in, a checkpointed run, an adapter or a model out. */
#ifndef CRANK_TASK_TRAIN_H
#define CRANK_TASK_TRAIN_H

#include "task/recipe.h"

typedef struct train_how {
    int  progress;     /* descriptor of the progress line; -1: none */
    bool profile;      /* roofline table at the end, in `table` */
    bool dry;          /* stop after the memory plan */
} train_how;

/* What a run tells when it ends. */
typedef struct train_outcome {
    double  loss_before, loss_after;         /* held-out, nats a token or a sequence; NAN without an eval set */
    double  accuracy_before, accuracy_after; /* of classification; NAN elsewhere */
    double  train_loss;                      /* of the last step */
    double  best;
    int64_t steps, best_step, tokens, skipped, trainable, parameters;
    double  seconds, tokens_per_second;      /* of training steps alone */
    double  median_step;                     /* seconds of the median step behind the first three */
    size_t  state;                           /* bytes of the optimiser's state, and what a method keeps beside its parameters */
    size_t  planned, measured;               /* bytes: the plan's peak, and what the system reports (VmHWM less that at the start) */
    char   *result;                          /* folder of the adapter or model; crank_free */
    char   *table;                           /* profile; crank_free */
    bool    stopped;                         /* on request, with a checkpoint */
} train_outcome;

/* Joins the processes that a launcher started with this one: from here on train.accumulate counts the micro-batches of all. Before
 * train_run; dist_close(recipe->group) behind it. */
crank_status train_join(crank_context *context, task_recipe *recipe);
/* Runs the recipe; resumes from the checkpoint in output.path when there is one. CRANK_STOPPED after a stop on request. */
crank_status train_run(crank_context *context, const task_recipe *recipe, const train_how *how, train_outcome *outcome);
void         train_outcome_free(train_outcome *outcome);
#endif
