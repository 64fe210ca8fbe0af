/* gradnormlorp.c - weight normalisation of a low-rank direction, its full gradient (Huang et al. 2025, arXiv:2412.19616).
 *
 *     V = W0 + I J               I [out, r], J [r, in]: the direction
 *     c_i = max(|V_i|, 1e-12)    of each row
 *     y = (g / c) o z,  z = y0 + (x J^T) I^T                 g [out]: the magnitude
 *
 * I and B of LoRA, J and A are the same shapes; here I starts at zero, J Kaiming-uniform and g_i at |W0_i|, so the adapted model starts
 * equal to the base model. The norm is part of the reverse pass (`norm: full`): with G = dL/dW'
 *
 *     dg_i = <G_i, V_i> / c_i,   D_i = (g_i / c_i) (G_i - <G_i, V_i> V_i / c_i^2),   dI = D J^T,  dJ = I^T D
 *
 * and D_i is orthogonal to V_i; `norm: detached` leaves the second term out (DoRA). No [out, in] matrix is made: |V_i|^2 = |w_i|^2 + 2 (W0
 * J^T)_i . I_i + I_i (J J^T) I_i^T. The paper projects the gradients of I and J to a low rank as well: name optim.method: galore with
 * its rank; a rank of at least r only turns Adam's basis. */
#include <math.h>
#include <string.h>

#include "lowrank/pair.h"

typedef struct {
    int64_t     rank;
    double      dropout;
    const char *norm;
    bool        positive;
} options;

typedef struct {
    crank_param *I, *J, *g; /* [out,r], [r,in], [out] */
    crank_param *norms;     /* |w_i|^2 [out], valid for `version` of the base weight */
    uint64_t     version;
} state;

static const crank_option option_table[] = {
    CRANK_INT(options, rank, 8, 0, 65536, "rank r of the direction's change; 0: magnitudes alone"),
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the change's branch that is dropped in training"),
    CRANK_CHOICE(options, norm, "full", "full|detached", "the norm has a gradient, or is a constant as in DoRA"),
    CRANK_BOOL(options, positive, false, "magnitudes stay at least 0"),
    CRANK_END
};

/* |w_i|^2 of the base weight as it is now. */
static crank_status measure(crank_context *context, const crank_linear *linear, state *st)
{
    crank_reduce_attributes attributes = { CRANK_SUM_SQUARES, 2u };
    crank_view              out = st->norms->view;
    out.rank = 2, out.dims[0] = linear->out, out.dims[1] = 1, out.strides[0] = out.strides[1] = 1;
    st->version = linear->weight->version;
    return crank_run_once(context, crank_params_device(linear->weight->owner), "reduce", &linear->weight->view, 1, &out, 1, &attributes);
}

/* g = max(|w_i|, 1e-12), by the root that forward takes: the first g / c is 1. */
static crank_status start_magnitude(crank_context *context, const crank_linear *linear, const state *st)
{
    double *norms = crank_alloc(context, (size_t)linear->out, sizeof *norms, "row norms");
    if (!norms) return CRANK_FAILED;
    crank_status status = crank_param_read(context, st->norms, norms, CRANK_F64);
    bool         wide = st->norms->view.dtype == CRANK_F64;
    for (int64_t i = 0; i < linear->out; i++) norms[i] = wide ? sqrt(fmax(norms[i], 1e-24)) : sqrtf(fmaxf((float)norms[i], 1e-24f));
    if (status == CRANK_OK) status = crank_param_write(context, st->g, norms, CRANK_F64);
    crank_free(norms);
    return status;
}

static crank_status start_factor(crank_context *context, const crank_site *site, crank_param *J)
{
    size_t n = (size_t)crank_view_count(&J->view);
    float  bound = (float)(1 / sqrt((double)site->linear->in)), *values = crank_alloc(context, n, sizeof *values, "initial values of an adapter");
    if (!values) return CRANK_FAILED;
    crank_fill_uniform(crank_stream_make(site->seed, CRANK_RANDOM_INIT, crank_hash_name(J->name)), 0, -bound, bound, values, n);
    crank_status status = crank_param_write(context, J, values, CRANK_F32);
    crank_free(values);
    return status;
}

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *opt = site->options;
    crank_linear  *linear = site->linear;
    state         *st = site->state;
    if (!linear->weight) return crank_fail(context, CRANK_USAGE, "%s: gradnormlorp reads the norms of a dense weight, and it has none", linear->name);
    if (opt->rank) {
        st->I = crank_site_param(context, site, "I", CRANK_F32, 2, (const int64_t[]){ linear->out, opt->rank }, true);
        st->J = crank_site_param(context, site, "J", CRANK_F32, 2, (const int64_t[]){ opt->rank, linear->in }, true);
        if (!st->I || !st->J) return crank_last_status(context);
    }
    st->g = crank_site_param(context, site, "g", CRANK_F32, 1, &linear->out, true);
    st->norms = crank_site_state(context, site, "norms", CRANK_ROLE_CACHE, CRANK_F32, 1, &linear->out);
    if (!st->g || !st->norms) return crank_last_status(context);
    st->g->no_decay = true; /* decay would pull every row of the weight towards zero */
    if (!st->g->view.data || !linear->weight->view.data) return CRANK_OK; /* planning without memory */
    crank_status status = measure(context, linear, st);
    if (status == CRANK_OK) status = start_magnitude(context, linear, st);
    return status == CRANK_OK && st->J ? start_factor(context, site, st->J) : status;
}

/* ---- recording ---- */

/* |w_i|^2 [out]: kept, or made again in each run where the base weight is trained as well. */
static crank_tensor *base_norms(crank_graph *graph, crank_site *site)
{
    state        *st = site->state;
    crank_linear *linear = site->linear;
    if (linear->weight->trainable) return crank_cast(crank_reduce(CRANK_SUM_SQUARES, crank_use(graph, linear->weight), 2u, false), st->norms->view.dtype);
    if (st->version != linear->weight->version && linear->weight->view.data && measure(crank_graph_context(graph), linear, st))
        return crank_graph_error(graph, CRANK_FAILED, "%s", crank_message(crank_graph_context(graph)));
    return crank_use(graph, st->norms);
}

/* Records g / c [out]. */
static void derive(crank_graph *graph, crank_site *site)
{
    const options *opt = site->options;
    const state   *st = site->state;
    crank_tensor  *square = base_norms(graph, site);
    if (st->I) {
        crank_tensor *I = crank_use(graph, st->I), *J = crank_use(graph, st->J);
        crank_tensor *WJ = crank_cast(crank_linear_times(graph, site->linear, crank_transpose(J, 0, 1)), I->dtype); /* [out, r] */
        crank_tensor *IG = crank_matmul(I, false, crank_matmul(J, false, J, true), false);                          /* I J J^T */
        square = crank_add(square, crank_reduce(CRANK_SUM, crank_mul(crank_add(crank_scale(WJ, 2), IG), I), 2u, false));
    }
    square = crank_binary(CRANK_MAX, square, crank_fill(graph, square->dtype, 0, NULL, 1e-24));
    crank_tensor *c = crank_unary(CRANK_SQRT, square);
    if (strcmp(opt->norm, "detached") == 0) c = crank_stop_gradient(c);
    crank_site_put(graph, site, "k", crank_div(crank_use(graph, st->g), c));
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *opt = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    crank_tensor  *k = crank_site_get(graph, site, "k"), *z = y0;
    if (st->I) {
        crank_tensor *dropped = opt->dropout > 0 && crank_graph_training(graph) ? crank_dropout(x, opt->dropout) : x;
        crank_tensor *down = crank_linear_down(graph, site->linear, dropped, crank_use(graph, st->J));
        z = crank_matmul_full(down, false, crank_cast(crank_use(graph, st->I), compute), true, 1, NULL, y0, CRANK_DTYPES);
    }
    if (compute == CRANK_F32 || compute == CRANK_F64) return crank_mul(z, crank_cast(k, compute));
    return crank_add(z, crank_mul(z, crank_cast(crank_affine(k, 1, -1), compute))); /* k is near 1: k - 1 keeps more digits in 16 bits */
}

static void after_step(crank_graph *graph, crank_site *site)
{
    const options *opt = site->options;
    const state   *st = site->state;
    if (opt->positive) crank_assign(crank_use(graph, st->g), crank_unary(CRANK_RELU, crank_use(graph, st->g)), false);
}

const crank_map crank_map_gradnormlorp = {
    .name         = "gradnormlorp",
    .paper        = "arXiv:2412.19616",
    .summary      = "a low-rank change of the weight's direction with a trained magnitude, and the norm in the gradient",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .after_step   = after_step,
};
