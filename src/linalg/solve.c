/* solve.c - pseudo-inverse by singular values, and symmetric positive definite systems by Cholesky's decomposition.
 *
 *     a^+ = v diag(1 / s_i, where s_i > tolerance * s_0) u^T          a = l l^T,  l l^T x = b */
#include "linalg/decompose.h"

#include <inttypes.h>

crank_status crank_pseudo_inverse(crank_context *context, crank_matrix a, crank_inside inside, double tolerance, crank_matrix out, int64_t *rank)
{
    const crank_matrix all[] = {a, out};
    crank_dtype        dtype;
    svd_factors        made = {0};
    crank_status       status = matrix_input(context, "crank_pseudo_inverse", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = matrix_shape(context, "crank_pseudo_inverse", "out", out, a.cols, a.rows);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_pseudo_inverse", inside, all, 2, &dtype);
    if (status == CRANK_OK && !(tolerance >= 0 && tolerance < 1))
        status = crank_fail(context, CRANK_USAGE, "crank_pseudo_inverse: tolerance %g is not in [0,1)", tolerance);
    if (status == CRANK_OK) status = svd_make(context, "crank_pseudo_inverse", a, dtype, true, &made);
    void *inverse = status == CRANK_OK ? dense_new(context, dtype, a.cols, a.rows, "an inverse") : NULL;
    if (inverse) {
        double  cut = (tolerance > 0 ? tolerance : (double)larger(a.rows, a.cols) * epsilon_of(dtype)) * get(made.s, dtype, 0);
        int64_t kept = 0;
        while (kept < made.k && get(made.s, dtype, kept) > cut) kept++;
        for (int64_t i = 0; i < kept; i++)
            for (int64_t j = 0; j < made.n; j++)
                put(made.vt, dtype, i * made.n + j, get(made.vt, dtype, i * made.n + j) / get(made.s, dtype, i));
        if (kept > 0) /* u's rows are k apart, and its first `kept` columns count */
            multiply(context, (product){.dtype = dtype, .trans_a = true, .trans_b = true, .m = made.n, .n = made.m, .k = kept, .alpha = 1,
                                        .a = made.vt, .a_row = made.n, .b = made.u, .b_row = made.k, .c = inverse, .c_row = made.m});
        dense_store(out, dtype, inverse, made.m, false);
        if (rank) *rank = kept;
    } else if (status == CRANK_OK) {
        status = CRANK_FAILED;
    }
    crank_free(inverse);
    svd_free(&made);
    return status;
}

crank_status crank_solve_spd(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix b, crank_matrix x)
{
    const crank_matrix all[] = {a, b, x};
    crank_dtype        dtype;
    int                info = 0;
    crank_status       status = matrix_input(context, "crank_solve_spd", "a", a, ANY, a.rows);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_solve_spd", a);
    if (status == CRANK_OK) status = matrix_input(context, "crank_solve_spd", "b", b, a.rows, ANY);
    if (status == CRANK_OK) status = matrix_shape(context, "crank_solve_spd", "x", x, b.rows, b.cols);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_solve_spd", inside, all, 3, &dtype);
    if (status != CRANK_OK) return status;
    void *factor = dense_new(context, dtype, a.rows, a.cols, "a factor"), *columns = dense_new(context, dtype, b.cols, b.rows, "right sides");
    status = factor && columns ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        dense_load(a, dtype, false, factor);
        dense_load(b, dtype, true, columns);
        lapack_solve_spd(context, dtype, a.rows, b.cols, factor, columns, &info);
        if (info != 0)
            status = crank_fail(context, CRANK_BAD_DATA,
                                "crank_solve_spd: a [%" PRId64 ",%" PRId64 "] is not positive definite: its leading minor of order %d is not positive; add a multiple of the identity",
                                a.rows, a.cols, info);
        else
            dense_store(x, dtype, columns, b.rows, true);
    }
    crank_free(factor);
    crank_free(columns);
    return status;
}
