/* prune_recover.c - an adapter of the small model becomes one of the large model (LoRAM, stage 3).
 *
 *     A = zeros [r, n], A[:, C] = A^P;   B = zeros [m, r], B[R, :] = B^P:      change[R, C] = s B^P A^P, zero elsewhere */
#include <stdio.h>

#include "base/text.h"
#include "linear/stack.h"
#include "lowrank/loram.h"
#include "model/model.h"
#include "model/prune.h"

typedef struct pair_of {
    crank_linear *linear; /* of the large model */
    int64_t       rank;
    double        scale;
    float        *A, *B; /* of the large model's sizes */
} pair_of;

static crank_status spread(crank_context *context, const crank_model *large, const prune_plan *plan, const crank_linear *small, pair_of *p)
{
    subset rows, cols, ranks = subset_all(p->rank);
    prune_rows_cols(large, plan, p->linear, &rows, &cols);
    if (rows.count != small->out || cols.count != small->in)
        return crank_fail(context, CRANK_BAD_DATA, "%s: the adapter stands on [%lld, %lld], and the index keeps [%lld, %lld] of the large model's map: it is no index of this pair", small->name,
                          (long long)small->out, (long long)small->in, (long long)rows.count, (long long)cols.count);
    float *A = crank_alloc(context, (size_t)(p->rank * p->linear->in), sizeof *A, "a factor"), *B = crank_alloc(context, (size_t)(p->linear->out * p->rank), sizeof *B, "a factor");
    if (!A || !B) {
        crank_free(A), crank_free(B);
        return CRANK_FAILED;
    }
    subset_scatter(p->A, ranks, cols, A);
    subset_scatter(p->B, rows, ranks, B);
    crank_free(p->A), crank_free(p->B);
    p->A = A, p->B = B;
    return CRANK_OK;
}

static crank_status take_pair(crank_context *context, crank_model *large, const prune_plan *plan, crank_attachment *small, int i, pair_of *p)
{
    crank_site *site = &small->sites[i];
    p->linear = crank_linears_find(large->linears, site->linear->name);
    if (!p->linear) return crank_fail(context, CRANK_BAD_DATA, "the large model has no linear %s: it is no model that this one was pruned from", site->linear->name);
    crank_status status = small->map == &crank_map_loram ? loram_pair(context, site, &p->rank, &p->scale, &p->A, &p->B)
                                                         : small->map->as_lora(context, site, &p->rank, &p->scale, &p->A, &p->B);
    if (status != CRANK_OK) p->A = p->B = NULL;
    return status == CRANK_OK && p->rank ? spread(context, large, plan, site->linear, p) : status;
}

/* Plain LoRA with the ranks and scales of the pairs. */
static crank_attachment *attach(crank_context *context, crank_model *large, const pair_of *pairs, int count, const char *name)
{
    text_buffer targets = {0}, ranks = {0}, alphas = {0};
    for (int i = 0; i < count; i++) {
        if (!pairs[i].rank) continue;
        const char *end = targets.length ? "\n" : "";
        text_printf(&targets, "%s%s", end, pairs[i].linear->name);
        text_printf(&ranks, "%s%s=%lld", end, pairs[i].linear->name, (long long)pairs[i].rank);
        text_printf(&alphas, "%s%s=%.17g", end, pairs[i].linear->name, pairs[i].scale * (double)pairs[i].rank);
    }
    const crank_map     *map = crank_map_find("lora");
    void                *options = crank_options_new(context, map->options, map->options_size);
    crank_attach_options where = {.name = name, .targets = targets.bytes ? targets.bytes : "", .rank_pattern = ranks.bytes, .alpha_pattern = alphas.bytes};
    crank_attachment    *made = options && !targets.failed && !ranks.failed && !alphas.failed ? crank_attachment_new(context, large->linears, map, options, &where) : NULL;
    if (made && crank_attachment_finish(context, made) != CRANK_OK) {
        crank_attachment_remove(made);
        made = NULL;
    }
    crank_options_free(options);
    text_clear(&targets), text_clear(&ranks), text_clear(&alphas);
    return made;
}

static crank_status write_pairs(crank_context *context, crank_attachment *made, const pair_of *pairs, int count)
{
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < made->count; i++)
        for (int k = 0; status == CRANK_OK && k < count; k++) {
            if (pairs[k].linear != made->sites[i].linear || !pairs[k].rank) continue;
            status = crank_param_write(context, crank_site_find(&made->sites[i], "A"), pairs[k].A, CRANK_F32);
            if (status == CRANK_OK) status = crank_param_write(context, crank_site_find(&made->sites[i], "B"), pairs[k].B, CRANK_F32);
        }
    return status;
}

crank_attachment *prune_recover(crank_context *context, crank_model *large, const prune_plan *plan, crank_attachment *small, const char *name)
{
    if (!small->map->as_lora && small->map != &crank_map_loram) {
        crank_fail(context, CRANK_USAGE, "the change that %s makes has no bounded rank: it has no factors that could be spread over the large model", small->map->name);
        return NULL;
    }
    if (small->trained_count) {
        crank_fail(context, CRANK_USAGE, "the adapter also trained %s of the small model itself, which is no part of the large one: train without modules and biases", small->trained[0].param->name);
        return NULL;
    }
    pair_of     *pairs = crank_alloc(context, (size_t)small->count, sizeof *pairs, "pairs of an adapter");
    crank_status status = pairs ? CRANK_OK : CRANK_FAILED;
    for (int i = 0; status == CRANK_OK && i < small->count; i++) status = take_pair(context, large, plan, small, i, &pairs[i]);
    crank_attachment *made = status == CRANK_OK ? attach(context, large, pairs, small->count, name) : NULL;
    if (made && write_pairs(context, made, pairs, small->count) != CRANK_OK) {
        crank_attachment_remove(made);
        made = NULL;
    }
    for (int i = 0; pairs && i < small->count; i++) crank_free(pairs[i].A), crank_free(pairs[i].B);
    crank_free(pairs);
    return made;
}

/* ---- strict, for sparse models ---- */

static crank_status add_kept(crank_context *context, crank_linear *small, crank_linear *large)
{
    size_t       n = (size_t)(small->in * small->out);
    float       *before = crank_alloc(context, n, sizeof *before, small->name), *after = crank_alloc(context, n, sizeof *after, small->name), *whole = crank_alloc(context, n, sizeof *whole, small->name);
    crank_status status = before && after && whole ? crank_linear_rows(context, small, 0, small->out, before) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_linear_effective(context, small, after);
    if (status == CRANK_OK) status = crank_linear_rows(context, large, 0, large->out, whole);
    for (size_t i = 0; status == CRANK_OK && i < n; i++)
        if (before[i] != 0) whole[i] += after[i] - before[i];
    if (status == CRANK_OK) status = crank_param_own(context, large->weight);
    if (status == CRANK_OK) status = crank_param_write(context, large->weight, whole, CRANK_F32);
    crank_free(before), crank_free(after), crank_free(whole);
    return status;
}

crank_status prune_recover_strict(crank_context *context, crank_model *large, crank_attachment *sparse)
{
    if (sparse->trained_count)
        return crank_fail(context, CRANK_USAGE, "the adapter also trained %s of the small model itself, which is no part of the large one: train without modules and biases",
                          sparse->trained[0].param->name);
    crank_status status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < sparse->count; i++) {
        crank_linear *small = sparse->sites[i].linear, *whole = crank_linears_find(large->linears, small->name);
        if (!whole || small->kind != CRANK_LINEAR_DENSE || whole->in != small->in || whole->out != small->out || !whole->weight || !small->weight)
            status = crank_fail(context, CRANK_BAD_DATA, "%s is no dense linear of the same shape in both models: strict recovery is for sparse models (crank compress --pattern)", small->name);
        else status = add_kept(context, small, whole);
    }
    return status;
}
