/* pca.h - principal components of rows that arrive in batches.
 *
 * Two ways, both with the mean taken out:
 *   covariance    C += X^T X in f64 and the column sums; exact whatever the batches; n^2 numbers; more than 1,024 inputs are decomposed by a
 *                 randomised range finder
 *   incremental   the leading `keep` components and singular values stand for all earlier rows (Ross et al. 2008):
 *                 SVD of [diag(s) V; X - mean(X); sqrt(N k / (N + k)) (mean - mean(X))]; exact when keep >= the rank of the data */
#ifndef CRANK_LOWRANK_PCA_H
#define CRANK_LOWRANK_PCA_H

#include "crank/base.h"

typedef struct pca pca;
typedef enum pca_way { PCA_AUTO, PCA_COVARIANCE, PCA_INCREMENTAL } pca_way; /* auto: covariance up to n = 4096 */

pca         *pca_new(crank_context *context, int64_t n, int64_t keep, pca_way way); /* keep <= n. NULL: message set */
void         pca_free(pca *p);
crank_status pca_add(crank_context *context, pca *p, const float *x, int64_t k); /* x [k, n] */
/* What k rows sum up to: second [n, n] X^T X, sum [n]; covariance only. */
crank_status pca_add_second(crank_context *context, pca *p, const float *second, const float *sum, int64_t k);
int64_t      pca_rows(const pca *p);
/* V [keep, n] orthonormal rows, largest first, the entry of largest magnitude of each positive; variance [keep] (sums of squares along
 * them, N times the variance), *total: of all columns. With `smallest` the last `keep` components (covariance only). */
crank_status pca_components(crank_context *context, pca *p, bool smallest, float *V, double *variance, double *total);
size_t       pca_bytes(int64_t n, int64_t keep, pca_way way);      /* of one */
size_t       pca_work_bytes(int64_t n, int64_t keep, pca_way way); /* that pca_add and pca_components take beside, at most */
#endif
