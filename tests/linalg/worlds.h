/* worlds.h - matrices with known spectra and plain residuals, in double, for the tests of decompositions. */
#ifndef CRANK_TESTS_LINALG_WORLDS_H
#define CRANK_TESTS_LINALG_WORLDS_H

#include "testing.h"

#include "crank/linalg.h"

static inline int fresh_context(void **state) { return !(*state = crank_context_new()); }
static inline int end_context(void **state)
{
    crank_context_free(*state);
    return 0;
}

static inline double element(crank_matrix a, int64_t i, int64_t j)
{
    return a.dtype == CRANK_F32 ? (double)((float *)a.data)[i * a.stride + j] : ((double *)a.data)[i * a.stride + j];
}
static inline void set_element(crank_matrix a, int64_t i, int64_t j, double value)
{
    if (a.dtype == CRANK_F32)
        ((float *)a.data)[i * a.stride + j] = (float)value;
    else
        ((double *)a.data)[i * a.stride + j] = value;
}

/* Zeros, rows `gap` more than cols apart; free(.data) */
static inline crank_matrix zeros(crank_dtype dtype, int64_t rows, int64_t cols, int64_t gap)
{
    return crank_matrix_make(calloc((size_t)(rows * (cols + gap)), dtype == CRANK_F32 ? 4 : 8), dtype, rows, cols, cols + gap);
}

static inline crank_matrix normals(crank_dtype dtype, int64_t rows, int64_t cols, uint32_t index)
{
    crank_matrix a = zeros(dtype, rows, cols, 3);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            set_element(a, i, j, crank_draw_normal(crank_stream_make(7, CRANK_RANDOM_TEST, index), (uint64_t)(i * cols + j)));
    return a;
}

/* out = op(a) op(b), plain loops in double */
static inline crank_matrix times(crank_matrix a, bool trans_a, crank_matrix b, bool trans_b)
{
    int64_t      m = trans_a ? a.cols : a.rows, n = trans_b ? b.rows : b.cols, k = trans_a ? a.rows : a.cols;
    crank_matrix c = zeros(CRANK_F64, m, n, 0);
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++) {
            double left = trans_a ? element(a, l, i) : element(a, i, l);
            for (int64_t j = 0; j < n; j++) ((double *)c.data)[i * n + j] += left * (trans_b ? element(b, j, l) : element(b, l, j));
        }
    return c;
}

static inline double distance(crank_matrix a, crank_matrix b)
{
    double sum = 0;
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t j = 0; j < a.cols; j++) sum += pow(element(a, i, j) - element(b, i, j), 2);
    return sqrt(sum);
}

static inline double norm_of(crank_matrix a)
{
    double sum = 0;
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t j = 0; j < a.cols; j++) sum += pow(element(a, i, j), 2);
    return sqrt(sum);
}

/* |q^T q - 1| (columns) or |q q^T - 1| (rows), the largest element */
static inline double unorthonormal(crank_matrix q, bool rows)
{
    crank_matrix gram = times(q, !rows, q, rows);
    double       worst = 0;
    for (int64_t i = 0; i < gram.rows; i++)
        for (int64_t j = 0; j < gram.cols; j++) worst = fmax(worst, fabs(element(gram, i, j) - (i == j)));
    free(gram.data);
    return worst;
}

/* u diag(s) vt in double */
static inline crank_matrix rebuilt(crank_matrix u, const double *s, crank_matrix vt)
{
    crank_matrix scaled = zeros(CRANK_F64, u.rows, u.cols, 0);
    for (int64_t i = 0; i < u.rows; i++)
        for (int64_t j = 0; j < u.cols; j++) set_element(scaled, i, j, element(u, i, j) * s[j]);
    crank_matrix out = times(scaled, false, vt, false);
    free(scaled.data);
    return out;
}

/* A matrix with the singular values s [min(m,n)] and random orthonormal vectors. */
static inline crank_matrix with_spectrum(crank_context *context, crank_dtype dtype, int64_t m, int64_t n, const double *s, uint32_t index)
{
    int64_t      k = m < n ? m : n;
    crank_matrix u = normals(CRANK_F64, m, k, 1000 + 2 * index), v = normals(CRANK_F64, n, k, 1001 + 2 * index), vt = zeros(CRANK_F64, k, n, 0);
    assert_ok(context, crank_orthonormalise(context, u, CRANK_INSIDE_F64));
    assert_ok(context, crank_orthonormalise(context, v, CRANK_INSIDE_F64));
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) set_element(vt, i, j, element(v, j, i));
    crank_matrix a = rebuilt(u, s, vt), out = zeros(dtype, m, n, 2);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) set_element(out, i, j, element(a, i, j));
    free(u.data);
    free(v.data);
    free(vt.data);
    free(a.data);
    return out;
}

#define assert_at_most(value, bound)                                                                                   \
    do {                                                                                                               \
        double held_ = (value), most_ = (bound);                                                                       \
        if (!(held_ <= most_)) fail_msg("%s = %g is more than %g", #value, held_, most_);                              \
    } while (0)
#define assert_refused(context, wanted, call, text)                                                                    \
    do {                                                                                                               \
        assert_int_equal(call, wanted);                                                                                \
        if (!strstr(crank_message(context), text)) fail_msg("the message is: %s", crank_message(context));             \
    } while (0)
#endif
