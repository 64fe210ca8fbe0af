/* spectrum.c - leading singular triplets of a weight or a gradient. */
#include "lowrank/spectrum.h"

#include "crank/linalg.h"
#include "linalg/blas.h"

enum { EXACT = 512, OVERSAMPLE = 8, POWERS = 6 };

void spectrum_free(spectrum *s)
{
    crank_free(s->U), crank_free(s->s), crank_free(s->Vt);
    *s = (spectrum){ .r = 0 };
}

static bool goes_exact(int64_t small, int64_t r) { return small <= EXACT || r + OVERSAMPLE >= small; }

size_t spectrum_bytes(int64_t m, int64_t n, int64_t r)
{
    int64_t small = m < n ? m : n, l = r + OVERSAMPLE;
    /* exact: a copy, the vectors of both sides and the work of LAPACK's divide and conquer; else panels of l columns and a small decomposition */
    int64_t numbers = goes_exact(small, r) ? m * n + (m + n) * small + 8 * small * small : 4 * (m + n) * l + 8 * l * l;
    return (size_t)numbers * sizeof(double);
}

crank_status spectrum_of(crank_context *context, const float *g, int64_t m, int64_t n, int64_t r, crank_stream stream, spectrum *out)
{
    int64_t small = m < n ? m : n;
    bool    exact = goes_exact(small, r);
    *out = (spectrum){ .m = m, .n = n, .r = r, .all = exact ? small : r };
    out->U = crank_alloc(context, (size_t)(m * r), sizeof *out->U, "singular vectors");
    out->Vt = crank_alloc(context, (size_t)(r * n), sizeof *out->Vt, "singular vectors");
    out->s = crank_alloc(context, (size_t)out->all, sizeof *out->s, "singular values");
    crank_status status = out->U && out->Vt && out->s ? CRANK_OK : CRANK_FAILED;
    crank_matrix a = crank_matrix_f32(g, m, n), u = crank_matrix_f32(out->U, m, r), vt = crank_matrix_f32(out->Vt, r, n);
    crank_sketch sketch = { .rank = r, .oversample = OVERSAMPLE, .powers = POWERS, .stream = stream };
    if (status == CRANK_OK)
        status = exact ? crank_svd(context, a, CRANK_INSIDE_F64, u, out->s, vt) : crank_randomised_svd(context, a, &sketch, u, out->s, vt, NULL);
    if (status) spectrum_free(out);
    return status;
}

crank_status spectrum_of_weight(crank_context *context, const crank_site *site, int64_t r, spectrum *out)
{
    const crank_linear *linear = site->linear;
    int64_t             m = linear->out, n = linear->in;
    if (r > (m < n ? m : n))
        return crank_fail(context, CRANK_USAGE, "%s is a %lld x %lld map: a rank of %lld is more than it has; lower lowrank.rank, or give it one by rank_pattern",
                          linear->name, (long long)m, (long long)n, (long long)r);
    float       *W = crank_alloc(context, (size_t)(m * n), sizeof *W, linear->name);
    crank_status status = W ? crank_linear_rows(context, linear, 0, m, W) : CRANK_FAILED;
    crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(linear->name));
    if (status == CRANK_OK) status = spectrum_of(context, W, m, n, r, stream, out);
    if (status == CRANK_BAD_DATA) status = crank_fail_in(context, "%s", linear->name);
    crank_free(W);
    return status;
}

crank_status gradient_add(crank_context *context, const crank_linear *linear, const crank_observation *batch, float **G)
{
    if (!*G && !(*G = crank_alloc(context, (size_t)(linear->out * linear->in), sizeof **G, "a gradient"))) return CRANK_FAILED;
    for (int64_t i = 0; batch->g && i < linear->out * linear->in; i++) (*G)[i] += batch->g[i];
    if (batch->g) return CRANK_OK;
    multiply(context, (product){ .dtype = CRANK_F32, .trans_a = true, .m = linear->out, .n = linear->in, .k = batch->n, .alpha = 1, .beta = 1, .a = batch->dy,
                                 .b = batch->x, .c = *G, .a_row = linear->out, .b_row = linear->in, .c_row = linear->in });
    return CRANK_OK;
}

bool gradient_is_zero(const crank_linear *linear, const float *G)
{
    for (int64_t i = 0; i < linear->out * linear->in; i++)
        if (G[i] != 0) return false;
    return true;
}
