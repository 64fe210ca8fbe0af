/* encode.c - crank encode MODEL: one vector a text. */
#include <stdio.h>
#include <string.h>

#include "cli/rows.h"

typedef struct options {
    rows_options rows;
    const char  *texts, *ids, *output, *adapter, *compute, *text_field, *format, *pooling, *prompt, *prompt_name;
    int64_t      batch, max_length, repeat;
    bool         normalize, plain, profile;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, texts, NULL, "jsonl, TSV, CSV, or plain text with one text a line; .gz too"),
    CRANK_STRING(options, ids, NULL, "JSON list of lists of token ids instead of texts"),
    CRANK_STRING(options, output, NULL, "file of the vectors in the rows' order: .safetensors, .npy or .jsonl"),
    CRANK_LIST(options, adapter, NULL, "adapter folder, FOLDER:WEIGHT; several are mixed: their changes are weighted and added"),
    CRANK_STRING(options, text_field, "text", "member or column of the text"),
    CRANK_CHOICE(options, format, "auto", "auto|text|jsonl|tsv|csv", "format of --texts; auto: by its name"),
    CRANK_CHOICE(options, pooling, "auto", "auto|mean|cls|last|pooler", "auto: as the folder says, else mean of an encoder, last token of a decoder"),
    CRANK_BOOL(options, normalize, false, "vectors of length 1, also where the folder does not say so"),
    CRANK_STRING(options, prompt, NULL, "text before each text"),
    CRANK_STRING(options, prompt_name, NULL, "one of the folder's prompts (config_sentence_transformers.json)"),
    CRANK_BOOL(options, plain, false, "leave the folder's own prompt, length and normalisation aside"),
    CRANK_INT(options, max_length, 0, 0, 100000000, "tokens a text, longer ones are cut; 0: as the folder says, else the model's context"),
    CRANK_INT(options, batch, 0, 0, 100000000, "tokens computed at once; 0: 2048 on the CPU, 65536 (decoders 16384) on a GPU"),
    CRANK_CHOICE(options, compute, "auto", "auto|f32|bf16|f64", "type of activations and products"),
    CRANK_INT(options, repeat, 0, 0, 100000, "run all rows again so many times and tell the median time"),
    CRANK_BOOL(options, profile, false, "print the roofline table"),
    CRANK_END
};

/* The text before each text, or NULL. */
static crank_status choose_prompt(cli_call *cli, const options *o, rows_run *run)
{
    const sentence_folder *folder = &run->folder;
    const char            *name = o->prompt_name ? o->prompt_name : o->plain ? NULL : folder->prompt_name, *text = o->prompt;
    if (o->prompt && o->prompt_name) return crank_fail(cli->context, CRANK_USAGE, "one of --prompt and --prompt-name is taken");
    if (!text && name && !(text = sentence_folder_prompt(folder, name))) return crank_fail(cli->context, CRANK_USAGE, "%s has no prompt named `%s`", cli->words[0], name);
    if (text && *text && folder->without_prompt)
        return crank_fail(cli->context, CRANK_USAGE, "%s leaves the prompt's tokens out of the pooling (include_prompt); crank pools all: run without a prompt (--plain)", cli->words[0]);
    run->job.format.prefix = text;
    return CRANK_OK;
}

static void tell(cli_call *cli, const rows_run *run, const encode_options *how)
{
    const char *prefix = run->job.format.prefix;
    crank_log(cli->context, CRANK_INFO, "pooling %s%s, at most %lld tokens a row%s%s%s", encoder_pooling(run->e), how->normalize ? ", vectors of length 1" : "",
              (long long)run->job.format.limit, prefix && *prefix ? ", prompt `" : "", prefix ? prefix : "", prefix && *prefix ? "`" : "");
}

static crank_status go(cli_call *cli, const options *o, rows_run *run)
{
    crank_status status = rows_read_folder(cli, cli->words[0], run);
    if (status == CRANK_OK) status = choose_prompt(cli, o, run);
    if (status != CRANK_OK) return status;
    sentence_folder *folder = &run->folder;
    if (o->plain) folder->max_length = 0;
    const char *pooling = strcmp(o->pooling, "auto") ? o->pooling : *folder->pooling ? folder->pooling : NULL;
    if (!pooling && folder->other_pooling)
        return crank_fail(cli->context, CRANK_USAGE, "%s pools in a way that crank lacks (mean, first or last token, one of them): choose with --pooling", cli->words[0]);
    status = rows_open(cli, &o->rows, &(crank_model_options){.pooling = pooling, .body = !o->adapter}, run);
    if (status != CRANK_OK) return status;
    encode_options how = {.kind = ENCODE_VECTORS, .pooling = pooling, .normalize = o->normalize || (folder->normalize && !o->plain), .tokens = o->batch};
    if (!pooling && o->adapter && crank_model_options_of(run->l.model)->pooling) how.pooling = crank_model_pooling(run->l.model);
    if (!(run->e = encoder_open(cli->context, run->l.model, &how))) return crank_last_status(cli->context);
    tell(cli, run, &how);
    status = rows_go(cli, &o->rows, run, NULL, NULL);
    if (status != CRANK_OK) return status;
    json_t *figures = rows_figures(cli, &o->rows, run);
    if (figures) json_object_set_new(figures, "pooling", json_string(encoder_pooling(run->e)));
    if (figures) json_object_set_new(figures, "normalized", json_boolean(how.normalize));
    return rows_print_figures(cli, &o->rows, run, figures);
}

static crank_status run(cli_call *cli)
{
    options *o = cli->options;
    if (!o->output && !o->repeat) return crank_fail(cli->context, CRANK_USAGE, "crank encode writes vectors to a file: -o OUT.safetensors, OUT.npy or OUT.jsonl");
    o->rows = (rows_options){.adapter = o->adapter, .texts = o->texts, .ids = o->ids, .text_field = o->text_field, .format = o->format, .output = o->output,
                             .compute = o->compute, .name = "embedding", .batch = o->batch, .max_length = o->max_length, .repeat = o->repeat, .profile = o->profile};
    rows_run     r = {.job.progress = -1};
    crank_status status = go(cli, o, &r);
    rows_close(&r);
    return status;
}

const cli_verb verb_encode = {
    .name = "encode",
    .usage = "MODEL --texts FILE [-a ADAPTER[:WEIGHT] ...] [--pooling mean|cls|last] [--normalize] [--batch TOKENS] [--max-length N] -o OUT.safetensors|.npy|.jsonl",
    .summary = "embeddings: one vector a text, from an encoder or a decoder",
    .details = "Rows are computed in packs without padding, longest first; vectors stand in the rows' order. What a sentence-transformers folder says (pooling, "
               "normalisation, length, prompts) is done unless an option says otherwise. MODEL may be a config .json: then the weights are random, for timing.",
    .letters = "a=adapter o=output",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 1,
    .run = run,
};
