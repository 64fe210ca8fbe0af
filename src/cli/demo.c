/* demo.c - crank demo: the main job on the embedded default. A small base model that crank trained is adapted with LoRA to real text,
 * and measured on text that it has not seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/assets.h"
#include "cli/load.h"
#include "task/demo_data.h"
#include "task/generate.h"
#include "task/train.h"

typedef struct options {
    const char *output, *text, *source;
    int64_t     steps;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, output, "crank-demo", "folder for everything that the demo writes"),
    CRANK_STRING(options, text, NULL, "a text file of yours to adapt to, instead of the licences (a tenth is held out)"),
    CRANK_STRING(options, source, "/usr/share/common-licenses", "folder of the texts"),
    CRANK_INT(options, steps, 60, 1, 1000000, "optimiser steps"),
    CRANK_END
};

static crank_status prepare_text(cli_call *cli, const options *o)
{
    demo_text    told;
    crank_status status = file_make_folder(cli->context, o->output);
    if (status != CRANK_OK || o->text) return status;
    status = demo_data_write(cli->context, o->source, o->output, &told);
    if (status == CRANK_OK)
        printf("text: %zu licences to adapt to (%zu paragraphs); held out: %zu of other families (%zu paragraphs, %zu near-duplicates left out)\n", told.files,
               told.paragraphs, told.held_files, told.held_paragraphs, told.near_duplicates);
    return status;
}

static task_recipe *make_recipe(cli_call *cli, const options *o, const char *base)
{
    char       *train = o->text ? crank_strdup(cli->context, o->text) : file_join(cli->context, o->output, "train.txt");
    char       *held = o->text ? NULL : file_join(cli->context, o->output, "held-out.txt");
    char       *items[6] = {crank_format(cli->context, "model.path=%s", base), crank_format(cli->context, "data.train=%s", train ? train : ""),
                            o->text ? crank_strdup(cli->context, "data.eval_share=0.1") : crank_format(cli->context, "data.eval=%s", held ? held : ""),
                            crank_format(cli->context, "train.steps=%lld", (long long)o->steps), crank_format(cli->context, "output.path=%s/run", o->output),
                            crank_strdup(cli->context, "train.resume=false")};
    char       *recipe_path = assets_find(cli->context, "demo.yaml");
    task_recipe *recipe = NULL;
    bool         whole = recipe_path != NULL;
    for (int i = 0; i < 6; i++) whole &= items[i] != NULL;
    if (whole) recipe = task_recipe_load(cli->context, recipe_path, (const char *const *)items, 6);
    for (int i = 0; i < 6; i++) crank_free(items[i]);
    crank_free(train), crank_free(held), crank_free(recipe_path);
    return recipe;
}

static crank_status print_sample(cli_call *cli, const char *base, const char *adapter)
{
    static const char prompt[] = "You may copy and distribute";
    loaded            l;
    crank_ids         ids = {0};
    crank_status      status = load_model(cli, base, adapter, "auto", true, &l);
    if (status != CRANK_OK) return status;
    generate_options how = {.max_new = 48, .temperature = 0.7, .top_k = 40, .top_p = 0.95, .seed = 1};
    int32_t          stop = crank_tokenizer_eos(l.tokenizer);
    status = crank_encode(cli->context, l.tokenizer, prompt, strlen(prompt), NULL, 0, CRANK_ENCODE_SPECIAL, &ids);
    if (status == CRANK_OK) status = generate(cli->context, l.model, &how, &stop, stop >= 0, &ids, NULL, NULL);
    char *text = status == CRANK_OK ? crank_decode(cli->context, l.tokenizer, ids.ids, ids.count, true, NULL) : NULL;
    if (text) printf("sample of the adapted model:\n  %s\n", text);
    else if (status == CRANK_OK) status = crank_last_status(cli->context);
    crank_free(text);
    crank_ids_free(&ids);
    load_free(&l);
    return status;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    char          *base = assets_find(cli->context, "base");
    crank_status   status = base ? prepare_text(cli, o) : crank_last_status(cli->context);
    task_recipe   *recipe = status == CRANK_OK ? make_recipe(cli, o, base) : NULL;
    if (status == CRANK_OK && !recipe) status = crank_last_status(cli->context);
    train_how     how = {.progress = cli->common.quiet ? -1 : 2};
    train_outcome outcome = {0};
    if (status == CRANK_OK) status = train_run(cli->context, recipe, &how, &outcome);
    if (status == CRANK_OK) {
        printf("held-out loss       %.4f before, %.4f after (nats a token)\n", outcome.loss_before, outcome.loss_after);
        printf("held-out perplexity %.2f before, %.2f after\n", exp(outcome.loss_before), exp(outcome.loss_after));
        printf("trained %lld of %lld parameters at %.0f tokens/s; peak memory %.0f MiB planned, %.0f MiB measured\n", (long long)outcome.trainable,
               (long long)outcome.parameters, outcome.tokens_per_second, (double)outcome.planned / 1048576.0, (double)outcome.measured / 1048576.0);
        status = print_sample(cli, base, outcome.result);
    }
    if (status == CRANK_OK)
        printf("adapter (PEFT loads it): %s\nreport: %s/run/report.html\n", outcome.result, o->output);
    train_outcome_free(&outcome);
    task_recipe_free(recipe);
    crank_free(base);
    return status;
}

const cli_verb verb_demo = {
    .name = "demo",
    .usage = "[--text FILE] [--output FOLDER]",
    .summary = "the main job on the bundled model: adapt it to real text, before and after on held-out text",
    .options = option_table,
    .options_size = sizeof(options),
    .run = run,
};
