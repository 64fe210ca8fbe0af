/* eigen.c - eigenvalues and eigenvectors of a symmetric matrix, a = v diag(l) v^T (LAPACK's syevd). */
#include "linalg/decompose.h"

#include <inttypes.h>

/* Rows i and n-1-i change places: LAPACK's order is ascending. */
static void reverse_rows(crank_dtype dtype, int64_t n, int64_t length, void *rows)
{
    for (int64_t i = 0; i < n / 2; i++)
        for (int64_t j = 0; j < length; j++) {
            int64_t here = i * length + j, there = (n - 1 - i) * length + j;
            double  value = get(rows, dtype, here);
            put(rows, dtype, here, get(rows, dtype, there));
            put(rows, dtype, there, value);
        }
}

crank_status eigen_rows(crank_context *context, const char *function, crank_matrix a, crank_dtype dtype, void *values, void *rows)
{
    int          info = 0;
    crank_status status = lapack_fits(context, function, a);
    if (status != CRANK_OK) return status;
    dense_load(a, dtype, false, rows);
    status = lapack_eigen(context, dtype, a.rows, rows, values, &info);
    if (status == CRANK_OK && info != 0)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: the eigenvalues of [%" PRId64 ",%" PRId64 "] do not converge (info %d)", function, a.rows,
                            a.cols, info);
    if (status != CRANK_OK) return status;
    reverse_rows(dtype, a.rows, 1, values);
    reverse_rows(dtype, a.rows, a.rows, rows);
    turn_vectors(crank_matrix_none(), crank_matrix_make(rows, dtype, a.rows, a.rows, a.rows));
    return CRANK_OK;
}

crank_status crank_eigen(crank_context *context, crank_matrix a, crank_inside inside, double *values, crank_matrix vectors)
{
    const crank_matrix all[] = {a, vectors};
    crank_dtype        dtype;
    crank_status       status = matrix_input(context, "crank_eigen", "a", a, ANY, a.rows);
    if (status == CRANK_OK && given(vectors)) status = matrix_shape(context, "crank_eigen", "vectors", vectors, a.rows, ANY);
    if (status == CRANK_OK && given(vectors) && vectors.cols > a.rows)
        status = crank_fail(context, CRANK_USAGE, "crank_eigen: %" PRId64 " eigenvectors of [%" PRId64 ",%" PRId64 "]", vectors.cols, a.rows, a.cols);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_eigen", inside, all, 2, &dtype);
    if (status != CRANK_OK) return status;
    void *rows = dense_new(context, dtype, a.rows, a.rows, "eigenvectors"), *found = dense_new(context, dtype, 1, a.rows, "eigenvalues");
    status = rows && found ? eigen_rows(context, "crank_eigen", a, dtype, found, rows) : CRANK_FAILED;
    if (status == CRANK_OK) {
        for (int64_t i = 0; values && i < a.rows; i++) values[i] = get(found, dtype, i);
        dense_store(vectors, dtype, rows, a.rows, true);
    }
    crank_free(rows);
    crank_free(found);
    return status;
}
