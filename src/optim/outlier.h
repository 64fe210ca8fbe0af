/* outlier.h - how many outliers the product of a layer's weights and inputs has (Yin et al. 2023, arXiv:2310.05175; used by OwLore).
 *
 *     A_ij = |W_ij| sqrt(a_j),   D = share of all entries of the layer's matrices with A > M mean(A), strictly
 *
 * a_j is any multiple of the squared norm of input feature j: D does not change when W or a is scaled. */
#ifndef CRANK_OPTIM_OUTLIER_H
#define CRANK_OPTIM_OUTLIER_H

#include "crank/base.h"

typedef struct outlier_matrix {
    const float  *weight;  /* [rows, cols] */
    const double *squares; /* a [cols], >= 0 */
    int64_t       rows, cols;
} outlier_matrix;

/* D of a layer of `count` matrices, in 0 .. 1; 0 for no entries. Two passes over the weights, nothing allocated but sqrt(a). */
crank_status outlier_share(crank_context *context, const outlier_matrix *matrices, int count, double M, double *share);
/* squares[j] += sum over rows of x[i][j]^2, x [rows, cols]: the running sum of calibration inputs. */
void outlier_observe(const float *x, int64_t rows, int64_t cols, double *squares);
#endif
