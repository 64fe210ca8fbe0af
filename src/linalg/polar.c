/* polar.c - polar decomposition through singular values (Higham 1986): a = u s vt gives q = u vt and, on the smaller side,
 * h = v s vt (m >= n, a = q h) or h = u s u^T (m < n, a = h q). */
#include "linalg/decompose.h"

#include <math.h>

/* h [k,k] = w^T w with w = sqrt(s) times vectors in rows; its upper triangle is copied from the lower one. */
static crank_status symmetric_factor(crank_context *context, const svd_factors *made, crank_matrix h)
{
    int64_t k = made->k;
    bool    tall = made->m >= made->n;
    void   *w = dense_new(context, made->dtype, k, k, "a factor"), *out = dense_new(context, made->dtype, k, k, "a symmetric factor");
    if (w && out) {
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < k; j++)
                put(w, made->dtype, i * k + j,
                    sqrt(get(made->s, made->dtype, i)) * (tall ? get(made->vt, made->dtype, i * k + j) : get(made->u, made->dtype, j * k + i)));
        multiply(context, (product){.dtype = made->dtype, .trans_a = true, .m = k, .n = k, .k = k, .alpha = 1, .a = w, .a_row = k, .b = w,
                                    .b_row = k, .c = out, .c_row = k});
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < i; j++) put(out, made->dtype, j * k + i, get(out, made->dtype, i * k + j));
        dense_store(h, made->dtype, out, k, false);
    }
    bool done = w && out;
    crank_free(w);
    crank_free(out);
    return done ? CRANK_OK : CRANK_FAILED;
}

crank_status crank_polar(crank_context *context, crank_matrix a, crank_inside inside, crank_matrix q, crank_matrix h)
{
    const crank_matrix all[] = {a, q, h};
    int64_t            k = smaller(a.rows, a.cols);
    crank_dtype        dtype;
    svd_factors        made = {0};
    crank_status       status = matrix_input(context, "crank_polar", "a", a, ANY, ANY);
    if (status == CRANK_OK && given(q)) status = matrix_shape(context, "crank_polar", "q", q, a.rows, a.cols);
    if (status == CRANK_OK && given(h)) status = matrix_shape(context, "crank_polar", "h", h, k, k);
    if (status == CRANK_OK) status = matrix_inside(context, "crank_polar", inside, all, 3, &dtype);
    if (status == CRANK_OK) status = svd_make(context, "crank_polar", a, dtype, true, &made);
    if (status == CRANK_OK && given(h)) status = symmetric_factor(context, &made, h);
    if (status == CRANK_OK && given(q)) {
        void *out = dense_new(context, dtype, a.rows, a.cols, "a polar factor");
        if (out) {
            multiply(context, (product){.dtype = dtype, .m = a.rows, .n = a.cols, .k = k, .alpha = 1, .a = made.u, .a_row = k, .b = made.vt,
                                        .b_row = a.cols, .c = out, .c_row = a.cols});
            dense_store(q, dtype, out, a.cols, false);
        }
        status = out ? CRANK_OK : CRANK_FAILED;
        crank_free(out);
    }
    svd_free(&made);
    return status;
}
