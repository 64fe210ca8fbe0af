/* token_cross_entropy.c - the language-model objective: -sum_i w_i log p(target_i | before), over the vocabulary head.
 *
 * The head's logits exist chunk by chunk only; their gradients come with the forward pass (head_cross_entropy). */
#include "crank/loss.h"

static crank_tensor *record(crank_graph *graph, crank_model *model, const crank_batch_tensors *batch, const void *options, crank_tensor **scores)
{
    (void)options;
    crank_tensor *features = crank_model_features(graph, model, &batch->model);
    return crank_model_cross_entropy(graph, model, features, batch->targets, batch->weights, scores);
}

const crank_objective objective_token_cross_entropy = {
    .name = "cross_entropy",
    .paper = "maximum likelihood",
    .summary = "negative log-likelihood of the next token",
    .fields = CRANK_FIELD_TARGETS,
    .causal = true,
    .record = record,
};
