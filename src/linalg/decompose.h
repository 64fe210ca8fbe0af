/* decompose.h - the exact decompositions as the other files of the room use them: dense arrays of one type. */
#ifndef CRANK_LINALG_DECOMPOSE_H
#define CRANK_LINALG_DECOMPOSE_H

#include "linalg/blas.h"

/* a = u diag(s) vt: u [m,k], s [k] descending, vt [k,n]; all dense in dtype. Freed with svd_free, also after an error. */
typedef struct svd_factors {
    crank_dtype dtype;
    int64_t     m, n, k;
    void       *u, *s, *vt;
} svd_factors;
crank_status svd_make(crank_context *context, const char *function, crank_matrix a, crank_dtype dtype, bool vectors, svd_factors *out);
void         svd_free(svd_factors *svd);
/* Turns each pair of u [m,r] and vt [r,n] (either may have data NULL) so that u's, or without u vt's, largest entry is positive. */
void turn_vectors(crank_matrix u, crank_matrix vt);
/* u [m,r], vt [r,n]: given ones fit a [m,n], and r is the same and at most k. */
crank_status svd_shapes(crank_context *context, const char *function, crank_matrix a, crank_matrix u, crank_matrix vt);

/* y [m,l], l <= m, dense in dtype, becomes an orthonormal basis; computed in double. */
crank_status orthonormal_panel(crank_context *context, crank_dtype dtype, int64_t m, int64_t l, void *y);

/* Of the lower triangle of a [n,n]: values [n] descending, vectors [n,n] with an eigenvector in each ROW, dense in dtype, turned. */
crank_status eigen_rows(crank_context *context, const char *function, crank_matrix a, crank_dtype dtype, void *values, void *rows);
#endif
