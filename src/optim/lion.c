/* lion.c - evolved sign momentum (Chen et al. 2023, arXiv:2302.06675).
 *
 *     c = b1 m + (1 - b1) g;   w *= 1 - rate decay;   w -= rate sign(c);   m = b2 m + (1 - b2) g
 *
 * Its steps have the size of the rate in every element: rates are 3 to 10 times smaller than Adam's, decay as much larger. */
#include "optim/optim.h"

typedef struct {
    double beta1, beta2;
} options;

typedef struct {
    crank_param *m;
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.999999, "share of the momentum in the sign"),
    CRANK_FLOAT(options, beta2, 0.99, 0, 0.999999, "decay of the momentum"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    state *st = unit->state;
    st->m = optim_like(context, unit, "m");
    return st->m ? CRANK_OK : crank_last_status(context);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options        *opt = unit->options;
    const state          *st = unit->state;
    crank_lion_attributes attributes = { .beta1 = opt->beta1,
                                         .beta2 = opt->beta2,
                                         .decay = unit->decay,
                                         .rate_factor = unit->rate_factor,
                                         .seed = unit->seed,
                                         .index = (uint32_t)unit->index };
    crank_lion(crank_use(graph, unit->param), gradient, crank_use(graph, st->m), crank_unit_scalars(graph, unit), &attributes);
}

const crank_optimizer crank_optimizer_lion = {
    .name         = "lion",
    .paper        = "arXiv:2302.06675",
    .summary      = "sign of an interpolated momentum",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
