/* signsgd.c - the sign of the gradient, or of its momentum (Bernstein et al. 2018, arXiv:1802.04434).
 *
 *     momentum 0:  w -= rate sign(g)                                                   signSGD: no state
 *     else:        b = mu b + (1 - mu) g;   w -= rate sign(b)                          Signum
 *
 * sign(0) = 0. Decay is decoupled: w *= 1 - rate decay, before the step. */
#include "optim/optim.h"

typedef struct {
    double momentum;
} options;

typedef struct {
    crank_param *buffer; /* NULL without momentum */
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, momentum, 0, 0, 0.999999, "mu of the momentum whose sign is taken; 0: the gradient's, without state"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options *opt = unit->options;
    state         *st = unit->state;
    if (opt->momentum == 0) return CRANK_OK;
    st->buffer = optim_like(context, unit, "buffer");
    return st->buffer ? CRANK_OK : crank_last_status(context);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options *opt = unit->options;
    const state   *st = unit->state;
    crank_tensor  *g = optim_gradient(graph, unit, gradient);
    if (st->buffer) {
        crank_tensor *buffer = crank_use(graph, st->buffer);
        g = crank_add(crank_scale(buffer, opt->momentum), crank_scale(g, 1 - opt->momentum));
        optim_set(graph, unit, buffer, g);
    }
    crank_tensor *step = crank_mul(crank_unary(CRANK_SIGN, g), optim_rate(graph, unit));
    optim_move(graph, unit, optim_decayed(graph, unit, step, false));
}

const crank_optimizer crank_optimizer_signsgd = {
    .name         = "signsgd",
    .paper        = "arXiv:1802.04434",
    .summary      = "steps of one size along the gradient's sign, or its momentum's",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
