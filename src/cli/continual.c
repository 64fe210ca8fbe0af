/* continual.c - crank continual RECIPE RECIPE ...: what each task costs the ones before it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "task/continual.h"

typedef struct options {
    const char *out;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, out, "continual", "folder of the stages"),
    CRANK_END
};

static crank_status print_json(cli_call *cli, const continual_how *how, const continual_result *r)
{
    json_t *stages = json_array(), *forgetting = json_array();
    for (int t = 0; t <= how->count; t++) {
        json_t *row = json_array();
        for (int i = 0; i < how->count; i++) json_array_append_new(row, json_real(r->loss[t][i]));
        json_array_append_new(stages, row);
    }
    for (int i = 0; i < how->count; i++) json_array_append_new(forgetting, isfinite(r->forgetting[i]) ? json_real(r->forgetting[i]) : json_null());
    json_t *root = json_pack("{s:o, s:o, s:o}", "losses", stages, "forgetting", forgetting, "backward_transfer", isfinite(r->backward) ? json_real(r->backward) : json_null());
    char   *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static void print_table(const continual_how *how, const continual_result *r)
{
    printf("held-out loss of every task (columns, in order) after every stage\n");
    for (int t = 0; t <= how->count; t++) {
        if (t) printf("%-28.28s", how->recipes[t - 1]);
        else printf("%-28s", "base");
        for (int i = 0; i < how->count; i++) printf(" %9.4f", r->loss[t][i]);
        printf("\n");
    }
    printf("%-28s", "forgetting");
    for (int i = 0; i < how->count; i++)
        if (isfinite(r->forgetting[i])) printf(" %+9.4f", r->forgetting[i]);
    printf("\n");
    if (isfinite(r->backward)) printf("backward transfer %+.4f (below 0: later tasks cost earlier ones)\n", r->backward);
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    const char    *recipes[CONTINUAL_TASKS + 1], *words[200];
    continual_how  how = {.recipes = recipes, .words = words, .folder = o->out, .progress = cli->common.quiet || !isatty(2) ? -1 : 2};
    for (int i = 0; i < cli->word_count; i++) {
        if (strchr(cli->words[i], '=') && how.word_count < 200) words[how.word_count++] = cli->words[i];
        else if (!strchr(cli->words[i], '=') && how.count <= CONTINUAL_TASKS) recipes[how.count++] = cli->words[i];
        else return crank_fail(cli->context, CRANK_USAGE, "too many words");
    }
    continual_result r;
    crank_status     status = continual_run(cli->context, &how, &r);
    if (status == CRANK_STOPPED) return crank_fail(cli->context, CRANK_STOPPED, "stopped; the same command goes on: stages that have ended stay as they are");
    if (status != CRANK_OK) return status;
    if (cli->common.json) return print_json(cli, &how, &r);
    print_table(&how, &r);
    return CRANK_OK;
}

const cli_verb verb_continual = {
    .name = "continual",
    .usage = "RECIPE RECIPE ... [section.key=value ...] [-o DIR]",
    .summary = "train tasks one after another, merging each, and tell what every task costs the earlier ones",
    .details = "Each recipe trains on what the one before it left: an adapter is merged, and the next starts anew on the merged weights. After every stage all held-out sets are measured: the "
               "matrix of losses, forgetting, backward transfer. For language models. After Ctrl-C or a kill the same command goes on.",
    .letters = "o=out",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
