/* calibrate.h - the pass over training data that gives a data-driven method its start values. */
#ifndef CRANK_TASK_CALIBRATE_H
#define CRANK_TASK_CALIBRATE_H

#include "data/dataset.h"
#include "task/recipe.h"

#include "crank/model.h"

/* Shows the attachment what its method observes of lowrank.calibration.batches batches of the training data, in rounds of linears that take
 * no more memory than the training step that follows (a single group of linears may); the caller then finishes it. `room`: bytes that the
 * pass may take, SIZE_MAX: no limit; more is CRANK_FAILED with the numbers. *need: bytes that the largest round takes beside weights and
 * data, of the device's memory. Nothing is done for a method that observes nothing. */
crank_status calibrate(crank_context *context, crank_model *model, const task_recipe *recipe, data_set *train, crank_attachment *attachment,
                       size_t room, size_t *need);
#endif
