/* measure.c - evaluates a loaded model by a recipe that only evaluates. */
#include "cli/measure.h"

#include <string.h>

#include "data/dataset.h"

static task_recipe *evaluation_recipe(cli_call *cli, const measure_request *r, const crank_model_config *config, const char *folder)
{
    const char *objective = strcmp(r->objective, "auto") ? r->objective : config->causal ? "cross_entropy" : "classification";
    char       *chosen = crank_format(cli->context, "loss.objective=%s", objective);
    const char *overrides[] = {"model.path=.", "lowrank.method=none", chosen};
    task_recipe *recipe = chosen ? task_recipe_load(cli->context, NULL, overrides, 3) : NULL;
    if (recipe) recipe->model->path = folder;
    crank_free(chosen);
    return recipe;
}

static crank_status read_words(cli_call *cli, const measure_request *r, dataset_options *data)
{
    for (int i = 0; i < r->word_count; i++) {
        char *equals = strchr(r->words[i], '=');
        if (!equals || strncmp(r->words[i], "data.", 5))
            return crank_fail(cli->context, CRANK_USAGE, "`%s` is not data.key=value: one model is evaluated at a time", r->words[i]);
        char        *key = crank_format(cli->context, "%.*s", (int)(equals - r->words[i] - 5), r->words[i] + 5);
        crank_status status = key ? crank_options_set(cli->context, dataset_option_table, data, key, equals + 1, "command line") : CRANK_FAILED;
        crank_free(key);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

static data_set *open_set(cli_call *cli, const measure_request *r, const loaded *l, const task_recipe *recipe, dataset_options *data)
{
    const crank_model_config *config = crank_model_config_of(l->model);
    data->eval = r->text ? r->text : r->data;
    if (r->text && crank_options_set(cli->context, dataset_option_table, data, "format", "text", "command line") != CRANK_OK) return NULL;
    if (read_words(cli, r, data) != CRANK_OK) return NULL;
    data->context = r->seq ? r->seq : config->context < 1024 ? config->context : 1024;
    dataset_request request = {.fields = recipe->objective->fields, .batch = r->batch ? r->batch : 8, .context = config->context, .labels = config->labels, .slots = 1};
    return dataset_open(cli->context, l->tokenizer, data, &request, DATASET_EVAL);
}

crank_status measure_set(cli_call *cli, const loaded *l, const char *folder, const measure_request *request, evaluation *out)
{
    task_recipe     *recipe = evaluation_recipe(cli, request, crank_model_config_of(l->model), folder);
    dataset_options *data = recipe ? crank_options_new(cli->context, dataset_option_table, sizeof *data) : NULL;
    data_set        *set = data ? open_set(cli, request, l, recipe, data) : NULL;
    task_trainer    *trainer = set ? trainer_new(cli->context, l->model, recipe, 0) : NULL;
    if (trainer) trainer_set_longest(trainer, dataset_longest(set));
    trainer_memory memory;
    crank_status   status = trainer ? trainer_plan(cli->context, trainer, dataset_largest_tokens(set), dataset_largest_sequences(set),
                                                   dataset_has_types(set), 0, &memory)
                                    : crank_last_status(cli->context);
    if (status == CRANK_OK) status = evaluate_set(cli->context, trainer, set, out);
    trainer_free(trainer);
    dataset_close(set);
    crank_options_free(data);
    task_recipe_free(recipe);
    return status;
}
