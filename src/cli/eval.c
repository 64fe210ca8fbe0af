/* eval.c - crank eval MODEL: loss and perplexity on text, accuracy on labelled rows, or the logits of given ids as a file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/measure.h"
#include "task/choices.h"
#include "task/logits.h"

typedef struct options {
    const char *adapter, *text, *data, *choices, *ids, *logits, *compute, *objective;
    int64_t     seq, batch;
} options;

static const crank_option option_table[] = {
    CRANK_LIST(options, adapter, NULL, "adapter folder, FOLDER:WEIGHT; several are mixed: their changes are weighted and added"),
    CRANK_STRING(options, text, NULL, "plain text file: loss in nats per token, perplexity"),
    CRANK_STRING(options, data, NULL, "jsonl or TSV rows instead of plain text"),
    CRANK_STRING(options, choices, NULL, "jsonl rows of prompt, choices and answer: accuracy by likelihood"),
    CRANK_STRING(options, ids, NULL, "JSON list of token ids, or of such lists: write logits instead"),
    CRANK_STRING(options, logits, NULL, "safetensors file for the logits of --ids"),
    CRANK_CHOICE(options, objective, "auto", "auto|cross_entropy|classification|regression", "what is measured; auto: by the model"),
    CRANK_INT(options, seq, 0, 0, 100000000, "tokens a sequence; 0: the model's context, at most 1024"),
    CRANK_INT(options, batch, 8, 1, 1000000, "sequences a batch"),
    CRANK_CHOICE(options, compute, "auto", "auto|f32|bf16|f64", "type of activations and products"),
    CRANK_END
};

static crank_status print_result(cli_call *cli, const evaluation *e)
{
    if (!cli->common.json) {
        printf("loss       %.6f nats a %s\n", e->loss, e->classified ? "sequence" : "token");
        if (e->classified) printf("accuracy   %.3f %%\n", 100 * e->accuracy);
        else printf("perplexity %.4f\n", exp(e->loss));
        printf("%-10s %lld\n", e->classified ? "sequences" : "tokens", (long long)e->counted);
        printf("speed      %.0f tokens/s\n", (double)e->tokens / e->seconds);
        return CRANK_OK;
    }
    json_t *root = json_pack("{s:f, s:I, s:I, s:I, s:f}", "loss", e->loss, "counted", (json_int_t)e->counted, "tokens", (json_int_t)e->tokens,
                             "sequences", (json_int_t)e->sequences, "seconds", e->seconds);
    if (root && e->classified) json_object_set_new(root, "accuracy", json_real(e->accuracy));
    if (root && !e->classified) json_object_set_new(root, "perplexity", json_real(exp(e->loss)));
    char *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status evaluate(cli_call *cli, const options *o, const loaded *l)
{
    measure_request request = {.text = o->text, .data = o->data, .objective = o->objective, .seq = o->seq, .batch = o->batch, .words = cli->words + 1, .word_count = cli->word_count - 1};
    evaluation      result;
    crank_status    status = measure_set(cli, l, cli->words[0], &request, &result);
    return status == CRANK_OK ? print_result(cli, &result) : status;
}

static crank_status judge(cli_call *cli, const char *path, const loaded *l)
{
    choices_result r;
    crank_status   status = choices_evaluate(cli->context, l->model, l->tokenizer, path, &r);
    if (status != CRANK_OK) return status;
    double accuracy = (double)r.right / (double)r.rows, per_token = (double)r.right_per_token / (double)r.rows;
    if (cli->common.json)
        printf("{\"accuracy\": %.6f, \"accuracy_per_token\": %.6f, \"rows\": %lld}\n", accuracy, per_token, (long long)r.rows);
    else
        printf("accuracy   %.3f %% (by the sum of log-probabilities), %.3f %% (by their mean)\nrows       %lld\n", 100 * accuracy, 100 * per_token, (long long)r.rows);
    return CRANK_OK;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    if ((o->text != NULL) + (o->data != NULL) + (o->choices != NULL) + (o->ids != NULL) != 1)
        return crank_fail(cli->context, CRANK_USAGE, "crank eval takes one of --text FILE, --data FILE, --choices FILE, or --ids IDS.json with --logits OUT.safetensors");
    if ((o->ids != NULL) != (o->logits != NULL)) return crank_fail(cli->context, CRANK_USAGE, "--ids and --logits go together");
    loaded       l;
    crank_status status = load_model(cli, cli->words[0], o->adapter, o->compute, !o->ids, &l);
    if (status != CRANK_OK) return status;
    status = o->ids       ? logits_write(cli->context, l.model, o->ids, o->logits)
             : o->choices ? judge(cli, o->choices, &l)
                          : evaluate(cli, o, &l);
    load_free(&l);
    return status;
}

const cli_verb verb_eval = {
    .name = "eval",
    .usage = "MODEL [-a ADAPTER[:WEIGHT] ...] --text FILE [--seq N] | --data FILE [data.key=value ...] | --choices FILE | --ids IDS.json --logits OUT.safetensors",
    .summary = "loss, perplexity or accuracy of a model, or its logits",
    .details = "Rows are read as in training: `crank help data` lists the keys. A classification head comes with the adapter.",
    .letters = "a=adapter",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
