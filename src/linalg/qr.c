/* qr.c - thin QR decomposition by Householder reflections, a [m,n] = q [m,k] r [k,n], k = min(m,n), with r_ii >= 0. */
#include "linalg/decompose.h"

#include <inttypes.h>

/* The packed a [m,n] becomes q (columns 0 .. k-1, rows n apart), and r [k,n] is written where it is not NULL. */
static crank_status decompose(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, void *a, void *r, bool vectors)
{
    int64_t k = smaller(m, n);
    void   *tau = dense_new(context, dtype, 1, k, "reflections");
    bool   *flip = crank_alloc(context, (size_t)k, sizeof *flip, "signs");
    crank_status status = tau && flip ? lapack_qr(context, dtype, m, n, a, tau) : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < k; i++) {
        flip[i] = get(a, dtype, i * n + i) < 0;
        for (int64_t j = i; r && j < n; j++) put(r, dtype, i * n + j, flip[i] ? -get(a, dtype, i * n + j) : get(a, dtype, i * n + j));
    }
    if (status == CRANK_OK && vectors) {
        status = lapack_qr_vectors(context, dtype, m, n, a, tau);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < k; j++)
                if (flip[j]) put(a, dtype, i * n + j, -get(a, dtype, i * n + j));
    }
    crank_free(tau);
    crank_free(flip);
    return status;
}

crank_status orthonormal_panel(crank_context *context, crank_dtype dtype, int64_t m, int64_t l, void *y)
{
    crank_matrix panel = crank_matrix_make(y, dtype, m, l, l);
    double      *wide = crank_alloc(context, (size_t)m * (size_t)l, sizeof *wide, "a panel in double");
    if (!wide) return CRANK_FAILED;
    dense_load(panel, CRANK_F64, false, wide);
    crank_status status = decompose(context, CRANK_F64, m, l, wide, NULL, true);
    if (status == CRANK_OK) dense_store(panel, CRANK_F64, wide, l, false);
    crank_free(wide);
    return status;
}

crank_status crank_qr(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix q, crank_matrix r)
{
    const crank_matrix all[] = {a, q, r};
    crank_dtype        dtype;
    crank_status       status = matrix_input(context, "crank_qr", "a", a, ANY, ANY);
    int64_t            k = smaller(a.rows, a.cols);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_qr", a);
    if (status == CRANK_OK && given(q)) status = matrix_shape(context, "crank_qr", "q", q, a.rows, k);
    if (status == CRANK_OK && given(r)) status = matrix_shape(context, "crank_qr", "r", r, k, a.cols);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_qr", inside, all, 3, &dtype);
    if (status != CRANK_OK) return status;
    void *copy = dense_new(context, dtype, a.rows, a.cols, "a copy of a matrix"), *upper = dense_new(context, dtype, k, a.cols, "a triangle");
    status = copy && upper ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        dense_load(a, dtype, false, copy);
        status = decompose(context, dtype, a.rows, a.cols, copy, upper, given(q));
    }
    if (status == CRANK_OK) {
        dense_store(q, dtype, copy, a.cols, false);
        dense_store(r, dtype, upper, a.cols, false);
    }
    crank_free(copy);
    crank_free(upper);
    return status;
}

crank_status crank_orthonormalise(crank_context *context, crank_matrix a, crank_inside inside)
{
    crank_status status = matrix_shape(context, "crank_orthonormalise", "a", a, ANY, ANY);
    if (status == CRANK_OK && a.cols > a.rows)
        status = crank_fail(context, CRANK_USAGE, "crank_orthonormalise: %" PRId64 " vectors of %" PRId64 " cannot be orthogonal", a.cols, a.rows);
    return status == CRANK_OK ? crank_qr(context, a, inside, a, crank_matrix_none()) : status;
}
