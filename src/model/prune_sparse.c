/* prune_sparse.c - zeros in the linears of a model's layers, by the smallest scores (LoRAM's semi- and unstructured bases).
 *
 *     score_ij = |w_ij|, or |w_ij| |x_j| with the norms of inputs over a text (Wanda, Sun et al. 2024, arXiv:2306.11695), or a draw
 *     4:8              of 8 inputs in a row 4 stay; a row's rest of fewer than 8 keeps its share, rounded up
 *     unstructured     the share `ratio` of a linear's weights goes, or of each of its rows
 *
 * Of equal scores the lower place stays. */
#include <math.h>
#include <string.h>

#include "crank/random.h"
#include "model/model.h"
#include "model/prune.h"

/* The `keep` best of w[0..n-1] stay. */
static crank_status keep_best(crank_context *context, const double *scores, int64_t n, int64_t keep, float *w, int32_t *places)
{
    if (keep >= n) return CRANK_OK;
    crank_status status = keep ? subset_best(context, scores, n, keep, places) : CRANK_OK;
    for (int64_t i = 0, k = 0; status == CRANK_OK && i < n; i++) {
        if (k < keep && places[k] == i) k++;
        else w[i] = 0;
    }
    return status;
}

static void score(const crank_linear *linear, const prune_mask *mask, const float *w, double *scores)
{
    const double *norms = mask->norms ? mask->norms[linear->index] : NULL;
    crank_stream  stream = crank_stream_make(mask->seed, CRANK_RANDOM_METHOD, crank_hash_name(linear->name));
    for (int64_t i = 0; i < linear->out; i++)
        for (int64_t j = 0; j < linear->in; j++) {
            int64_t at = i * linear->in + j;
            scores[at] = mask->rule == PRUNE_RANDOM ? (double)crank_draw_normal(stream, (uint64_t)at) : fabs((double)w[at]) * (norms ? norms[j] : 1);
        }
}

static crank_status cut(crank_context *context, const crank_linear *linear, const prune_mask *mask, float *w, const double *scores, int32_t *places)
{
    int64_t      in = linear->in, all = in * linear->out;
    crank_status status = CRANK_OK;
    if (!mask->of && !mask->by_row) return keep_best(context, scores, all, all - (int64_t)floor(mask->ratio * (double)all), w, places);
    for (int64_t i = 0; status == CRANK_OK && i < linear->out; i++) {
        int64_t run = mask->of ? mask->of : in;
        for (int64_t j = 0; status == CRANK_OK && j < in; j += run) {
            int64_t n = in - j < run ? in - j : run, keep = mask->of ? (mask->keep * n + mask->of - 1) / mask->of : in - (int64_t)floor(mask->ratio * (double)in);
            status = keep_best(context, scores + i * in + j, n, keep, w + i * in + j, places);
        }
    }
    return status;
}

static crank_status sparsify(crank_context *context, crank_linear *linear, const prune_mask *mask, int64_t *zeros)
{
    size_t       n = (size_t)(linear->in * linear->out);
    float       *w = crank_alloc(context, n, sizeof *w, linear->name);
    double      *scores = crank_alloc(context, n, sizeof *scores, linear->name);
    int32_t     *places = crank_alloc(context, n, sizeof *places, linear->name);
    crank_status status = w && scores && places ? crank_linear_rows(context, linear, 0, linear->out, w) : CRANK_FAILED;
    if (status == CRANK_OK) score(linear, mask, w, scores);
    if (status == CRANK_OK) status = cut(context, linear, mask, w, scores, places);
    for (size_t i = 0; status == CRANK_OK && i < n; i++) *zeros += w[i] == 0;
    if (status == CRANK_OK) status = crank_param_own(context, linear->weight);
    if (status == CRANK_OK) status = crank_param_write(context, linear->weight, w, CRANK_F32);
    crank_free(w), crank_free(scores), crank_free(places);
    return status;
}

crank_status prune_sparse(crank_context *context, crank_model *model, const prune_mask *mask, int64_t *zeros, int64_t *all)
{
    int64_t layers = model->body.count;
    *zeros = *all = 0;
    if (mask->of ? mask->keep < 1 || mask->keep > mask->of : !(mask->ratio >= 0 && mask->ratio < 1))
        return crank_fail(context, CRANK_USAGE, "a sparse model keeps 1 to M of M inputs (4:8), or goes by a ratio from 0 to below 1");
    if (mask->first + mask->last >= layers)
        return crank_fail(context, CRANK_USAGE, "%lld first and %lld last layers of %lld stay whole: nothing is left to thin out", (long long)mask->first, (long long)mask->last, (long long)layers);
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < crank_linears_count(model->linears); i++) {
        crank_linear *linear = crank_linears_at(model->linears, i);
        if (linear->kind != CRANK_LINEAR_DENSE || linear->is_head || linear->block < mask->first || linear->block >= layers - mask->last) continue;
        if (!linear->weight) return crank_fail(context, CRANK_USAGE, "%s is held in few bits: a sparse model is made from the model itself", linear->name);
        *all += linear->in * linear->out;
        status = sparsify(context, linear, mask, zeros);
    }
    return status;
}
