/* gram.c - a a^T and a^T a in double, and the singular value decomposition of very wide or tall matrices on top:
 *
 *     m <= n:  a a^T = u diag(s^2) u^T,  vt = diag(1/s) u^T a          m > n:  a^T a = v diag(s^2) v^T,  u = a v diag(1/s) */
#include "linalg/decompose.h"

#include <inttypes.h>
#include <math.h>

enum { BLOCK = 512 }; /* columns (rows) of the longer side that are widened at a time */

/* out [k,k] dense in double += x x^T (left) or x^T x of a slice of a, `count` from `first` on */
static void add_slice(const crank_context *context, crank_matrix a, crank_side side, int64_t first, int64_t count, double *buffer, double *out)
{
    bool         left = side == CRANK_LEFT;
    int64_t      k = left ? a.rows : a.cols;
    crank_matrix slice = a;
    slice.data = offset(a.data, a.dtype, left ? first : first * a.stride);
    slice.rows = left ? k : count;
    slice.cols = left ? count : k;
    if (a.dtype == CRANK_F32) {
        dense_load(slice, CRANK_F64, false, buffer);
        slice = crank_matrix_f64(buffer, slice.rows, slice.cols);
    }
    multiply(context, (product){.dtype = CRANK_F64, .trans_a = !left, .trans_b = left, .m = k, .n = k, .k = count, .alpha = 1, .beta = 1,
                                .a = slice.data, .a_row = slice.stride, .b = slice.data, .b_row = slice.stride, .c = out, .c_row = k});
}

static crank_status gram(crank_context *context, crank_matrix a, crank_side side, double *out)
{
    int64_t length = side == CRANK_LEFT ? a.cols : a.rows, k = side == CRANK_LEFT ? a.rows : a.cols;
    double *buffer = a.dtype == CRANK_F32 ? dense_new(context, CRANK_F64, k, smaller(length, BLOCK), "a block in double") : NULL;
    if (a.dtype == CRANK_F32 && !buffer) return CRANK_FAILED;
    for (int64_t first = 0; first < length; first += BLOCK) add_slice(context, a, side, first, smaller(BLOCK, length - first), buffer, out);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < i; j++) out[j * k + i] = out[i * k + j];
    crank_free(buffer);
    return CRANK_OK;
}

crank_status crank_gram(crank_context *context, crank_matrix a, crank_side side, crank_matrix out)
{
    crank_status status = matrix_input(context, "crank_gram", "a", a, ANY, ANY);
    int64_t      k = side == CRANK_LEFT ? a.rows : a.cols;
    if (status == CRANK_OK) status = matrix_shape(context, "crank_gram", "out", out, k, k);
    if (status != CRANK_OK) return status;
    double *sum = dense_new(context, CRANK_F64, k, k, "a Gram matrix");
    status = sum ? gram(context, a, side, sum) : CRANK_FAILED;
    if (status == CRANK_OK) dense_store(out, CRANK_F64, sum, k, false);
    crank_free(sum);
    return status;
}

/* The longer side's vectors from the shorter side's (rows of `vectors`): rows [r,n] = diag(1/s) vectors a for a wide a, columns
 * [m,r] = a vectors^T diag(1/s) for a tall one; zero where s is. */
static crank_status longer_side(crank_context *context, crank_matrix a, const double *vectors, const double *s, int64_t r, crank_matrix out)
{
    bool    wide = a.rows <= a.cols;
    int64_t k = smaller(a.rows, a.cols);
    void   *scaled = dense_new(context, a.dtype, r, k, "scaled vectors");
    void   *dense = dense_new(context, a.dtype, out.rows, out.cols, "singular vectors");
    if (scaled && dense) {
        for (int64_t i = 0; i < r; i++)
            for (int64_t j = 0; j < k; j++) put(scaled, a.dtype, i * k + j, s[i] > 0 ? vectors[i * k + j] / s[i] : 0);
        if (wide)
            multiply(context, (product){.dtype = a.dtype, .m = r, .n = a.cols, .k = k, .alpha = 1, .a = scaled, .a_row = k, .b = a.data,
                                        .b_row = a.stride, .c = dense, .c_row = a.cols});
        else
            multiply(context, (product){.dtype = a.dtype, .trans_b = true, .m = a.rows, .n = r, .k = k, .alpha = 1, .a = a.data, .a_row = a.stride,
                                        .b = scaled, .b_row = k, .c = dense, .c_row = r});
        dense_store(out, a.dtype, dense, out.cols, false);
    }
    bool done = scaled && dense;
    crank_free(scaled);
    crank_free(dense);
    return done ? CRANK_OK : CRANK_FAILED;
}

/* Eigenvalues become singular values: those that squaring has drowned in rounding become zero. How many are left. */
static int64_t take_roots(double *values, int64_t k, double cut)
{
    int64_t rank = 0;
    for (int64_t i = 0; i < k; i++) {
        values[i] = values[i] > cut ? sqrt(values[i]) : 0;
        rank += values[i] > 0;
    }
    return rank;
}

crank_status crank_gram_svd(crank_context *context, crank_matrix a, crank_matrix u, double *s, crank_matrix vt, int64_t *rank)
{
    crank_status status = matrix_input(context, "crank_gram_svd", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = svd_shapes(context, "crank_gram_svd", a, u, vt);
    if (status == CRANK_OK) status = lapack_fits(context, "crank_gram_svd", a);
    if (status != CRANK_OK) return status;
    bool    wide = a.rows <= a.cols;
    int64_t k = smaller(a.rows, a.cols);
    double *sum = dense_new(context, CRANK_F64, k, k, "a Gram matrix"), *vectors = dense_new(context, CRANK_F64, k, k, "eigenvectors");
    double *values = dense_new(context, CRANK_F64, 1, k, "eigenvalues");
    status = sum && vectors && values ? gram(context, a, wide ? CRANK_LEFT : CRANK_RIGHT, sum) : CRANK_FAILED;
    if (status == CRANK_OK) status = eigen_rows(context, "crank_gram_svd", crank_matrix_f64(sum, k, k), CRANK_F64, values, vectors);
    if (status == CRANK_OK) {
        int64_t      found = take_roots(values, k, values[0] * (double)larger(a.rows, a.cols) * epsilon_of(CRANK_F64));
        crank_matrix shorter = wide ? u : vt, longer = wide ? vt : u;
        if (rank) *rank = found;
        for (int64_t i = 0; s && i < k; i++) s[i] = values[i];
        if (given(longer)) status = longer_side(context, a, vectors, values, wide ? vt.rows : u.cols, longer);
        dense_store(shorter, CRANK_F64, vectors, k, wide);
        if (status == CRANK_OK) turn_vectors(u, vt);
    }
    crank_free(sum);
    crank_free(vectors);
    crank_free(values);
    return status;
}
