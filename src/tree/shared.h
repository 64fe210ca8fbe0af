/* shared.h - what the command line sees of trees beside their public header: learning by several processes, and what validation measures. */
#ifndef CRANK_TREE_SHARED_H
#define CRANK_TREE_SHARED_H

#include "crank/tree.h"
#include "dist/dist.h"

/* crank_trees_fit by processes that all hold the same data: each scans a part of the features, and all get the model that one process
 * would make, bit for bit. */
crank_trees *trees_fit_shared(crank_context *context, const dist_group *group, const crank_tree_options *options, const crank_tree_data *train, const crank_tree_data *valid,
                              const crank_trees *init, crank_trees_progress *progress, void *user);

/* Rows held out are measured by NDCG, else by the mean loss. */
bool measure_is_ndcg(const crank_tree_options *options, const crank_tree_data *data);
#endif
