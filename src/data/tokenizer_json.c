/* tokenizer_json.c - typed members of tokenizer.json's components, and Sequences written out flat. */
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

#define SEQUENCE_DEPTH 16
#define SEQUENCE_LIMIT 4096

void text_string_clear(text_string *text)
{
    crank_free(text->bytes);
    *text = (text_string){0};
}

void text_pattern_clear(text_pattern *pattern)
{
    text_string_clear(&pattern->text);
    regex_free(pattern->expression);
    pattern->expression = NULL;
}

static crank_status copy_string(crank_context *context, const json_t *string, text_string *out)
{
    text_string_clear(out);
    out->length = json_string_length(string);
    out->bytes = crank_alloc(context, out->length + 1, 1, "a text of the tokenizer");
    if (!out->bytes) return CRANK_FAILED;
    memcpy(out->bytes, json_string_value(string), out->length);
    return CRANK_OK;
}

crank_status json_need_text(crank_context *context, const json_t *object, const char *key, text_string *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) return crank_fail(context, CRANK_BAD_DATA, "`%s` must be a string", key);
    return copy_string(context, value, out);
}

crank_status json_need_character(crank_context *context, const json_t *object, const char *key, uint32_t *out)
{
    const json_t *value = json_object_get(object, key);
    size_t length;
    if (json_is_string(value) && json_string_length(value)) {
        *out = utf8_get(json_string_value(value), &length);
        if (length == json_string_length(value)) return CRANK_OK;
    }
    return crank_fail(context, CRANK_BAD_DATA, "`%s` must be a string of one character", key);
}

crank_status json_need_bool(crank_context *context, const json_t *object, const char *key, bool *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value)) return crank_fail(context, CRANK_BAD_DATA, "`%s` must be true or false", key);
    *out = json_is_true(value);
    return CRANK_OK;
}

crank_status json_need_pattern(crank_context *context, const json_t *object, const char *key, text_pattern *out)
{
    const json_t *value = json_object_get(object, key);
    const json_t *text = json_object_get(value, "String"), *expression = json_object_get(value, "Regex");
    if (json_object_size(value) != 1 || !json_is_string(text ? text : expression))
        return crank_fail(context, CRANK_BAD_DATA, "`%s` must be {\"String\": text} or {\"Regex\": expression}", key);
    if (text && json_string_length(text)) return copy_string(context, text, &out->text);
    const char *pattern = text ? "" : json_string_value(expression); /* an empty text matches between all characters */
    out->expression = regex_new(context, pattern, text ? 0 : json_string_length(expression));
    return out->expression ? CRANK_OK : crank_last_status(context);
}

static crank_status load_nested(crank_context *context, crank_tokenizer *tokenizer, const json_t *value,
                                const char *members, const char *kind, component_load *load, int depth, size_t *left)
{
    if (!json_is_object(value)) return crank_fail(context, CRANK_BAD_DATA, "%s: must be an object or null", kind);
    const json_t *type = json_object_get(value, "type");
    if (!json_is_string(type)) return crank_fail(context, CRANK_BAD_DATA, "%s: has no `type`", kind);
    if (depth > SEQUENCE_DEPTH || !*left)
        return crank_fail(context, CRANK_BAD_DATA, "%s: more than %d members or %d levels of Sequence", kind,
                          SEQUENCE_LIMIT, SEQUENCE_DEPTH);
    --*left;
    if (strcmp(json_string_value(type), "Sequence")) {
        crank_status status = load(context, tokenizer, value, json_string_value(type));
        return status ? crank_fail_in(context, "%s %.100s", kind, json_string_value(type)) : CRANK_OK;
    }
    const json_t *list = json_object_get(value, members);
    if (!json_is_array(list))
        return crank_fail(context, CRANK_BAD_DATA, "%s Sequence: `%s` must be an array", kind, members);
    for (size_t i = 0; i < json_array_size(list); i++) {
        crank_status status =
            load_nested(context, tokenizer, json_array_get(list, i), members, kind, load, depth + 1, left);
        if (status) return status;
    }
    return CRANK_OK;
}

crank_status components_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *value,
                             const char *members, const char *kind, component_load *load)
{
    size_t left = SEQUENCE_LIMIT;
    if (!value || json_is_null(value)) return CRANK_OK;
    return load_nested(context, tokenizer, value, members, kind, load, 0, &left);
}
