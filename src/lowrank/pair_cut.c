/* pair_cut.c - the nearest pair of lower rank (Eckart and Young 1936), without forming the product.
 *
 *     B = Q_b R_b,  A^T = Q_a R_a,  R_b R_a^T = U S V^T:      B A = (Q_b U) S (Q_a V)^T
 *
 * The small decomposition is of [r, r] whatever the sizes of the map; all in double, rounded once. */
#include "lowrank/pair_cut.h"

#include <math.h>

#include "linalg/blas.h"

/* q [n, k] and r [k, rank] of a [n, rank] or, transposed, of a [rank, n]. */
static crank_status decompose(crank_context *context, const float *a, bool transposed, int64_t n, int64_t rank, double *q, double *r)
{
    int64_t k = smaller(n, rank);
    double *wide = crank_alloc(context, (size_t)(n * rank), sizeof *wide, "a factor");
    if (!wide) return CRANK_FAILED;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < rank; j++) wide[i * rank + j] = transposed ? (double)a[j * n + i] : (double)a[i * rank + j];
    crank_status status = crank_qr(context, crank_matrix_f64(wide, n, rank), CRANK_INSIDE_F64, crank_matrix_f64(q, n, k), crank_matrix_f64(r, k, rank));
    crank_free(wide);
    return status;
}

/* out [n, keep] = q [n, k] u [k, keep] diag(sqrt s) in float; `rows`: [keep, n] instead. */
static crank_status compose(crank_context *context, const double *q, const double *u, bool turned, const double *s, int64_t n, int64_t k, int64_t keep,
                            bool rows, float *out)
{
    double *wide = crank_alloc(context, (size_t)(n * keep), sizeof *wide, "a factor");
    if (!wide) return CRANK_FAILED;
    multiply(context, (product){.dtype = CRANK_F64, .trans_b = turned, .m = n, .n = keep, .k = k, .alpha = 1, .a = q, .b = u, .c = wide, .a_row = k,
                                .b_row = turned ? k : keep, .c_row = keep});
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < keep; j++) out[rows ? j * n + i : i * keep + j] = (float)(wide[i * keep + j] * sqrt(s[j]));
    crank_free(wide);
    return CRANK_OK;
}

static double share_lost(const double *s, int64_t n, int64_t keep)
{
    double all = 0, tail = 0;
    for (int64_t i = 0; i < n; i++) {
        all += s[i] * s[i];
        if (i >= keep) tail += s[i] * s[i];
    }
    return all > 0 ? sqrt(tail / all) : 0;
}

crank_status pair_cut(crank_context *context, int64_t in, int64_t out, int64_t keep, int64_t *rank, float **A, float **B, double *lost)
{
    int64_t r = *rank, ka = smaller(in, r), kb = smaller(out, r), k = smaller(ka, kb);
    keep = smaller(keep, k);
    double *qa = crank_alloc(context, (size_t)(in * ka), 8, "a basis"), *qb = crank_alloc(context, (size_t)(out * kb), 8, "a basis");
    double *ra = crank_alloc(context, (size_t)(ka * r), 8, "a factor"), *rb = crank_alloc(context, (size_t)(kb * r), 8, "a factor");
    double *core = crank_alloc(context, (size_t)(kb * ka), 8, "a core"), *s = crank_alloc(context, (size_t)k, 8, "singular values");
    double *u = crank_alloc(context, (size_t)(kb * keep), 8, "vectors"), *vt = crank_alloc(context, (size_t)(keep * ka), 8, "vectors");
    float  *a = crank_alloc(context, (size_t)(keep * in), sizeof *a, "a factor"), *b = crank_alloc(context, (size_t)(out * keep), sizeof *b, "a factor");
    crank_status status = qa && qb && ra && rb && core && s && u && vt && a && b ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = decompose(context, *A, true, in, r, qa, ra);
    if (status == CRANK_OK) status = decompose(context, *B, false, out, r, qb, rb);
    if (status == CRANK_OK) {
        multiply(context, (product){.dtype = CRANK_F64, .trans_b = true, .m = kb, .n = ka, .k = r, .alpha = 1, .a = rb, .b = ra, .c = core, .a_row = r,
                                    .b_row = r, .c_row = ka});
        status = crank_svd(context, crank_matrix_f64(core, kb, ka), CRANK_INSIDE_F64, crank_matrix_f64(u, kb, keep), s, crank_matrix_f64(vt, keep, ka));
    }
    if (status == CRANK_OK) status = compose(context, qb, u, false, s, out, kb, keep, false, b);
    if (status == CRANK_OK) status = compose(context, qa, vt, true, s, in, ka, keep, true, a);
    if (status == CRANK_OK) {
        if (lost) *lost = share_lost(s, k, keep);
        crank_free(*A), crank_free(*B);
        *A = a, *B = b, *rank = keep;
        a = b = NULL;
    }
    crank_free(qa), crank_free(qb), crank_free(ra), crank_free(rb), crank_free(core), crank_free(s), crank_free(u), crank_free(vt), crank_free(a), crank_free(b);
    return status;
}
