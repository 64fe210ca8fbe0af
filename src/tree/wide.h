/* wide.h - trees that decide for many at once: leaves that hold a vector, and oblivious trees, where one split parts all leaves of a level.
 *
 * With sums G_k, H_k of output k in a leaf, the gain of a split is summed over the outputs of the leaf,
 *
 *     sum_k score(G_k, H_k, left) + score(G_k, H_k, right) - score(G_k, H_k, both)        score as in scan.h
 *
 * and of an oblivious split over the leaves of the level as well (Prokhorenkova et al. 2018, arXiv:1706.09516, without ordered boosting). A
 * side must have min_data_in_leaf rows, counted exactly, and min_sum_hessian_in_leaf in the mean of its outputs. In an oblivious tree a
 * leaf with a smaller side adds no gain, and its two children keep its values. Categories are split one against the rest. */
#ifndef CRANK_TREE_WIDE_H
#define CRANK_TREE_WIDE_H

#include "tree/grow.h"

/* Beside grow_leaf */
typedef struct wide_leaf {
    packed *store;              /* its histograms, or NULL: they are summed anew where they are needed */
    bool    of_parent;          /* the store still holds the parent's */
    int64_t value_first, value_count; /* rows that give its values: its own, or those of the leaf that it was parted from */
} wide_leaf;

typedef struct wide {
    grower    *g;               /* rows, leaves and nodes stand there */
    int64_t    outputs;
    bool       oblivious;
    bool       counted;         /* min_data_in_leaf is above 1; else a side of some hessian has a row */
    scan_output *scan;          /* of this machine */
    quantised *levels;          /* [outputs] */
    wide_leaf *leaf;            /* [num_leaves] */
    packed    *sum;             /* [num_leaves, outputs] */
    double    *node_value, *node_weight, *node_gain; /* [num_leaves, outputs] */
    packed   **pool, **free;    /* stores: [outputs, entries] sums, and where counted [entries] rows */
    packed    *ones;            /* [matrix rows]: what a row counts; NULL: not counted */
    int32_t    pool_size, pool_made, free_count;
    packed   **scratch;         /* [threads]: a store each */
    double    *tally;           /* [threads, 2, features of a block, 2, MOST_BINS]: gains of candidates */
} wide;

/* outputs of one tree; the grower stays the caller's. */
bool wide_open(grower *g, int64_t outputs, bool oblivious, wide *w);
void wide_close(wide *w);
/* Grows a tree on g->rows[0..n). gradient, hessian [outputs, stride]. False with an empty message: nothing to split; else an error. */
bool wide_grow(wide *w, const float *gradient, const float *hessian, int64_t stride, int64_t n);
/* The tree of one output, with values from that output's exact sums, times `rate`. */
bool wide_tree(wide *w, int64_t output, const float *gradient, const float *hessian, double rate, tree *out);

/* wide_scan.c: adds the gains of splitting leaf i by each wanted feature of a block -> tally [features of the block, 2, MOST_BINS]: with missing
 * values left, then right; by the last bin that goes left, or the category that goes left. */
void wide_scan(const wide *w, int32_t i, const bin_block *block, const packed *store, double *tally);
/* The best candidates -> found [features]. */
void wide_pick(const wide *w, const bin_block *block, const double *tally, split *found);
/* Loss that a leaf of these sums of output k takes away, in real units. */
double wide_score(const wide *w, int64_t k, packed sum);
/* Both sides are large enough. sums [outputs] */
bool wide_allows(const wide *w, const packed *left, const packed *both, int64_t left_count, int64_t count);
#endif
