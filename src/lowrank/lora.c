/* lora.c - low-rank adaptation of a linear map (Hu et al. 2021, arXiv:2106.09685).
 *
 *     y = y0 + s (x A^T) B^T [+ s c]        A [r, in], B [out, r], c [out], s = alpha / r (rsLoRA: alpha / sqrt(r))
 *
 * B starts at zero, so the adapted model starts equal to the base model. x is dropped out on this branch only. LoRA+ (Hayou et
 * al. 2024) is a rate of B that is lora_plus times the rate of A. On an embedding x A^T is a gather of columns of A. */
#include "lowrank/pair.h"

typedef struct {
    pair         factors;
    crank_param *bias; /* c, or NULL */
} state;

static const crank_option option_table[] = {
    PAIR_OPTIONS,
    CRANK_BOOL(pair_options, lora_bias, false, "the update has a bias of its own"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_site *site)
{
    const pair_options *options = site->options;
    state              *st = site->state;
    crank_status        status = pair_attach(context, site, options, &st->factors);
    if (status || !options->lora_bias) return status;
    if (site->linear->kind == CRANK_LINEAR_EMBEDDING)
        return crank_fail(context, CRANK_USAGE, "%s is an embedding: lora_bias is for dense linears", site->linear->name);
    st->bias = crank_site_param(context, site, "bias", CRANK_F32, 1, &site->linear->out, true);
    if (!st->bias) return crank_last_status(context);
    st->bias->no_decay = true;
    return CRANK_OK;
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const state  *st = site->state;
    crank_tensor *y = crank_add(y0, pair_delta(graph, site, &st->factors, pair_drop(graph, site, site->options, x)));
    if (!st->bias) return y;
    crank_tensor *c = crank_cast(crank_use(graph, st->bias), crank_graph_compute(graph));
    return crank_add(y, crank_scale(c, st->factors.scale));
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    if (st->bias) return crank_fail(context, CRANK_USAGE, "%s: an update with a bias is not a plain pair", site->linear->name);
    return pair_read(context, &st->factors, rank, scale, A, B);
}

static char *peft_config(crank_context *context, const crank_site *site) { return pair_peft_config(context, site->options, false); }

static crank_status peft_options(crank_context *context, const char *config, void *options)
{
    return pair_peft_options(context, config, option_table, options);
}

const crank_map crank_map_lora = {
    .name         = "lora",
    .paper        = "arXiv:2106.09685",
    .summary      = "adds a trainable rank-r product to a frozen weight",
    .options      = option_table,
    .options_size = sizeof(pair_options),
    .state_size   = sizeof(state),
    .affine       = true,
    .embeddings   = true,
    .attach       = attach,
    .forward      = forward,
    .as_lora      = as_lora,
    .peft_type    = "LORA",
    .peft_config  = peft_config,
    .peft_options = peft_options,
    .peft_name    = pair_peft_name,
};
