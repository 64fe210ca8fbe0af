/* dylora.h - the rank at which a DyLoRA is evaluated, merged and exported. */
#ifndef CRANK_LOWRANK_DYLORA_H
#define CRANK_LOWRANK_DYLORA_H

#include "crank/linear.h"

/* Sets it for one site of an attachment of `dylora`; between runs. CRANK_USAGE outside of rank_min..rank, or for another method. */
crank_status dylora_set_rank(crank_context *context, crank_site *site, int64_t rank);
#endif
