/* score.h - a model of trees laid out for fast scoring.
 *
 * Many rows: a tile of 64 documents goes through a tree at once, as masks. Each feature value is replaced by its rank among the
 * model's thresholds of that feature, one byte, so a node's test of all 64 documents is one comparison of 64 bytes. Nodes are visited
 * parents first, with no branch on the data:
 *
 *     M[root] = all;   M[left] = M[node] & (rank <= t);   M[right] = M[node] & ~(rank <= t)
 *
 * and each leaf writes its number over the documents in its mask. The idea is QuickScorer's (Lucchese et al., SIGIR 2015): comparisons
 * sequential in memory and no pointer chase; the mask here holds documents instead of leaves, so that trees may have any number of
 * leaves. Trees with more than MOST_MASKED leaves are walked, eight documents abreast.
 *
 * A tree of which all nodes of a level ask the same (an oblivious one) needs no masks: bit d of the number of a document's leaf says
 * whether it goes right at level d, so a level costs one comparison of 64 bytes. Trees that share their nodes with the tree before them
 * (leaves with vectors) share its leaves too.
 *
 * Few rows: one document walks eight trees abreast.
 *
 * Missing values need no test of their own: each (column, treatment of missing) is an *input*, whose values are prepared so that
 * x <= threshold answers right: NaN stays (goes right), or becomes -inf (goes left) or 0. All ways add leaf values in double in the
 * order of trees: their scores are the same bits. */
#ifndef CRANK_TREE_SCORE_H
#define CRANK_TREE_SCORE_H

#include "tree/tree.h"

enum { SCORE_TILE = 64, MOST_MASKED = 1024, MOST_LEVELS = 16, MOST_RANKS = 254, NODE_IS_SET = -1 };

typedef enum score_missing { MISSING_AS_ZERO, NAN_LEFT, NAN_RIGHT, ZERO_LEFT, ZERO_RIGHT, CATEGORY } score_missing;

typedef struct score_input {
    int32_t       column;
    score_missing missing;
    int32_t       next;       /* another input of this column, -1: none */
} score_input;

/* The bytes of one input: the number of `cut` below its value; NaN is 255. An input with more thresholds has several planes. */
typedef struct score_plane {
    int32_t input, cuts;
    float   cut[256];         /* ascending, infinite behind the last */
} score_plane;

typedef struct score_set {
    int32_t  input;
    bool     missing_left;
    int32_t  words;
    int64_t  first;           /* of its words in scorer.bits */
} score_set;

typedef struct score_node {
    uint32_t plane;           /* plane << 8 | rank: left where its byte <= rank; plane == scorer.planes: by set */
    uint16_t left, right;     /* places of masks: nodes 0 .. leaves - 2, then leaves */
} score_node;

typedef struct walk_node {
    float   cut;
    int32_t input;            /* NODE_IS_SET - k: by set k */
    int32_t left, right;      /* leaves - 1 + k: leaf k, which leads to itself */
} walk_node;

typedef struct score_tree {
    int32_t leaves, depth;
    bool    by_sets;          /* has a node with a set */
    bool    same;             /* its nodes are those of the tree before */
    int32_t levels;           /* of an oblivious tree, whose leaves are numbered by bits; 0: masks, or walked */
    int64_t node;             /* of its score_nodes (leaves - 1; one a level; none where walked) */
    int64_t walk;             /* of its walk_nodes (2 leaves - 1) */
    int64_t value;            /* of its leaf values */
} score_tree;

typedef struct scorer {
    int64_t      count, outputs, columns;
    int32_t      inputs, planes, sets, most_leaves; /* most_leaves: of a tree that is masked */
    score_input *input;
    int32_t     *of_column;   /* [columns]: first input, -1: none */
    score_plane *plane;
    score_set   *set;
    uint32_t    *bits;
    score_tree  *tree;
    score_node  *node;
    int32_t     *set_of;      /* beside node: its set */
    walk_node   *walk;
    double      *value;
} scorer;

/* Room for one thread. */
typedef struct score_room {
    float   *value;           /* [inputs, 64] */
    uint8_t *bytes;           /* [tiles, planes, 64] */
    void    *mask;            /* of the bodies */
    double  *sum;             /* [outputs, tiles * 64] */
    uint8_t  low[SCORE_TILE], high[SCORE_TILE]; /* number of each document's leaf in the last tree */
} score_room;

/* NULL: message set. */
scorer *scorer_make(crank_context *context, const crank_trees *trees);
void    scorer_free(scorer *s);

/* All trees of one tree's tile -> the number of each document's leaf, low and high bytes [64]. value [inputs, 64], bytes [planes, 64],
 * mask: SCORE_MASK_BYTES(leaves). */
typedef void score_masks(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, void *mask, uint8_t *low, uint8_t *high);
score_masks score_masks_plain, score_masks_avx2, score_masks_avx512;
#define SCORE_MASK_BYTES(leaves) ((size_t)(leaves) * 2 * 32 + 64)

/* Raw scores of rows first .. first + n with a given body, NULL: the best of this machine -> out [n, outputs], without the model's base. */
bool score_rows(crank_context *context, const scorer *s, const crank_tree_data *data, score_masks *body, double *out);
/* Sums of leaves of one dense row; columns behind `columns` are NaN. value [inputs] is work. */
void score_one(const scorer *s, const float *row, float *value, double *out);

/* The same of an oblivious tree. Inlined into every body, to be compiled for its instruction set. */
static inline __attribute__((always_inline)) void score_levels(const scorer *s, const score_tree *t, const uint8_t *bytes, uint8_t *low, uint8_t *high)
{
    typedef uint8_t tile __attribute__((vector_size(SCORE_TILE)));
    tile first = {0}, second = {0};
    for (int32_t d = 0; d < t->levels; d++) {
        uint32_t at = s->node[t->node + d].plane;
        tile     rank;
        memcpy(&rank, bytes + (size_t)(at >> 8) * SCORE_TILE, SCORE_TILE);
        tile right = (tile)(rank > (tile){0} + (uint8_t)at) & ((tile){0} + (uint8_t)(1 << d % 8));
        if (d < 8) first |= right;
        else second |= right;
    }
    memcpy(low, &first, SCORE_TILE);
    memcpy(high, &second, SCORE_TILE);
}

/* Left by the set? */
static inline bool set_has(const scorer *s, const score_set *set, float x)
{
    if (isnan(x)) return set->missing_left;
    if (!(x > -1.0f && x < 2147483648.0f)) return false; /* truncated towards zero, as the formats do */
    int32_t category = (int32_t)x;
    return category / 32 < set->words && (s->bits[set->first + category / 32] >> category % 32 & 1);
}
#endif
