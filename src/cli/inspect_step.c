/* inspect_step.c - crank inspect MODEL --plan --step BxT: the bytes of a whole training step under many ways of training, from the plan of
 * the graphs that would run (forward, reverse, updates, refreshes); and with --largest GIB the largest shape of LLaMA's proportions that
 * fits. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/inspect.h"

static double gib(int64_t bytes) { return (double)bytes / 1073741824; }

static bool read_step(const char *text, account_step *step)
{
    long long sequences, tokens;
    char      more;
    if (sscanf(text, "%lldx%lld%c", &sequences, &tokens, &more) != 2 || sequences < 1 || tokens < 1 || sequences > 1000000 || tokens > 1000000) return false;
    step->sequences = sequences, step->tokens = tokens;
    return true;
}

typedef struct table {
    cli_call *cli;
    json_t   *rows;
    bool      largest;
} table;

static void head(const table *t, const char *model, const char *weights, const inspect_step_options *how)
{
    if (t->cli->common.json) return;
    if (t->largest) printf("the largest LLaMA-like shape in %.4g GiB, weights in %s, steps of %s, updates %s the backward pass; GiB\n", how->largest, weights, how->step, how->inside ? "inside" : "behind");
    else printf("%s, weights in %s, steps of %s, updates %s the backward pass; GiB\n", model, weights, how->step, how->inside ? "inside" : "behind");
    printf("%-18s %8s %8s %8s %8s %14s%s\n", "", "weights", "state", "step", "peak", "parameters", t->largest ? "   width layers" : "");
}

static void row(const table *t, const account *way, const account_plan *p, int64_t k)
{
    if (t->cli->common.json) {
        json_t *item = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "name", way->name, "weights", (json_int_t)p->weights, "state", (json_int_t)p->state, "step", (json_int_t)p->step, "peak",
                                 (json_int_t)p->peak, "parameters", (json_int_t)p->parameters);
        if (t->largest) json_object_set_new(item, "layers", json_integer(k)), json_object_set_new(item, "hidden", json_integer(128 * k));
        json_array_append_new(t->rows, item);
        return;
    }
    printf("%-18s %8.3f %8.3f %8.3f %8.3f %14lld", way->name, gib(p->weights), gib(p->state), gib(p->step), gib(p->peak), (long long)p->parameters);
    if (t->largest) printf("  %6lld %6lld", (long long)(128 * k), (long long)k);
    printf("\n");
    fflush(stdout);
}

crank_status inspect_step(cli_call *cli, const char *model, const char *weights, int64_t rank, const inspect_step_options *how)
{
    account       ways[INSPECT_WAYS];
    char          text[4][64];
    crank_dtype   type = CRANK_BF16;
    int64_t       usual = 128, k = 0;
    int           shown = 0;
    account_step  step = {.inside = how->inside};
    if (!read_step(how->step, &step)) return crank_fail(cli->context, CRANK_USAGE, "--step %s: wanted sequences and tokens of each, as 1x256", how->step);
    crank_device *device = crank_device_cpu(cli->context, NULL);
    char         *config = device ? inspect_config(cli, model, &usual) : NULL;
    crank_status  status = config ? CRANK_OK : crank_last_status(cli->context);
    table         t = {cli, json_array(), how->largest > 0};
    crank_dtype_parse(strcmp(weights, "fp8") ? weights : "f8e4m3", &type);
    inspect_ways(rank ? rank : usual, ways, text);
    if (status == CRANK_OK) head(&t, model, weights, how);
    for (int i = 0; status == CRANK_OK && i < INSPECT_WAYS; i++) {
        account_plan plan = {0};
        if (!inspect_fits(&ways[i], type) || (how->way && !strstr(ways[i].name, how->way))) continue;
        status = t.largest ? accounts_largest(cli->context, device, type, &ways[i], &step, (int64_t)(how->largest * 1073741824), &k, &plan)
                           : accounts_plan(cli->context, device, config, type, &ways[i], &step, &plan);
        if (status == CRANK_OK) row(&t, &ways[i], &plan, k), shown++;
    }
    if (status == CRANK_OK && !shown) status = crank_fail(cli->context, CRANK_USAGE, "--way %s: no way of the table (crank inspect MODEL --plan) has that in its name", how->way ? how->way : "");
    char *json = status == CRANK_OK && cli->common.json ? json_text(cli->context, t.rows, 0) : NULL;
    if (json) puts(json);
    crank_free(json), json_decref(t.rows), crank_free(config);
    if (device) device->close(device);
    return status;
}
