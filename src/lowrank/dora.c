/* dora.c - weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv:2402.09353).
 *
 *     W' = diag(k) (W + s B A),   k_i = mu_i / nu_i,   nu_i = |(W + s B A)_i|
 *     y  = k o z,   z = y0 + s (x A^T) B^T
 *
 * The magnitude mu [out] is trained and starts at |W_i|; nu is a constant of the reverse pass (paper, section 4.3). The norms
 * come without the product B A:
 *
 *     nu_i^2 = |w_i|^2 + 2 s (W A^T)_i . b_i + s^2 b_i (A A^T) b_i^T
 *
 * in f32 at least, with |w_i|^2 kept between runs while the base weight is frozen. With dropout the dropped x~ is read by both
 * terms, as PEFT does: y = y0 + (k - 1) o below(x~) + k o s (x~ A^T) B^T. */
#include <math.h>

#include "lowrank/dora.h"

typedef struct {
    pair      factors;
    dora_part part;
} state;

static const crank_option option_table[] = { PAIR_OPTIONS, CRANK_END };

/* The axis over the inputs, as a bit: W is [out, in], the table of an embedding [in, out]. */
static unsigned input_axis(const crank_linear *linear) { return linear->kind == CRANK_LINEAR_DENSE ? 2u : 1u; }

/* |w_i|^2 of the base weight as it is now. */
static crank_status measure(crank_context *context, const crank_linear *linear, dora_part *st)
{
    const crank_param      *weight = linear->weight;
    crank_reduce_attributes attributes = { CRANK_SUM_SQUARES, input_axis(linear) };
    crank_view              out = st->norms->view;
    out.rank = 2;
    out.dims[0] = linear->kind == CRANK_LINEAR_DENSE ? linear->out : 1;
    out.dims[1] = linear->kind == CRANK_LINEAR_DENSE ? 1 : linear->out;
    out.strides[0] = out.dims[1];
    out.strides[1] = 1;
    st->version = weight->version;
    return crank_run_once(context, crank_params_device(weight->owner), "reduce", &weight->view, 1, &out, 1, &attributes);
}

/* mu = |w_i|: with B A = 0 the first k is 1 exactly, since derive takes the same root of the same sum. */
static crank_status start_magnitude(crank_context *context, const crank_linear *linear, const dora_part *st)
{
    double *norms = crank_alloc(context, (size_t)linear->out, sizeof *norms, "row norms");
    if (!norms) return CRANK_FAILED;
    crank_status status = crank_param_read(context, st->norms, norms, CRANK_F64);
    bool         wide = st->norms->view.dtype == CRANK_F64;
    for (int64_t i = 0; i < linear->out; i++) norms[i] = wide ? sqrt(norms[i]) : sqrtf((float)norms[i]);
    if (status == CRANK_OK) status = crank_param_write(context, st->magnitude, norms, CRANK_F64);
    crank_free(norms);
    return status;
}

crank_status dora_attach(crank_context *context, crank_site *site, dora_part *st)
{
    st->magnitude = crank_site_param(context, site, "magnitude", CRANK_F32, 1, &site->linear->out, true);
    st->norms = crank_site_param(context, site, "norms", CRANK_F32, 1, &site->linear->out, false);
    if (!st->magnitude || !st->norms) return crank_last_status(context);
    st->magnitude->no_decay = true; /* decay would pull every row of W' towards zero */
    st->norms->role = CRANK_ROLE_CACHE;
    if (!st->magnitude->view.data || !site->linear->weight->view.data) return CRANK_OK; /* planning without memory */
    crank_status status = measure(context, site->linear, st);
    return status ? status : start_magnitude(context, site->linear, st);
}

static crank_status attach(crank_context *context, crank_site *site)
{
    state       *st = site->state;
    crank_status status = pair_attach(context, site, site->options, &st->factors);
    return status ? status : dora_attach(context, site, &st->part);
}

/* |w_i|^2 [out]: kept, or made again in each run where the base weight is trained as well. */
static crank_tensor *base_norms(crank_graph *graph, crank_site *site, dora_part *st)
{
    crank_linear *linear = site->linear;
    if (!linear->weight->trainable) {
        if (st->version != linear->weight->version && linear->weight->view.data &&
            measure(crank_graph_context(graph), linear, st))
            return crank_graph_error(graph, CRANK_FAILED, "%s", crank_message(crank_graph_context(graph)));
        return crank_use(graph, st->norms);
    }
    crank_tensor *weight = crank_stop_gradient(crank_use(graph, linear->weight));
    return crank_cast(crank_reduce(CRANK_SUM_SQUARES, weight, input_axis(linear), false), st->norms->view.dtype);
}

void dora_derive(crank_graph *graph, crank_site *site, const pair *factors, dora_part *st)
{
    double        s = factors->scale;
    crank_tensor *A = crank_use(graph, factors->A), *B = crank_use(graph, factors->B);
    crank_tensor *WA = crank_cast(crank_linear_times(graph, site->linear, crank_transpose(A, 0, 1)), B->dtype); /* [out, r] */
    crank_tensor *BG = crank_matmul(B, false, crank_matmul(A, false, A, true), false);                           /* B A A^T */
    crank_tensor *cross = crank_mul(crank_add(crank_scale(WA, 2 * s), crank_scale(BG, s * s)), B);
    crank_tensor *square = crank_add(base_norms(graph, site, st), crank_reduce(CRANK_SUM, cross, 2u, false));
    /* Rounding may leave a small negative square; a row of zeros (mu = 0) stays zero. */
    crank_tensor *tiny = crank_fill(graph, B->dtype, 0, NULL, 1e-30);
    crank_tensor *nu = crank_stop_gradient(crank_unary(CRANK_SQRT, crank_binary(CRANK_MAX, square, tiny)));
    crank_site_put(graph, site, "k", crank_div(crank_use(graph, st->magnitude), nu));
}

static void derive(crank_graph *graph, crank_site *site)
{
    state *st = site->state;
    dora_derive(graph, site, &st->factors, &st->part);
}

crank_tensor *dora_forward(crank_graph *graph, crank_site *site, const pair *factors, crank_tensor *x, crank_tensor *dropped, crank_tensor *y0)
{
    crank_tensor *k = crank_site_get(graph, site, "k");
    crank_tensor *delta = pair_delta(graph, site, factors, dropped);
    if (dropped == x) return crank_scale_columns(crank_add(y0, delta), k);
    /* k is near 1: a 16-bit type keeps k - 1 with more digits than k. */
    crank_tensor *change = crank_cast(crank_affine(k, 1, -1), crank_graph_compute(graph));
    crank_tensor *scaled = crank_mul(crank_add(crank_linear_below(graph, site, dropped), delta), change);
    return crank_add(crank_add(y0, delta), scaled);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    return dora_forward(graph, site, &((state *)site->state)->factors, x, pair_drop(graph, site, site->options, x), y0);
}

static char *peft_config(crank_context *context, const crank_site *site) { return pair_peft_config(context, site->options, true); }

static crank_status peft_options(crank_context *context, const char *config, void *options)
{
    return pair_peft_options(context, config, option_table, options);
}

const crank_map crank_map_dora = {
    .name         = "dora",
    .paper        = "arXiv:2402.09353",
    .summary      = "LoRA on the direction of each row of the weight, with a trained magnitude",
    .options      = option_table,
    .options_size = sizeof(pair_options),
    .state_size   = sizeof(state),
    .affine       = true,
    .embeddings   = true,
    .needs_base   = "dense",
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .peft_type    = "LORA",
    .peft_config  = peft_config,
    .peft_options = peft_options,
    .peft_name    = pair_peft_name,
};
