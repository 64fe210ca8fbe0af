/* pair_cut.h - a pair of factors of lower rank. */
#ifndef CRANK_LOWRANK_PAIR_CUT_H
#define CRANK_LOWRANK_PAIR_CUT_H

#include "crank/base.h"

/* Replaces A [*rank, in] and B [out, *rank] (f32, crank_free) by the best pair of rank `keep` (1 .. *rank): the leading singular triplets
 * of B A, their values shared evenly (B = U sqrt(S), A = sqrt(S) V^T). keep is cut at min(in, out). *lost (or NULL): |B A - B' A'| /
 * |B A|, Frobenius. */
crank_status pair_cut(crank_context *context, int64_t in, int64_t out, int64_t keep, int64_t *rank, float **A, float **B, double *lost);
#endif
