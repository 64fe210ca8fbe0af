/* miss.c - MiSS, the shard-sharing update (Kang et al. 2024, arXiv:2409.15371, as "DiSHA" and "MiSS"; Bone in its additive form).
 *
 *     S(x)_k = sum_c x[c r + k], k = 0..r-1 (x is followed by zeros where r does not divide in)
 *     y      = y0 + S(x) D                       D [r, out], zero at the start
 *     mini:    D[k, o] = D'[k, o mod q]          D' [r, q], q divides out
 *
 * So dW[o, i] = D[i mod r, o]: LoRA with the frozen factor A = [I I .. I] and B = D^T at scale 1, of rank r at most. PEFT: peft_type
 * MISS, tensor miss_block; files of its forerunner (BONE, bone_block) hold the same tensor. */
#include <math.h>
#include <string.h>

#include "lowrank/miss_peft.h"
#include "lowrank/start.h"

typedef struct {
    int64_t     rank, mini;
    double      dropout;
    const char *init;
} options;

typedef struct {
    crank_param *D; /* [r, out] or [r, q] */
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 8, 1, 65536, "width r of the shards that share one row of the update; the rank of the update"),
    CRANK_INT(options, mini, 0, 0, 1000000000, "outputs too share: distinct columns of the update; divides the outputs; 0: all are distinct"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped in training"),
    CRANK_CHOICE(options, init, "zero", "zero|random", "how the update starts: zero, or uniform in 1/sqrt(columns), for tests"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_site *site)
{
    const options      *o = site->options;
    state              *st = site->state;
    const crank_linear *linear = site->linear;
    int64_t             columns = o->mini ? o->mini : linear->out;
    if (o->rank > linear->in)
        return crank_fail(context, CRANK_USAGE, "%s: rank %lld is larger than its %lld inputs", linear->name, (long long)o->rank, (long long)linear->in);
    if (linear->out % columns)
        return crank_fail(context, CRANK_USAGE, "%s: mini %lld does not divide its %lld outputs", linear->name, (long long)columns, (long long)linear->out);
    st->D = crank_site_param(context, site, "D", CRANK_F32, 2, (const int64_t[]){o->rank, columns}, true);
    if (!st->D) return crank_last_status(context);
    return strcmp(o->init, "random") == 0 ? start_uniform(context, site, st->D, 1 / sqrt((double)columns)) : CRANK_OK;
}

/* x [n, in] -> sums of shards [n, r] */
static crank_tensor *shard_sums(crank_graph *graph, crank_tensor *x, int64_t r)
{
    int64_t n = x->dims[0], in = x->dims[1], shards = (in + r - 1) / r;
    if (in % r) {
        crank_tensor *parts[] = {x, crank_fill(graph, x->dtype, 2, (const int64_t[]){n, shards * r - in}, 0)};
        x = crank_concat(parts, 2, 1);
    }
    crank_tensor *sums = crank_reduce(CRANK_SUM, crank_reshape(crank_contiguous(x), 3, (const int64_t[]){n, shards, r}), 1u << 1, false);
    return crank_cast(sums, crank_graph_compute(graph));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *D = crank_cast(crank_use(graph, st->D), crank_graph_compute(graph));
    int64_t        out = site->linear->out, r = o->rank;
    if (crank_graph_status(graph) != CRANK_OK) return y0;
    if (o->dropout > 0 && crank_graph_training(graph)) x = crank_dropout(x, o->dropout);
    if (o->mini && o->mini < out) {
        int64_t       copies = out / o->mini;
        crank_tensor *rows = crank_broadcast(crank_reshape(D, 3, (const int64_t[]){r, 1, o->mini}), 3, (const int64_t[]){r, copies, o->mini});
        D = crank_reshape(crank_contiguous(rows), 2, (const int64_t[]){r, out});
    }
    return crank_matmul_full(shard_sums(graph, x, r), false, D, false, 1, NULL, y0, CRANK_DTYPES);
}

/* A = [I I .. I] [r, in], B = D^T [out, r] */
static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const options *o = site->options;
    const state   *st = site->state;
    int64_t        r = o->rank, in = site->linear->in, out = site->linear->out, columns = st->D->view.dims[1];
    float         *D = crank_alloc(context, (size_t)(r * columns), sizeof *D, st->D->name);
    *A = crank_alloc(context, (size_t)(r * in), sizeof **A, "a factor");
    *B = crank_alloc(context, (size_t)(out * r), sizeof **B, "a factor");
    crank_status status = D && *A && *B ? crank_param_read(context, st->D, D, CRANK_F32) : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < in; i++) (*A)[i % r * in + i] = 1;
    for (int64_t i = 0; status == CRANK_OK && i < out; i++)
        for (int64_t k = 0; k < r; k++) (*B)[i * r + k] = D[k * columns + i % columns];
    crank_free(D);
    if (status != CRANK_OK) crank_free(*A), crank_free(*B);
    *rank = r;
    *scale = 1;
    return status;
}

static char *peft_config(crank_context *context, const crank_site *site)
{
    const options *o = site->options;
    return miss_peft_config(context, o->rank, o->dropout, o->mini ? "mini" : NULL, o->mini ? o->mini : 1);
}

static crank_status peft_options(crank_context *context, const char *config, void *out) { return miss_peft_options(context, config, option_table, out); }

static const char *peft_name(const crank_site *site, const char *name)
{
    (void)site, (void)name;
    return "miss_block";
}

const crank_map crank_map_miss = {
    .name         = "miss",
    .paper        = "arXiv:2409.15371",
    .summary      = "one small tensor, from zero, is added to every shard of the inputs",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .attach       = attach,
    .forward      = forward,
    .as_lora      = as_lora,
    .peft_type    = "MISS",
    .peft_config  = peft_config,
    .peft_options = peft_options,
    .peft_name    = peft_name,
};
