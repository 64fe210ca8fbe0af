/* slots.h - moments for whichever parameters are active, in two pools as large as the largest active set.
 *
 * Which parameters are active changes between periods; what a pool holds is found by an offset that the host sets before a graph is
 * recorded. Memory is that of the largest set, at all times. */
#ifndef CRANK_OPTIM_SLOTS_H
#define CRANK_OPTIM_SLOTS_H

#include "optim/optim.h"

typedef struct slots {
    crank_param *m, *v; /* [elements], STATE, of the type of moments */
    int64_t      elements;
} slots;

/* Pools named "<optimiser>.slots.m" and ".v" in the unit's set. Does nothing when they are made. */
crank_status slots_make(crank_context *context, slots *pools, const crank_unit *unit, int64_t elements);
/* Zeroes `count` elements from `first` of both pools. */
crank_status slots_clear(crank_context *context, const slots *pools, int64_t first, int64_t count);
/* AdamW on the unit's parameter with moments at `offset`; b1, b2, epsilon as in "adamw". */
void slots_adamw(crank_graph *graph, crank_unit *unit, const slots *pools, int64_t offset, double beta1, double beta2, double epsilon,
                 crank_tensor *gradient);
#endif
