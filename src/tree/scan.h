/* scan.h - the best split of a leaf by one feature, from its histogram.
 *
 * With sums G, H of a side, T(G) = sign(G) max(|G| - l1, 0) and score(G, H) = T(G)^2 / (H + l2), the gain of a split is
 * score(left) + score(right) - score(both). The fast scan works in levels: l1 and l2 are divided by the levels' units. Where leaf values
 * are bounded (monotone, max_delta_step) or smoothed, score = -(2 T(G) w + (H + l2) w^2) with the value w that the leaf would have. */
#ifndef CRANK_TREE_SCAN_H
#define CRANK_TREE_SCAN_H

#include "tree/histogram.h"

/* What a scan must know of the leaf and the options. */
typedef struct scan_leaf {
    packed  sum;
    int64_t count;              /* rows */
    double  g_unit, h_unit;
    double  l1, l2;             /* in levels: l1 / g_unit, l2 / h_unit */
    double  least;              /* levels of H on each side at least: for min_sum_hessian and the estimated min_data */
    double  value;              /* of the leaf: for smoothing */
    double  low, high;          /* bounds of values */
    const crank_tree_options *options;
    const uint32_t *counts;     /* [room]: exact rows of each bin of this feature, or NULL: estimated from hessians */
} scan_leaf;

typedef struct split {
    double   gain;              /* real units, the parent's score and min_gain_to_split taken away; <= 0: none */
    int32_t  feature, bin;      /* numbers: bins up to it go left */
    bool     default_left;
    packed   left;              /* sum of the left side */
    bool     categorical;
    uint32_t set[MOST_BINS / 32]; /* bins that go left */
} split;

typedef void scan_numbers(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best);
scan_numbers scan_numbers_plain, scan_numbers_avx2, scan_numbers_avx512;

/* Candidate splits 0 .. m - 1 of a leaf by one feature, over several outputs: gain and hessians of both sides, added up output by output. */
typedef struct scan_wide {
    double gain[MOST_BINS], left[MOST_BINS], right[MOST_BINS];
} scan_wide;
/* Adds one output: sums [m] of the left side in levels, `both` of the leaf; l1, l2 and most (max_delta_step, 0: none) in real units. */
typedef void scan_output(const packed *left, int m, packed both, double g_unit, double h_unit, double l1, double l2, double most, scan_wide *out);
scan_output scan_output_plain, scan_output_avx2, scan_output_avx512;
/* direction: -1, 0, 1, monotone */
void scan_bounded(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, int direction, split *best);
void scan_categories(const packed *hist, int32_t bins, const scan_leaf *leaf, split *best);

/* T(G) */
static inline double soft(double g, double l1) { return copysign(fmax(fabs(g) - l1, 0), g); }
/* Value of a leaf with real sums; l2 may be more than the option's. */
double leaf_output(const crank_tree_options *o, double g, double h, double l2, int64_t count, double parent);
/* score in real units of a leaf with that value */
double leaf_score(const crank_tree_options *o, double g, double h, double l2, double value);
#endif
