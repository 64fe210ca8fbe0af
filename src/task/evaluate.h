/* evaluate.h - loss and accuracy over a data set. */
#ifndef CRANK_TASK_EVALUATE_H
#define CRANK_TASK_EVALUATE_H

#include "data/dataset.h"
#include "task/trainer.h"

typedef struct evaluation {
    double  loss;     /* nats a counted token, or a labelled sequence */
    double  accuracy; /* share of labelled sequences whose largest output is the label */
    bool    classified;
    int64_t counted, tokens, sequences;
    double  seconds;
} evaluation;

/* One pass over the set; no dropout, nothing changes. */
crank_status evaluate_set(crank_context *context, task_trainer *trainer, data_set *set, evaluation *out);
#endif
