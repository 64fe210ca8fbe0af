/* chat.c - conversations rendered and encoded: the variables a template sees, and masks from the spans of turns. */
#include "data/chat.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "data/chat_spans.h"
#include "data/tokenizer_parts.h"

/* --- the template and the tokenizer's special tokens --- */

static bool has_special(const chat_template *chat, const char *name)
{
    for (size_t i = 0; i < chat->special_count; i++)
        if (!strcmp(chat->specials[i].name, name)) return true;
    return false;
}

static crank_status add_special(crank_context *context, chat_template *chat, const char *name, const char *text)
{
    if (has_special(chat, name)) return CRANK_OK;
    chat_special *more = realloc(chat->specials, (chat->special_count + 1) * sizeof *more);
    if (!more) return crank_fail(context, CRANK_FAILED, "out of memory: special tokens");
    chat->specials = more;
    chat_special *special = &more[chat->special_count++];
    special->name = crank_strdup(context, name);
    special->text = crank_strdup(context, text);
    return special->name && special->text ? CRANK_OK : CRANK_FAILED;
}

/* Every "..._token" of tokenizer_config.json or special_tokens_map.json: text, or an object with `content`. */
static crank_status add_named_specials(crank_context *context, chat_template *chat, const text_string *file, const char *where)
{
    if (!file->bytes) return CRANK_OK;
    json_t      *root = json_parse(context, file->bytes, file->length, where), *value;
    const char  *key;
    crank_status status = root ? CRANK_OK : crank_last_status(context);
    json_object_foreach(root, key, value)
    {
        size_t length = strlen(key);
        if (json_is_object(value)) value = json_object_get(value, "content");
        if (status == CRANK_OK && json_is_string(value) && length > 6 && !strcmp(key + length - 6, "_token"))
            status = add_special(context, chat, key, json_string_value(value));
    }
    json_decref(root);
    return status;
}

static crank_status add_specials(crank_context *context, chat_template *chat)
{
    const crank_tokenizer *tokenizer = chat->tokenizer;
    const int32_t          ids[] = {tokenizer->bos, tokenizer->eos, tokenizer->pad};
    static const char *const names[] = {"bos_token", "eos_token", "pad_token"};
    crank_status status = add_named_specials(context, chat, &tokenizer->config_file, "tokenizer_config.json");
    if (status == CRANK_OK) status = add_named_specials(context, chat, &tokenizer->special_file, "special_tokens_map.json");
    for (size_t i = 0; status == CRANK_OK && i < 3; i++) {
        const char *text = ids[i] >= 0 ? crank_token_text(tokenizer, ids[i]) : NULL;
        if (text) status = add_special(context, chat, names[i], text);
    }
    return status;
}

chat_template *chat_template_new(crank_context *context, const crank_tokenizer *tokenizer)
{
    const char *text = crank_tokenizer_chat_template(tokenizer);
    if (!text) {
        crank_fail(context, CRANK_BAD_DATA, "the tokenizer has no chat template: give one as chat_template.jinja beside tokenizer.json");
        return NULL;
    }
    chat_template *chat = crank_alloc(context, 1, sizeof *chat, "a chat template");
    if (!chat) return NULL;
    chat->tokenizer = tokenizer;
    chat->jinja = jinja_parse(context, text, strlen(text), "chat template");
    if (chat->jinja && add_specials(context, chat) == CRANK_OK) return chat;
    chat_template_free(chat);
    return NULL;
}

void chat_template_free(chat_template *chat)
{
    if (!chat) return;
    jinja_free(chat->jinja);
    for (size_t i = 0; i < chat->special_count; i++) {
        crank_free(chat->specials[i].name);
        crank_free(chat->specials[i].text);
    }
    free(chat->specials);
    crank_free(chat);
}

/* --- variables --- */

bool chat_is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && !strcmp(role, "assistant");
}

/* A message without its null members, its reasoning under the names that templates read. New reference. */
static json_t *plain_message(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t                  *copy = json_object(), *value;
    const char              *key;
    json_object_foreach(message, key, value) if (!json_is_null(value)) json_object_set(copy, key, value);
    for (size_t i = 0; copy && i < 3; i++) {
        json_t *reasoning = json_object_get(copy, names[i]);
        if (!reasoning) continue;
        json_incref(reasoning); /* the member that holds it is replaced */
        if (!json_object_get(copy, "thinking")) json_object_set(copy, "thinking", reasoning);
        json_object_set_new(copy, "reasoning_content", reasoning);
        break;
    }
    return copy;
}

static json_t *plain_messages(crank_context *context, const json_t *messages)
{
    json_t *list = json_array(), *message;
    size_t  i;
    bool    good = list != NULL;
    json_array_foreach((json_t *)messages, i, message)
    {
        if (!json_is_object(message)) {
            crank_fail(context, CRANK_BAD_DATA, "message %zu of a conversation is no JSON object with role and content", i + 1);
            json_decref(list);
            return NULL;
        }
        good = good && json_array_append_new(list, plain_message(message)) == 0;
    }
    if (good) return list;
    crank_fail(context, CRANK_FAILED, "out of memory: a conversation");
    json_decref(list);
    return NULL;
}

static json_t *make_variables(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                              bool add_generation_prompt)
{
    if (!json_is_array(messages) || !json_array_size(messages)) {
        crank_fail(context, CRANK_BAD_DATA, "a conversation must be a JSON list of at least one message");
        return NULL;
    }
    if (extra && !json_is_object(extra) && !json_is_null(extra)) {
        crank_fail(context, CRANK_BAD_DATA, "further variables of a chat template must be a JSON object");
        return NULL;
    }
    json_t *list = plain_messages(context, messages), *variables = list ? json_object() : NULL;
    bool    good = variables != NULL;
    for (size_t i = 0; good && i < chat->special_count; i++)
        good = json_object_set_new(variables, chat->specials[i].name, json_string(chat->specials[i].text)) == 0;
    good = good && json_object_set_new(variables, "tools", json_null()) == 0 && json_object_set_new(variables, "documents", json_null()) == 0 &&
           json_object_set_new(variables, "add_generation_prompt", json_boolean(add_generation_prompt)) == 0 &&
           (!json_is_object(extra) || json_object_update(variables, (json_t *)extra) == 0) && json_object_set(variables, "messages", list) == 0;
    if (list && !good) crank_fail(context, CRANK_FAILED, "out of memory: a conversation");
    json_decref(list);
    if (good) return variables;
    json_decref(variables);
    return NULL;
}

char *chat_render_spans(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                        bool add_generation_prompt, int64_t now, jinja_spans *spans, size_t *length)
{
    json_t *variables = make_variables(context, chat, messages, extra, add_generation_prompt);
    char   *text = variables ? jinja_render(context, chat->jinja, variables, now, spans, length) : NULL;
    json_decref(variables);
    return text;
}

char *chat_render(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                  bool add_generation_prompt, int64_t now, size_t *length)
{
    return chat_render_spans(context, chat, messages, extra, add_generation_prompt, now, NULL, length);
}

/* --- spans of turns --- */

typedef struct span_list {
    chat_span *items;
    size_t     count;
} span_list;

/* The blocks of {% generation %}, one an assistant message: those of messages before `first` are left out. */
static crank_status generated_spans(const chat_job *job, const jinja_spans *blocks, size_t first, span_list *out)
{
    size_t before = 0, all = 0;
    for (size_t i = 0; i < json_array_size(job->messages); i++) {
        bool assistant = chat_is_assistant(json_array_get(job->messages, i));
        before += assistant && i < first;
        all += assistant;
    }
    if (before && blocks->count != all)
        return crank_fail(job->context, CRANK_BAD_DATA, "the template wrote %zu generation blocks for %zu assistant messages: those of the prompt "
                          "cannot be told from those of the completion", blocks->count, all);
    for (size_t i = before; i < blocks->count; i++)
        out->items[out->count++] = (chat_span){blocks->ranges[2 * i], blocks->ranges[2 * i + 1]};
    return CRANK_OK;
}

static crank_status found_spans(const chat_job *job, size_t first, span_list *out)
{
    for (size_t i = first; i < json_array_size(job->messages); i++) {
        if (!chat_is_assistant(json_array_get(job->messages, i))) continue;
        chat_span    span;
        crank_status status = chat_find_turn(job, i, &span);
        if (status != CRANK_OK) return status;
        if (out->count && span.start < out->items[out->count - 1].end)
            return crank_fail(job->context, CRANK_BAD_DATA, "message %zu: the template writes this assistant turn before an earlier one: mark "
                              "assistant turns with {%% generation %%} in the template", i + 1);
        if (span.end > span.start) out->items[out->count++] = span;
    }
    return CRANK_OK;
}

/* --- the mask --- */

static bool is_white(const char *text, size_t start, size_t end)
{
    for (; start < end; start++)
        if (text[start] != ' ' && text[start] != '\n' && text[start] != '\r' && text[start] != '\t') return false;
    return true;
}

/* Tokens [from, to) of a turn: white space behind its last special token, the end of the turn, is not trained. */
static size_t turn_end(const chat_job *job, const crank_ids *ids, size_t from, size_t to)
{
    size_t end = to;
    while (end > from && is_white(job->full, (size_t)ids->offsets[2 * end - 2], (size_t)ids->offsets[2 * end - 1])) end--;
    const added_token *last = end > from ? added_find(job->chat->tokenizer, ids->ids[end - 1]) : NULL;
    return last && last->special ? end : to;
}

/* A token counts when it shares a byte with a span. Tokens and spans are both in order. */
static void mark_tokens(const chat_job *job, const crank_ids *ids, const span_list *spans, bool whole_turns, uint8_t *mask)
{
    size_t token = 0;
    for (size_t i = 0; i < spans->count; i++) {
        int64_t start = (int64_t)spans->items[i].start, end = (int64_t)spans->items[i].end;
        while (token < ids->count && ids->offsets[2 * token + 1] <= start) token++;
        size_t to = token;
        while (to < ids->count && ids->offsets[2 * to] < end) to++;
        size_t trained = whole_turns ? turn_end(job, ids, token, to) : to;
        for (size_t k = token; k < trained; k++) mask[k] = 1;
        token = to > token ? to - 1 : token; /* a token may reach into the next span */
    }
}

static crank_status encode_job(chat_job *job, size_t first, crank_ids *out, uint8_t **mask)
{
    bool        generation = jinja_has_generation(job->chat->jinja);
    jinja_spans blocks = {0};
    job->full = chat_render_spans(job->context, job->chat, job->messages, job->extra, false, job->now, generation ? &blocks : NULL, &job->length);
    if (!job->full) return crank_last_status(job->context);
    size_t       limit = (generation ? blocks.count : json_array_size(job->messages)) + 1;
    span_list    spans = {crank_alloc(job->context, limit, sizeof(chat_span), "the turns of a conversation"), 0};
    crank_status status = spans.items ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = generation ? generated_spans(job, &blocks, first, &spans) : found_spans(job, first, &spans);
    if (status == CRANK_OK)
        status = crank_encode(job->context, job->chat->tokenizer, job->full, job->length, NULL, 0, CRANK_ENCODE_OFFSETS, out);
    if (status == CRANK_OK && !(*mask = crank_alloc(job->context, out->count, 1, "a loss mask"))) {
        crank_ids_free(out);
        status = CRANK_FAILED;
    }
    if (status == CRANK_OK) mark_tokens(job, out, &spans, !generation, *mask);
    crank_free(blocks.ranges);
    crank_free(spans.items);
    crank_free(job->full);
    return status;
}

crank_status chat_encode(crank_context *context, const chat_template *chat, const json_t *messages, const json_t *extra,
                         size_t first, crank_ids *out, uint8_t **mask)
{
    chat_job job = {.context = context, .chat = chat, .messages = messages, .extra = extra, .now = (int64_t)time(NULL)};
    *out = (crank_ids){0};
    *mask = NULL;
    return encode_job(&job, first, out, mask);
}

/* --- the public functions: JSON text in, one parse of the template a call --- */

static crank_status parse_inputs(crank_context *context, const char *messages, const char *extra, json_t **list, json_t **object)
{
    *object = NULL;
    *list = json_parse(context, messages, strlen(messages), "messages");
    if (*list && extra) *object = json_parse(context, extra, strlen(extra), "template variables");
    return *list && (!extra || *object) ? CRANK_OK : crank_last_status(context);
}

char *crank_chat_render(crank_context *context, const crank_tokenizer *tokenizer, const char *messages, const char *extra,
                        bool add_generation_prompt)
{
    json_t        *list, *object;
    chat_template *chat = chat_template_new(context, tokenizer);
    char          *text = NULL;
    if (!chat) return NULL;
    if (parse_inputs(context, messages, extra, &list, &object) == CRANK_OK)
        text = chat_render(context, chat, list, object, add_generation_prompt, -1, NULL);
    json_decref(list);
    json_decref(object);
    chat_template_free(chat);
    return text;
}

crank_status crank_chat_encode(crank_context *context, const crank_tokenizer *tokenizer, const char *messages, const char *extra,
                               crank_ids *out, uint8_t **mask)
{
    json_t        *list, *object;
    chat_template *chat = chat_template_new(context, tokenizer);
    *out = (crank_ids){0};
    *mask = NULL;
    if (!chat) return crank_last_status(context);
    crank_status status = parse_inputs(context, messages, extra, &list, &object);
    if (status == CRANK_OK) status = chat_encode(context, chat, list, object, 0, out, mask);
    json_decref(list);
    json_decref(object);
    chat_template_free(chat);
    return status;
}
