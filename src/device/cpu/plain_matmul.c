/* plain_matmul.c - plain bodies of c = alpha op(a) op(b) + bias + c0, with at most one batch dimension, and of c = a op(b) + scale t op(s) + c0. */
#include "device/cpu/plain.h"

/* A batch of matrices as base + b * batch + i * row + j * column. */
typedef struct matrices {
    const crank_view *view;
    int64_t           batch, row, column;
} matrices;

static matrices matrices_of(const crank_view *view, bool transposed)
{
    matrices m = {.view = view};
    if (!view_present(view)) return m;
    m.batch = view->rank == 3 && view->dims[0] != 1 ? view->strides[0] : 0;
    m.row = view->strides[view->rank - (transposed ? 1 : 2)];
    m.column = view->strides[view->rank - (transposed ? 2 : 1)];
    return m;
}

static double dot(const matrices *a, const matrices *b, int64_t from_a, int64_t from_b, int64_t k)
{
    double sum = 0;
    for (int64_t p = 0; p < k; p++) sum += get(a->view, from_a + p * a->column) * get(b->view, from_b + p * b->row);
    return sum;
}

crank_status plain_matmul(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view              *bias = &call->in[2], *out = &call->out[0];
    matrices a = matrices_of(&call->in[0], attributes->trans_a), b = matrices_of(&call->in[1], attributes->trans_b);
    matrices c0 = matrices_of(&call->in[3], false), c = matrices_of(out, false);
    int64_t  batches = out->rank == 3 ? out->dims[0] : 1, m = out->dims[out->rank - 2], n = out->dims[out->rank - 1];
    int64_t  k = a.view->dims[a.view->rank - (attributes->trans_a ? 2 : 1)];
    for (int64_t batch = 0; batch < batches; batch++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double value = dot(&a, &b, batch * a.batch + i * a.row, batch * b.batch + j * b.column, k);
                value *= attributes->alpha;
                if (view_present(bias)) value += get(bias, at1(bias, j));
                if (view_present(c0.view)) value += get(c0.view, batch * c0.batch + i * c0.row + j * c0.column);
                put(out, batch * c.batch + i * c.row + j * c.column, value);
            }
    return CRANK_OK;
}

crank_status plain_matmul_augmented(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_augmented_attributes *attributes = call->attributes;
    matrices a = matrices_of(&call->in[0], false), b = matrices_of(&call->in[1], attributes->trans_b), t = matrices_of(&call->in[2], false);
    matrices s = matrices_of(&call->in[3], attributes->trans_b), c0 = matrices_of(&call->in[4], false), c = matrices_of(&call->out[0], false);
    int64_t  n = c.view->dims[0], m = c.view->dims[1], k = a.view->dims[1], r = t.view->dims[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            double value = dot(&a, &b, i * a.row, j * b.column, k) + attributes->scale * dot(&t, &s, i * t.row, j * s.column, r);
            if (view_present(c0.view)) value += get(c0.view, i * c0.row + j * c0.column);
            put(c.view, i * c.row + j * c.column, value);
        }
    return CRANK_OK;
}
