/* outlier.c - the share of outliers of a layer. */
#include "optim/outlier.h"

#include <math.h>

void outlier_observe(const float *x, int64_t rows, int64_t cols, double *squares)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) squares[j] += (double)x[i * cols + j] * (double)x[i * cols + j];
}

crank_status outlier_share(crank_context *context, const outlier_matrix *matrices, int count, double M, double *share)
{
    double  sum = 0, entries = 0, over = 0;
    int64_t widest = 0;
    *share = 0;
    for (int k = 0; k < count; k++) widest = matrices[k].cols > widest ? matrices[k].cols : widest;
    double *root = crank_alloc(context, (size_t)widest + 1, sizeof *root, "norms of inputs");
    if (!root) return CRANK_FAILED;
    for (int pass = 0; pass < 2; pass++) {
        double threshold = entries > 0 ? M * sum / entries : 0;
        for (int k = 0; k < count; k++) {
            const outlier_matrix *a = &matrices[k];
            for (int64_t j = 0; j < a->cols; j++) root[j] = sqrt(a->squares[j]);
            for (int64_t i = 0; i < a->rows * a->cols; i++) {
                double value = fabs((double)a->weight[i]) * root[i % a->cols];
                if (pass)
                    over += value > threshold;
                else
                    sum += value, entries++;
            }
        }
    }
    crank_free(root);
    *share = entries > 0 ? over / entries : 0;
    return CRANK_OK;
}
