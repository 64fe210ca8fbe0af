/* range.c - randomised range finder and singular value decomposition (Halko, Martinsson, Tropp 2011, arXiv:0909.4061):
 *
 *     y = a test, q = orth(y);  powers times:  z = orth(a^T q), q = orth(a z)                                  (algorithm 4.4)
 *     |a - q q^T a| <= 10 sqrt(2/pi) max_i |(1 - q q^T) a w_i|,  i = 1 .. p, with probability 1 - 10^-p      (lemma 4.1)
 *     b = q^T a = u' s vt,  u = q u'                                                                          (algorithm 5.1)
 *
 * For the row space the same runs on a^T, which is never formed. */
#include "linalg/sketch.h"

#include <inttypes.h>
#include <math.h>

enum { PROBES = 10, CHUNK = 256 };

crank_matrix matrix_of(void *data, crank_dtype dtype, int64_t rows, int64_t cols) { return crank_matrix_make(data, dtype, rows, cols, cols); }

void apply(const crank_context *context, crank_matrix a, bool transposed, const void *x, int64_t l, void *y)
{
    multiply(context, (product){.dtype = a.dtype, .trans_a = transposed, .m = transposed ? a.cols : a.rows, .n = l, .k = transposed ? a.rows : a.cols,
                                .alpha = 1, .a = a.data, .a_row = a.stride, .b = x, .b_row = l, .c = y, .c_row = l});
}

crank_status subspace_step(crank_context *context, crank_matrix a, bool transposed, int64_t l, void *q, void *z)
{
    int64_t rows = transposed ? a.cols : a.rows, cols = transposed ? a.rows : a.cols;
    apply(context, a, !transposed, q, l, z);
    crank_status status = orthonormal_panel(context, a.dtype, cols, l, z);
    if (status == CRANK_OK) apply(context, a, transposed, z, l, q);
    return status == CRANK_OK ? orthonormal_panel(context, a.dtype, rows, l, q) : status;
}

/* Gaussian [rows,cols] from draw `first` on, in dtype. */
static void *gaussian(crank_context *context, crank_dtype dtype, crank_stream stream, uint64_t first, int64_t rows, int64_t cols)
{
    size_t count = (size_t)rows * (size_t)cols;
    void  *out = dense_new(context, dtype, rows, cols, "a Gaussian test matrix");
    if (!out) return NULL;
    if (dtype == CRANK_F32) {
        crank_fill_normal(stream, first, 0, 1, out, count);
        return out;
    }
    for (size_t done = 0; done < count; done += CHUNK) {
        float  draws[CHUNK];
        size_t length = count - done < CHUNK ? count - done : CHUNK;
        crank_fill_normal(stream, first + done, 0, 1, draws, length);
        for (size_t i = 0; i < length; i++) ((double *)out)[done + i] = draws[i];
    }
    return out;
}

static crank_status sketch_check(crank_context *context, const char *function, crank_matrix a, const crank_sketch *sketch)
{
    int64_t k = smaller(a.rows, a.cols);
    if (sketch->rank < 1 || sketch->rank > k || sketch->oversample < 0 || sketch->powers < 0)
        return crank_fail(context, CRANK_USAGE,
                          "%s: rank %" PRId64 ", oversample %" PRId64 ", powers %" PRId64 " for [%" PRId64 ",%" PRId64
                          "]; rank is 1 to %" PRId64 ", the others are at least 0",
                          function, sketch->rank, sketch->oversample, sketch->powers, a.rows, a.cols, k);
    if (crank_sketch_columns(a, sketch) > EXACT_LIMIT)
        return crank_fail(context, CRANK_USAGE, "%s: %" PRId64 " columns of a sketch; at most %d are possible", function,
                          crank_sketch_columns(a, sketch), EXACT_LIMIT);
    return CRANK_OK;
}

int64_t crank_sketch_columns(crank_matrix a, const crank_sketch *sketch)
{
    int64_t k = smaller(a.rows, a.cols);
    return sketch->oversample < k - sketch->rank ? sketch->rank + sketch->oversample : k;
}

/* q [rows,l] dense of op(a) */
static crank_status find_range(crank_context *context, crank_matrix a, bool transposed, const crank_sketch *sketch, int64_t l, void *q)
{
    int64_t      rows = transposed ? a.cols : a.rows, cols = transposed ? a.rows : a.cols;
    void        *test = gaussian(context, a.dtype, sketch->stream, sketch->first, cols, l);
    crank_status status = test ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        apply(context, a, transposed, test, l, q);
        status = orthonormal_panel(context, a.dtype, rows, l, q);
    }
    for (int64_t i = 0; status == CRANK_OK && i < sketch->powers; i++) status = subspace_step(context, a, transposed, l, q, test);
    crank_free(test);
    return status;
}

crank_status captured(crank_context *context, crank_matrix a, bool transposed, int64_t l, const void *q, double squares, double *energy)
{
    int64_t cols = transposed ? a.rows : a.cols;
    void   *projection = dense_new(context, a.dtype, cols, l, "a projection");
    if (!projection) return CRANK_FAILED;
    apply(context, a, !transposed, q, l, projection);
    *energy = squares > 0 ? fmin(1, matrix_squares(matrix_of(projection, a.dtype, cols, l)) / squares) : 1;
    crank_free(projection);
    return CRANK_OK;
}

/* 10 sqrt(2/pi) max |(1 - q q^T) op(a) w|, plus what rounding may hide in a residual: an epsilon of |a| */
static crank_status estimate(crank_context *context, crank_matrix a, bool transposed, const crank_sketch *sketch, int64_t l, const void *q,
                             double norm, double *error)
{
    int64_t  rows = transposed ? a.cols : a.rows, cols = transposed ? a.rows : a.cols;
    uint64_t first = sketch->first + (uint64_t)cols * (uint64_t)l;
    void    *w = gaussian(context, a.dtype, sketch->stream, first, cols, PROBES), *y = dense_new(context, a.dtype, rows, PROBES, "probes");
    void    *inside = dense_new(context, a.dtype, l, PROBES, "probes");
    bool     done = w && y && inside;
    if (done) {
        double largest = 0;
        apply(context, a, transposed, w, PROBES, y);
        apply(context, matrix_of((void *)(uintptr_t)q, a.dtype, rows, l), true, y, PROBES, inside);
        multiply(context, (product){.dtype = a.dtype, .m = rows, .n = PROBES, .k = l, .alpha = -1, .beta = 1, .a = q, .a_row = l, .b = inside,
                                    .b_row = PROBES, .c = y, .c_row = PROBES});
        for (int64_t j = 0; j < PROBES; j++) {
            double sum = 0;
            for (int64_t i = 0; i < rows; i++) sum += get(y, a.dtype, i * PROBES + j) * get(y, a.dtype, i * PROBES + j);
            largest = fmax(largest, sqrt(sum));
        }
        *error = 10 * sqrt(2 / M_PI) * largest + epsilon_of(a.dtype) * norm;
    }
    crank_free(w);
    crank_free(y);
    crank_free(inside);
    return done ? CRANK_OK : CRANK_FAILED;
}

crank_status crank_range_finder(crank_context *context, crank_matrix a, crank_side side, const crank_sketch *sketch, crank_matrix q,
                                crank_capture *capture)
{
    bool         transposed = side == CRANK_RIGHT;
    int64_t      rows = transposed ? a.cols : a.rows;
    crank_status status = matrix_input(context, "crank_range_finder", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = sketch_check(context, "crank_range_finder", a, sketch);
    int64_t l = status == CRANK_OK ? crank_sketch_columns(a, sketch) : 0;
    if (status == CRANK_OK) status = matrix_shape(context, "crank_range_finder", "q", q, rows, l);
    if (status != CRANK_OK) return status;
    void *panel = dense_new(context, a.dtype, rows, l, "a basis");
    status = panel ? find_range(context, a, transposed, sketch, l, panel) : CRANK_FAILED;
    if (status == CRANK_OK && capture) {
        double squares = matrix_squares(a);
        capture->norm = sqrt(squares);
        status = captured(context, a, transposed, l, panel, squares, &capture->energy);
        if (status == CRANK_OK) status = estimate(context, a, transposed, sketch, l, panel, capture->norm, &capture->error);
    }
    if (status == CRANK_OK) dense_store(q, a.dtype, panel, l, false);
    crank_free(panel);
    return status;
}

/* What rank leading triplets of b's hold of a. */
static crank_status capture_triplets(crank_context *context, crank_matrix a, const crank_sketch *sketch, int64_t l, const void *q,
                                     const svd_factors *b, crank_capture *capture)
{
    double squares = matrix_squares(a), kept = 0;
    for (int64_t i = 0; i < sketch->rank; i++) kept += get(b->s, b->dtype, i) * get(b->s, b->dtype, i);
    capture->norm = sqrt(squares);
    capture->energy = squares > 0 ? fmin(1, kept / squares) : 1;
    crank_status status = estimate(context, a, false, sketch, l, q, capture->norm, &capture->error);
    if (status == CRANK_OK && sketch->rank < b->k) capture->error += get(b->s, b->dtype, sketch->rank);
    return status;
}

crank_status crank_randomised_svd(crank_context *context, crank_matrix a, const crank_sketch *sketch, crank_matrix u, double *s, crank_matrix vt,
                                  crank_capture *capture)
{
    svd_factors  b = {0};
    crank_status status = matrix_input(context, "crank_randomised_svd", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = sketch_check(context, "crank_randomised_svd", a, sketch);
    if (status == CRANK_OK && given(u)) status = matrix_shape(context, "crank_randomised_svd", "u", u, a.rows, sketch->rank);
    if (status == CRANK_OK && given(vt)) status = matrix_shape(context, "crank_randomised_svd", "vt", vt, sketch->rank, a.cols);
    if (status != CRANK_OK) return status;
    int64_t l = crank_sketch_columns(a, sketch), rank = sketch->rank;
    void   *q = dense_new(context, a.dtype, a.rows, l, "a basis"), *small = dense_new(context, a.dtype, l, a.cols, "a projection");
    status = q && small ? find_range(context, a, false, sketch, l, q) : CRANK_FAILED;
    if (status == CRANK_OK) {
        multiply(context, (product){.dtype = a.dtype, .trans_a = true, .m = l, .n = a.cols, .k = a.rows, .alpha = 1, .a = q, .a_row = l, .b = a.data,
                                    .b_row = a.stride, .c = small, .c_row = a.cols});
        status = svd_make(context, "crank_randomised_svd", matrix_of(small, a.dtype, l, a.cols), CRANK_F64, true, &b);
    }
    if (status == CRANK_OK && capture) status = capture_triplets(context, a, sketch, l, q, &b, capture);
    if (status == CRANK_OK && given(u)) status = turn_basis(context, a.dtype, a.rows, l, q, b.u, l, rank, u);
    if (status == CRANK_OK) {
        for (int64_t i = 0; s && i < rank; i++) s[i] = get(b.s, b.dtype, i);
        dense_store(vt, b.dtype, b.vt, a.cols, false);
        turn_vectors(u, vt);
    }
    svd_free(&b);
    crank_free(q);
    crank_free(small);
    return status;
}
