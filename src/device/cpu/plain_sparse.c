/* plain_sparse.c - plain bodies of products with a sparse matrix, and of samples of a product. Equations: operations.h. */
#include "device/cpu/plain.h"

/* One row of y in double. */
size_t plain_sparse_matmul_workspace(const crank_call *call) { return (size_t)call->out[0].dims[1] * sizeof(double); }

crank_status plain_sparse_matmul(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_sparse_attributes *a = call->attributes;
    const crank_view *x = &call->in[0], *v = &call->in[1], *index = &call->in[2], *y = &call->out[0];
    double           *sum = call->workspace;
    for (int64_t t = 0; t < y->dims[0]; t++) {
        for (int64_t j = 0; j < y->dims[1]; j++) sum[j] = 0;
        for (int64_t k = 0; k < v->dims[0]; k++) {
            int64_t place = id_at(index, at1(index, k)), row = place / a->cols, col = place % a->cols;
            if (place < 0 || row >= a->rows) continue;
            sum[a->transpose ? col : row] += get(v, at1(v, k)) * get(x, at2(x, t, a->transpose ? row : col));
        }
        for (int64_t j = 0; j < y->dims[1]; j++) put(y, at2(y, t, j), sum[j]);
    }
    return CRANK_OK;
}

crank_status plain_sparse_sample(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *a = &call->in[0], *b = &call->in[1], *index = &call->in[2], *v = &call->out[0];
    int64_t           rows = a->dims[1], cols = b->dims[1];
    for (int64_t k = 0; k < v->dims[0]; k++) {
        int64_t place = id_at(index, at1(index, k)), row = place / cols, col = place % cols;
        double  sum = 0;
        for (int64_t t = 0; place >= 0 && row < rows && t < a->dims[0]; t++) sum += get(a, at2(a, t, row)) * get(b, at2(b, t, col));
        put(v, at1(v, k), sum);
    }
    return CRANK_OK;
}
