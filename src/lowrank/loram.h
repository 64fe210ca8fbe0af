/* loram.h - the factors of LoRA on a sparse base, without its mask: for the whole model that the sparse one was made from. */
#ifndef CRANK_LOWRANK_LORAM_H
#define CRANK_LOWRANK_LORAM_H

#include "lowrank/pair.h"

extern const crank_map crank_map_loram;
/* As crank_map's as_lora. */
crank_status loram_pair(crank_context *context, const crank_site *site, int64_t *rank, double *scale, float **A, float **B);
#endif
