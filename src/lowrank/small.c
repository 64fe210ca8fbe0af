/* small.c - (I + M)^-1 by the singular values of I + M. Singular: |(I + M)^-1| (1 + |M|) above 1e6, where values rounded to f32 say nothing. */
#include "lowrank/small.h"

#include <math.h>

#include "crank/linalg.h"

double *small_read(crank_context *context, const crank_param *param)
{
    double *values = crank_alloc(context, (size_t)crank_view_count(&param->view), sizeof *values, param->name);
    if (values && crank_param_read(context, param, values, CRANK_F64) == CRANK_OK) return values;
    crank_free(values);
    return NULL;
}

crank_status small_inverse_plus(crank_context *context, const crank_linear *linear, const double *M, int64_t r, double *out)
{
    double *plus = crank_alloc(context, (size_t)(r * r), sizeof *plus, "a small matrix");
    double  before = 0, after = 0;
    int64_t rank = 0;
    if (!plus) return CRANK_FAILED;
    for (int64_t i = 0; i < r * r; i++) plus[i] = M[i] + (i % (r + 1) == 0), before += M[i] * M[i];
    crank_status status = crank_pseudo_inverse(context, crank_matrix_f64(plus, r, r), CRANK_INSIDE_F64, 0, crank_matrix_f64(out, r, r), &rank);
    for (int64_t i = 0; status == CRANK_OK && i < r * r; i++) after += out[i] * out[i];
    crank_free(plus);
    if (status == CRANK_OK && !(rank == r && sqrt(after) * (1 + sqrt(before)) < 1e6))
        status = crank_fail(context, CRANK_BAD_DATA, "%s: the merge has taken directions away from the weight (I + M is singular): it cannot be unmerged; merge with keep_original",
                            linear->name);
    return status;
}
