/* angles.c - principal angles between two subspaces (Bjoerck and Golub 1973). With orthonormal bases p [m,a], q [m,b], a >= b:
 *
 *     cosines = singular values of p^T q          sines = singular values of q - p (p^T q)
 *
 * A cosine near 1 says nothing of a small angle, nor a sine near 1 of a large one, so each angle comes from the one below sqrt(1/2). */
#include "linalg/sketch.h"

#include <inttypes.h>
#include <math.h>

/* A dense orthonormal basis in double; NULL after an error. */
static double *basis_of(crank_context *context, crank_matrix p)
{
    double *out = dense_new(context, CRANK_F64, p.rows, p.cols, "a basis");
    if (!out) return NULL;
    dense_load(p, CRANK_F64, false, out);
    if (orthonormal_panel(context, CRANK_F64, p.rows, p.cols, out) == CRANK_OK) return out;
    crank_free(out);
    return NULL;
}

static crank_status angles_between(crank_context *context, int64_t m, int64_t a, const double *p, int64_t b, double *q, double *angles)
{
    svd_factors  cosines = {0}, sines = {0};
    double      *overlap = dense_new(context, CRANK_F64, a, b, "an overlap");
    crank_status status = overlap ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        apply(context, crank_matrix_f64(p, m, a), true, q, b, overlap);
        status = svd_make(context, "crank_principal_angles", crank_matrix_f64(overlap, a, b), CRANK_F64, false, &cosines);
    }
    if (status == CRANK_OK) {
        multiply(context, (product){.dtype = CRANK_F64, .m = m, .n = b, .k = a, .alpha = -1, .beta = 1, .a = p, .a_row = a, .b = overlap, .b_row = b,
                                    .c = q, .c_row = b});
        status = svd_make(context, "crank_principal_angles", crank_matrix_f64(q, m, b), CRANK_F64, false, &sines);
    }
    for (int64_t i = 0; status == CRANK_OK && i < b; i++) {
        double cosine = fmin(1, ((double *)cosines.s)[i]), sine = fmin(1, ((double *)sines.s)[b - 1 - i]);
        angles[i] = cosine * cosine < 0.5 ? acos(cosine) : asin(sine);
    }
    crank_free(overlap);
    svd_free(&cosines);
    svd_free(&sines);
    return status;
}

crank_status crank_principal_angles(crank_context *context, crank_matrix p, crank_matrix q, double *angles)
{
    crank_status status = matrix_input(context, "crank_principal_angles", "p", p, ANY, ANY);
    if (status == CRANK_OK) status = matrix_input(context, "crank_principal_angles", "q", q, p.rows, ANY);
    if (status == CRANK_OK && (p.cols > p.rows || q.cols > p.rows))
        status = crank_fail(context, CRANK_USAGE, "crank_principal_angles: %" PRId64 " and %" PRId64 " columns of %" PRId64 " cannot be independent",
                            p.cols, q.cols, p.rows);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_principal_angles", p);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_principal_angles", q);
    if (status != CRANK_OK) return status;
    crank_matrix more = p.cols >= q.cols ? p : q, fewer = p.cols >= q.cols ? q : p;
    double      *first = basis_of(context, more), *second = first ? basis_of(context, fewer) : NULL;
    status = second ? angles_between(context, p.rows, more.cols, first, fewer.cols, second, angles) : crank_last_status(context);
    crank_free(first);
    crank_free(second);
    return status;
}
