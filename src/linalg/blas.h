/* blas.h - matrix products and typed LAPACK routines, with the context's threads and with workspace from crank_alloc. */
#ifndef CRANK_LINALG_BLAS_H
#define CRANK_LINALG_BLAS_H

#include "linalg/matrix.h"

/* c [m,n] = alpha op(a) op(b) + beta c, row-major in `dtype`; op(a) [m,k], op(b) [k,n]. */
typedef struct product {
    crank_dtype dtype;
    bool        trans_a, trans_b;
    int64_t     m, n, k;
    double      alpha, beta;
    const void *a, *b;
    void       *c;
    int64_t     a_row, b_row, c_row;
} product;
void multiply(const crank_context *context, product p);

/* LAPACK on row-major arrays: a row-major [m,n] is its transpose in column-major, so each routine below runs on the
 * transpose and nothing is moved. *info is LAPACK's: > 0 did not converge or has no solution. */
enum { EXACT_LIMIT = 20000 };
crank_status lapack_fits(crank_context *context, const char *function, crank_matrix a);
/* a [m,n] is destroyed; u [m,k], s [k] of dtype, vt [k,n], dense; u and vt NULL: values alone. `iteration`: gesvd, else gesdd */
crank_status lapack_svd(crank_context *context, crank_dtype dtype, bool iteration, int64_t m, int64_t n, void *a, void *s, void *u, void *vt,
                        int *info);
/* a [m,n] = q r: rows 0 .. k-1 of `a` hold r on and above the diagonal; tau [k] */
crank_status lapack_qr(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, void *a, void *tau);
/* columns 0 .. k-1 of a [m,n], rows still n apart, become q [m,k] */
crank_status lapack_qr_vectors(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, void *a, const void *tau);
/* lower triangle of a [n,n]; values [n] of dtype, ascending; rows of a become the eigenvectors */
crank_status lapack_eigen(crank_context *context, crank_dtype dtype, int64_t n, void *a, void *values, int *info);
/* lower triangle of a [n,n]; rows of b [c,n] become the solutions. *info > 0: that leading minor is not positive */
void lapack_solve_spd(crank_context *context, crank_dtype dtype, int64_t n, int64_t c, void *a, void *b, int *info);
#endif
