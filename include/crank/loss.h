/* loss.h - objectives: what a training step minimises, recorded from named tensors of the batch and the model.
 *
 * An objective records a *numerator* (a weighted sum, f32 scalar). Gradients of the numerator are summed over micro-batches and
 * ranks and divided once, before clipping, by the *denominator* of the whole window, which the host knows from the batches. */
#ifndef CRANK_LOSS_H
#define CRANK_LOSS_H

#include "crank/ops.h"
#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an objective reads of the model's outputs: a set of bits. */
enum {
    CRANK_SCORES_NLL      = 1, /* `nll`: the fused weighted sum -sum_i weights_i log p(target_i), f32 scalar */
    CRANK_SCORES_LOGPROB  = 2, /* `logp` f32 [n]: log p(target_i) of each token, differentiable */
    CRANK_SCORES_OUTPUTS  = 4, /* `outputs` [s, labels]: the classification head of each sequence */
    CRANK_SCORES_POOLED   = 8  /* `pooled` [s, hidden]: one vector a sequence */
};

/* What it reads of the data. */
enum { CRANK_FIELD_TARGETS = 1, CRANK_FIELD_LABELS = 2, CRANK_FIELD_VALUES = 4 };

/* The named tensors; those whose bit the objective does not list are NULL. */
typedef struct crank_scores {
    crank_tensor *nll, *logp, *outputs, *pooled;
    crank_tensor *targets;          /* i32 [n]: next token, -1 where none */
    crank_tensor *weights;          /* f32 [n]: 0 where the loss does not count */
    crank_tensor *segments;         /* i32 [s+1]: first token of each sequence */
    crank_tensor *labels;           /* i32 [s]: class of each sequence, -1 where none */
    crank_tensor *values;           /* f32 [s]: real-valued label of each sequence */
    crank_tensor *sequence_weights; /* f32 [s]: 0 for empty sequences */
} crank_scores;

typedef struct crank_objective {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t   options_size;
    unsigned scores;  /* CRANK_SCORES_* */
    unsigned fields;  /* CRANK_FIELD_* */
    bool     coupled; /* in-batch terms: several micro-batches are refused */
    /* Records the numerator. */
    crank_tensor *(*record)(crank_graph *graph, const crank_scores *scores, const void *options);
} crank_objective;

CRANK_API const crank_objective *crank_objective_find(const char *name);
CRANK_API const crank_objective *crank_objective_at(size_t i); /* NULL past the end */
CRANK_API crank_status           crank_register_objective(crank_context *context, const crank_objective *objective);

#ifdef __cplusplus
}
#endif
#endif
