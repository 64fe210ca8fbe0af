/* token_cross_entropy.c - the language-model objective: -sum_i w_i log p(target_i | before).
 *
 * The head's logits exist chunk by chunk only and their gradients come with the forward pass, so the sum arrives ready. */
#include "crank/loss.h"

static crank_tensor *record(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)graph, (void)options;
    return scores->nll;
}

const crank_objective objective_token_cross_entropy = {
    .name = "cross_entropy",
    .paper = "maximum likelihood",
    .summary = "negative log-likelihood of the next token",
    .scores = CRANK_SCORES_NLL,
    .fields = CRANK_FIELD_TARGETS,
    .record = record,
};
