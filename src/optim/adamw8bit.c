/* adamw8bit.c - AdamW whose moments are kept in 8 bits (Dettmers et al. 2021, arXiv:2110.02861; bitsandbytes).
 *
 * Moments are quantised in blocks of 256 elements to a dynamic map of 256 values, with one scale (the block's largest
 * magnitude) each: 2 + 8/256 bytes an element instead of 8. The step itself uses the moments before they are rounded again.
 * Tensors with fewer than `min_size` elements keep moments in f32, as bitsandbytes does. */
#include "optim/optim.h"

typedef struct {
    double  beta1, beta2, epsilon;
    int64_t min_size;
} options;

typedef struct {
    crank_param *m, *v;           /* codes u8, or f32 moments of a small tensor */
    crank_param *amax_m, *amax_v; /* [ceil(N / 256)]; NULL for a small tensor */
} state;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, beta1, 0.9, 0, 0.999999, "decay of the first moment"),
    CRANK_FLOAT(options, beta2, 0.999, 0, 0.9999999, "decay of the second moment"),
    CRANK_FLOAT(options, epsilon, 1e-8, 0, 1, "added to the root of the second moment"),
    CRANK_INT(options, min_size, 4096, 0, 1e15, "tensors with fewer elements keep their moments in f32"),
    CRANK_END
};

static crank_status attach(crank_context *context, crank_unit *unit)
{
    const options    *opt = unit->options;
    state            *st = unit->state;
    const crank_view *view = &unit->param->view;
    int64_t           elements = optim_elements(unit), blocks = (elements + 255) / 256;
    if (elements < opt->min_size) {
        st->m = optim_like(context, unit, "m");
        st->v = optim_like(context, unit, "v");
        return st->m && st->v ? CRANK_OK : crank_last_status(context);
    }
    st->m = crank_unit_param(context, unit, "codes_m", CRANK_U8, view->rank, view->dims);
    st->v = crank_unit_param(context, unit, "codes_v", CRANK_U8, view->rank, view->dims);
    st->amax_m = crank_unit_param(context, unit, "amax_m", optim_wide(unit), 1, &blocks);
    st->amax_v = crank_unit_param(context, unit, "amax_v", optim_wide(unit), 1, &blocks);
    return st->m && st->v && st->amax_m && st->amax_v ? CRANK_OK : crank_last_status(context);
}

static void update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient)
{
    const options        *opt = unit->options;
    const state          *st = unit->state;
    crank_tensor         *w = crank_use(graph, unit->param), *m = crank_use(graph, st->m), *v = crank_use(graph, st->v);
    crank_adam_attributes attributes = { .beta1 = opt->beta1,
                                         .beta2 = opt->beta2,
                                         .epsilon = opt->epsilon,
                                         .decay = unit->decay,
                                         .rate_factor = unit->rate_factor,
                                         .seed = unit->seed,
                                         .index = (uint32_t)unit->index };
    if (!st->amax_m) {
        crank_adamw(w, gradient, m, v, crank_unit_scalars(graph, unit), &attributes);
        return;
    }
    crank_adamw8bit(w, gradient, m, v, crank_use(graph, st->amax_m), crank_use(graph, st->amax_v), crank_unit_scalars(graph, unit),
                    &attributes);
}

const crank_optimizer crank_optimizer_adamw8bit = {
    .name         = "adamw8bit",
    .paper        = "arXiv:2110.02861",
    .summary      = "AdamW with moments in 8 bits, block-wise",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .attach       = attach,
    .update       = update,
};
