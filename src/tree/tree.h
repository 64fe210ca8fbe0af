/* tree.h - trees in memory, as the parts of the engine see them.
 *
 * A row goes left at a node when x <= threshold, or, at a categorical node, when its category is in the node's set. Children are
 * node numbers, or ~leaf where negative. The root is node 0; a tree of one leaf has no nodes. */
#ifndef CRANK_TREE_TREE_H
#define CRANK_TREE_TREE_H

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "crank/tree.h"

/* Kinds of nodes, bits as in LightGBM's decision_type. */
enum {
    NODE_CATEGORICAL  = 1,
    NODE_DEFAULT_LEFT = 2, /* where missing values go */
    NODE_MISSING_ZERO = 4, /* zeros and NaN are missing */
    NODE_MISSING_NAN  = 8  /* NaN is missing; with neither bit NaN counts as 0 */
};
#define ZERO_THRESHOLD 1e-35f /* |x| up to this is zero */

typedef struct tree {
    int32_t   leaves;
    int32_t  *feature;         /* [leaves - 1]: column */
    double   *threshold;       /* [leaves - 1]; of a categorical node the index of its set */
    float    *cut;             /* [leaves - 1]: the largest float <= threshold */
    uint8_t  *kind;            /* [leaves - 1] */
    int32_t  *left, *right;    /* [leaves - 1] */
    double   *gain, *internal_value, *internal_weight; /* [leaves - 1] */
    int64_t  *internal_count;
    double   *leaf_value, *leaf_weight; /* [leaves] */
    int64_t  *leaf_count;
    int32_t   sets;            /* of categories */
    int32_t  *set_start;       /* [sets + 1]: words */
    uint32_t *set_bits;        /* category c is bit c % 32 of word set_start[k] + c / 32 */
    double    shrinkage;
} tree;

struct crank_trees {
    int64_t  columns, outputs;
    tree    *trees;       /* tree i adds to output i % outputs */
    int64_t  count, capacity;
    double  *base;        /* [outputs]: added to every raw score */
    bool     average;     /* the sum is divided by the number of trees of the output (random forest) */
    char    *objective;   /* "lambdarank", "regression", "binary", "multiclass", "multiclassova", ... */
    double   sigmoid;
    char   **names;       /* [columns], or NULL */
    double  *low, *high;  /* [columns]: range seen in training; low > high: unknown. NULL: not known */
    double   best;        /* validation measure */
    struct scorer *scorer; /* the finished model as it is scored, or NULL */
};

/* A tree with room for `leaves` leaves, `sets` sets and `words` words. False: message set. */
bool tree_alloc(crank_context *context, tree *t, int32_t leaves, int32_t sets, int32_t words);
void tree_free(tree *t);
bool tree_copy(crank_context *context, tree *to, const tree *from);
/* Every child is reached once from the root, features and sets are in range, values are finite: else a message that names `where`.
 * Fills `cut`. */
crank_status tree_check(crank_context *context, tree *t, int64_t columns, const char *where, int64_t number);

crank_trees *trees_new(crank_context *context, int64_t columns, int64_t outputs, const char *objective);
/* Room for one more tree at trees->trees[trees->count], zeroed; the caller counts it. NULL: message set. */
tree        *trees_add(crank_context *context, crank_trees *trees);
/* The largest float <= t, so that x <= t and x <= cut say the same of every float x. */
float        float_below(double t);

/* true: left */
static inline bool node_decides(const tree *t, int32_t node, float x)
{
    uint8_t kind = t->kind[node];
    if (kind & NODE_CATEGORICAL) {
        if (isnan(x)) return kind & NODE_DEFAULT_LEFT;
        if (!(x > -1.0f && x < 2147483648.0f)) return false; /* truncated towards zero, as the formats do */
        int32_t category = (int32_t)x, k = (int32_t)t->threshold[node], first = t->set_start[k];
        return category / 32 < t->set_start[k + 1] - first && (t->set_bits[first + category / 32] >> category % 32 & 1);
    }
    if (isnan(x) && !(kind & NODE_MISSING_NAN)) x = 0;
    if (isnan(x) || ((kind & NODE_MISSING_ZERO) && fabsf(x) <= ZERO_THRESHOLD)) return kind & NODE_DEFAULT_LEFT;
    return x <= t->cut[node];
}

static inline int32_t tree_leaf(const tree *t, const float *row)
{
    int32_t node = t->leaves > 1 ? 0 : ~0;
    while (node >= 0) node = node_decides(t, node, row[t->feature[node]]) ? t->left[node] : t->right[node];
    return ~node;
}

/* One row of `columns` values -> out; columns that the data lack are missing. */
void data_row(const crank_tree_data *data, int64_t row, int64_t columns, float *out);
/* Data with rows for the model's columns, finite counts: else a message. */
crank_status data_check(crank_context *context, const crank_tree_data *data, bool labels);

void trees_link(const crank_trees *trees, double *scores, int64_t rows); /* raw -> through the link, in place */

/* formats */
crank_trees *trees_read_lightgbm(crank_context *context, const char *path, char *text, size_t length);
char        *trees_write_lightgbm(crank_context *context, const crank_trees *trees);
crank_trees *trees_read_xgboost(crank_context *context, const char *path, const json_t *root);
char        *trees_write_xgboost(crank_context *context, const crank_trees *trees);
char        *trees_write_c(crank_context *context, const crank_trees *trees);
bool         trees_is_binary(const void *bytes, size_t length);
crank_trees *trees_read_binary(crank_context *context, const char *path, const void *bytes, size_t length);
crank_status trees_write_binary(crank_context *context, const crank_trees *trees, const char *path);
#endif
