/* inspect_plan.c - crank inspect MODEL --plan: weights, gradients and optimiser state of one model under many ways of training, from
 * the code's own accounting. MODEL may also be 60m, 130m, 350m, 1b or 7b: the LLaMA sizes of the GaLore paper's tables. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/inspect.h"
#include "data/hub.h"
#include "task/accounts.h"

void inspect_ways(int64_t rank, account ways[INSPECT_WAYS], char text[4][64])
{
    snprintf(text[0], 64, "rank=%lld", (long long)rank);
    snprintf(text[1], 64, "rank=%lld inner=adamw8bit", (long long)rank);
    snprintf(text[2], 64, "rank=%lld alpha=%lld", (long long)rank, (long long)rank);
    snprintf(text[3], 64, "layers=5 rank=%lld sampling=uniform state=drop", (long long)rank);
    const account all[INSPECT_WAYS] = {{"AdamW", NULL, NULL, "adamw", NULL},
                               {"AdamW, 8 bits", NULL, NULL, "adamw8bit", NULL},
                               {"Adafactor", NULL, NULL, "adafactor", NULL},
                               {"Muon", NULL, NULL, "muon", NULL},
                               {"GaLore", NULL, NULL, "galore", text[0]},
                               {"GaLore, 8 bits", NULL, NULL, "galore", text[1]},
                               {"Fira", NULL, NULL, "fira", text[0]},
                               {"FRUGAL 1/4", NULL, NULL, "frugal", "density=0.25"},
                               {"LISA, 2 layers", NULL, NULL, "lisa", "layers=2"},
                               {"BAdam", NULL, NULL, "badam", NULL},
                               {"OwLore, 5 layers", NULL, NULL, "owlore", text[3]},
                               {"LoRA", "lora", text[2], "adamw", NULL},
                               {"SLTrain .03", "sltrain", text[2], "adamw", NULL}};
    memcpy(ways, all, sizeof all);
}

static double gib(int64_t bytes) { return (double)bytes / 1073741824; }

char *inspect_config(cli_call *cli, const char *model, int64_t *rank)
{
    char *config = accounts_config(cli->context, model, rank);
    if (config) return config;
    if (!file_is_folder(model) && !file_exists(model)) {
        char *place = hub_resolve(cli->context, model);
        char *found = place ? file_join(cli->context, place, "config.json") : NULL;
        bool  there = found && file_exists(found);
        config = there ? file_read(cli->context, found, &(size_t){0}) : NULL;
        if (place && !there) crank_fail(cli->context, CRANK_USAGE, "`%s` is neither a model folder, a config.json, a model of the hub's cache, nor one of the sizes 60m, 130m, 350m, 1b, 7b", model);
        crank_free(place), crank_free(found);
        return config;
    }
    char  *path = file_is_folder(model) ? file_join(cli->context, model, "config.json") : crank_strdup(cli->context, model);
    size_t length;
    config = path ? file_read(cli->context, path, &length) : NULL;
    crank_free(path);
    return config;
}

bool inspect_fits(const account *way, crank_dtype type)
{
    const crank_map *map = way->map ? crank_map_find(way->map) : NULL;
    return (type != CRANK_NF4 && type != CRANK_F8E4M3) || (map && !map->needs_base);
}

crank_status inspect_plan(cli_call *cli, const char *model, const char *weights, int64_t rank)
{
    account       ways[INSPECT_WAYS];
    char          text[4][64];
    crank_dtype   type = CRANK_BF16;
    int64_t       usual = 128;
    crank_device *device = crank_device_cpu(cli->context, NULL);
    char         *config = device ? inspect_config(cli, model, &usual) : NULL;
    crank_status  status = config ? CRANK_OK : crank_last_status(cli->context);
    json_t       *rows = json_array();
    crank_dtype_parse(strcmp(weights, "fp8") ? weights : "f8e4m3", &type);
    inspect_ways(rank ? rank : usual, ways, text);
    int first = 0;
    while (first < INSPECT_WAYS - 1 && !inspect_fits(&ways[first], type)) first++;
    if (status == CRANK_OK) status = accounts_measure(cli->context, device, config, type, &ways[first], &(account_bytes){0}); /* before any line */
    if (status == CRANK_OK && !cli->common.json)
        printf("%s, weights in %s, rank %lld, GiB; `inside`: updates inside the backward pass, one gradient at a time\n%-18s %8s %8s %9s %8s %8s %8s %14s\n", model,
               crank_dtype_name(type), (long long)(rank ? rank : usual), "", "weights", "method", "gradients", "state", "total", "inside", "trained");
    for (int i = 0; status == CRANK_OK && i < INSPECT_WAYS; i++) {
        account_bytes b;
        if (!inspect_fits(&ways[i], type)) continue;
        status = accounts_measure(cli->context, device, config, type, &ways[i], &b);
        if (status != CRANK_OK) break;
        int64_t fixed = b.weights + b.method + b.state;
        if (cli->common.json)
            json_array_append_new(rows, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name", ways[i].name, "weights", (json_int_t)b.weights, "method", (json_int_t)b.method,
                                                  "gradients", (json_int_t)b.gradients, "largest_gradient", (json_int_t)b.largest, "state", (json_int_t)b.state, "trained",
                                                  (json_int_t)b.trained));
        else
            printf("%-18s %8.3f %8.3f %9.3f %8.3f %8.3f %8.3f %14lld\n", ways[i].name, gib(b.weights), gib(b.method), gib(b.gradients), gib(b.state),
                   gib(fixed + b.gradients), gib(fixed + b.largest), (long long)b.trained);
    }
    char *json = status == CRANK_OK && cli->common.json ? json_text(cli->context, rows, 0) : NULL;
    if (json) puts(json);
    crank_free(json), json_decref(rows), crank_free(config);
    if (device) device->close(device);
    return status;
}
