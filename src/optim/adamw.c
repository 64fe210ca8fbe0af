/* adamw.c - Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101).
 *
 *     m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
 *     torch:  w *= 1 - rate decay;  w -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
 *     hf:     w -= rate sqrt(1 - b2^t) / (1 - b1^t)  m / (sqrt(v) + epsilon);  w *= 1 - rate decay
 *
 * The second placement is that of older transformers releases, with which GaLore, Fira and others report: there epsilon is
 * not divided by the correction. It is recorded from base operations; the first is one fused operation. */
#include <string.h>

#include "optim/optim.h"

typedef struct {
    double      beta1, beta2, epsilon;
    const char *placement;
    bool        l2;
} options;

typedef struct {
    crank_param *m, *v;
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.999999, "decay of the first moment"),
    CRANK_FLOAT(options, beta2, 0.999, 0, 0.9999999, "decay of the second moment"),
    CRANK_FLOAT(options, epsilon, 1e-8, 0, 1, "added to the root of the second moment"),
    CRANK_CHOICE(options, placement, "torch", "torch|hf", "epsilon after (torch) or before (hf) the correction of the moments"),
    CRANK_BOOL(options, l2, false, "decay is added to the gradient: Adam instead of AdamW"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (strcmp(opt->placement, "hf") == 0 && opt->l2)
        return crank_fail(context, CRANK_USAGE, "%s: placement hf decays weights, not gradients: leave l2 out", unit->param->name);
    st->m = optim_like(context, unit, "m");
    st->v = optim_like(context, unit, "v");
    return st->m && st->v ? CRANK_OK : crank_last_status(context);
}

static void update_hf(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    crank_tensor  *m = crank_use(graph, st->m), *v = crank_use(graph, st->v), *t = optim_scalar(graph, unit, CRANK_SCALAR_STEP);
    crank_tensor  *g = optim_gradient(graph, unit, gradient);
    crank_tensor  *m1 = crank_add(crank_scale(m, opt->beta1), crank_scale(g, 1 - opt->beta1));
    crank_tensor  *v1 = crank_add(crank_scale(v, opt->beta2), crank_scale(crank_unary(CRANK_SQUARE, g), 1 - opt->beta2));
    crank_tensor  *size = crank_div(crank_mul(optim_rate(graph, unit), crank_unary(CRANK_SQRT, optim_correction(t, opt->beta2))),
                                    optim_correction(t, opt->beta1));
    crank_tensor  *step = crank_mul(crank_div(m1, crank_affine(crank_unary(CRANK_SQRT, v1), 1, opt->epsilon)), size);
    optim_move(graph, unit, optim_decayed(graph, unit, step, true));
    optim_set(graph, unit, m, m1);
    optim_set(graph, unit, v, v1);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    if (strcmp(opt->placement, "hf") == 0) {
        update_hf(graph, unit, gradient);
        return;
    }
    crank_adam_attributes attributes = { .beta1 = opt->beta1,
                                         .beta2 = opt->beta2,
                                         .epsilon = opt->epsilon,
                                         .decay = unit->decay,
                                         .rate_factor = unit->rate_factor,
                                         .l2 = opt->l2,
                                         .seed = unit->seed,
                                         .index = (uint32_t)unit->index };
    crank_adamw(crank_use(graph, unit->param), gradient, crank_use(graph, st->m), crank_use(graph, st->v),
                crank_unit_scalars(graph, unit), &attributes);
}

const crank_optimizer crank_optimizer_adamw = {
    .name         = "adamw",
    .paper        = "arXiv:1711.05101",
    .summary      = "Adam with decoupled weight decay",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
