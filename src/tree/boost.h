/* boost.h - boosting in steps: what one model's learning holds, and one more round of trees. */
#ifndef CRANK_TREE_BOOST_H
#define CRANK_TREE_BOOST_H

#include "tree/grow.h"
#include "tree/objective.h"
#include "tree/sample.h"
#include "tree/wide.h"

typedef struct booster {
    crank_context            *context;
    const dist_group         *group;         /* NULL: one process */
    const crank_tree_options *options;       /* with the objective's values where the caller left them open */
    crank_tree_options        resolved;
    const crank_tree_data    *train, *valid;
    int64_t       outputs;
    bool          given;                     /* gradients come from the caller, labels are not needed */
    crank_trees  *trees;
    bin_mapper   *mapper;
    bin_matrix    matrix, valid_matrix;
    int8_t       *monotone;
    grower        grower;
    wide          wide;                      /* of oblivious trees and of leaves with vectors */
    bool          is_wide;
    objective     objective;
    measure       measure;
    row_sample    sample;
    double       *scores, *valid_scores;     /* [outputs, rows] */
    float        *g, *h;                     /* [outputs, rows] */
    int64_t       best_rounds;               /* at the best measure */
    double        best;
} booster;

/* The caller sets context, group, options, train, valid, and, where given, outputs. False: message set. */
bool booster_open(booster *b, const crank_trees *init);
void booster_close(booster *b); /* not the trees */
/* Trees from the gradients in g and h, which sampling may change. *more false: no split gains any more, nothing was added. */
bool booster_round(booster *b, int64_t it, bool *more);
#endif
