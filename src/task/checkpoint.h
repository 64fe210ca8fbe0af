/* checkpoint.h - everything that a run needs to go on as if it had never stopped.
 *
 * A checkpoint is a folder of two files, written beside and renamed, so that at every instant one whole checkpoint exists:
 *     state.safetensors   trainable weights, parameters of methods, optimiser state
 *     checkpoint.json     step, place in the data, best evaluation, seed, kernel level, threads, plugins, base, recipe, chosen ranks
 * A resumed run is bit-identical when kernel level, threads and recipe are those of the checkpoint; where they are not, that is told. */
#ifndef CRANK_TASK_CHECKPOINT_H
#define CRANK_TASK_CHECKPOINT_H

#include "task/trainer.h"

typedef struct checkpoint {
    int64_t step;         /* finished optimiser steps */
    int64_t batches;      /* micro-batches taken from the data so far: the data set's cursor */
    double  best;         /* best evaluation loss so far; INFINITY before the first */
    int64_t best_step;
    int64_t waited;       /* evaluations since the best one */
    int64_t skipped;      /* steps that changed nothing because of a non-finite loss or gradient */
    int64_t skipped_run;  /* of them, the last ones in a row */
    double  seconds;      /* of training so far */
    int64_t tokens;       /* trained on so far */
} checkpoint;

bool checkpoint_exists(crank_context *context, const char *folder);
/* `recipe_text`: the effective recipe; `base`: fingerprint of the base model; `level`: the CPU bodies in use. */
typedef struct checkpoint_origin {
    const char *recipe_text, *base, *level;
    const char *ranks; /* that calibration chose (crank_attachment_ranks), or NULL */
    int         threads;
} checkpoint_origin;
crank_status checkpoint_write(crank_context *context, const char *folder, const task_trainer *trainer, crank_params *params,
                              const checkpoint *state, const checkpoint_origin *origin);
/* *ranks: the checkpoint's, or NULL; crank_free. What a run must know before it attaches its method. */
crank_status checkpoint_ranks(crank_context *context, const char *folder, char **ranks);
/* Every saved tensor must fit; a missing or unexpected one is CRANK_BAD_DATA. */
crank_status checkpoint_read(crank_context *context, const char *folder, const task_trainer *trainer, crank_params *params,
                             checkpoint *state, const checkpoint_origin *origin);

/* Only the values of trainable weights and methods' parameters, one file: the best ones so far. */
crank_status snapshot_write(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params);
crank_status snapshot_read(crank_context *context, const char *path, const task_trainer *trainer, crank_params *params);
#endif
