/* spectra.c - numbers that sum up a spectrum of singular values, and the spectral norm by power iteration of a^T a. */
#include "linalg/sketch.h"

#include <inttypes.h>
#include <math.h>

static double largest_of(const double *s, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, s[i]);
    return largest;
}

/* Values are divided by the largest first, so that neither sums nor squares can overflow or vanish. */
double crank_effective_rank(const double *s, int64_t n)
{
    double largest = largest_of(s, n), sum = 0, entropy = 0;
    if (!(largest > 0)) return 0;
    for (int64_t i = 0; i < n; i++) sum += s[i] / largest;
    for (int64_t i = 0; i < n; i++) {
        double p = s[i] / largest / sum;
        if (p > 0) entropy -= p * log(p);
    }
    return exp(entropy);
}

double crank_stable_rank(const double *s, int64_t n)
{
    double largest = largest_of(s, n), sum = 0;
    for (int64_t i = 0; largest > 0 && i < n; i++) sum += (s[i] / largest) * (s[i] / largest);
    return sum;
}

double crank_nuclear_norm(const double *s, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += s[i];
    return sum;
}

int64_t crank_numerical_rank(const double *s, int64_t n, double tolerance)
{
    double  cut = tolerance * largest_of(s, n);
    int64_t rank = 0;
    for (int64_t i = 0; i < n; i++) rank += s[i] > cut;
    return rank;
}

/* x [n] of dtype is divided by its length, which is returned. */
static double make_unit(crank_dtype dtype, int64_t n, void *x)
{
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(get(x, dtype, i)));
    for (int64_t i = 0; largest > 0 && i < n; i++) sum += (get(x, dtype, i) / largest) * (get(x, dtype, i) / largest);
    double length = largest * sqrt(sum);
    for (int64_t i = 0; length > 0 && i < n; i++) put(x, dtype, i, get(x, dtype, i) / length);
    return length;
}

/* x [n] is a unit vector; y [m]. v = a x / |a x|, x = a^T v / |a^T v|, and |a^T v| rises towards the norm. */
static crank_status power_iteration(crank_context *context, crank_matrix a, double tolerance, int64_t limit, void *x, void *y, double *norm)
{
    double before = 0, now = 0;
    for (int64_t step = 0; step < limit; step++) {
        apply(context, a, false, x, 1, y);
        if (make_unit(a.dtype, a.rows, y) > 0) {
            apply(context, a, true, y, 1, x);
            now = make_unit(a.dtype, a.cols, x);
        } else {
            now = 0; /* a Gaussian vector is in the null space of a zero matrix only */
        }
        if (fabs(now - before) <= tolerance * now) {
            *norm = now;
            return CRANK_OK;
        }
        before = now;
    }
    return crank_fail(context, CRANK_BAD_DATA,
                      "crank_spectral_norm: the norm of [%" PRId64 ",%" PRId64 "] does not settle to %g within %" PRId64 " steps (last value %g); allow more, or take it from crank_svd",
                      a.rows, a.cols, tolerance, limit, now);
}

crank_status crank_spectral_norm(crank_context *context, crank_matrix a, crank_stream stream, double tolerance, int64_t limit, double *norm)
{
    crank_status status = matrix_input(context, "crank_spectral_norm", "a", a, ANY, ANY);
    if (status == CRANK_OK && (!(tolerance >= (a.dtype == CRANK_F32 ? 1e-6 : 1e-14) && tolerance < 1) || limit < 1))
        status = crank_fail(context, CRANK_USAGE, "crank_spectral_norm: tolerance %g (from %g to 1) and limit %" PRId64 " (at least 1)", tolerance,
                            a.dtype == CRANK_F32 ? 1e-6 : 1e-14, limit);
    if (status != CRANK_OK) return status;
    float *normal = crank_alloc(context, (size_t)a.cols, sizeof *normal, "a start vector");
    void  *x = dense_new(context, a.dtype, a.cols, 1, "a start vector"), *y = dense_new(context, a.dtype, a.rows, 1, "a vector");
    status = normal && x && y ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        crank_fill_normal(stream, 0, 0, 1, normal, (size_t)a.cols);
        dense_load(crank_matrix_f32(normal, a.cols, 1), a.dtype, false, x);
        make_unit(a.dtype, a.cols, x);
        status = power_iteration(context, a, tolerance, limit, x, y, norm);
    }
    crank_free(normal);
    crank_free(x);
    crank_free(y);
    return status;
}
