/* grow.h - one tree from binned rows and their gradients. */
#ifndef CRANK_TREE_GROW_H
#define CRANK_TREE_GROW_H

#include "dist/dist.h"
#include "tree/scan.h"

typedef struct grow_leaf {
    int64_t first, count;       /* its rows are rows[first .. first + count) */
    packed  sum;
    int32_t depth, slot;        /* slot: of its histogram, -1: none */
    int32_t parent;             /* node, -1: root */
    bool    is_left, open;      /* open: may be split */
    double  value, low, high;   /* value before renewal, and its bounds */
    split   best;
} grow_leaf;

typedef struct grow_node {
    split   split;
    int32_t left, right;
    double  value, weight;
    int64_t count;
} grow_node;

typedef struct grower {
    crank_context            *context;
    const crank_tree_options *options;
    const bin_mapper         *mapper;
    const bin_matrix         *matrix;
    const int8_t             *monotone;   /* [features], or NULL */
    const dist_group         *group;      /* processes that hold the same rows and scan a part of the features each; NULL: one */
    double   *exchange;                   /* [processes, 2, SPLIT_WORDS] */
    int       threads;
    int64_t   number;                     /* of the tree: keys the chances of rounding */
    quantised levels;
    int32_t  *rows, *spare;               /* [matrix rows]: rows in the order of leaves */
    grow_leaf *leaf;                      /* [num_leaves] */
    grow_node *node;                      /* [num_leaves - 1] */
    uint8_t  *goes_left;                  /* [num_leaves - 1, 256] by bin */
    int32_t   leaves;
    packed  **pool;                       /* histograms */
    int32_t   pool_size, pool_made;
    int32_t  *free_slot, free_count;
    split    *found[2];                   /* [features]: of the two children */
    uint8_t  *wanted;                     /* [features]: may be used in this tree */
    int32_t  *blocks_of;                  /* [threads, blocks]: who adds what */
    int32_t  *block_count;                /* [threads] */
    uint32_t *counts;                     /* [entries]: exact rows of bins, or NULL until needed */
} grower;

bool grower_open(crank_context *context, const crank_tree_options *options, const bin_mapper *mapper, const bin_matrix *matrix, const int8_t *monotone, const dist_group *group, grower *g);
void grower_close(grower *g);
/* Grows a tree on g->rows[0..n). Rows end up in the order of leaves. False with an empty message: nothing to split; else an error. */
bool grower_grow(grower *g, const float *gradient, const float *hessian, int64_t n);
/* The grown tree with values from exact sums, times `rate`. */
bool grower_tree(grower *g, const float *gradient, const float *hessian, double rate, tree *out);
/* Its parts, which wide.c shares: blocks with a wanted feature shared out over processes and threads; the best splits of one or two leaves
 * agreed on by all processes; the leaf to split next, -1: none; which bins go left; sums of a run of rows; the nodes of the finished tree. */
void    grower_share_blocks(grower *g);
bool    grower_agree(grower *g, grow_leaf *const *leaves, int count);
int32_t grower_next_leaf(const grower *g);
void    split_goes_left(const grower *g, const split *s, uint8_t *goes_left);
void    grower_sums(const grower *g, int64_t first, int64_t count, const float *gradient, const float *hessian, double *G, double *H);
bool    grower_shape(const grower *g, double rate, tree *out);
/* The leaf where a row of bins [slots] ends. */
int32_t grower_leaf(const grower *g, const uint8_t *bins);

/* rows[0..n) -> those whose bin goes left first, in their order. Returns how many. spare [n] */
int64_t partition(int threads, int32_t *rows, int32_t *spare, int64_t n, const uint8_t *bins, const uint8_t *goes_left);
#endif
