/* histogram.h - sums of gradients by bin, in whole numbers.
 *
 * Each row's gradient g and hessian h are rounded to whole numbers with scales chosen once a tree such that the sum of all |g| stays
 * below 2^31 and that of all h below 2^32. So one 64-bit word holds any sum of both (g in the high half, signed; h in the low half), one
 * addition updates a bin, and sums are exact: their order, and so the number of threads, changes nothing, and the histogram of a sibling
 * is the exact difference of its parent's and its twin's. At 300,000 rows a mean gradient has about 7,000 levels.
 *
 * With use_quantized_grad (Shi et al. 2022, arXiv:2207.09682) there are few levels: num_grad_quant_bins of them, B, span gradients spread evenly with
 * the root mean square of these, so a level is sqrt(3) rms(g) / (B / 2), and sqrt(3) rms(h) / B of hessians. Larger ones take more levels:
 * those of ranking have long tails, and a level made from the largest would round all others away. Stochastic rounding goes up with a
 * chance of the remainder, drawn by (seed, tree, row). */
#ifndef CRANK_TREE_HISTOGRAM_H
#define CRANK_TREE_HISTOGRAM_H

#include "tree/bins.h"

typedef int64_t packed; /* (g << 32) + h */

static inline double packed_g(packed p) { return (double)(int32_t)(p >> 32); }
static inline double packed_h(packed p) { return (double)(uint32_t)p; }

typedef struct quantised {
    packed *row;                /* [rows] */
    double  g_unit, h_unit;     /* one level */
} quantised;

/* g, h [all rows]; those not in `rows` (n of them; NULL: all) are not rounded and do not count. False: every g is 0. */
bool quantise(crank_context *context, const crank_tree_options *options, int64_t number, const float *g, const float *h, const int32_t *rows, int64_t n, quantised *out);

/* Adds rows[0..n) (or row 0..n) to the histograms of the blocks that `wanted` names by index; hist begins with block 0's. */
void histogram_add(const bin_mapper *mapper, const bin_matrix *matrix, const packed *gradients, const int32_t *rows, int64_t n, const int32_t *wanted, int32_t count, packed *hist);
/* The same, plainly: the oracle. */
void histogram_add_plain(const bin_mapper *mapper, const bin_matrix *matrix, const packed *gradients, const int32_t *rows, int64_t n, packed *hist);
#endif
