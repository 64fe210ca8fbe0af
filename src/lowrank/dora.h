/* dora.h - DoRA's magnitude on a pair: for methods that start or train the pair in their own way. */
#ifndef CRANK_LOWRANK_DORA_H
#define CRANK_LOWRANK_DORA_H

#include "lowrank/pair.h"

typedef struct dora_part {
    crank_param *magnitude; /* mu [out] */
    crank_param *norms;     /* |w_i|^2 [out], valid for `version` of the base weight */
    uint64_t     version;
} dora_part;

/* Parameters `magnitude` and the cache `norms` of a site whose pair is attached with B A = 0. Needs a dense base. */
crank_status dora_attach(crank_context *context, crank_site *site, dora_part *part);
/* Puts k [out] in the type of the factors. */
void dora_derive(crank_graph *graph, crank_site *site, const pair *factors, dora_part *part);
/* x, and x dropped on the branch (x itself where nothing is dropped) -> y [n, out] */
crank_tensor *dora_forward(crank_graph *graph, crank_site *site, const pair *factors, crank_tensor *x, crank_tensor *dropped, crank_tensor *y0);
#endif
