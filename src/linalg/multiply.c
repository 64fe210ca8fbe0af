/* multiply.c - matrix products through OpenBLAS.
 *
 * The longer side of c is shared out over a team of the context's size, and each thread calls a one-thread gemm on its part: no
 * setting of the library is changed, so two contexts may multiply at once, and each element's sum has one order. */
#include <cblas.h>
#include <omp.h>

#include "linalg/blas.h"

enum { SMALL_PRODUCT = 1 << 18 }; /* multiply-adds under which a team costs more than it saves */

static void multiply_alone(const product *p)
{
    const CBLAS_TRANSPOSE trans_a = p->trans_a ? CblasTrans : CblasNoTrans, trans_b = p->trans_b ? CblasTrans : CblasNoTrans;
    if (p->m < 1 || p->n < 1) return;
    if (p->dtype == CRANK_F32)
        cblas_sgemm(CblasRowMajor, trans_a, trans_b, (blasint)p->m, (blasint)p->n, (blasint)p->k, (float)p->alpha, p->a, (blasint)p->a_row, p->b,
                    (blasint)p->b_row, (float)p->beta, p->c, (blasint)p->c_row);
    else
        cblas_dgemm(CblasRowMajor, trans_a, trans_b, (blasint)p->m, (blasint)p->n, (blasint)p->k, p->alpha, p->a, (blasint)p->a_row, p->b,
                    (blasint)p->b_row, p->beta, p->c, (blasint)p->c_row);
}

void multiply(const crank_context *context, product p)
{
    int     threads = (double)p.m * (double)p.n * (double)p.k < SMALL_PRODUCT ? 1 : crank_threads(context);
    bool    rows = p.m >= p.n;
    int64_t length = rows ? p.m : p.n;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        int64_t first = length * t / threads, count = length * (t + 1) / threads - first;
        product part = p;
        omp_set_num_threads(1); /* of this task alone */
        if (rows) {
            part.m = count;
            part.a = offset(p.a, p.dtype, p.trans_a ? first : first * p.a_row);
            part.c = offset(p.c, p.dtype, first * p.c_row);
        } else {
            part.n = count;
            part.b = offset(p.b, p.dtype, p.trans_b ? first * p.b_row : first);
            part.c = offset(p.c, p.dtype, first);
        }
        multiply_alone(&part);
    }
}
