/* outliers.h - the share of outliers in each layer of a model, for OwLore's draws (optim/outlier.h). */
#ifndef CRANK_TASK_OUTLIERS_H
#define CRANK_TASK_OUTLIERS_H

#include "crank/model.h"

/* Runs the model over token ids [count] in sequences of at most 512 (less its context), and gives shares [*layers] of entries of
 * |W_ij| sqrt(a_j) above M times their mean, over all linears of a layer together; crank_free. NULL: message set. */
double *outliers_measure(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, double M, int *layers);
/* Norms of what each linear of the layers reads over the same tokens: out[index of the linear] [in], others stay NULL; each crank_free. */
crank_status outliers_norms(crank_context *context, crank_model *model, const int32_t *ids, int64_t count, double **out);
#endif
