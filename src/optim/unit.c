/* unit.c - named state of optimiser units, and the step scalars that a unit lives by.
 *
 * A unit with a clock has a step count, a factor of its rate and a sleep of its own, for all of it or row by row:
 *     RATE' = RATE * factor,  STEP' = count,  SKIP' = max(SKIP, sleep),  the others as they are. */
#include "crank/optim.h"

crank_param *crank_unit_param(crank_context *context, crank_unit *unit, const char *name, crank_dtype dtype, int rank,
                              const int64_t *dims)
{
    char *full = crank_format(context, "%s.%s.%s", unit->name ? unit->name : unit->param->name, unit->optimizer->name, name);
    if (!full) return NULL;
    crank_param *param = crank_params_add(unit->param->owner, full, CRANK_ROLE_STATE, dtype, rank, dims);
    crank_free(full);
    return param;
}

enum { CLOCK_STEP, CLOCK_RATE, CLOCK_SLEEP, CLOCK };

/* Column i of the clock [3] or [rows, 3]: [1] or [rows, 1]. */
static crank_tensor *column(crank_tensor *clock, int i) { return crank_slice(clock, clock->rank - 1, i, 1); }

/* Elements i..i+n of the run's scalars, one copy for each row of the clock. */
static crank_tensor *spread(crank_tensor *scalars, const crank_tensor *clock, int i, int n)
{
    crank_tensor *part = crank_slice(scalars, 0, i, n);
    if (clock->rank == 1) return part;
    return crank_broadcast(part, 2, (const int64_t[]){ clock->dims[0], n });
}

static bool clock_fits(const crank_unit *unit)
{
    const crank_view *clock = &unit->clock->view, *view = &unit->param->view;
    if (clock->dtype != CRANK_F32 || clock->rank < 1 || clock->rank > 2 || clock->dims[clock->rank - 1] != CLOCK) return false;
    return clock->rank == 1 || (view->rank >= 1 && clock->dims[0] == view->dims[0]);
}

crank_tensor *crank_unit_scalars(crank_graph *graph, const crank_unit *unit)
{
    crank_tensor *scalars = crank_step_scalars(graph);
    if (!unit->clock) return scalars;
    if (!clock_fits(unit))
        return crank_graph_error(graph, CRANK_USAGE, "%s: a clock is f32 [3], or [rows, 3] with the parameter's rows", unit->param->name);
    crank_tensor *clock = crank_use(graph, unit->clock);
    crank_tensor *parts[] = { crank_mul(spread(scalars, clock, CRANK_SCALAR_RATE, 1), column(clock, CLOCK_RATE)),
                              column(clock, CLOCK_STEP), spread(scalars, clock, CRANK_SCALAR_CLIP, 1),
                              crank_binary(CRANK_MAX, spread(scalars, clock, CRANK_SCALAR_SKIP, 1), column(clock, CLOCK_SLEEP)),
                              spread(scalars, clock, CRANK_SCALAR_SKIP + 1, CRANK_SCALARS - CRANK_SCALAR_SKIP - 1) };
    return crank_concat(parts, 5, clock->rank - 1);
}

crank_tensor *crank_unit_scalar(crank_graph *graph, const crank_unit *unit, crank_scalar_index i)
{
    crank_tensor *scalars = crank_unit_scalars(graph, unit);
    if (crank_graph_status(graph) != CRANK_OK) return scalars;
    crank_tensor *one = crank_slice(scalars, scalars->rank - 1, i, 1);
    if (scalars->rank == 1) return one;
    int64_t dims[CRANK_MAX_RANK] = { scalars->dims[0] };
    int     rank = unit->param->view.rank;
    for (int k = 1; k < rank; k++) dims[k] = 1;
    return crank_reshape(crank_contiguous(one), rank, dims);
}
