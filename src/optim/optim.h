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

/* Zeroes elements first .. first + count - 1 of a contiguous parameter of any type where it lies; count < 0: all of it. Nothing happens
 * while there is no memory (planning). */
crank_status optim_zero(crank_context *context, crank_param *param, int64_t first, int64_t count);

/* A clock [3] named "<owner>.clock", which `period` writes before every step and no checkpoint holds; and its writing: the count of
 * steps, at the run's rate, awake. Nothing is written while there is no memory (planning). */
crank_param *optim_clock(crank_context *context, crank_params *params, const char *owner);
crank_status optim_clock_write(crank_context *context, crank_param *clock, int64_t count);

/* ---- numbers that updates share (scalars.c) ---- */

/* What a shared number is made of. `passing`: it holds SKIP or CLIP. */
typedef struct scalar_key {
    enum { SCALAR_ELEMENT, SCALAR_RATE, SCALAR_CORRECTION, SCALAR_CORRECTIONS, SCALAR_NUMBER, SCALAR_RATE_ONE, SCALAR_PRODUCT } what;
    int         index;
    const void *from; /* a clock, or a tensor */
    crank_dtype type;
    double      value, second;
    bool        passing;
} scalar_key;

/* The number that was shared under the key and still holds, or NULL; and sharing one: returns it. */
crank_tensor *optim_shared(crank_graph *graph, const scalar_key *key);
crank_tensor *optim_share(crank_graph *graph, const scalar_key *key, crank_tensor *tensor);

/* Step scalar i of the unit in the type of moments: [1], or one for each row where its clock has rows. */
crank_tensor *optim_scalar(crank_graph *graph, const crank_unit *unit, crank_scalar_index i);
/* The step's rate times the unit's factor. */
crank_tensor *optim_rate(crank_graph *graph, const crank_unit *unit);
/* 1 - b^t */
crank_tensor *optim_correction(crank_tensor *t, double b);
/* sqrt(1 - b2^t) / (1 - b1^t) */
crank_tensor *optim_corrections(crank_tensor *t, double b1, double b2);
/* Of shared numbers: a b, and a value. */
crank_tensor *optim_product(crank_tensor *a, crank_tensor *b);
crank_tensor *optim_multiple(crank_tensor *a, double value);
/* [1] */
crank_tensor *optim_number(crank_graph *graph, crank_dtype type, double value);

/* ---- updates written in base operations (record.c) ---- */

/* The gradient in the type of moments, divided and clipped. */
crank_tensor *optim_gradient(crank_graph *graph, const crank_unit *unit, crank_tensor *gradient);
/* A parameter of the unit, or a view of one, becomes `value`; in a skipped step it stays. */
void optim_set(crank_graph *graph, const crank_unit *unit, crank_tensor *target, crank_tensor *value);
/* w -= step; a 16-bit w is rounded stochastically, and in a skipped step it stays. step has w's dims and the type of moments. */
void optim_move(crank_graph *graph, const crank_unit *unit, crank_tensor *step);
/* The step with the unit's decoupled decay: before it, w (1 - rate decay) - step, or behind it, (w - step) (1 - rate decay). */
crank_tensor *optim_decayed(crank_graph *graph, const crank_unit *unit, crank_tensor *step, bool behind);

#endif
