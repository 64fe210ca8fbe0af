/* loss.h - objectives: what a training step minimises, recorded from named tensors of the batch and the model.
 *
 * An objective records a *numerator* (a weighted sum, f32 scalar). Gradients of the numerator are summed over micro-batches and
 * ranks and divided once, before clipping, by the *denominator* of the whole window, which the host knows from the batches. */
#ifndef CRANK_LOSS_H
#define CRANK_LOSS_H

#include "crank/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The tensors of a batch: inputs of the graph. Those of fields that the objective does not list are NULL. */
typedef struct crank_batch_tensors {
    crank_model_inputs model;
    crank_tensor *targets; /* i32 [n]: next token, -1 where none */
    crank_tensor *weights; /* f32 [n]: 0 where the loss does not count */
    crank_tensor *labels;  /* i32 [s]: class of each sequence, -1 where none */
    crank_tensor *values;  /* f32 [s]: real-valued label of each sequence */
    crank_tensor *sequence_weights; /* f32 [s]: 0 for empty sequences */
} crank_batch_tensors;

enum { CRANK_FIELD_TARGETS = 1, CRANK_FIELD_LABELS = 2, CRANK_FIELD_VALUES = 4 };

typedef struct crank_objective {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t   options_size;
    unsigned fields;  /* CRANK_FIELD_*: what the data must have */
    bool     causal;  /* needs a language model's head; else a classification head of `outputs` values */
    bool     coupled; /* in-batch terms: several micro-batches are refused */
    /* The numerator. `scores` receives what predictions are read from (outputs [s, labels], or log-probabilities [n]); kept by
     * the caller when it wants to read them. */
    crank_tensor *(*record)(crank_graph *graph, crank_model *model, const crank_batch_tensors *batch, const void *options,
                            crank_tensor **scores);
} crank_objective;

CRANK_API const crank_objective *crank_objective_find(const char *name);
CRANK_API const crank_objective *crank_objective_at(size_t i); /* NULL past the end */
CRANK_API crank_status           crank_register_objective(crank_context *context, const crank_objective *objective);

#ifdef __cplusplus
}
#endif
#endif
