/* plain_select.c - plain bodies of top_k and of eigh.
 *
 * eigh is the cyclic method of Jacobi: rotations in the planes (p, q), p < q, in order, each of which makes a_pq zero, until the entries off
 * the diagonal are below the rounding of double. */
#include <math.h>
#include <string.h>

#include "device/cpu/plain.h"

/* ---- top_k ---- */

static bool beats(double a, double b) { return a > b || (!isnan(a) && isnan(b)); }

size_t plain_top_k_workspace(const crank_call *call) { return (size_t)(call->in[0].rank == 2 ? call->in[0].dims[1] : 0) * 2 * sizeof(double); }

crank_status plain_top_k(crank_context *context, const crank_call *call)
{
    const crank_view *c = &call->in[0], *mask = &call->out[0];
    int64_t           k = ((const crank_top_k_attributes *)call->attributes)->k, n = c->dims[0], width = c->dims[1];
    double           *row = call->workspace, *chosen = row + width;
    (void)context;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < width; j++) row[j] = get(c, at2(c, i, j)), chosen[j] = 0;
        for (int64_t round = 0; round < k; round++) {
            int64_t best = -1;
            for (int64_t j = 0; j < width; j++)
                if (chosen[j] == 0 && (best < 0 || beats(row[j], row[best]))) best = j;
            chosen[best] = 1;
        }
        for (int64_t j = 0; j < width; j++) put(mask, at2(mask, i, j), chosen[j]);
    }
    return CRANK_OK;
}

/* ---- eigh ---- */

enum { SWEEPS = 60 };

size_t plain_eigh_workspace(const crank_call *call)
{
    size_t r = (size_t)(call->in[0].rank == 2 ? call->in[0].dims[0] : 0);
    return (2 * r * r + 2 * r) * sizeof(double);
}

static double off_diagonal(const double *a, int64_t r)
{
    double sum = 0;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++)
            if (i != j) sum += a[i * r + j] * a[i * r + j];
    return sqrt(sum);
}

/* Makes a_pq zero; v collects the rotations in its columns. */
static void rotate(double *a, double *v, int64_t r, int64_t p, int64_t q)
{
    double apq = a[p * r + q];
    if (apq == 0) return;
    double theta = (a[q * r + q] - a[p * r + p]) / (2 * apq), t = copysign(1, theta) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (int64_t k = 0; k < r; k++) { /* columns */
        double x = a[k * r + p], y = a[k * r + q];
        a[k * r + p] = c * x - s * y;
        a[k * r + q] = s * x + c * y;
        x = v[k * r + p], y = v[k * r + q];
        v[k * r + p] = c * x - s * y;
        v[k * r + q] = s * x + c * y;
    }
    for (int64_t k = 0; k < r; k++) { /* rows */
        double x = a[p * r + k], y = a[q * r + k];
        a[p * r + k] = c * x - s * y;
        a[q * r + k] = s * x + c * y;
    }
    a[p * r + q] = a[q * r + p] = 0;
}

static void write_sorted(const crank_call *call, const double *a, const double *v, double *order, int64_t r)
{
    const crank_view *values = &call->out[0], *vectors = &call->out[1];
    for (int64_t i = 0; i < r; i++) { /* ascending, equal ones in their order */
        int64_t place = 0;
        for (int64_t j = 0; j < r; j++) place += a[j * r + j] < a[i * r + i] || (a[j * r + j] == a[i * r + i] && j < i);
        order[place] = (double)i;
    }
    for (int64_t k = 0; k < r; k++) {
        int64_t from = (int64_t)order[k], largest = 0;
        for (int64_t i = 1; i < r; i++)
            if (fabs(v[i * r + from]) > fabs(v[largest * r + from])) largest = i;
        double sign = v[largest * r + from] < 0 ? -1 : 1;
        put(values, at1(values, k), a[from * r + from]);
        for (int64_t i = 0; i < r; i++) put(vectors, at2(vectors, i, k), sign * v[i * r + from]);
    }
}

crank_status plain_eigh(crank_context *context, const crank_call *call)
{
    const crank_view *in = &call->in[0];
    int64_t           r = in->dims[0];
    double           *a = call->workspace, *v = a + r * r, *order = v + r * r, norm = 0;
    (void)context;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++) {
            double value = 0.5 * (get(in, at2(in, i, j)) + get(in, at2(in, j, i)));
            a[i * r + j] = value;
            v[i * r + j] = i == j;
            norm += value * value;
        }
    bool finite = isfinite(norm); /* a gradient that is not: its step is skipped, whatever stands here */
    for (int sweep = 0; finite && sweep < SWEEPS && off_diagonal(a, r) > 1e-15 * sqrt(norm); sweep++)
        for (int64_t p = 0; p < r - 1; p++)
            for (int64_t q = p + 1; q < r; q++) rotate(a, v, r, p, q);
    for (int64_t i = 0; !finite && i < r; i++) a[i * r + i] = (double)NAN, order[i] = 0;
    if (!finite)
        for (int64_t k = 0; k < r; k++) {
            put(&call->out[0], at1(&call->out[0], k), (double)NAN);
            for (int64_t i = 0; i < r; i++) put(&call->out[1], at2(&call->out[1], i, k), i == k);
        }
    else write_sorted(call, a, v, order, r);
    return CRANK_OK;
}
