/* svd.c - thin singular value decomposition, a [m,n] = u diag(s) vt (LAPACK's gesdd, then gesvd). */
#include "linalg/decompose.h"

#include <inttypes.h>
#include <math.h>

void svd_free(svd_factors *svd)
{
    crank_free(svd->u);
    crank_free(svd->s);
    crank_free(svd->vt);
    svd->u = svd->s = svd->vt = NULL;
}

void turn_vectors(crank_matrix u, crank_matrix vt)
{
    int64_t r = given(u) ? u.cols : given(vt) ? vt.rows : 0;
    for (int64_t j = 0; j < r; j++) {
        double  largest = 0;
        int64_t length = given(u) ? u.rows : vt.cols;
        for (int64_t i = 0; i < length; i++) {
            double value = given(u) ? get(u.data, u.dtype, i * u.stride + j) : get(vt.data, vt.dtype, j * vt.stride + i);
            if (fabs(value) > fabs(largest)) largest = value;
        }
        if (largest >= 0) continue;
        for (int64_t i = 0; given(u) && i < u.rows; i++) put(u.data, u.dtype, i * u.stride + j, -get(u.data, u.dtype, i * u.stride + j));
        for (int64_t i = 0; given(vt) && i < vt.cols; i++)
            put(vt.data, vt.dtype, j * vt.stride + i, -get(vt.data, vt.dtype, j * vt.stride + i));
    }
}

crank_status svd_make(crank_context *context, const char *function, crank_matrix a, crank_dtype dtype, bool vectors, svd_factors *out)
{
    int          info = 0;
    crank_status status = lapack_fits(context, function, a);
    *out = (svd_factors){.dtype = dtype, .m = a.rows, .n = a.cols, .k = smaller(a.rows, a.cols)};
    if (status != CRANK_OK) return status;
    void *copy = dense_new(context, dtype, a.rows, a.cols, "a copy of a matrix");
    out->s = dense_new(context, dtype, 1, out->k, "singular values");
    if (vectors) {
        out->u = dense_new(context, dtype, out->m, out->k, "singular vectors");
        out->vt = dense_new(context, dtype, out->k, out->n, "singular vectors");
    }
    if (!copy || !out->s || (vectors && (!out->u || !out->vt))) status = CRANK_FAILED;
    for (int iteration = 0; status == CRANK_OK && iteration < 2; iteration++) {
        dense_load(a, dtype, false, copy);
        status = lapack_svd(context, dtype, iteration, out->m, out->n, copy, out->s, out->u, out->vt, &info);
        if (info == 0) break;
        if (status == CRANK_OK && iteration == 0)
            crank_log(context, CRANK_WARNING, "%s: divide and conquer did not converge on [%" PRId64 ",%" PRId64 "]; QR iteration follows", function,
                      a.rows, a.cols);
    }
    if (status == CRANK_OK && info != 0)
        status = crank_fail(context, CRANK_BAD_DATA,
                            "%s: the singular values of [%" PRId64 ",%" PRId64 "] do not converge, neither by gesdd nor by gesvd (info %d); scale the matrix",
                            function, a.rows, a.cols, info);
    if (status == CRANK_OK && vectors)
        turn_vectors(crank_matrix_make(out->u, dtype, out->m, out->k, out->k), crank_matrix_make(out->vt, dtype, out->k, out->n, out->n));
    crank_free(copy);
    return status;
}

crank_status svd_shapes(crank_context *context, const char *function, crank_matrix a, crank_matrix u, crank_matrix vt)
{
    int64_t      k = smaller(a.rows, a.cols), r = given(u) ? u.cols : vt.rows;
    crank_status status = CRANK_OK;
    if (given(u)) status = matrix_shape(context, function, "u", u, a.rows, ANY);
    if (status == CRANK_OK && given(vt)) status = matrix_shape(context, function, "vt", vt, r, a.cols);
    if (status == CRANK_OK && (given(u) || given(vt)) && r > k)
        status = crank_fail(context, CRANK_USAGE, "%s: %" PRId64 " singular vectors of [%" PRId64 ",%" PRId64 "], which has %" PRId64, function, r,
                            a.rows, a.cols, k);
    return status;
}

crank_status crank_svd(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix u, double *s, crank_matrix vt)
{
    const crank_matrix all[] = {a, u, vt};
    crank_dtype        dtype;
    svd_factors        made = {0};
    crank_status       status = matrix_input(context, "crank_svd", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = svd_shapes(context, "crank_svd", a, u, vt);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_svd", inside, all, 3, &dtype);
    if (status == CRANK_OK) status = svd_make(context, "crank_svd", a, dtype, given(u) || given(vt), &made);
    if (status == CRANK_OK) {
        for (int64_t i = 0; s && i < made.k; i++) s[i] = get(made.s, dtype, i);
        dense_store(u, dtype, made.u, made.k, false);
        dense_store(vt, dtype, made.vt, made.n, false);
    }
    svd_free(&made);
    return status;
}
