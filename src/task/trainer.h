/* trainer.h - a model, an objective and an optimiser as graphs that run on batches of any size.
 *
 * Graphs are recorded once for each *shape* (tokens and sequences, rounded up so that few shapes occur) and kept; the places that a
 * batch leaves empty belong to one more sequence whose weights are 0. All graphs of a trainer share one arena. An optimiser step is
 * a window of micro-batches: every one adds its gradients, and the last one divides, clips and updates. */
#ifndef CRANK_TASK_TRAINER_H
#define CRANK_TASK_TRAINER_H

#include "data/batch.h"
#include "task/recipe.h"

#include "crank/model.h"

typedef struct task_trainer task_trainer;

/* Makes the optimiser's units for every trainable parameter of the model, with their state. The recipe outlives the trainer.
 * `total` is the number of steps of the run (the schedule's length); 0: it only evaluates, and has no units. */
task_trainer *trainer_new(crank_context *context, crank_model *model, const task_recipe *recipe, int64_t total);
void     trainer_free(task_trainer *trainer);

/* Sizes of the largest batch to come; the graphs for it are planned (not run) and what they take is told. The limit counts the
 * arena, the workspace and inputs of one run. */
typedef struct trainer_memory {
    size_t weights, mapped;              /* base weights in memory of ours, and mapped from files */
    size_t method, state, buffers;       /* low-rank parameters, optimiser state, gradient sums */
    size_t state_all;                    /* optimiser state of all processes' shares together */
    size_t parked;                       /* state of what sleeps: in host memory beside a card, else in a file */
    size_t arena, workspace, inputs;
    size_t kept;                         /* of the arena: what lives from the forward to the reverse pass */
    size_t code;                         /* on a host: what the graphs take beside their values, and what a decomposition there works in */
    int    recomputed_blocks;
    double flops;                        /* of one micro-batch */
} trainer_memory;
/* Tells that no sequence of a batch has more tokens: before the first graph. */
void trainer_set_longest(task_trainer *trainer, int64_t tokens);
crank_status trainer_plan(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, bool types, size_t limit,
                          trainer_memory *memory);

/* What a finished optimiser step tells. */
typedef struct trainer_result {
    double loss;      /* numerator / denominator of the window */
    double numerator, denominator;
    double norm;      /* of the gradient, divided, before clipping; NAN when updates run inside the backward pass */
    double rate;
    int64_t tokens, trained;
    bool   skipped;   /* a non-finite loss or gradient: nothing changed */
} trainer_result;
/* One optimiser step (1-based number) over a window of micro-batches. */
crank_status trainer_step(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                          trainer_result *result);

/* Forward only, no dropout: the batch's numerator and denominator. `outputs` receives [sequences, labels] f32 of a classification
 * head, or NULL. */
crank_status trainer_evaluate(crank_context *context, task_trainer *trainer, const data_batch *batch, double *numerator, double *denominator,
                              float *outputs);

/* Parameters whose values a checkpoint must hold: trainable ones, those of methods, and state. */
bool trainer_saves(const task_trainer *trainer, const crank_param *param);
/* Between steps: hooks of methods and optimisers that act between runs. Step 0: the heaviest state, for the plan. */
crank_status trainer_period(crank_context *context, task_trainer *trainer, int64_t step);
/* The processes that share a run hold the same values; else an error in all of them. */
crank_status trainer_check_replicas(crank_context *context, task_trainer *trainer);
/* All processes: what a checkpoint needs of other processes' shares comes to process 0, for trainer_collected, until it is released. */
crank_status trainer_collect(crank_context *context, task_trainer *trainer);
const void  *trainer_collected(const task_trainer *trainer, const crank_param *param);
void         trainer_collect_release(task_trainer *trainer);
/* Gives the arena back until the next step or evaluation. */
void trainer_release(task_trainer *trainer);
/* Profile of the graphs that have run so far; malloc'd text. */
void  trainer_profile(task_trainer *trainer, bool on);
char *trainer_table(task_trainer *trainer, double flop_rate, double byte_rate);
size_t trainer_units(const task_trainer *trainer);
int64_t trainer_trainable(const task_trainer *trainer); /* elements of trainable parameters */
#endif
