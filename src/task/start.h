/* start.h - what a run begins with, written down so that the same run can be made elsewhere. */
#ifndef CRANK_TASK_START_H
#define CRANK_TASK_START_H

#include "task/recipe.h"

/* Writes into `folder`, without training:
 *   adapter/ or model/     the values before step 1
 *   batches.jsonl          one line a micro-batch, in the order of the run, then the held-out set's:
 *                          {"part": "train" | "eval", "batch": k, "rows": [[token, ..], ..], "trained": [[0 | 1, ..], ..], "labels": [class | null, ..],
 *                           "values": [x, ..]}
 * `trained` tells for each token whether the loss counts its prediction; it is absent where the objective reads no next tokens, as
 * `labels` and `values` are where it reads none. A window of train.accumulate micro-batches is one step. */
crank_status start_write(crank_context *context, const task_recipe *recipe, const char *folder);
#endif
