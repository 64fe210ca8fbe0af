/* loss.h - objectives: what a training step minimises, recorded from named tensors of the batch and the model.
 *
 * An objective records a *numerator* (a weighted sum, f32 scalar). Gradients of the numerator are summed over micro-batches and
 * ranks and divided once, before clipping, by the *denominator* of the whole window, which the host knows from the batches.
 *
 * A *list objective* is a plain function of scores on the host: ranking losses are written once, for networks, trees and linear
 * models. An objective that names one records scores instead of a numerator; the step then runs in two segments, the forward pass,
 * and, from the gradient that the host computed, the reverse pass. */
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
enum { CRANK_FIELD_TARGETS = 1, CRANK_FIELD_LABELS = 2, CRANK_FIELD_VALUES = 4, CRANK_FIELD_LISTS = 8, CRANK_FIELD_REFERENCE = 16 };

/* The named tensors; those whose bit the objective does not list are NULL. */
typedef struct crank_scores {
    crank_tensor *nll, *logp, *outputs, *pooled;
    crank_tensor *targets;          /* i32 [n]: next token, -1 where none */
    crank_tensor *weights;          /* f32 [n]: 0 where the loss does not count */
    crank_tensor *segments;         /* i32 [s+1]: first token of each sequence */
    crank_tensor *labels;           /* i32 [s]: class of each sequence, -1 where none */
    crank_tensor *values;           /* f32 [s]: real-valued label of each sequence */
    crank_tensor *sequence_weights; /* f32 [s]: 0 for empty sequences */
    crank_tensor *reference;        /* f32 [n]: log p(target_i) under the reference policy: the batch's own, or else that of the model
                                       with all methods off, computed before the step; 0 where there is no target */
} crank_scores;

/* ---- list objectives ---- */

/* Items of all lists in one row, without padding. */
typedef struct crank_lists {
    int64_t        lists, outputs; /* outputs: scores of one item */
    const int32_t *offsets;        /* [lists + 1]: first item of each list; the last is the number of items */
    const float   *scores;         /* [items, outputs] */
    const float   *labels;         /* [items]: relevance, graded or real-valued */
    const float   *weights;        /* [items], or NULL: all 1 */
} crank_lists;

typedef struct crank_list_result {
    float *d1; /* [items, outputs]: gradient of the numerator by the scores, written whole */
    float *d2; /* the same: diagonal of its second derivative, not negative; NULL: not wanted */
    double numerator, denominator; /* the loss is their quotient; a denominator of 0: nothing to learn from, and d1 is 0 */
} crank_list_result;

typedef struct crank_list_objective {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t options_size;
    crank_status (*run)(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result);
} crank_list_objective;

CRANK_API const crank_list_objective *crank_list_objective_find(const char *name);
CRANK_API const crank_list_objective *crank_list_objective_at(size_t i); /* NULL past the end */
CRANK_API crank_status crank_register_list_objective(crank_context *context, const crank_list_objective *objective);

/* ---- objectives ---- */

typedef struct crank_objective {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t   options_size;
    unsigned scores;  /* CRANK_SCORES_* */
    unsigned fields;  /* CRANK_FIELD_* */
    bool     coupled; /* in-batch terms: several micro-batches are refused */
    const crank_list_objective *list; /* NULL, or what turns scores into the numerator, with the options of this objective. Items are
                                         the sequences of a batch, their labels `values`, their lists the field LISTS (without
                                         that field a batch is one list: such an objective is coupled) */
    /* Records the numerator, or with `list` the scores [s] or [s, outputs]. */
    crank_tensor *(*record)(crank_graph *graph, const crank_scores *scores, const void *options);
} crank_objective;

CRANK_API const crank_objective *crank_objective_find(const char *name);
CRANK_API const crank_objective *crank_objective_at(size_t i); /* NULL past the end */
CRANK_API crank_status           crank_register_objective(crank_context *context, const crank_objective *objective);

#ifdef __cplusplus
}
#endif
#endif
