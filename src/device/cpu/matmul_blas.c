/* matmul_blas.c - matmul in f64 through OpenBLAS: finite differences and references.
 *
 * Rows of c are shared out over the team and each thread calls a one-thread dgemm on its own (OpenBLAS's OpenMP build
 * does not start a team inside of one), so that no setting of the library is changed and results do not depend on its
 * own division. */
#include <cblas.h>
#include <omp.h>
#include <string.h>

#include "device/cpu/bodies.h"
#include "device/operations.h"

typedef struct operands {
    const double *a, *b, *bias, *c0;
    double *c;
    int64_t m, n, k, a_row, b_row, c_row, c0_row;
    bool trans_a, trans_b;
    double alpha;
} operands;

static const double *batch_of(const crank_view *view, int64_t i)
{
    const double *data = view->data;
    return view->rank == 3 && view->dims[0] > 1 ? data + i * view->strides[0] : data;
}

/* Rows first .. last - 1 of c. */
static void multiply_rows(const operands *o, int64_t first, int64_t last)
{
    if (first >= last) return;
    omp_set_num_threads(1); /* of this task alone: a team of one is no parallel region to OpenBLAS */
    for (int64_t i = first; i < last; i++) {
        double *c = o->c + i * o->c_row;
        const double *c0 = o->c0 ? o->c0 + i * o->c0_row : NULL;
        for (int64_t j = 0; j < o->n; j++) c[j] = (o->bias ? o->bias[j] : 0) + (c0 ? c0[j] : 0);
    }
    const double *a = o->a + (o->trans_a ? first : first * o->a_row);
    cblas_dgemm(CblasRowMajor, o->trans_a ? CblasTrans : CblasNoTrans, o->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)(last - first), (blasint)o->n, (blasint)o->k, o->alpha, a, (blasint)o->a_row, o->b,
                (blasint)o->b_row, 1, o->c + first * o->c_row, (blasint)o->c_row);
}

static crank_status run(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0];
    int64_t batch = c->rank == 3 ? c->dims[0] : 1;
    operands o = {.m = c->dims[c->rank - 2],
                  .n = c->dims[c->rank - 1],
                  .trans_a = attributes->trans_a,
                  .trans_b = attributes->trans_b,
                  .alpha = attributes->alpha};
    o.k = a->dims[a->rank - (o.trans_a ? 2 : 1)];
    o.a_row = a->strides[a->rank - 2];
    o.b_row = b->strides[b->rank - 2];
    o.c_row = c->strides[c->rank - 2];
    o.bias = view_present(bias) ? bias->data : NULL;
    o.c0_row = view_present(c0) ? c0->strides[c0->rank - 2] : 0;
    int threads = cpu_threads(call);
    for (int64_t i = 0; i < batch; i++) {
        o.a = batch_of(a, i);
        o.b = batch_of(b, i);
        o.c = c->rank == 3 ? (double *)c->data + i * c->strides[0] : c->data;
        o.c0 = view_present(c0) ? batch_of(c0, i) : NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int t = 0; t < threads; t++) multiply_rows(&o, o.m * t / threads, o.m * (t + 1) / threads);
    }
    return CRANK_OK;
}

bool matmul_blas_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    (void)threads;
    if (strcmp(operation, "matmul") != 0 || call->in[0].dtype != CRANK_F64 || call->out[0].dtype != CRANK_F64)
        return false;
    for (int i = 0; i < 5; i++) {
        const crank_view *view = i < 4 ? &call->in[i] : &call->out[0];
        if (!view_present(view)) continue;
        /* its indices are 32 bits, and a row stride must cover a row */
        int64_t row = view->rank > 1 ? view->strides[view->rank - 2] : 0;
        for (int axis = 0; axis < view->rank; axis++)
            if (view->dims[axis] < 1 || view->dims[axis] > INT32_MAX) return false;
        if (view->rank > 1 && (row < view->dims[view->rank - 1] || row > INT32_MAX)) return false;
    }
    *body = (crank_body){.name = "openblas", .run = run};
    return true;
}
