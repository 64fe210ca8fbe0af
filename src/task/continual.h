/* continual.h - tasks one after another: each trains on what the one before left, merged, and all are measured after every stage
 * (Shuttleworth et al. 2024, arXiv:2410.21228, section 6).
 *
 *     loss[t][i]     held-out loss of task i after stage t (stage 0: the base)
 *     forgetting_i   loss[T][i] - min over t < T of loss[t][i], t >= i
 *     backward       mean over i < T of loss[i][i] - loss[T][i]: backward transfer, below 0 where tasks are forgotten */
#ifndef CRANK_TASK_CONTINUAL_H
#define CRANK_TASK_CONTINUAL_H

#include "crank/base.h"

enum { CONTINUAL_TASKS = 16 };

typedef struct continual_how {
    const char *const *recipes; /* paths */
    int                count;
    const char *const *words; /* section.key=value for all */
    int                word_count;
    const char        *folder; /* FOLDER/stage-T: the run, merged weights, losses.json when it has ended */
    int                progress;
} continual_how;

typedef struct continual_result {
    double loss[CONTINUAL_TASKS + 1][CONTINUAL_TASKS];
    double forgetting[CONTINUAL_TASKS], backward;
    int    stages; /* that have ended, the base's included */
} continual_result;

/* Language models. Stages that have ended are taken as they are; CRANK_STOPPED: the same call goes on later. */
crank_status continual_run(crank_context *context, const continual_how *how, continual_result *out);
#endif
