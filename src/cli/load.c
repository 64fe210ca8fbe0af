/* load.c - loading what a verb names. */
#include "cli/load.h"

#include "data/hub.h"
#include "task/recipe.h"

crank_status load_model(cli_call *cli, const char *folder, const char *adapter, const char *compute, bool tokenizer, loaded *out)
{
    model_section       section = {.compute = compute, .weights = "auto"};
    crank_model_options options = {0};
    char                pooling[16];
    *out = (loaded){.device = crank_device_open(cli->context, &(crank_device_options){.name = cli->common.device ? cli->common.device : "auto"})};
    if (!out->device) return crank_last_status(cli->context);
    crank_status status = task_precision(cli->context, &section, out->device, &options.compute, &options.weights);
    char *place = status == CRANK_OK ? hub_resolve(cli->context, folder) : NULL, *above = place && adapter ? hub_resolve(cli->context, adapter) : NULL;
    if (status == CRANK_OK && (!place || (adapter && !above))) status = crank_last_status(cli->context);
    if (status == CRANK_OK && adapter) status = crank_adapter_head(cli->context, above, &options.labels, pooling);
    if (adapter && status == CRANK_OK && *pooling) options.pooling = pooling;
    if (status == CRANK_OK) {
        out->model = crank_model_load(cli->context, out->device, place, &options);
        if (!out->model) status = crank_last_status(cli->context);
    }
    if (status == CRANK_OK && adapter && !crank_adapter_load(cli->context, out->model, above, "default")) status = crank_last_status(cli->context);
    if (status == CRANK_OK && tokenizer) {
        out->tokenizer = crank_tokenizer_load(cli->context, place);
        if (!out->tokenizer) status = crank_last_status(cli->context);
    }
    crank_free(place), crank_free(above);
    if (status != CRANK_OK) load_free(out);
    return status;
}

void load_free(loaded *l)
{
    crank_tokenizer_free(l->tokenizer);
    crank_model_free(l->model);
    if (l->device) l->device->close(l->device);
    *l = (loaded){0};
}
