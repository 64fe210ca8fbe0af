/* recipe.h - what a training recipe says: one struct of options a section, and the method, optimiser and objective by name. */
#ifndef CRANK_TASK_RECIPE_H
#define CRANK_TASK_RECIPE_H

#include "dist/dist.h"

#include "crank/linear.h"
#include "crank/loss.h"
#include "crank/optim.h"
#include "crank/recipe.h"

typedef struct model_section {
    const char *path;    /* folder of the base model, or ORG/NAME in the hub's cache */
    const char *config;  /* config.json of a new model with random weights (instead of path) */
    const char *compute; /* auto, f32, bf16, f64 */
    const char *weights; /* auto, f32, bf16, f64, nf4, fp8: how weights are held */
    bool        double_quantization;
    const char *pooling;
    int64_t     labels;
    const char *bodies; /* CPU instruction level; NULL: the best */
    const char *device; /* auto, cpu, cuda, cuda:N */
    bool        deterministic;
} model_section;

typedef struct train_section {
    int64_t     steps, epochs, batch, accumulate, warmup, seed, threads;
    int64_t     eval_every, save_every, log_every, patience;
    double      lr, clip, floor, warmup_share;
    const char *schedule;
    const char *keep; /* what the end leaves as the result: best, last */
    const char *shard; /* none, optimizer */
    bool        inside, resume, overlap;
    double      timeout;
} train_section;

typedef struct lowrank_section {
    const char *method, *targets, *exclude, *layers, *modules, *adapter;
    const char *rank_pattern, *alpha_pattern;
    int64_t     calibration_batches, calibration_rows;
    const char *calibration_of;
} lowrank_section;

typedef struct optim_section {
    const char *method;
    double      decay;
} optim_section;

typedef struct memory_section {
    double limit; /* MiB; 0: what the system has */
} memory_section;

typedef struct output_section {
    const char *path, *dtype;
    bool        tensorboard, report;
    int64_t     intruders; /* leading singular vectors that every evaluation looks at; 0: none */
} output_section;

extern const crank_option model_options[], train_options[], lowrank_options[], optim_options[], memory_options[], output_options[];

typedef struct task_recipe {
    crank_recipe    *file;
    model_section   *model;
    train_section   *train;
    lowrank_section *lowrank;
    optim_section   *optim;
    memory_section  *memory;
    output_section  *output;
    const crank_map       *map;       /* NULL: full training */
    void                  *map_options;
    const crank_optimizer *optimizer;
    void                  *optimizer_options;
    const crank_objective *objective;
    void                  *objective_options;
    dist_group             group; /* the processes that share the run; size 0 or 1: this one alone */
} task_recipe;

/* Reads all sections but `data`, which the data set reads; the caller calls crank_recipe_finish after that. NULL: message set. */
task_recipe *task_recipe_load(crank_context *context, const char *path, const char *const *overrides, size_t count);
void         task_recipe_free(task_recipe *recipe);

/* The compute and weight types that the recipe and the device give: auto is bf16 where products in bf16 are native, else f32. */
crank_status task_precision(crank_context *context, const model_section *model, const crank_device *device, crank_dtype *compute,
                            crank_dtype *weights);
#endif
