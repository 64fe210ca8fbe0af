/* adapter.c - crank adapter merge: an adapter's change added to the weights of its base model. */
#include <stdio.h>
#include <string.h>

#include "cli/load.h"

typedef struct options {
    const char *dtype;
    bool        unsafe;
} options;

static const crank_option option_table[] = {
    CRANK_CHOICE(options, dtype, "auto", "auto|f32|bf16|f16", "type of the written weights; auto: f32"),
    CRANK_BOOL(options, unsafe, false, "write even when a merged weight is not finite"),
    CRANK_END
};

static crank_status merge(cli_call *cli)
{
    const options *o = cli->options;
    crank_dtype    dtype = CRANK_F32;
    loaded         l;
    if (cli->word_count != 4) return crank_fail(cli->context, CRANK_USAGE, "usage: crank adapter merge MODEL ADAPTER OUT");
    if (strcmp(o->dtype, "auto")) crank_dtype_parse(o->dtype, &dtype);
    crank_status status = load_model(cli, cli->words[1], cli->words[2], "f32", true, &l);
    if (status != CRANK_OK) return status;
    status = crank_linears_merge(cli->context, crank_model_linears(l.model), !o->unsafe, false);
    if (status == CRANK_OK) status = crank_model_save(cli->context, l.model, cli->words[3], dtype);
    if (status == CRANK_OK) status = crank_tokenizer_save(cli->context, l.tokenizer, cli->words[3]);
    if (status == CRANK_OK && cli->common.json) printf("{\"result\": \"%s\"}\n", cli->words[3]);
    else if (status == CRANK_OK) printf("merged model: %s (%s)\n", cli->words[3], crank_dtype_name(dtype));
    load_free(&l);
    return status;
}

static crank_status run(cli_call *cli)
{
    static const char *const actions[] = {"merge"};
    if (!strcmp(cli->words[0], "merge")) return merge(cli);
    const char *closest = crank_closest(cli->words[0], actions, 1);
    return crank_fail(cli->context, CRANK_USAGE, "crank adapter has no action `%s`%s%s%s", cli->words[0], closest ? "; did you mean `" : "",
                      closest ? closest : "", closest ? "`?" : "");
}

const cli_verb verb_adapter = {
    .name = "adapter",
    .usage = "merge MODEL ADAPTER OUT [--dtype TYPE]",
    .summary = "merge an adapter into its base model",
    .details = "The change of every adapted linear is computed in f32 and rounded once. A result that is not finite is refused and nothing is written.",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 4,
    .run = run,
};
