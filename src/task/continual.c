/* continual.c - trains, merges and measures stage after stage. */
#include "task/continual.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "crank/adapter.h"
#include "data/dataset.h"
#include "task/evaluate.h"
#include "task/train.h"

typedef struct run {
    crank_context       *context;
    const continual_how *how;
    char                *base; /* of the first recipe; crank_free */
} run;

/* The folder of the model after a stage; crank_free. */
static char *model_after(const run *r, int stage) { return stage ? crank_format(r->context, "%s/stage-%d/merged", r->how->folder, stage) : crank_strdup(r->context, r->base); }

/* ---- measuring ---- */

static task_recipe *load(const run *r, int task, const char *const *more, int count)
{
    const char *words[256];
    int         n = 0;
    if (r->how->word_count > 200) {
        crank_fail(r->context, CRANK_USAGE, "too many words on the command line");
        return NULL;
    }
    for (int i = 0; i < r->how->word_count; i++) words[n++] = r->how->words[i];
    for (int i = 0; i < count; i++) words[n++] = more[i];
    return task_recipe_load(r->context, r->how->recipes[task], words, (size_t)n);
}

static crank_status evaluate(run *r, crank_model *model, const crank_tokenizer *tokenizer, task_recipe *recipe, double *loss)
{
    const crank_model_config *config = crank_model_config_of(model);
    dataset_request           request = {.fields = recipe->objective->fields, .batch = recipe->train->batch, .context = config->context, .labels = config->labels, .slots = 1};
    dataset_options          *data = crank_options_new(r->context, dataset_option_table, sizeof *data);
    bool                      read = data && crank_recipe_read(r->context, recipe->file, "data", dataset_option_table, data) == CRANK_OK;
    if (read && !dataset_has_eval(data)) read = crank_fail(r->context, CRANK_USAGE, "tasks are measured on held-out data: name them with data.eval, or data.eval_share") == CRANK_OK;
    data_set                 *set = read ? dataset_open(r->context, tokenizer, data, &request, DATASET_EVAL) : NULL;
    task_trainer             *trainer = set ? trainer_new(r->context, model, recipe, 0) : NULL;
    trainer_memory            memory;
    evaluation                e = {0};
    if (trainer) trainer_set_longest(trainer, dataset_longest(set));
    crank_status status = trainer ? trainer_plan(r->context, trainer, dataset_largest_tokens(set), dataset_largest_sequences(set), dataset_has_types(set), 0, &memory)
                                  : crank_last_status(r->context);
    if (status == CRANK_OK) status = evaluate_set(r->context, trainer, set, &e);
    *loss = e.loss;
    trainer_free(trainer);
    dataset_close(set);
    crank_options_free(data);
    return status;
}

/* All tasks' held-out losses of the model after a stage. */
static crank_status measure(run *r, int stage, double *losses)
{
    crank_device       *device = crank_device_open(r->context, &(crank_device_options){.name = "auto"});
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32};
    char               *folder = model_after(r, stage);
    crank_model        *model = device && folder ? crank_model_load(r->context, device, folder, &options) : NULL;
    crank_tokenizer    *tokenizer = model ? crank_tokenizer_load(r->context, folder) : NULL;
    crank_status        status = tokenizer ? CRANK_OK : crank_last_status(r->context);
    if (status == CRANK_OK && !crank_model_config_of(model)->causal)
        status = crank_fail(r->context, CRANK_USAGE, "%s is no language model: tasks in a row share one head, which classifiers do not", folder);
    for (int i = 0; status == CRANK_OK && i < r->how->count; i++) {
        task_recipe *recipe = load(r, i, NULL, 0);
        status = recipe ? evaluate(r, model, tokenizer, recipe, &losses[i]) : crank_last_status(r->context);
        if (status != CRANK_OK && status != CRANK_STOPPED) status = crank_fail_in(r->context, "%s", r->how->recipes[i]);
        task_recipe_free(recipe);
    }
    crank_tokenizer_free(tokenizer);
    crank_model_free(model);
    if (device) device->close(device);
    crank_free(folder);
    return status;
}

/* ---- a stage ---- */

static crank_status merge(run *r, const char *base, const char *adapter, const char *out)
{
    crank_device       *device = crank_device_open(r->context, &(crank_device_options){.name = "cpu"});
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32};
    crank_model        *model = device ? crank_model_load(r->context, device, base, &options) : NULL;
    crank_tokenizer    *tokenizer = model ? crank_tokenizer_load(r->context, base) : NULL;
    crank_status        status = tokenizer && crank_adapter_load(r->context, model, adapter, "default") ? CRANK_OK : crank_last_status(r->context);
    if (status == CRANK_OK) status = crank_linears_merge(r->context, crank_model_linears(model), true, false);
    if (status == CRANK_OK) status = crank_model_save(r->context, model, out, CRANK_F32);
    if (status == CRANK_OK) status = crank_tokenizer_save(r->context, tokenizer, out);
    crank_tokenizer_free(tokenizer);
    crank_model_free(model);
    if (device) device->close(device);
    return status;
}

/* Trains task `stage` - 1 on the model after the stage before. */
static crank_status train(run *r, int stage)
{
    train_how     way = {.progress = r->how->progress};
    train_outcome o = {0};
    char *before = model_after(r, stage - 1), *after = model_after(r, stage), *path = before ? crank_format(r->context, "model.path=%s", before) : NULL;
    char *out = crank_format(r->context, "output.path=%s/stage-%d", r->how->folder, stage);
    const char  *more[] = {path, out};
    task_recipe *recipe = before && after && path && out ? load(r, stage - 1, more, 2) : NULL;
    crank_status status = recipe ? file_make_folder(r->context, recipe->output->path) : crank_last_status(r->context);
    if (status == CRANK_OK) status = train_run(r->context, recipe, &way, &o);
    bool adapter = o.result && strlen(o.result) > 8 && !strcmp(o.result + strlen(o.result) - 8, "/adapter");
    if (status == CRANK_OK && adapter) status = merge(r, before, o.result, after);
    else if (status == CRANK_OK) status = file_folder_replace(r->context, o.result, after);
    train_outcome_free(&o);
    task_recipe_free(recipe);
    crank_free(before), crank_free(after), crank_free(path), crank_free(out);
    return status;
}

static crank_status read_losses(run *r, const char *path, double *losses, bool *found)
{
    *found = file_exists(path);
    if (!*found) return CRANK_OK;
    json_t *list = json_read(r->context, path);
    crank_status status = list ? CRANK_OK : crank_last_status(r->context);
    if (status == CRANK_OK && json_array_size(list) != (size_t)r->how->count)
        status = crank_fail(r->context, CRANK_USAGE, "%s: it holds %zu losses and there are %d tasks: choose another folder (-o)", path, json_array_size(list), r->how->count);
    for (int i = 0; status == CRANK_OK && i < r->how->count; i++) losses[i] = json_number_value(json_array_get(list, (size_t)i));
    json_decref(list);
    return status;
}

static crank_status write_losses(run *r, const char *path, const double *losses)
{
    json_t *list = json_array();
    for (int i = 0; i < r->how->count; i++) json_array_append_new(list, json_real(losses[i]));
    crank_status status = list ? json_write(r->context, path, list) : crank_fail(r->context, CRANK_FAILED, "out of memory: %s", path);
    json_decref(list);
    return status;
}

static crank_status one_stage(run *r, int stage, double *losses)
{
    char        *folder = crank_format(r->context, "%s/stage-%d", r->how->folder, stage), *path = folder ? file_join(r->context, folder, "losses.json") : NULL;
    bool         found = false;
    crank_status status = path ? read_losses(r, path, losses, &found) : CRANK_FAILED;
    if (status == CRANK_OK && !found) {
        if (stage) status = train(r, stage);
        else status = file_make_folder(r->context, folder);
        if (status == CRANK_OK) status = measure(r, stage, losses);
        if (status == CRANK_OK) status = write_losses(r, path, losses);
    }
    crank_free(folder), crank_free(path);
    return status;
}

static void summarise(int tasks, continual_result *out)
{
    out->backward = 0;
    for (int i = 0; i < tasks; i++) {
        double best = INFINITY;
        for (int t = i + 1; t < tasks; t++) best = fmin(best, out->loss[t][i]);
        out->forgetting[i] = i + 1 < tasks ? out->loss[tasks][i] - best : NAN;
        if (i + 1 < tasks) out->backward += (out->loss[i + 1][i] - out->loss[tasks][i]) / (tasks - 1);
    }
    if (tasks < 2) out->backward = NAN;
}

crank_status continual_run(crank_context *context, const continual_how *how, continual_result *out)
{
    run r = {.context = context, .how = how};
    *out = (continual_result){.backward = NAN};
    if (how->count < 1 || how->count > CONTINUAL_TASKS) return crank_fail(context, CRANK_USAGE, "1 to %d recipes make a row of tasks, not %d", CONTINUAL_TASKS, how->count);
    task_recipe *first = load(&r, 0, NULL, 0);
    if (!first) return crank_last_status(context);
    crank_status status = first->model->path ? CRANK_OK : crank_fail(context, CRANK_USAGE, "the first recipe names no model.path: tasks start from a base model");
    if (status == CRANK_OK && !(r.base = crank_strdup(context, first->model->path))) status = CRANK_FAILED;
    task_recipe_free(first);
    for (int stage = 0; status == CRANK_OK && stage <= how->count; stage++)
        if ((status = one_stage(&r, stage, out->loss[stage])) == CRANK_OK) out->stages = stage + 1;
    if (status == CRANK_OK) summarise(how->count, out);
    crank_free(r.base);
    return status;
}
