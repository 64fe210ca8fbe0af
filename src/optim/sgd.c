/* sgd.c - stochastic gradient descent, with momentum (torch's form).
 *
 *     g += decay w;   b = mu b + (1 - dampening) g  (first step: b = g);   w -= rate (nesterov ? g + mu b : b) */
#include "optim/optim.h"

typedef struct {
    double momentum, dampening;
    bool   nesterov;
} options;

typedef struct {
    crank_param *buffer; /* NULL without momentum */
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, momentum, 0.9, 0, 0.999999, "mu; 0 keeps no state"),
    CRANK_FLOAT(options, dampening, 0, 0, 1, "the gradient enters the buffer times 1 - dampening"),
    CRANK_BOOL(options, nesterov, false, "look ahead by one step of momentum"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (opt->nesterov && (opt->momentum == 0 || opt->dampening != 0))
        return crank_fail(context, CRANK_USAGE, "sgd: nesterov needs a momentum and no dampening");
    if (opt->momentum == 0) return CRANK_OK;
    st->buffer = optim_like(context, unit, "buffer");
    return st->buffer ? CRANK_OK : crank_last_status(context);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options       *opt = unit->options;
    const state         *st = unit->state;
    crank_sgd_attributes attributes = { .momentum = opt->momentum,
                                        .dampening = opt->dampening,
                                        .decay = unit->decay,
                                        .rate_factor = unit->rate_factor,
                                        .nesterov = opt->nesterov,
                                        .seed = unit->seed,
                                        .index = (uint32_t)unit->index };
    crank_sgd(crank_use(graph, unit->param), gradient, st->buffer ? crank_use(graph, st->buffer) : NULL,
              crank_unit_scalars(graph, unit), &attributes);
}

const crank_optimizer crank_optimizer_sgd = {
    .name         = "sgd",
    .summary      = "gradient descent with momentum",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
