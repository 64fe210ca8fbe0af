/* taylor.h - first-order importance of heads and neurons. */
#ifndef CRANK_TASK_TAYLOR_H
#define CRANK_TASK_TAYLOR_H

#include "crank/model.h"

/* Sums |w dL/dw| over the coupled weights of every unit, L the loss of next tokens on sequences of at most `length` tokens, each by itself
 * (LLM-Pruner's criterion, Ma et al. 2023, arXiv:2305.11627). heads [layers][kv_heads] and neurons [layers][inner] are zeroed arrays. */
crank_status taylor_scores(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, int64_t length, double **heads, double **neurons);
#endif
