/* tokenizer.c - crank tokenizer train|encode|decode. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/cli.h"
#include "data/hub.h"

#include "crank/tokenizer.h"

typedef struct options {
    const char *output, *special, *eos;
    int64_t     vocab;
    bool        plain;
} options;

static const crank_option option_table[] = {
    CRANK_STRING(options, output, "tokenizer", "train: folder for tokenizer.json and its companions"),
    CRANK_INT(options, vocab, 32000, 257, 10000000, "train: number of tokens"),
    CRANK_LIST(options, special, "<|endoftext|>", "train: special tokens, first ids"),
    CRANK_STRING(options, eos, "<|endoftext|>", "train: the special token that ends a text"),
    CRANK_BOOL(options, plain, false, "encode: no special tokens around the text"),
    CRANK_END
};

/* ---- train ---- */

enum { MAX_SPECIAL = 64 };

/* tokenizer_config.json with the end token: what the saved folder's readers ask for. */
static crank_status write_config(cli_call *cli, const options *o)
{
    char        *path = file_join(cli->context, o->output, "tokenizer_config.json");
    json_t      *config = json_pack("{s:s, s:s}", "eos_token", o->eos, "tokenizer_class", "PreTrainedTokenizerFast");
    crank_status status = path && config ? json_write(cli->context, path, config) : CRANK_FAILED;
    json_decref(config);
    crank_free(path);
    return status;
}

static crank_status train(cli_call *cli)
{
    const options *o = cli->options;
    const char    *special[MAX_SPECIAL], *cursor = o->special;
    char           names[MAX_SPECIAL][256];
    size_t         count = 0;
    bool           has_end = false;
    if (cli->word_count < 2) return crank_fail(cli->context, CRANK_USAGE, "usage: crank tokenizer train FILE... [--vocab N] [--output FOLDER]");
    while (count < MAX_SPECIAL && crank_list_next(&cursor, names[count], sizeof names[count], NULL, 0)) {
        special[count] = names[count];
        has_end |= !strcmp(names[count++], o->eos);
    }
    if (!has_end) return crank_fail(cli->context, CRANK_USAGE, "the end token `%s` is not among the special tokens", o->eos);
    crank_tokenizer *tokenizer = crank_tokenizer_train(cli->context, (const char *const *)cli->words + 1, (size_t)cli->word_count - 1, (int32_t)o->vocab, special, count);
    if (!tokenizer) return crank_last_status(cli->context);
    crank_status status = file_make_folder(cli->context, o->output);
    if (status == CRANK_OK) status = crank_tokenizer_save(cli->context, tokenizer, o->output);
    if (status == CRANK_OK) status = write_config(cli, o);
    if (status == CRANK_OK && cli->common.json) printf("{\"tokens\": %d}\n", crank_tokenizer_size(tokenizer));
    else if (status == CRANK_OK) printf("%d tokens: %s/tokenizer.json\n", crank_tokenizer_size(tokenizer), o->output);
    crank_tokenizer_free(tokenizer);
    return status;
}

/* ---- encode, decode ---- */

static crank_tokenizer *open_tokenizer(cli_call *cli)
{
    if (cli->word_count < 2) {
        crank_fail(cli->context, CRANK_USAGE, "usage: crank tokenizer %s TOKENIZER", cli->words[0]);
        return NULL;
    }
    char            *folder = hub_resolve(cli->context, cli->words[1]);
    crank_tokenizer *tokenizer = folder ? crank_tokenizer_load(cli->context, folder) : NULL;
    crank_free(folder);
    return tokenizer;
}

/* Lines of standard input as JSON lists of ids. */
static crank_status encode(cli_call *cli)
{
    const options   *o = cli->options;
    crank_tokenizer *tokenizer = open_tokenizer(cli);
    file_lines      *lines = tokenizer ? file_lines_open(cli->context, "-") : NULL;
    crank_status     status = lines ? CRANK_OK : crank_last_status(cli->context);
    const char      *text;
    size_t           length;
    int              more;
    while (status == CRANK_OK && (more = file_lines_next(cli->context, lines, &text, &length)) != 0) {
        crank_ids ids = {0};
        status = more < 0 ? crank_last_status(cli->context)
                          : crank_encode(cli->context, tokenizer, text, length, NULL, 0, o->plain ? 0 : CRANK_ENCODE_SPECIAL, &ids);
        for (size_t i = 0; status == CRANK_OK && i < ids.count; i++) printf("%s%d", i ? ", " : "[", ids.ids[i]);
        if (status == CRANK_OK) puts(ids.count ? "]" : "[]");
        crank_ids_free(&ids);
    }
    if (lines) file_lines_close(lines);
    crank_tokenizer_free(tokenizer);
    return status;
}

static crank_status decode_line(cli_call *cli, const crank_tokenizer *tokenizer, const char *text, size_t length, size_t line)
{
    char where[64];
    snprintf(where, sizeof where, "standard input:%zu", line);
    json_t *list = json_parse(cli->context, text, length, where);
    if (!list) return crank_last_status(cli->context);
    size_t       n = json_array_size(list);
    int32_t     *ids = crank_alloc(cli->context, n + 1, sizeof *ids, "token ids");
    crank_status status = ids ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && !json_is_array(list)) status = crank_fail(cli->context, CRANK_BAD_DATA, "%s: wanted a list of token ids", where);
    for (size_t i = 0; i < n && status == CRANK_OK; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= crank_tokenizer_size(tokenizer))
            status = crank_fail(cli->context, CRANK_BAD_DATA, "%s: entry %zu is no token id below %d", where, i, crank_tokenizer_size(tokenizer));
        else ids[i] = (int32_t)json_integer_value(id);
    }
    char *out = status == CRANK_OK ? crank_decode(cli->context, tokenizer, ids, n, true, NULL) : NULL;
    if (out) puts(out);
    else if (status == CRANK_OK) status = crank_last_status(cli->context);
    crank_free(out), crank_free(ids);
    json_decref(list);
    return status;
}

static crank_status decode(cli_call *cli)
{
    crank_tokenizer *tokenizer = open_tokenizer(cli);
    file_lines      *lines = tokenizer ? file_lines_open(cli->context, "-") : NULL;
    crank_status     status = lines ? CRANK_OK : crank_last_status(cli->context);
    const char      *text;
    size_t           length;
    int              more;
    while (status == CRANK_OK && (more = file_lines_next(cli->context, lines, &text, &length)) != 0)
        status = more < 0 ? crank_last_status(cli->context) : decode_line(cli, tokenizer, text, length, file_lines_number(lines));
    if (lines) file_lines_close(lines);
    crank_tokenizer_free(tokenizer);
    return status;
}

static crank_status run(cli_call *cli)
{
    static const char *const actions[] = {"train", "encode", "decode"};
    if (!strcmp(cli->words[0], "train")) return train(cli);
    if (!strcmp(cli->words[0], "encode")) return encode(cli);
    if (!strcmp(cli->words[0], "decode")) return decode(cli);
    const char *closest = crank_closest(cli->words[0], actions, 3);
    return crank_fail(cli->context, CRANK_USAGE, "crank tokenizer has no action `%s`%s%s%s", cli->words[0], closest ? "; did you mean `" : "",
                      closest ? closest : "", closest ? "`?" : "");
}

const cli_verb verb_tokenizer = {
    .name = "tokenizer",
    .usage = "train FILE... [--vocab N] [--output FOLDER] | encode TOKENIZER < LINES | decode TOKENIZER < ID_LISTS",
    .summary = "train a byte-level BPE; lines to ids and back",
    .details = "encode prints one JSON list of ids for each line of standard input; decode reads such lists.",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
