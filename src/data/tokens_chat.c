/* tokens_chat.c - a conversation row through the model's chat template. */
#include "data/tokens_chat.h"

#include <string.h>

#include "base/json.h"

/* The tools of a row: a list, or the JSON text of one, as sets with one column type keep it. New reference; NULL: message. */
static json_t *read_tools(crank_context *context, json_t *value)
{
    if (!json_is_string(value)) return json_incref(value);
    return json_parse(context, json_string_value(value), json_string_length(value), "tools");
}

/* What the template gets besides the messages. New reference; NULL: message. */
static json_t *template_variables(crank_context *context, const json_t *row)
{
    json_t *extra = json_object(), *tools = json_object_get(row, "tools"), *documents = json_object_get(row, "documents");
    json_t *more = json_object_get(row, "chat_template_kwargs"), *list = NULL;
    bool    good = extra != NULL;
    if (good && tools && !json_is_null(tools)) {
        list = read_tools(context, tools);
        if (!list) {
            json_decref(extra);
            return NULL;
        }
        good = json_object_set_new(extra, "tools", list) == 0;
    }
    if (good && documents) good = json_object_set(extra, "documents", documents) == 0;
    if (good && json_is_object(more)) good = json_object_update(extra, more) == 0;
    if (good) return extra;
    json_decref(extra);
    crank_fail(context, CRANK_FAILED, "out of memory: a conversation");
    return NULL;
}

/* All messages of a row, in order; *first: those before it are the prompt. New reference; NULL: message. */
static json_t *all_messages(crank_context *context, const dataset_options *options, const json_t *row, size_t *first)
{
    json_t *messages = json_object_get(row, "messages"), *list;
    *first = 0;
    if (json_is_array(messages)) return json_incref(messages);
    messages = json_object_get(row, options->prompt_field);
    list = json_is_array(messages) ? json_copy(messages) : NULL;
    *first = json_array_size(messages);
    if (list && json_array_extend(list, json_object_get(row, options->completion_field)) == 0) return list;
    json_decref(list);
    crank_fail(context, CRANK_BAD_DATA, "a conversation needs `messages`, or lists of messages as `%s` and `%s`", options->prompt_field, options->completion_field);
    return NULL;
}

crank_status tokens_of_chat(crank_context *context, const chat_template *chat, const dataset_options *options, const char *text,
                            crank_ids *ids, uint8_t **mask)
{
    size_t       first = 0;
    json_t      *row = json_parse(context, text, strlen(text), "the row");
    json_t      *extra = row ? template_variables(context, row) : NULL;
    json_t      *messages = extra ? all_messages(context, options, row, &first) : NULL;
    crank_status status = messages ? chat_encode(context, chat, messages, extra, first, ids, mask) : crank_last_status(context);
    json_decref(messages);
    json_decref(extra);
    json_decref(row);
    return status;
}
