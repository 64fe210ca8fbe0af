/* score.c - crank score MODEL: a score a pair of texts, from a cross-encoder's head or from a decoder's answer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "cli/rows.h"

typedef struct options {
    rows_options rows;
    const char  *pairs, *texts, *ids, *output, *adapter, *compute, *text_field, *pair_field, *format, *activation, *answers, *among, *template;
    int64_t      batch, max_length, repeat;
    bool         chat, profile;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, pairs, NULL, "jsonl, TSV or CSV rows of two texts"),
    CRANK_STRING(options, texts, NULL, "rows of one text instead; plain text has one a line"),
    CRANK_STRING(options, ids, NULL, "JSON list of lists of token ids instead"),
    CRANK_STRING(options, output, NULL, "file of the scores in the rows' order: .jsonl, .npy or .safetensors; else one line a row on standard output"),
    CRANK_LIST(options, adapter, NULL, "adapter folder, FOLDER:WEIGHT; several are mixed: their changes are weighted and added"),
    CRANK_STRING(options, text_field, "text", "member or column of the first text"),
    CRANK_STRING(options, pair_field, "text_pair", "member or column of the second text"),
    CRANK_CHOICE(options, format, "auto", "auto|text|jsonl|tsv|csv", "format of the rows; auto: by the file's name"),
    CRANK_CHOICE(options, activation, "auto", "auto|none|sigmoid|softmax", "of a head's outputs; auto: as the folder says, else sigmoid of a single output"),
    CRANK_STRING(options, answers, "yes,no", "a decoder's answers parted by commas, each one token as it stands, blanks too (with --ids: token ids): their log-probabilities are the scores"),
    CRANK_CHOICE(options, among, "answers", "answers|vocabulary", "what an answer's probability is a share of"),
    CRANK_STRING(options, template, "Query: {text}\nDocument: {pair}\nIs the document relevant to the query, yes or no? Answer:", "a decoder's prompt with {text} and {pair}"),
    CRANK_BOOL(options, chat, false, "the prompt is a user's turn: render it with the model's chat template"),
    CRANK_INT(options, max_length, 0, 0, 100000000, "tokens a row, longer ones are cut; 0: as the folder says, else the model's context"),
    CRANK_INT(options, batch, 0, 0, 100000000, "tokens computed at once; 0: 2048 on the CPU, 65536 (decoders 16384) on a GPU"),
    CRANK_CHOICE(options, compute, "auto", "auto|f32|bf16|f64", "type of activations and products"),
    CRANK_INT(options, repeat, 0, 0, 100000, "run all rows again so many times and tell the median time"),
    CRANK_BOOL(options, profile, false, "print the roofline table"),
    CRANK_END
};

enum { MOST_ANSWERS = 64 };

/* ---- a head's outputs ---- */

static void sigmoid(void *user, float *values, int64_t rows, int64_t width)
{
    (void)user;
    for (int64_t i = 0; i < rows * width; i++) values[i] = (float)(1 / (1 + exp(-(double)values[i])));
}

static void softmax(void *user, float *values, int64_t rows, int64_t width)
{
    (void)user;
    for (int64_t r = 0; r < rows; r++, values += width) {
        double most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < width; i++) most = fmax(most, (double)values[i]);
        for (int64_t i = 0; i < width; i++) sum += exp((double)values[i] - most);
        for (int64_t i = 0; i < width; i++) values[i] = (float)(exp((double)values[i] - most) / sum);
    }
}

/* *name for the log. */
static rows_after *choose_activation(const options *o, const rows_run *run, const char **name)
{
    int64_t labels = crank_model_config_of(run->l.model)->labels;
    bool    stated = run->folder.activation != SENTENCE_UNSTATED;
    *name = o->activation;
    if (!strcmp(o->activation, "auto")) *name = (stated ? run->folder.activation == SENTENCE_SIGMOID : labels == 1) ? "sigmoid" : "none";
    return !strcmp(*name, "sigmoid") ? sigmoid : !strcmp(*name, "softmax") ? softmax : NULL;
}

/* ---- a decoder's answers ---- */

static crank_status read_answer(cli_call *cli, const rows_run *run, const char *text, int32_t *token)
{
    int64_t number;
    if (!run->l.tokenizer) {
        if (!number_parse_int(text, &number) || number < 0 || number > INT32_MAX)
            return crank_fail(cli->context, CRANK_USAGE, "with --ids there is no tokenizer: name --answers by token ids, not `%s`", text);
        *token = (int32_t)number;
        return CRANK_OK;
    }
    crank_ids    ids = {0};
    crank_status status = crank_encode(cli->context, run->l.tokenizer, text, strlen(text), NULL, 0, 0, &ids);
    if (status == CRANK_OK && ids.count != 1) status = crank_fail(cli->context, CRANK_USAGE, "answer `%s` is %zu tokens; an answer is one token", text, ids.count);
    if (status == CRANK_OK) *token = ids.ids[0];
    crank_ids_free(&ids);
    return status;
}

static crank_status read_answers(cli_call *cli, const options *o, const rows_run *run, int32_t *tokens, int *count)
{
    crank_status status = CRANK_OK;
    *count = 0;
    for (const char *at = o->answers; at && status == CRANK_OK; (*count)++) {
        const char *comma = strchr(at, ',');
        char       *text = crank_format(cli->context, "%.*s", (int)(comma ? comma - at : (ptrdiff_t)strlen(at)), at);
        if (*count == MOST_ANSWERS) status = crank_fail(cli->context, CRANK_USAGE, "at most %d answers", MOST_ANSWERS);
        else status = text ? read_answer(cli, run, text, &tokens[*count]) : CRANK_FAILED;
        crank_free(text);
        at = comma ? comma + 1 : NULL;
    }
    return status;
}

/* ---- running ---- */

static crank_status go(cli_call *cli, const options *o, rows_run *run)
{
    int32_t        tokens[MOST_ANSWERS];
    encode_options how = {.tokens = o->batch, .answers = tokens, .vocabulary = !strcmp(o->among, "vocabulary")};
    const char    *activation = "none";
    rows_after    *after = NULL;
    crank_status   status = rows_read_folder(cli, cli->words[0], run);
    if (status == CRANK_OK) status = rows_open(cli, &o->rows, &(crank_model_options){0}, run);
    if (status != CRANK_OK) return status;
    const crank_model_config *config = crank_model_config_of(run->l.model);
    how.kind = config->labels ? ENCODE_OUTPUTS : ENCODE_ANSWERS;
    if (!config->labels && !config->causal)
        return crank_fail(cli->context, CRANK_USAGE, "%s: %s has neither a classification head nor a vocabulary to answer from: crank encode makes vectors of its rows", cli->words[0],
                          config->architecture);
    if (how.kind == ENCODE_ANSWERS) {
        status = read_answers(cli, o, run, tokens, &how.answer_count);
        run->job.format.form = o->template;
        run->job.format.chat = o->chat;
    } else {
        after = choose_activation(o, run, &activation);
    }
    if (status == CRANK_OK && !(run->e = encoder_open(cli->context, run->l.model, &how))) status = crank_last_status(cli->context);
    if (status != CRANK_OK) return status;
    if (after) crank_log(cli->context, CRANK_INFO, "scores are the head's outputs through %s", activation);
    else crank_log(cli->context, CRANK_INFO, "scores are %s", how.kind == ENCODE_OUTPUTS ? "the head's outputs" : "log-probabilities of the answers");
    status = rows_go(cli, &o->rows, run, after, NULL);
    if (status != CRANK_OK) return status;
    json_t *figures = rows_figures(cli, &o->rows, run);
    if (figures) json_object_set_new(figures, "scores", json_string(how.kind == ENCODE_OUTPUTS ? "outputs" : "answers"));
    if (figures && how.kind == ENCODE_OUTPUTS) json_object_set_new(figures, "activation", json_string(activation));
    return rows_print_figures(cli, &o->rows, run, figures);
}

static crank_status run(cli_call *cli)
{
    options *o = cli->options;
    o->rows = (rows_options){.adapter = o->adapter, .pairs = o->pairs, .texts = o->texts, .ids = o->ids, .text_field = o->text_field, .pair_field = o->pair_field,
                             .format = o->format, .output = o->output, .compute = o->compute, .name = "score", .batch = o->batch, .max_length = o->max_length,
                             .repeat = o->repeat, .profile = o->profile};
    rows_run     r = {.job.progress = -1};
    crank_status status = go(cli, o, &r);
    rows_close(&r);
    return status;
}

const cli_verb verb_score = {
    .name = "score",
    .usage = "MODEL --pairs FILE [-a ADAPTER[:WEIGHT] ...] [--answers yes,no] [--template PROMPT] [--batch TOKENS] [-o OUT.jsonl|.npy|.safetensors]",
    .summary = "a score a pair of texts: a cross-encoder's, or a decoder's log-probabilities of answers",
    .details = "A model with a classification head gives its outputs; a language model reads the prompt and gives log-probabilities of the answers at its last token. "
               "Rows are computed in packs without padding; scores stand in the rows' order.",
    .letters = "a=adapter o=output",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 1,
    .run = run,
};
