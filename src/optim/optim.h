/* optim.h - what the optimisers of this folder share. */
#ifndef CRANK_OPTIM_OPTIM_H
#define CRANK_OPTIM_OPTIM_H

#include "crank/optim.h"

/* The type of moments: f32, or f64 for an f64 parameter. */
static inline crank_dtype optim_wide(const crank_unit *unit)
{
    return unit->param->view.dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32;
}

/* State with the dims of the parameter, in the type of moments. */
static inline crank_param *optim_like(crank_context *context, crank_unit *unit, const char *name)
{
    return crank_unit_param(context, unit, name, optim_wide(unit), unit->param->view.rank, unit->param->view.dims);
}

static inline int64_t optim_elements(const crank_unit *unit) { return crank_view_count(&unit->param->view); }

#endif
