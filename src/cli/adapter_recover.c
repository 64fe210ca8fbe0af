/* adapter_recover.c - crank adapter recover LARGE SMALL ADAPTER: an adapter that was trained on a pruned model for the model that it was pruned
 * from; and, on a text, the four cells of the comparison. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/adapter.h"
#include "cli/measure.h"
#include "data/hub.h"
#include "model/prune.h"

typedef struct recovery {
    loaded     small, large;
    prune_plan plan;
    double     loss[2][2]; /* [small, large][before, after] */
} recovery;

/* Loss without and with the adapter. */
static crank_status measure_cells(cli_call *cli, const loaded *l, const char *folder, const char *text, double cells[2])
{
    crank_attachment *adapter = crank_linears_attachment(crank_model_linears(l->model), 0);
    measure_request   request = {.text = text, .objective = "auto"};
    crank_status      status = CRANK_OK;
    for (int after = 0; status == CRANK_OK && after < 2; after++) {
        evaluation e;
        crank_attachment_set(adapter, after == 1, 1);
        status = measure_set(cli, l, folder, &request, &e);
        cells[after] = e.loss;
    }
    return status;
}

static void print_result(cli_call *cli, const recovery *r)
{
    const adapter_options *o = cli->options;
    bool                   text = o->text != NULL;
    if (cli->common.json) {
        printf("{\"result\": \"%s\"", o->out);
        if (text) printf(", \"small_before\": %.9g, \"small_after\": %.9g, \"large_before\": %.9g, \"large_after\": %.9g", r->loss[0][0], r->loss[0][1], r->loss[1][0], r->loss[1][1]);
        printf("}\n");
        return;
    }
    printf("%s: %s (of %s)\n", o->strict ? "merged model" : "adapter", o->out, cli->words[1]);
    if (text) printf("loss     without      with the adapter\nsmall    %.6f     %.6f\nlarge    %.6f     %.6f\n", r->loss[0][0], r->loss[0][1], r->loss[1][0], r->loss[1][1]);
}

static crank_status recover(cli_call *cli, recovery *r)
{
    const adapter_options *o = cli->options;
    crank_status           status = load_model(cli, cli->words[2], cli->words[3], "f32", false, &r->small);
    if (status == CRANK_OK) status = load_model(cli, cli->words[1], NULL, "f32", o->text != NULL || o->strict, &r->large);
    char *index = status == CRANK_OK ? hub_resolve(cli->context, o->index ? o->index : cli->words[2]) : NULL;
    if (status == CRANK_OK) status = index ? prune_read(cli->context, r->large.model, index, &r->plan) : crank_last_status(cli->context);
    crank_free(index);
    if (status != CRANK_OK) return status;
    crank_attachment *small = crank_linears_attachment(crank_model_linears(r->small.model), 0);
    if (o->strict) {
        status = prune_recover_strict(cli->context, r->large.model, small);
        if (status == CRANK_OK) status = crank_model_save(cli->context, r->large.model, o->out, CRANK_F32);
        return status == CRANK_OK ? crank_tokenizer_save(cli->context, r->large.tokenizer, o->out) : status;
    }
    crank_attachment *large = prune_recover(cli->context, r->large.model, &r->plan, small, "default");
    if (!large) return crank_last_status(cli->context);
    status = crank_adapter_save_lora(cli->context, r->large.model, large, o->out, cli->words[1]);
    if (status != CRANK_OK || !o->text) return status;
    r->small.tokenizer = r->large.tokenizer;
    status = measure_cells(cli, &r->small, cli->words[2], o->text, r->loss[0]);
    r->small.tokenizer = NULL;
    return status == CRANK_OK ? measure_cells(cli, &r->large, cli->words[1], o->text, r->loss[1]) : status;
}

crank_status adapter_recover(cli_call *cli)
{
    const adapter_options *o = cli->options;
    recovery               r = {.plan = {0}};
    if (cli->word_count != 4 || !o->out) return crank_fail(cli->context, CRANK_USAGE, "usage: crank adapter recover LARGE SMALL ADAPTER -o OUT [--index DIR] [--text FILE]");
    if (o->strict && o->text) return crank_fail(cli->context, CRANK_USAGE, "--strict writes a model: crank eval measures it; --text belongs to a recovered adapter");
    crank_status status = recover(cli, &r);
    if (status == CRANK_OK) print_result(cli, &r);
    prune_plan_free(&r.plan);
    load_free(&r.small);
    load_free(&r.large);
    return status;
}
