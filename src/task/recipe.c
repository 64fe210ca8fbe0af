/* recipe.c - the sections of a training recipe and their options. */
#include "task/recipe.h"

#include <string.h>

#include "task/rules.h"

const crank_option model_options[] = {
    CRANK_STRING(model_section, path, NULL, "folder of the base model (Hugging Face layout)"),
    CRANK_STRING(model_section, config, NULL, "config.json of a new model with random weights, instead of path"),
    CRANK_CHOICE(model_section, compute, "auto", "auto|f32|bf16|f64", "type of activations and products; auto takes bf16 where it is native"),
    CRANK_CHOICE(model_section, weights, "auto", "auto|f32|bf16|f64|nf4|fp8",
                 "type in which frozen weights are held; auto follows compute; nf4: the linears of the layers in four bits (QLoRA); fp8: in eight, with products in eight bits"),
    CRANK_BOOL(model_section, double_quantization, true, "nf4: the scales of blocks are quantised as well"),
    CRANK_CHOICE(model_section, pooling, "auto", "auto|mean|cls|pooler", "how an encoder makes one vector of a sequence"),
    CRANK_INT(model_section, labels, 0, 0, 1000000, "outputs of a classification head that is added or replaced; 0: the model's own"),
    CRANK_STRING(model_section, device, "auto", "where the run takes place: cpu, cuda, cuda:N or auto, which takes a GPU when there is one"),
    CRANK_BOOL(model_section, deterministic, false, "on a GPU: only kernels that give the same bits in every run (the CPU's always do)"),
    CRANK_STRING(model_section, bodies, NULL, "highest CPU instruction level to use: plain, avx2, avx512, avx512bf16, amx"),
    CRANK_END
};

const crank_option train_options[] = {
    CRANK_INT(train_section, steps, 0, 0, 1000000000, "optimiser steps; 0: as many as epochs give"),
    CRANK_INT(train_section, epochs, 1, 1, 1000000, "passes over the data when steps is 0"),
    CRANK_INT(train_section, batch, 8, 1, 1000000, "rows a micro-batch; packed text: batch * data.context tokens"),
    CRANK_INT(train_section, accumulate, 1, 1, 1000000, "micro-batches an optimiser step"),
    CRANK_FLOAT(train_section, lr, 2e-4, 0, 1e6, "peak learning rate"),
    CRANK_CHOICE(train_section, schedule, "cosine", "constant|linear|cosine", "how the rate falls after the warm-up"),
    CRANK_INT(train_section, warmup, 0, 0, 1000000000, "steps of linear warm-up"),
    CRANK_FLOAT(train_section, warmup_share, 0, 0, 1, "warm-up as a share of all steps, when warmup is 0"),
    CRANK_FLOAT(train_section, floor, 0, 0, 1, "share of the peak rate that the schedule ends at"),
    CRANK_FLOAT(train_section, clip, 1, 0, 1e9, "limit of the gradient's global norm; 0: none"),
    CRANK_BOOL(train_section, inside, false, "update inside the backward pass and free each gradient at once (needs clip 0)"),
    CRANK_CHOICE(train_section, shard, "none", "none|optimizer", "what several processes hold in shares: optimizer: each a part of the optimiser's state"),
    CRANK_BOOL(train_section, overlap, true, "several GPUs sum gradients beside the reverse pass; false: behind it"),
    CRANK_FLOAT(train_section, timeout, 1800, 0, 1e9, "seconds that a GPU waits for other processes before the run gives up; 0: for ever"),
    CRANK_INT(train_section, seed, 0, 0, 9007199254740991, "seed of initial values, order of rows and dropout"),
    CRANK_INT(train_section, threads, 0, 0, 1024, "threads; 0: all cores"),
    CRANK_INT(train_section, eval_every, 0, 0, 1000000000, "steps between evaluations; 0: ten in the run"),
    CRANK_INT(train_section, save_every, 0, 0, 1000000000, "steps between checkpoints; 0: with each evaluation"),
    CRANK_INT(train_section, log_every, 1, 1, 1000000000, "steps between lines of the metrics log"),
    CRANK_INT(train_section, patience, 0, 0, 1000000, "stop after this many evaluations without a better one; 0: never"),
    CRANK_CHOICE(train_section, keep, "best", "best|last", "which weights the finished run leaves"),
    CRANK_BOOL(train_section, resume, true, "go on from the checkpoint in output.path when there is one"),
    CRANK_END
};

const crank_option lowrank_options[] = {
    CRANK_STRING(lowrank_section, method, "lora", "low-rank method by name, or `none` for full training (crank help methods)"),
    CRANK_LIST(lowrank_section, targets, "all-linear", "linears that are adapted: `all-linear`, suffixes, or one regular expression on the whole path"),
    CRANK_LIST(lowrank_section, exclude, NULL, "linears that are left out, by the same rule"),
    CRANK_LIST(lowrank_section, layers, NULL, "numbers of the layers that are adapted; empty: all"),
    CRANK_LIST(lowrank_section, modules, NULL, "modules trained in full and saved with the adapter (a new classification head always is)"),
    CRANK_MAP(lowrank_section, rank_pattern, NULL, "regular expression of a module: its rank"),
    CRANK_MAP(lowrank_section, alpha_pattern, NULL, "regular expression of a module: its alpha"),
    CRANK_STRING(lowrank_section, adapter, NULL, "adapter folder to start from, instead of a new one"),
    {"calibration.batches", CRANK_OPTION_INT, offsetof(lowrank_section, calibration_batches), 8, 1, 1000000, NULL, NULL,
     "first batches of the training data that a data-driven method looks at before it starts"},
    {"calibration.rows", CRANK_OPTION_INT, offsetof(lowrank_section, calibration_rows), 0, 0, 1e15, NULL, NULL,
     "tokens after which it has seen enough; 0: all of the batches"},
    {"calibration.of", CRANK_OPTION_CHOICE, offsetof(lowrank_section, calibration_of), 0, 0, 0, "loss", "loss|all",
     "tokens that a method without gradients sees: those whose prediction the loss counts, or all"},
    CRANK_END
};

const crank_option optim_options[] = {
    CRANK_STRING(optim_section, method, "adamw", "optimiser by name (crank help optimizers)"),
    CRANK_FLOAT(optim_section, decay, 0, 0, 1e6, "weight decay of matrices (vectors, norms and biases have none)"),
    CRANK_END
};

const crank_option memory_options[] = {
    CRANK_FLOAT(memory_section, limit, 0, 0, 1e9, "MiB that the run may take in all; 0: what the system has"),
    CRANK_END
};

const crank_option output_options[] = {
    CRANK_STRING(output_section, path, "crank-out", "folder of checkpoints, logs, report and result"),
    CRANK_CHOICE(output_section, dtype, "f32", "f32|bf16|f16", "type of the weights of a model trained in full"),
    CRANK_BOOL(output_section, tensorboard, true, "write TensorBoard event files"),
    CRANK_BOOL(output_section, report, true, "write report.html at the end"),
    CRANK_INT(output_section, intruders, 0, 0, 1000, "every evaluation counts intruder dimensions among so many leading singular vectors of each trained map; 0: not"),
    CRANK_END
};

static void *section(crank_context *context, crank_recipe *file, const char *name, const crank_option *table, size_t size)
{
    void *options = crank_options_new(context, table, size);
    if (options && crank_recipe_read(context, file, name, table, options) != CRANK_OK) {
        crank_options_free(options);
        return NULL;
    }
    return options;
}

/* Options of a method from its section; a method without options gives a struct of one byte. */
static void *method_options(crank_context *context, crank_recipe *file, const char *name, const crank_option *table, size_t size)
{
    static const crank_option none[] = {CRANK_END};
    return section(context, file, name, table ? table : none, size ? size : 1);
}

/* "method `lroa` does not exist; did you mean `lora`?" with the closest name of a registry. */
#define NAMES_MAX 512
static crank_status unknown(crank_context *context, const char *what, const char *name, const char *const *names, size_t count)
{
    const char *closest = crank_closest(name, names, count);
    return crank_fail(context, CRANK_USAGE, "%s `%s` does not exist%s%s%s; `crank help %ss` lists them", what, name,
                      closest ? "; did you mean `" : "", closest ? closest : "", closest ? "`?" : "", what);
}

static crank_status choose_map(crank_context *context, task_recipe *recipe)
{
    const char *name = recipe->lowrank->method, *names[NAMES_MAX];
    size_t      count = 0;
    if (!strcmp(name, "none")) return CRANK_OK;
    recipe->map = crank_map_find(name);
    if (!recipe->map) {
        for (const crank_map *map; count < NAMES_MAX && (map = crank_map_at(count)); count++) names[count] = map->name;
        return unknown(context, "method", name, names, count);
    }
    recipe->map_options = method_options(context, recipe->file, "lowrank", recipe->map->options, recipe->map->options_size);
    return recipe->map_options ? CRANK_OK : crank_last_status(context);
}

static crank_status choose_optimizer(crank_context *context, task_recipe *recipe)
{
    const char *name = recipe->optim->method, *names[NAMES_MAX];
    size_t      count = 0;
    recipe->optimizer = crank_optimizer_find(name);
    if (!recipe->optimizer) {
        for (const crank_optimizer *optimizer; count < NAMES_MAX && (optimizer = crank_optimizer_at(count)); count++) names[count] = optimizer->name;
        return unknown(context, "optimizer", name, names, count);
    }
    recipe->optimizer_options = method_options(context, recipe->file, "optim", recipe->optimizer->options, recipe->optimizer->options_size);
    return recipe->optimizer_options ? CRANK_OK : crank_last_status(context);
}

static crank_status choose_objective(crank_context *context, task_recipe *recipe)
{
    const char *name = crank_recipe_get(recipe->file, "loss", "objective"), *names[NAMES_MAX];
    size_t      count = 0;
    if (!name) name = "cross_entropy";
    recipe->objective = crank_objective_find(name);
    if (!recipe->objective) {
        for (const crank_objective *objective; count < NAMES_MAX && (objective = crank_objective_at(count)); count++) names[count] = objective->name;
        return unknown(context, "objective", name, names, count);
    }
    recipe->objective_options = method_options(context, recipe->file, "loss", recipe->objective->options, recipe->objective->options_size);
    return recipe->objective_options ? CRANK_OK : crank_last_status(context);
}

static crank_status check_combination(crank_context *context, const task_recipe *recipe)
{
    if (!recipe->model->path && !recipe->model->config)
        return crank_fail(context, CRANK_USAGE, "the recipe names no model: set model.path to a model folder, or model.config to a config.json");
    if (recipe->model->path && recipe->model->config)
        return crank_fail(context, CRANK_USAGE, "model.path and model.config exclude each other: a folder is fine-tuned, a config starts a new model");
    return rules_check(context, &(rule_case){.recipe = recipe});
}

task_recipe *task_recipe_load(crank_context *context, const char *path, const char *const *overrides, size_t count)
{
    task_recipe *recipe = crank_alloc(context, 1, sizeof *recipe, "a recipe");
    if (!recipe) return NULL;
    recipe->file = crank_recipe_load(context, path, overrides, count);
    if (recipe->file && (recipe->model = section(context, recipe->file, "model", model_options, sizeof *recipe->model)) &&
        (recipe->train = section(context, recipe->file, "train", train_options, sizeof *recipe->train)) &&
        (recipe->lowrank = section(context, recipe->file, "lowrank", lowrank_options, sizeof *recipe->lowrank)) &&
        (recipe->optim = section(context, recipe->file, "optim", optim_options, sizeof *recipe->optim)) &&
        (recipe->memory = section(context, recipe->file, "memory", memory_options, sizeof *recipe->memory)) &&
        (recipe->output = section(context, recipe->file, "output", output_options, sizeof *recipe->output)) &&
        choose_map(context, recipe) == CRANK_OK && choose_optimizer(context, recipe) == CRANK_OK &&
        choose_objective(context, recipe) == CRANK_OK && check_combination(context, recipe) == CRANK_OK)
        return recipe;
    task_recipe_free(recipe);
    return NULL;
}

void task_recipe_free(task_recipe *recipe)
{
    if (!recipe) return;
    void *const options[] = {recipe->model, recipe->train, recipe->lowrank, recipe->optim, recipe->memory, recipe->output,
                             recipe->map_options, recipe->optimizer_options, recipe->objective_options};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (options[i]) crank_options_free(options[i]);
    crank_recipe_free(recipe->file);
    crank_free(recipe);
}

crank_status task_precision(crank_context *context, const model_section *model, const crank_device *device, crank_dtype *compute,
                            crank_dtype *weights)
{
    if (!strcmp(model->compute, "auto"))
        *compute = device->bf16 ? CRANK_BF16 : CRANK_F32;
    else
        crank_dtype_parse(model->compute, compute);
    if (*compute == CRANK_BF16 && !device->bf16)
        return crank_fail(context, CRANK_USAGE, "model.compute is bf16, and %s has no bf16 products: use f32", device->name);
    if (!strcmp(model->weights, "auto"))
        *weights = *compute;
    else
        crank_dtype_parse(strcmp(model->weights, "fp8") ? model->weights : "f8e4m3", weights);
    return CRANK_OK;
}
