/* relora.c - LoRA that is folded into the weight and starts anew every few steps (Lialin et al. 2023, arXiv:2307.05695).
 *
 *     y = y0 + s (x A^T) B^T;   every T steps:  W += s B A, A Kaiming-uniform again, B = 0
 *
 * so that the sum of the updates may have a high rank. With each fold a share `prune` of the moments of A and B is set to zero, at
 * random (1: all, and their step count starts anew), and the rate rises again from 0 over `restart` steps. A is drawn from the
 * start, never zero: with A and B both zero neither would have a gradient. W changes: it is in every checkpoint and goes with the
 * adapter. */
#include <math.h>
#include <string.h>

#include "linalg/blas.h"
#include "lowrank/pair.h"

typedef struct {
    pair_options pair; /* first: the shared part of the table refers to it */
    int64_t      every, restart;
    double       prune;
} options;

typedef struct {
    pair         factors;
    crank_param *clock; /* [3], of A and B */
} state;

static const crank_option option_table[] = {
    PAIR_OPTIONS,
    CRANK_INT(options, every, 1000, 1, 1e9, "steps T between folds"),
    CRANK_INT(options, restart, 50, 0, 1e9, "steps behind a fold in which the rate rises again"),
    CRANK_FLOAT(options, prune, 0.999, 0, 1, "share of the moments that a fold sets to zero; 1: all, and steps count anew"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *opt = site->options;
    state         *st = site->state;
    crank_param   *weight = site->linear->weight;
    int64_t        three = 3;
    bool           before = weight && weight->trainable;
    if (!weight) return crank_fail(context, CRANK_USAGE, "%s: relora folds into a dense weight, and it has none", site->linear->name);
    crank_status status = pair_attach(context, site, &opt->pair, &st->factors);
    if (status == CRANK_OK) status = crank_site_train(context, site, weight); /* it goes with the adapter, without a gradient */
    if (status != CRANK_OK) return status;
    weight->trainable = before;
    weight->folded = true;
    st->clock = crank_site_state(context, site, "clock", CRANK_ROLE_CACHE, CRANK_F32, 1, &three);
    if (!st->clock) return crank_last_status(context);
    st->clock->view.dtype = CRANK_F32; /* with an f64 weight as well: its memory is large enough */
    st->factors.A->clock = st->factors.B->clock = st->clock;
    return CRANK_OK;
}

static void release(crank_site *site)
{
    if (site->linear->weight) site->linear->weight->folded = false;
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *opt = site->options;
    const state   *st = site->state;
    return crank_add(y0, pair_delta(graph, site, &st->factors, pair_drop(graph, site, &opt->pair, x)));
}

/* ---- folding ---- */

/* W += s B A, added in f32 (f64) and rounded once. */
static crank_status fold(crank_context *context, crank_site *site)
{
    const state  *st = site->state;
    crank_param  *weight = site->linear->weight;
    int64_t       out = site->linear->out, in = site->linear->in, r = st->factors.A->view.dims[0];
    crank_dtype   type = weight->view.dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    size_t        size = crank_dtype_bits(type) / 8;
    void         *W = crank_alloc(context, (size_t)(out * in), size, "a weight"), *A = crank_alloc(context, (size_t)(r * in), size, "a factor");
    void         *B = crank_alloc(context, (size_t)(out * r), size, "a factor");
    crank_status  status = W && A && B ? crank_param_read(context, weight, W, type) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_param_read(context, st->factors.A, A, type);
    if (status == CRANK_OK) status = crank_param_read(context, st->factors.B, B, type);
    if (status == CRANK_OK) {
        multiply(context, (product){ .dtype = type, .m = out, .n = in, .k = r, .alpha = st->factors.scale, .beta = 1, .a = B, .a_row = r, .b = A, .b_row = in,
                                     .c = W, .c_row = in });
        status = crank_param_write(context, weight, W, type);
    }
    crank_free(W), crank_free(A), crank_free(B);
    return status;
}

/* A uniform in 1/sqrt(in), from the draws of this fold; B zero. */
static crank_status start_anew(crank_context *context, const crank_site *site, int64_t number)
{
    const state *st = site->state;
    size_t       a = (size_t)crank_view_count(&st->factors.A->view), b = (size_t)crank_view_count(&st->factors.B->view);
    float       *host = crank_alloc(context, a > b ? a : b, sizeof *host, "factors"), bound = (float)(1 / sqrt((double)site->linear->in));
    crank_status status = host ? crank_param_write(context, st->factors.B, host, CRANK_F32) : CRANK_FAILED;
    if (status == CRANK_OK) {
        crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_METHOD, crank_hash_name(st->factors.A->name));
        crank_fill_uniform(stream, (uint64_t)number * a, -bound, bound, host, a);
        status = crank_param_write(context, st->factors.A, host, CRANK_F32);
    }
    crank_free(host);
    return status;
}

/* Each element of a float state of `factor` ("<factor>.adamw.m") is kept with probability 1 - prune. */
static crank_status prune_state(crank_context *context, const crank_site *site, const crank_param *factor, double prune, int64_t number)
{
    const crank_params *params = factor->owner;
    size_t              length = strlen(factor->name);
    crank_status        status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_STATE || strncmp(param->name, factor->name, length) != 0 || param->name[length] != '.') continue;
        if (!crank_dtype_is_float(param->view.dtype) || !param->view.data) continue;
        size_t       n = (size_t)crank_view_count(&param->view);
        double      *values = crank_alloc(context, n, sizeof *values, "moments");
        crank_stream stream = crank_stream_make(site->seed, CRANK_RANDOM_METHOD, crank_hash_name(param->name));
        status = values ? crank_param_read(context, param, values, CRANK_F64) : CRANK_FAILED;
        for (size_t k = 0; status == CRANK_OK && k < n; k++)
            if (prune >= 1 || (double)crank_draw_uniform(stream, (uint64_t)number * n + k) < prune) values[k] = 0;
        if (status == CRANK_OK) status = crank_param_write(context, param, values, CRANK_F64);
        crank_free(values);
    }
    return status;
}

static crank_status cycle(crank_context *context, crank_site *site, int64_t number)
{
    const options *opt = site->options;
    const state   *st = site->state;
    crank_status   status = fold(context, site);
    if (status == CRANK_OK) status = start_anew(context, site, number);
    if (status == CRANK_OK) status = prune_state(context, site, st->factors.A, opt->prune, number);
    return status == CRANK_OK ? prune_state(context, site, st->factors.B, opt->prune, number) : status;
}

static crank_status period(crank_context *context, crank_site *sites, int count, int64_t step, bool *changed)
{
    (void)changed;
    for (int i = 0; step && i < count; i++) {
        const options *opt = sites[i].options;
        const state   *st = sites[i].state;
        int64_t        t = (step - 1) % opt->every, number = (step - 1) / opt->every;
        if (!st->clock->view.data) continue;
        crank_status status = t == 0 && number > 0 ? cycle(context, &sites[i], number) : CRANK_OK;
        double       rate = number > 0 && t < opt->restart ? (double)(t + 1) / (double)(opt->restart + 1) : 1;
        const float  now[3] = { (float)(opt->prune >= 1 ? t + 1 : step), (float)rate, 0 };
        if (status == CRANK_OK) status = crank_param_write(context, st->clock, now, CRANK_F32);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

const crank_map crank_map_relora = {
    .name         = "relora",
    .paper        = "arXiv:2307.05695",
    .summary      = "LoRA that is folded into the weight and starts anew every few steps",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .needs_base   = "dense",
    .attach       = attach,
    .forward      = forward,
    .period       = period,
    .release      = release,
};
