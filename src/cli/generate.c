/* generate.c - crank generate MODEL: text from a prompt, as it comes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/load.h"
#include "task/generate.h"

typedef struct options {
    const char *adapter, *prompt, *compute, *system;
    int64_t     max_new, top_k, seed;
    double      temperature, top_p;
    bool        chat;
} options;

static const crank_option option_table[] = {
    CRANK_LIST(options, adapter, NULL, "adapter folder, FOLDER:WEIGHT; several are mixed: their changes are weighted and added"),
    CRANK_STRING(options, prompt, NULL, "the prompt; `-` reads standard input"),
    CRANK_BOOL(options, chat, false, "the prompt is a user's turn: render it with the model's chat template"),
    CRANK_STRING(options, system, NULL, "system turn before the prompt (with --chat)"),
    CRANK_INT(options, max_new, 128, 1, 1000000, "at most this many new tokens"),
    CRANK_FLOAT(options, temperature, 0, 0, 100, "0 takes the most likely token, 1 samples from the model's distribution"),
    CRANK_INT(options, top_k, 0, 0, 10000000, "sample among this many most likely tokens; 0: all"),
    CRANK_FLOAT(options, top_p, 1, 0, 1, "sample among the smallest set of tokens that holds this mass"),
    CRANK_INT(options, seed, 0, 0, 9007199254740991, "seed of sampling"),
    CRANK_CHOICE(options, compute, "auto", "auto|f32|bf16|f64", "type of activations and products"),
    CRANK_END
};

/* Prints the text that each token adds: decoded text so far, less what was printed. */
typedef struct printer {
    crank_context         *context;
    const crank_tokenizer *tokenizer;
    crank_ids              ids;
    size_t                 printed;
    bool                   silent;
} printer;

static bool incomplete_end(const char *text, size_t length)
{
    return length >= 3 && !memcmp(text + length - 3, "\xEF\xBF\xBD", 3); /* U+FFFD: the bytes of a character are still coming */
}

static bool print_token(void *user, int32_t token)
{
    printer *p = user;
    if (p->ids.count == p->ids.capacity) {
        size_t   capacity = p->ids.capacity ? 2 * p->ids.capacity : 64;
        int32_t *bigger = realloc(p->ids.ids, capacity * sizeof *bigger);
        if (!bigger) return false;
        p->ids.ids = bigger;
        p->ids.capacity = capacity;
    }
    p->ids.ids[p->ids.count++] = token;
    size_t length;
    char  *text = crank_decode(p->context, p->tokenizer, p->ids.ids, p->ids.count, true, &length);
    if (!text) return false;
    if (!p->silent && length > p->printed && !incomplete_end(text, length)) {
        fwrite(text + p->printed, 1, length - p->printed, stdout);
        fflush(stdout);
        p->printed = length;
    }
    crank_free(text);
    return true;
}

static char *read_prompt(cli_call *cli, const char *prompt)
{
    if (strcmp(prompt, "-")) return crank_strdup(cli->context, prompt);
    char  *text = NULL;
    size_t size = 0;
    if (getdelim(&text, &size, 0, stdin) < 0) {
        free(text);
        return crank_strdup(cli->context, "");
    }
    return text;
}

static crank_status encode_prompt(cli_call *cli, const options *o, const crank_tokenizer *tokenizer, crank_ids *ids)
{
    char *prompt = read_prompt(cli, o->prompt);
    if (!prompt) return CRANK_FAILED;
    crank_status status;
    if (o->chat) {
        json_t *messages = json_array();
        if (o->system) json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", o->system));
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", prompt));
        char *text = json_text(cli->context, messages, 0);
        char *rendered = text ? crank_chat_render(cli->context, tokenizer, text, NULL, true) : NULL;
        status = rendered ? crank_encode(cli->context, tokenizer, rendered, strlen(rendered), NULL, 0, 0, ids) : crank_last_status(cli->context);
        crank_free(rendered), crank_free(text);
        json_decref(messages);
    } else {
        status = crank_encode(cli->context, tokenizer, prompt, strlen(prompt), NULL, 0, CRANK_ENCODE_SPECIAL, ids);
    }
    crank_free(prompt);
    if (status == CRANK_OK && !ids->count && crank_tokenizer_bos(tokenizer) >= 0) { /* an empty prompt starts a text */
        ids->ids = malloc(sizeof *ids->ids);
        if (!ids->ids) return crank_fail(cli->context, CRANK_FAILED, "out of memory: a prompt");
        ids->ids[0] = crank_tokenizer_bos(tokenizer);
        ids->count = ids->capacity = 1;
    }
    return status;
}

static crank_status print_json(cli_call *cli, const printer *p, const crank_ids *ids, size_t prompt)
{
    char   *text = crank_decode(cli->context, p->tokenizer, p->ids.ids, p->ids.count, true, NULL);
    json_t *tokens = json_array();
    for (size_t i = prompt; i < ids->count; i++) json_array_append_new(tokens, json_integer(ids->ids[i]));
    json_t *root = json_pack("{s:s, s:o, s:I}", "text", text ? text : "", "tokens", tokens, "prompt_tokens", (json_int_t)prompt);
    char   *out = root ? json_text(cli->context, root, 0) : NULL;
    if (out) puts(out);
    crank_free(out), crank_free(text);
    json_decref(root);
    return out ? CRANK_OK : CRANK_FAILED;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    if (!o->prompt) return crank_fail(cli->context, CRANK_USAGE, "crank generate needs a prompt: -p TEXT, or -p - for standard input");
    loaded       l;
    crank_status status = load_model(cli, cli->words[0], o->adapter, o->compute, true, &l);
    if (status != CRANK_OK) return status;
    printer   p = {.context = cli->context, .tokenizer = l.tokenizer, .silent = cli->common.json};
    crank_ids ids = {0};
    status = encode_prompt(cli, o, l.tokenizer, &ids);
    size_t           prompt = ids.count;
    int32_t          stop = crank_tokenizer_eos(l.tokenizer);
    generate_options how = {o->max_new, o->top_k, o->seed, o->temperature, o->top_p};
    if (status == CRANK_OK) status = generate(cli->context, l.model, &how, &stop, stop >= 0, &ids, print_token, &p);
    if (status == CRANK_OK) status = cli->common.json ? print_json(cli, &p, &ids, prompt) : (putchar('\n'), CRANK_OK);
    crank_ids_free(&ids);
    free(p.ids.ids);
    load_free(&l);
    return status;
}

const cli_verb verb_generate = {
    .name = "generate",
    .usage = "MODEL -p PROMPT [-a ADAPTER[:WEIGHT] ...] [--chat] [--temperature T] [--max-new N]",
    .summary = "text from a language model",
    .letters = "a=adapter p=prompt n=max_new s=seed",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = 1,
    .run = run,
};
