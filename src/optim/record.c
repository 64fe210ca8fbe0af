/* record.c - what updates written in base operations share: gradients, decay, and moves of a weight.
 *
 * A weight is moved by the operation "sgd" at rate 1 without momentum: it honours SKIP, works in place, and rounds a bf16 weight
 * stochastically, as the fused updates do. */
#include "optim/optim.h"

crank_status optim_zero(crank_context *context, crank_param *param, int64_t first, int64_t count)
{
    int64_t               all = crank_view_count(&param->view), n = count < 0 ? all - first : count;
    crank_fill_attributes attributes = { 0 };
    if (!param->view.data || n < 1) return CRANK_OK;
    crank_view part = crank_view_make((char *)param->view.data + (size_t)first * (crank_dtype_bits(param->view.dtype) / 8), param->view.dtype, 1, &n);
    param->version++;
    return crank_run_once(context, crank_params_device(param->owner), "fill", NULL, 0, &part, 1, &attributes);
}

crank_param *optim_clock(crank_context *context, crank_params *params, const char *owner)
{
    int64_t      three = 3;
    char        *name = crank_format(context, "%s.clock", owner);
    crank_param *clock = name ? crank_params_add(params, name, CRANK_ROLE_CACHE, CRANK_F32, 1, &three) : NULL;
    crank_free(name);
    return clock;
}

crank_status optim_clock_write(crank_context *context, crank_param *clock, int64_t count)
{
    const float now[3] = { (float)count, 1, 0 };
    return clock && clock->view.data ? crank_param_write(context, clock, now, CRANK_F32) : CRANK_OK;
}

crank_tensor *optim_gradient(crank_graph *graph, const crank_unit *unit, crank_tensor *gradient)
{
    return crank_mul(crank_cast(gradient, optim_wide(unit)), optim_scalar(graph, unit, CRANK_SCALAR_CLIP));
}

void optim_set(crank_graph *graph, const crank_unit *unit, crank_tensor *target, crank_tensor *value)
{
    crank_tensor *skip = optim_scalar(graph, unit, CRANK_SCALAR_SKIP);
    /* a row's sleep is a row's of the parameter: other shapes only know the step's */
    if (skip->rank > 1 && (skip->rank != target->rank || skip->dims[0] != target->dims[0]))
        skip = crank_cast(crank_step_scalar(graph, CRANK_SCALAR_SKIP), optim_wide(unit));
    crank_assign(target, crank_where(crank_cast(skip, value->dtype), crank_cast(target, value->dtype), value), false);
}

/* The unit's scalars with RATE and CLIP 1. */
static crank_tensor *at_rate_one(crank_graph *graph, const crank_unit *unit)
{
    scalar_key    key = { .what = SCALAR_RATE_ONE, .from = unit->clock, .passing = true };
    crank_tensor *found = optim_shared(graph, &key);
    if (found) return found;
    crank_tensor *scalars = crank_unit_scalars(graph, unit);
    int           axis = scalars->rank - 1;
    int64_t       dims[2] = { scalars->dims[0], 1 };
    crank_tensor *one = crank_fill(graph, CRANK_F32, scalars->rank, axis ? dims : dims + 1, 1);
    crank_tensor *parts[] = { one, crank_slice(scalars, axis, CRANK_SCALAR_STEP, 1), one, crank_slice(scalars, axis, CRANK_SCALAR_SKIP, 1),
                              crank_slice(scalars, axis, CRANK_SCALAR_SKIP + 1, CRANK_SCALARS - CRANK_SCALAR_SKIP - 1) };
    return optim_share(graph, &key, crank_concat(parts, 5, axis));
}

void optim_move(crank_graph *graph, const crank_unit *unit, crank_tensor *step)
{
    crank_sgd_attributes attributes = { .rate_factor = 1, .seed = unit->seed, .index = (uint32_t)unit->index };
    if (crank_graph_status(graph) != CRANK_OK) return;
    crank_sgd(crank_use(graph, unit->param), step, NULL, at_rate_one(graph, unit), &attributes);
}

crank_tensor *optim_decayed(crank_graph *graph, const crank_unit *unit, crank_tensor *step, bool behind)
{
    if (unit->decay == 0) return step;
    crank_tensor *w = crank_cast(crank_use(graph, unit->param), optim_wide(unit));
    crank_tensor *share = crank_scale(optim_rate(graph, unit), unit->decay);
    return crank_add(step, crank_mul(behind ? crank_sub(w, step) : w, share));
}
