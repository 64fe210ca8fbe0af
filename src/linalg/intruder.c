/* intruder.c - intruder dimensions: leading singular vectors of a trained weight that none of the weight before it resembles
 * (Shuttleworth, Andreas, Torralba, Sharma 2024, arXiv:2410.21228).
 *
 *     W0 = X S Z^T,  W = Y L Q^T (thin):      C = |Y_k^T X|  [k, q],   best_j = max_i C_ji,   intruders = { j : best_j < epsilon }
 *
 * The same on the right with Q and Z. Singular values that nearly coincide leave their vectors free to turn among themselves: a *cluster*
 * is a chain of values of W0, each within 1 % of the next, and the projection of y_j on its span does not see the turn.
 *
 * The fast way to Y_k is block subspace iteration on k + 8 columns that start from X_k and random ones, with Rayleigh-Ritz at its end. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/blas.h"

static const double CLUSTER = 0.01;
enum { EXTRA = 8, ROUND = 4, ROUNDS = 64 };

/* ---- the weight before ---- */

/* out [cols, rows] = a [rows, cols] transposed, rounded to float */
static void transpose_to_float(const double *a, int64_t rows, int64_t cols, float *out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) out[j * rows + i] = (float)a[i * cols + j];
}

crank_status crank_spectrum_of(crank_context *context, crank_matrix a, crank_spectrum *out)
{
    int64_t q = smaller(a.rows, a.cols);
    *out = (crank_spectrum){.m = a.rows, .n = a.cols, .q = q};
    double *u = dense_new(context, CRANK_F64, a.rows, q, "singular vectors");
    out->ut = crank_alloc(context, (size_t)(q * a.rows), sizeof *out->ut, "singular vectors");
    out->vt = crank_alloc(context, (size_t)(q * a.cols), sizeof *out->vt, "singular vectors");
    out->s = crank_alloc(context, (size_t)q, sizeof *out->s, "singular values");
    crank_status status = u && out->ut && out->vt && out->s ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK)
        status = crank_svd(context, a, CRANK_INSIDE_F64, crank_matrix_f64(u, a.rows, q), out->s, crank_matrix_f32(out->vt, q, a.cols));
    if (status == CRANK_OK) {
        transpose_to_float(u, a.rows, q, out->ut);
        out->norm = sqrt(matrix_squares(a));
    }
    crank_free(u);
    if (status != CRANK_OK) crank_spectrum_free(out);
    return status;
}

void crank_spectrum_free(crank_spectrum *spectrum)
{
    crank_free(spectrum->ut), crank_free(spectrum->vt), crank_free(spectrum->s);
    *spectrum = (crank_spectrum){0};
}

/* ---- the leading triplets after ---- */

static crank_status leading_exact(crank_context *context, crank_matrix w, int64_t top, crank_spectral_change *out)
{
    double *u = dense_new(context, CRANK_F64, w.rows, top, "singular vectors"), *s = dense_new(context, CRANK_F64, 1, out->q, "singular values");
    crank_status status = u && s ? crank_svd(context, w, CRANK_INSIDE_F64, crank_matrix_f64(u, w.rows, top), s, crank_matrix_f32(out->right, top, w.cols))
                                 : CRANK_FAILED;
    if (status == CRANK_OK) {
        transpose_to_float(u, w.rows, top, out->left);
        memcpy(out->s, s, (size_t)top * sizeof *s);
    }
    crank_free(u), crank_free(s);
    return status;
}

/* Rayleigh-Ritz on the columns of q [m, l]: q^T w = U S V^T gives y = q U. */
static crank_status ritz(crank_context *context, const double *w, const double *q, int64_t l, int64_t top, double *s, crank_spectral_change *out)
{
    int64_t m = out->m, n = out->n;
    double *b = dense_new(context, CRANK_F64, l, n, "a panel"), *u = dense_new(context, CRANK_F64, l, top, "a turn"), *y = dense_new(context, CRANK_F64, m, top, "vectors");
    crank_status status = b && u && y ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        multiply(context, (product){.dtype = CRANK_F64, .trans_a = true, .m = l, .n = n, .k = m, .alpha = 1, .a = q, .b = w, .c = b, .a_row = l, .b_row = n, .c_row = n});
        status = crank_svd(context, crank_matrix_f64(b, l, n), CRANK_INSIDE_F64, crank_matrix_f64(u, l, top), s, crank_matrix_f32(out->right, top, n));
    }
    if (status == CRANK_OK) {
        multiply(context, (product){.dtype = CRANK_F64, .m = m, .n = top, .k = l, .alpha = 1, .a = q, .b = u, .c = y, .a_row = l, .b_row = top, .c_row = top});
        transpose_to_float(y, m, top, out->left);
    }
    crank_free(b), crank_free(u), crank_free(y);
    return status;
}

static crank_status leading_fast(crank_context *context, const crank_spectrum *before, crank_matrix w, int64_t top, crank_spectral_change *out)
{
    int64_t m = out->m, l = smaller(top + EXTRA, out->q);
    double *wide = dense_new(context, CRANK_F64, m, out->n, "a weight"), *q = dense_new(context, CRANK_F64, m, l, "a basis");
    double *s = dense_new(context, CRANK_F64, 1, l, "singular values"), *last = dense_new(context, CRANK_F64, 1, l, "singular values"), worst = INFINITY;
    crank_status status = wide && q && s && last ? CRANK_OK : CRANK_FAILED;
    crank_stream stream = crank_stream_make(0, CRANK_RANDOM_METHOD, crank_hash_name("crank_spectral_change_of"));
    if (status == CRANK_OK) {
        dense_load(w, CRANK_F64, false, wide);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < l; j++) q[i * l + j] = j < top ? (double)before->ut[j * m + i] : (double)crank_draw_normal(stream, (uint64_t)(i * l + j)) / sqrt((double)m);
    }
    for (int round = 0; status == CRANK_OK && round < ROUNDS && worst > 1e-6; round++) {
        status = crank_subspace_refine(context, crank_matrix_f64(wide, m, out->n), CRANK_LEFT, ROUND, false, crank_matrix_f64(q, m, l), NULL);
        if (status == CRANK_OK) status = ritz(context, wide, q, l, top, s, out);
        worst = s[0] > 0 && round ? 0 : s[0] > 0 ? INFINITY : 0;
        for (int64_t j = 0; round && j < top && s[0] > 0; j++) worst = fmax(worst, fabs(s[j] - last[j]) / s[0]);
        memcpy(last, s, (size_t)l * sizeof *s);
    }
    if (status == CRANK_OK) memcpy(out->s, s, (size_t)top * sizeof *s);
    if (status == CRANK_OK && worst > 1e-6)
        crank_log(context, CRANK_WARNING, "crank_spectral_change_of: the leading values still move by %.1e of the largest after %d iterations", worst, ROUND * ROUNDS);
    crank_free(wide), crank_free(q), crank_free(s), crank_free(last);
    return status;
}

/* ---- comparing ---- */

/* after [top, length] against before [q, length], values s [q] of the latter */
static crank_status compare(crank_context *context, const float *before, const double *s, int64_t q, const float *after, int64_t top, int64_t length,
                            crank_spectral_side *out)
{
    out->cosines = crank_alloc(context, (size_t)(top * q), sizeof *out->cosines, "cosines of singular vectors");
    out->best = crank_alloc(context, (size_t)top, sizeof *out->best, "cosines of singular vectors");
    out->cluster = crank_alloc(context, (size_t)top, sizeof *out->cluster, "cosines of singular vectors");
    if (!out->cosines || !out->best || !out->cluster) return CRANK_FAILED;
    multiply(context, (product){.dtype = CRANK_F32, .trans_b = true, .m = top, .n = q, .k = length, .alpha = 1, .a = after, .b = before, .c = out->cosines,
                                .a_row = length, .b_row = length, .c_row = q});
    for (int64_t j = 0; j < top; j++) {
        double chain = 0;
        for (int64_t i = 0; i < q; i++) {
            float *cosine = &out->cosines[j * q + i];
            *cosine = fminf(fabsf(*cosine), 1);
            chain = (i && s[i] >= (1 - CLUSTER) * s[i - 1] ? chain : 0) + (double)*cosine * (double)*cosine;
            out->best[j] = fmax(out->best[j], *cosine);
            out->cluster[j] = fmax(out->cluster[j], fmin(sqrt(chain), 1));
        }
        out->cluster[j] = fmax(out->cluster[j], out->best[j]);
    }
    out->chance = sqrt(2 * log((double)q) / (double)length);
    return CRANK_OK;
}

/* |w - a| / |a| and the effective rank of w - a. */
static crank_status difference(crank_context *context, const crank_spectrum *before, crank_matrix a, crank_matrix w, crank_spectral_change *out)
{
    double *d = dense_new(context, CRANK_F64, a.rows, a.cols, "a change"), *s = dense_new(context, CRANK_F64, 1, out->q, "singular values"), squares = 0;
    crank_status status = d && s ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < a.rows; i++)
        for (int64_t j = 0; j < a.cols; j++) {
            double change = get(w.data, w.dtype, i * w.stride + j) - get(a.data, a.dtype, i * a.stride + j);
            d[i * a.cols + j] = change;
            squares += change * change;
        }
    out->distance = sqrt(squares);
    out->change = squares == 0 ? 0 : sqrt(squares) / fmax(before->norm, DBL_MIN);
    if (status == CRANK_OK && squares > 0) {
        status = crank_svd(context, crank_matrix_f64(d, a.rows, a.cols), CRANK_INSIDE_F64, crank_matrix_none(), s, crank_matrix_none());
        out->effective_rank = crank_effective_rank(s, out->q);
    }
    crank_free(d), crank_free(s);
    return status;
}

crank_status crank_spectral_change_of(crank_context *context, const crank_spectrum *before, crank_matrix a, crank_matrix after, int64_t top, bool fast,
                                      crank_spectral_change *out)
{
    static const char name[] = "crank_spectral_change_of";
    *out = (crank_spectral_change){.m = before->m, .n = before->n, .q = before->q, .top = top};
    crank_status status = matrix_input(context, name, "a", a, before->m, before->n);
    if (status == CRANK_OK) status = matrix_input(context, name, "after", after, before->m, before->n);
    if (status == CRANK_OK && (top < 1 || top > before->q))
        status = crank_fail(context, CRANK_USAGE, "%s: %lld leading vectors of a weight that has %lld", name, (long long)top, (long long)before->q);
    if (status != CRANK_OK) return status;
    out->s = crank_alloc(context, (size_t)top, sizeof *out->s, "singular values");
    out->left = crank_alloc(context, (size_t)(top * out->m), sizeof *out->left, "singular vectors");
    out->right = crank_alloc(context, (size_t)(top * out->n), sizeof *out->right, "singular vectors");
    if (!out->s || !out->left || !out->right) status = CRANK_FAILED;
    if (status == CRANK_OK) status = fast ? leading_fast(context, before, after, top, out) : leading_exact(context, after, top, out);
    if (status == CRANK_OK) status = compare(context, before->ut, before->s, out->q, out->left, top, out->m, &out->sides[CRANK_LEFT]);
    if (status == CRANK_OK) status = compare(context, before->vt, before->s, out->q, out->right, top, out->n, &out->sides[CRANK_RIGHT]);
    if (status == CRANK_OK) status = difference(context, before, a, after, out);
    if (status != CRANK_OK) crank_spectral_change_free(out);
    return status;
}

void crank_spectral_change_free(crank_spectral_change *change)
{
    crank_free(change->s), crank_free(change->left), crank_free(change->right);
    for (int i = 0; i < 2; i++) crank_free(change->sides[i].cosines), crank_free(change->sides[i].best), crank_free(change->sides[i].cluster);
    *change = (crank_spectral_change){0};
}

crank_intruders crank_intruders_of(const crank_spectral_change *change, crank_side side, int64_t k, double epsilon)
{
    const crank_spectral_side *s = &change->sides[side];
    crank_intruders            found = {0};
    double                     all = 0, theirs = 0;
    k = smaller(k, change->top);
    for (int64_t j = 0; j < k; j++) {
        double energy = change->s[j] * change->s[j];
        bool   intrudes = change->change != 0 && s->best[j] < epsilon;
        all += energy;
        found.mean += s->best[j] / (double)k;
        found.clustered += change->change != 0 && s->cluster[j] < epsilon;
        for (int64_t i = 0; i < k; i++) found.overlap += (double)s->cosines[j * change->q + i] * (double)s->cosines[j * change->q + i] / (double)k;
        if (!intrudes) continue;
        found.count++;
        theirs += energy;
        if (!found.first) found.first = j + 1;
    }
    found.energy = all > 0 ? theirs / all : 0;
    return found;
}
