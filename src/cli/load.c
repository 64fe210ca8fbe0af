/* load.c - loading what a verb names. */
#include "cli/load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"
#include "data/hub.h"
#include "task/recipe.h"

/* Adapters that a verb names: resolved folders, weights, and the names that they get on the model. */
typedef struct adapter_list {
    char  *folders[LOAD_ADAPTERS], names[LOAD_ADAPTERS][16];
    double weights[LOAD_ADAPTERS];
    size_t count;
    bool   weighted;
} adapter_list;

static void list_free(adapter_list *list)
{
    for (size_t i = 0; i < list->count; i++) crank_free(list->folders[i]);
    list->count = 0;
}

/* "FOLDER:WEIGHT", where no folder has the whole word as its name. */
static crank_status read_adapter(crank_context *context, char *word, adapter_list *list)
{
    char *colon = strrchr(word, ':');
    if (list->count == LOAD_ADAPTERS) return crank_fail(context, CRANK_USAGE, "at most %d adapters act together", LOAD_ADAPTERS);
    list->weights[list->count] = 1;
    if (colon && colon > word && !file_is_folder(word)) {
        if (!number_parse(colon + 1, &list->weights[list->count]) || !isfinite(list->weights[list->count]))
            return crank_fail(context, CRANK_USAGE, "`%s` is no adapter: FOLDER, or FOLDER:WEIGHT with a number as weight", word);
        *colon = 0;
        list->weighted = true;
    }
    snprintf(list->names[list->count], sizeof list->names[0], list->count ? "adapter%zu" : "default", list->count + 1);
    list->folders[list->count] = hub_resolve(context, word);
    return list->folders[list->count++] ? CRANK_OK : crank_last_status(context);
}

static crank_status read_adapters(crank_context *context, const char *lines, adapter_list *list)
{
    char         word[4096];
    crank_status status = CRANK_OK;
    while (status == CRANK_OK && lines && crank_list_next(&lines, word, sizeof word, NULL, 0)) status = read_adapter(context, word, list);
    return status;
}

/* The head that an adapter was trained with; crank_adapter_load refuses a second one. */
static crank_status read_head(crank_context *context, const adapter_list *list, crank_model_options *options, char pooling[16])
{
    for (size_t i = 0; i < list->count; i++) {
        int64_t      labels;
        char         told[16];
        crank_status status = crank_adapter_head(context, list->folders[i], &labels, told);
        if (status != CRANK_OK) return status;
        if (labels && !options->labels) options->labels = labels;
        if (*told && !options->pooling) options->pooling = strcpy(pooling, told);
    }
    return CRANK_OK;
}

static crank_status put_adapters(crank_context *context, crank_model *model, const adapter_list *list)
{
    const char *names[LOAD_ADAPTERS];
    for (size_t i = 0; i < list->count; i++) {
        names[i] = list->names[i];
        if (!crank_adapter_load(context, model, list->folders[i], list->names[i])) return crank_last_status(context);
    }
    if (list->count < 2 && !list->weighted) return CRANK_OK;
    return crank_linears_mix(context, crank_model_linears(model), names, list->weights, list->count);
}

static bool is_config(const char *path)
{
    size_t length = strlen(path);
    return length > 5 && !strcmp(path + length - 5, ".json") && !file_is_folder(path);
}

static crank_model *open_model(cli_call *cli, crank_device *device, const char *place, const crank_model_options *options)
{
    if (!is_config(place)) return crank_model_load(cli->context, device, place, options);
    char        *text = file_read(cli->context, place, NULL);
    crank_model *model = text ? crank_model_new(cli->context, device, text, options) : NULL;
    if (model) crank_log(cli->context, CRANK_INFO, "%s: a model with random weights", place);
    crank_free(text);
    return model;
}

crank_status load_model(cli_call *cli, const char *folder, const char *adapters, const char *compute, bool tokenizer, loaded *out)
{
    return load_model_as(cli, folder, adapters, compute, tokenizer, &(crank_model_options){0}, out);
}

crank_status load_model_as(cli_call *cli, const char *folder, const char *adapters, const char *compute, bool tokenizer, const crank_model_options *how,
                           loaded *out)
{
    model_section       section = {.compute = compute, .weights = "auto"};
    crank_model_options options = *how;
    adapter_list        list = {0};
    char                pooling[16];
    *out = (loaded){.device = crank_device_open(cli->context, &(crank_device_options){.name = cli->common.device ? cli->common.device : "auto"})};
    if (!out->device) return crank_last_status(cli->context);
    crank_status status = task_precision(cli->context, &section, out->device, &options.compute, &options.weights);
    char *place = status == CRANK_OK ? hub_resolve(cli->context, folder) : NULL;
    if (status == CRANK_OK && !place) status = crank_last_status(cli->context);
    if (status == CRANK_OK) status = read_adapters(cli->context, adapters, &list);
    if (status == CRANK_OK) status = read_head(cli->context, &list, &options, pooling);
    if (status == CRANK_OK) {
        out->model = open_model(cli, out->device, place, &options);
        if (!out->model) status = crank_last_status(cli->context);
    }
    if (status == CRANK_OK) status = put_adapters(cli->context, out->model, &list);
    if (status == CRANK_OK && tokenizer) {
        out->tokenizer = crank_tokenizer_load(cli->context, place);
        if (!out->tokenizer) status = crank_last_status(cli->context);
    }
    crank_free(place);
    list_free(&list);
    if (status != CRANK_OK) load_free(out);
    return status;
}

bool load_is_adapter(cli_call *cli, const char *folder)
{
    static const char *const marks[] = {"adapter_config.json", "crank.json"};
    char                    *place = hub_resolve(cli->context, folder);
    bool                     found = false;
    for (int i = 0; place && i < 2; i++) {
        char *path = file_join(cli->context, place, marks[i]);
        found |= path && file_exists(path);
        crank_free(path);
    }
    crank_free(place);
    return found;
}

void load_free(loaded *l)
{
    crank_tokenizer_free(l->tokenizer);
    crank_model_free(l->model);
    if (l->device) l->device->close(l->device);
    *l = (loaded){0};
}
