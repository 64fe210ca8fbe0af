/* prune.c - structured pruning of a transformer: whole heads and neurons (LoRAM, arXiv:2502.13533, section 3; LLM-Pruner's coupled groups).
 *
 *     neurons P of a layer     rows of gate and up, columns of down
 *     heads of keys, values    rows [j h, (j+1) h) of k and v; the group g of query heads that reads them: rows [j h g, (j+1) h g) of q,
 *                              columns of o. A map that holds q, then k, then v (GPT-2) takes its rows in each third.
 *
 * Widths of the residual stream, embeddings, norms and heads on top stay whole. Norms over a head (Qwen3) are shared by all heads. */
#include "model/prune.h"

#include <math.h>
#include <string.h>

#include "model/model.h"

void prune_plan_free(prune_plan *plan)
{
    for (int64_t i = 0; plan->layers && i < plan->count; i++) {
        prune_layer *l = &plan->layers[i];
        crank_free(l->kept[0]), crank_free(l->kept[1]), crank_free(l->queries), crank_free(l->values), crank_free(l->fused);
    }
    crank_free(plan->layers);
    *plan = (prune_plan){0};
}

/* ---- scores ---- */

/* Adds |w|^2 of every row to rows[i / each], or of every column to columns. */
static crank_status add_squares(crank_context *context, const crank_linear *linear, bool columns, int64_t each, int64_t first, int64_t count, double *sums)
{
    float *w = crank_alloc(context, (size_t)(linear->out * linear->in), sizeof *w, linear->name);
    if (!w) return CRANK_FAILED;
    crank_status status = crank_linear_rows(context, linear, 0, linear->out, w);
    for (int64_t i = 0; status == CRANK_OK && i < linear->out; i++)
        for (int64_t j = 0; j < linear->in; j++) {
            int64_t at = (columns ? j : i) - first;
            if (at >= 0 && at < count * each) sums[at / each] += (double)w[i * linear->in + j] * (double)w[i * linear->in + j];
        }
    crank_free(w);
    return status;
}

/* in * out: squares of what feeds the unit times squares of what it feeds. */
static crank_status score_neurons(crank_context *context, const nn_mlp *mlp, int64_t inner, double *scores)
{
    double      *out = crank_alloc(context, (size_t)inner, sizeof *out, "scores of neurons");
    crank_status status = out ? add_squares(context, mlp->up, false, 1, 0, inner, scores) : CRANK_FAILED;
    if (status == CRANK_OK && mlp->gate) status = add_squares(context, mlp->gate, false, 1, 0, inner, scores);
    if (status == CRANK_OK) status = add_squares(context, mlp->down, true, 1, 0, inner, out);
    for (int64_t i = 0; status == CRANK_OK && i < inner; i++) scores[i] = sqrt(scores[i] * out[i]);
    crank_free(out);
    return status;
}

static crank_status score_heads(crank_context *context, const nn_attention *a, double *scores)
{
    int64_t      group = a->heads / a->kv_heads, d = a->head_dim, n = a->kv_heads;
    double      *out = crank_alloc(context, (size_t)n, sizeof *out, "scores of heads");
    crank_status status = out ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && a->qkv) {
        status = add_squares(context, a->qkv, false, group * d, 0, n, scores);
        for (int part = 0; status == CRANK_OK && part < 2; part++) status = add_squares(context, a->qkv, false, d, (a->heads + part * n) * d, n, scores);
    } else if (status == CRANK_OK) {
        status = add_squares(context, a->q, false, group * d, 0, n, scores);
        if (status == CRANK_OK) status = add_squares(context, a->k, false, d, 0, n, scores);
        if (status == CRANK_OK) status = add_squares(context, a->v, false, d, 0, n, scores);
    }
    if (status == CRANK_OK) status = add_squares(context, a->out, true, group * d, 0, n, out);
    for (int64_t i = 0; status == CRANK_OK && i < n; i++) scores[i] = sqrt(scores[i] * out[i]);
    crank_free(out);
    return status;
}

/* ---- the plan ---- */

/* Rows of the coupled maps that follow from the kept heads. */
static crank_status derive_rows(crank_context *context, prune_layer *l)
{
    int64_t group = l->heads / l->kv_heads, d = l->head_dim, q = l->kept_heads * group * d, v = l->kept_heads * d;
    l->queries = crank_alloc(context, (size_t)q, sizeof *l->queries, "kept rows");
    l->values = crank_alloc(context, (size_t)v, sizeof *l->values, "kept rows");
    l->fused = crank_alloc(context, (size_t)(q + 2 * v), sizeof *l->fused, "kept rows");
    if (!l->queries || !l->values || !l->fused) return CRANK_FAILED;
    for (int64_t i = 0; i < q; i++) l->queries[i] = l->fused[i] = (int32_t)(l->kept[0][i / (group * d)] * group * d + i % (group * d));
    for (int64_t i = 0; i < v; i++) {
        l->values[i] = (int32_t)(l->kept[0][i / d] * d + i % d);
        l->fused[q + i] = (int32_t)(l->heads * d + l->values[i]);
        l->fused[q + v + i] = (int32_t)((l->heads + l->kv_heads) * d + l->values[i]);
    }
    return CRANK_OK;
}

crank_status prune_plan_rows(crank_context *context, prune_plan *plan)
{
    crank_status status = CRANK_OK;
    for (int64_t i = 0; status == CRANK_OK && i < plan->count; i++) status = derive_rows(context, &plan->layers[i]);
    return status;
}

static prune_layer layer_of(const nn_block *block)
{
    return (prune_layer){.heads = block->attention.heads, .kv_heads = block->attention.kv_heads, .head_dim = block->attention.head_dim, .inner = block->mlp.up->out};
}

static crank_status choose(crank_context *context, const prune_how *how, const nn_block *block, int64_t layer, int kind, int64_t whole, int64_t keep, int32_t *places)
{
    if (keep == whole) {
        for (int64_t i = 0; i < whole; i++) places[i] = (int32_t)i;
        return CRANK_OK;
    }
    if (how->rule == PRUNE_RANDOM) return subset_draw(context, how->seed, (uint32_t)(2 * layer + kind), whole, keep, places);
    if (how->rule == PRUNE_GIVEN) return subset_best(context, (kind ? how->neurons : how->heads)[layer], whole, keep, places);
    double      *scores = crank_alloc(context, (size_t)whole, sizeof *scores, "scores of units");
    crank_status status = !scores ? CRANK_FAILED : kind ? score_neurons(context, &block->mlp, whole, scores) : score_heads(context, &block->attention, scores);
    if (status == CRANK_OK) status = subset_best(context, scores, whole, keep, places);
    crank_free(scores);
    return status;
}

static crank_status plan_layer(crank_context *context, const prune_how *how, const nn_block *block, int64_t i, bool whole, prune_layer *l)
{
    *l = layer_of(block);
    l->kept_heads = whole ? l->kv_heads : subset_heads(l->kv_heads, how->ratio);
    l->kept_neurons = whole ? l->inner : subset_neurons(l->inner, how->ratio, how->round_to);
    if (l->kept_heads < 1 || l->kept_neurons < 1)
        return crank_fail(context, CRANK_USAGE, "a ratio of %g leaves %lld of %lld heads and %lld of %lld neurons in layer %lld: at least one of each must stay", how->ratio,
                          (long long)l->kept_heads, (long long)l->kv_heads, (long long)l->kept_neurons, (long long)l->inner, (long long)i);
    l->kept[0] = crank_alloc(context, (size_t)l->kept_heads, sizeof(int32_t), "kept heads");
    l->kept[1] = crank_alloc(context, (size_t)l->kept_neurons, sizeof(int32_t), "kept neurons");
    crank_status status = l->kept[0] && l->kept[1] ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = choose(context, how, block, i, 0, l->kv_heads, l->kept_heads, l->kept[0]);
    if (status == CRANK_OK) status = choose(context, how, block, i, 1, l->inner, l->kept_neurons, l->kept[1]);
    return status == CRANK_OK ? derive_rows(context, l) : status;
}

crank_status prune_plan_make(crank_context *context, crank_model *model, const prune_how *how, prune_plan *out)
{
    int64_t count = model->body.count;
    *out = (prune_plan){.layers = crank_alloc(context, (size_t)count, sizeof *out->layers, "layers of a pruned model"), .count = count};
    crank_status status = out->layers ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && how->first + how->last >= count && how->ratio > 0)
        status = crank_fail(context, CRANK_USAGE, "%lld first and %lld last layers stay whole, and the model has %lld: nothing is left to prune", (long long)how->first,
                            (long long)how->last, (long long)count);
    for (int64_t i = 0; status == CRANK_OK && i < count; i++)
        status = plan_layer(context, how, &model->body.blocks[i], i, i < how->first || i >= count - how->last, &out->layers[i]);
    if (status != CRANK_OK) prune_plan_free(out);
    return status;
}

void prune_rows_cols(const crank_model *model, const prune_plan *plan, const crank_linear *linear, subset *rows, subset *cols)
{
    *rows = subset_all(linear->out);
    *cols = subset_all(linear->in);
    for (int64_t i = 0; i < plan->count; i++) {
        const nn_block    *b = &model->body.blocks[i];
        const prune_layer *l = &plan->layers[i];
        int64_t            group = l->heads / l->kv_heads, q = l->kept_heads * group * l->head_dim, v = l->kept_heads * l->head_dim;
        if (linear == b->attention.q) rows->at = l->queries, rows->count = q;
        else if (linear == b->attention.k || linear == b->attention.v) rows->at = l->values, rows->count = v;
        else if (linear == b->attention.qkv) rows->at = l->fused, rows->count = q + 2 * v;
        else if (linear == b->attention.out) cols->at = l->queries, cols->count = q;
        else if (linear == b->mlp.gate || linear == b->mlp.up) rows->at = l->kept[1], rows->count = l->kept_neurons;
        else if (linear == b->mlp.down) cols->at = l->kept[1], cols->count = l->kept_neurons;
        else continue;
        return;
    }
}
