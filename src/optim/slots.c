/* slots.c - moments for whichever parameters are active. */
#include "optim/slots.h"

crank_status slots_make(crank_context *context, slots *pools, const crank_unit *unit, int64_t elements)
{
    static const char *const names[] = { "m", "v" };
    crank_param            **made[] = { &pools->m, &pools->v };
    if (pools->m || elements < 1) return CRANK_OK;
    for (int k = 0; k < 2; k++) {
        char *name = crank_format(context, "%s.slots.%s", unit->optimizer->name, names[k]);
        *made[k] = name ? crank_params_add(unit->param->owner, name, CRANK_ROLE_STATE, optim_wide(unit), 1, &elements) : NULL;
        crank_free(name);
        if (!*made[k]) return crank_last_status(context);
    }
    pools->elements = elements;
    return CRANK_OK;
}

crank_status slots_clear(crank_context *context, const slots *pools, int64_t first, int64_t count)
{
    if (!pools->m || count < 1) return CRANK_OK;
    crank_status status = optim_zero(context, pools->m, first, count);
    return status == CRANK_OK ? optim_zero(context, pools->v, first, count) : status;
}

static crank_tensor *part(crank_graph *graph, crank_param *pool, int64_t offset, const crank_view *like)
{
    return crank_reshape(crank_slice(crank_use(graph, pool), 0, offset, crank_view_count(like)), like->rank, like->dims);
}

void slots_adamw(crank_graph *graph, crank_unit *unit, const slots *pools, int64_t offset, double beta1, double beta2, double epsilon,
                 crank_tensor *gradient)
{
    const crank_view     *view = &unit->param->view;
    crank_adam_attributes attributes = { .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon, .decay = unit->decay, .rate_factor = unit->rate_factor,
                                         .seed = unit->seed, .index = (uint32_t)unit->index };
    crank_adamw(crank_use(graph, unit->param), gradient, part(graph, pools->m, offset, view), part(graph, pools->v, offset, view),
                crank_unit_scalars(graph, unit), &attributes);
}
