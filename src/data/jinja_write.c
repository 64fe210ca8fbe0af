/* jinja_write.c - values as text: Python's str() and repr(), and json.dumps(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_loop.h"
#include "data/jinja_text.h"

/* The shortest decimal that reads back as the same double; an exponent below 1e-4 and from 1e16 on. */
void jinja_write_float(jinja_state *state, jinja_buffer *out, double value)
{
    if (isnan(value)) {
        jinja_append_text(state, out, "nan");
        return;
    }
    if (isinf(value)) {
        jinja_append_text(state, out, value > 0 ? "inf" : "-inf");
        return;
    }
    char text[40];
    int  digits = 1;
    do snprintf(text, sizeof text, "%.*e", digits - 1, value);
    while (strtod(text, NULL) != value && ++digits <= 17);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = digits - 1 - exponent;
        jinja_append_format(state, out, "%.*f", decimals > 1 ? decimals : 1, value);
    } else {
        jinja_append_text(state, out, text); /* as C writes it: two exponent digits at least */
    }
}

static void repr_text(jinja_state *state, jinja_buffer *out, const jinja_value *value)
{
    bool single = memchr(value->text, '\'', value->length) != NULL, twice = memchr(value->text, '"', value->length) != NULL;
    char quote = single && !twice ? '"' : '\'';
    jinja_append(state, out, &quote, 1);
    jinja_work(state, value->length / 8);
    for (size_t at = 0; at < value->length;) {
        size_t   start = at;
        uint32_t code = jinja_next_code(value->text, value->length, &at);
        if (code == (uint32_t)quote || code == '\\') {
            char pair[2] = {'\\', (char)code};
            jinja_append(state, out, pair, 2);
        } else if (code == '\n' || code == '\r' || code == '\t') {
            jinja_append_text(state, out, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
        } else if (!jinja_is_printable(code)) {
            jinja_append_format(state, out, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
        } else {
            jinja_append(state, out, value->text + start, at - start);
        }
    }
    jinja_append(state, out, &quote, 1);
}

static void repr_list(jinja_state *state, jinja_buffer *out, const jinja_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_append_text(state, out, ", ");
        jinja_repr(state, out, &list->items[i]);
    }
}

static void repr_dict(jinja_state *state, jinja_buffer *out, const jinja_dict *dict)
{
    jinja_append_text(state, out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) jinja_append_text(state, out, ", ");
        jinja_repr(state, out, &dict->entries[i].key);
        jinja_append_text(state, out, ": ");
        jinja_repr(state, out, &dict->entries[i].value);
    }
    jinja_append_text(state, out, "}");
}

static void repr_range(jinja_state *state, jinja_buffer *out, const jinja_range *range)
{
    jinja_append_format(state, out, "range(%lld, %lld", (long long)range->start, (long long)range->stop);
    if (range->step != 1) jinja_append_format(state, out, ", %lld", (long long)range->step);
    jinja_append_text(state, out, ")");
}

static void repr_object(jinja_state *state, jinja_buffer *out, const jinja_value *value)
{
    if (value->kind == JINJA_NAMESPACE) {
        jinja_append_text(state, out, "<Namespace ");
        repr_dict(state, out, value->dict);
        jinja_append_text(state, out, ">");
    } else if (value->kind == JINJA_LOOP) {
        jinja_value length = jinja_loop_attribute(state, value->loop, jinja_static("length"));
        jinja_append_format(state, out, "<LoopContext %lld/%lld>", (long long)value->loop->index0 + 1, (long long)length.integer);
    } else if (value->kind == JINJA_MACRO && value->macro->node->kind == NODE_MACRO) {
        jinja_append_text(state, out, "<Macro ");
        jinja_repr(state, out, &state->tmpl->names[value->macro->node->name]);
        jinja_append_text(state, out, ">");
    } else {
        jinja_append_format(state, out, "<%s object>", jinja_type(value)); /* Python writes an address */
    }
}

void jinja_repr(jinja_state *state, jinja_buffer *out, const jinja_value *value)
{
    jinja_work(state, 1);
    jinja_enter(state);
    switch (value->kind) {
    case JINJA_UNDEFINED: jinja_append_text(state, out, "Undefined"); break;
    case JINJA_NONE: jinja_append_text(state, out, "None"); break;
    case JINJA_BOOL: jinja_append_text(state, out, value->boolean ? "True" : "False"); break;
    case JINJA_INT: jinja_append_format(state, out, "%lld", (long long)value->integer); break;
    case JINJA_FLOAT: jinja_write_float(state, out, value->real); break;
    case JINJA_STRING:
        if (value->flag) jinja_append_text(state, out, "Markup(");
        repr_text(state, out, value);
        if (value->flag) jinja_append_text(state, out, ")");
        break;
    case JINJA_LIST:
        jinja_append_text(state, out, "[");
        repr_list(state, out, value->list);
        jinja_append_text(state, out, "]");
        break;
    case JINJA_TUPLE:
        jinja_append_text(state, out, "(");
        repr_list(state, out, value->list);
        jinja_append_text(state, out, value->list->count == 1 ? ",)" : ")");
        break;
    case JINJA_DICT: repr_dict(state, out, value->dict); break;
    case JINJA_RANGE: repr_range(state, out, value->range); break;
    case JINJA_VIEW:
        jinja_append_format(state, out, "%s([", jinja_type(value));
        repr_list(state, out, jinja_items(state, value));
        jinja_append_text(state, out, "])");
        break;
    default: repr_object(state, out, value);
    }
    jinja_leave(state);
}

jinja_value jinja_str(jinja_state *state, const jinja_value *value)
{
    if (value->kind == JINJA_STRING) return *value;
    if (value->kind == JINJA_UNDEFINED) return jinja_static("");
    jinja_buffer out = {0};
    jinja_repr(state, &out, value);
    return jinja_finish(&out);
}

/* --- JSON --- */

static void json_text(jinja_state *state, jinja_buffer *out, const jinja_value *value, bool ascii)
{
    jinja_work(state, value->length / 8);
    jinja_append_text(state, out, "\"");
    for (size_t at = 0; at < value->length;) {
        size_t      start = at;
        uint32_t    code = jinja_next_code(value->text, value->length, &at);
        const char *name = code == '"' ? "\\\"" : code == '\\' ? "\\\\" : code == '\n' ? "\\n" : code == '\r' ? "\\r"
                           : code == '\t' ? "\\t" : code == '\b' ? "\\b" : code == '\f' ? "\\f" : NULL;
        if (name) jinja_append_text(state, out, name);
        else if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000))
            jinja_append_format(state, out, "\\u%04x", code);
        else if (ascii && code >= 0x10000)
            jinja_append_format(state, out, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
        else jinja_append(state, out, value->text + start, at - start);
    }
    jinja_append_text(state, out, "\"");
}

static void json_float(jinja_state *state, jinja_buffer *out, double value)
{
    if (isnan(value)) jinja_append_text(state, out, "NaN");
    else if (isinf(value)) jinja_append_text(state, out, value > 0 ? "Infinity" : "-Infinity");
    else jinja_write_float(state, out, value);
}

static void json_break(jinja_state *state, jinja_buffer *out, const jinja_json_style *style, int level)
{
    if (!style->indent) return;
    jinja_append_text(state, out, "\n");
    for (int i = 0; i < level; i++) jinja_append(state, out, style->indent->text, style->indent->length);
}

static void json_value(jinja_state *state, jinja_buffer *out, const jinja_value *value, const jinja_json_style *style, int level);

static void json_list(jinja_state *state, jinja_buffer *out, const jinja_list *list, const jinja_json_style *style, int level)
{
    jinja_append_text(state, out, "[");
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_append(state, out, style->item.text, style->item.length);
        json_break(state, out, style, level + 1);
        json_value(state, out, &list->items[i], style, level + 1);
    }
    if (list->count) json_break(state, out, style, level);
    jinja_append_text(state, out, "]");
}

static void json_key(jinja_state *state, jinja_buffer *out, const jinja_value *key, const jinja_json_style *style)
{
    if (key->kind == JINJA_STRING) {
        json_text(state, out, key, style->ascii);
        return;
    }
    if (key->kind < JINJA_NONE || key->kind > JINJA_FLOAT)
        jinja_fail(state, "keys must be str, int, float, bool or None, not %s", jinja_type(key));
    jinja_append_text(state, out, "\"");
    json_value(state, out, key, style, 0);
    jinja_append_text(state, out, "\"");
}

/* Entry numbers in the order of their keys: a merge sort, so that equal keys keep their order and hostile keys cost no more. */
static void sort_keys(jinja_state *state, const jinja_dict *dict, size_t *order, size_t *spare, size_t count)
{
    if (count < 2) return;
    size_t half = count / 2;
    sort_keys(state, dict, order, spare, half);
    sort_keys(state, dict, order + half, spare, count - half);
    memcpy(spare, order, half * sizeof *order);
    for (size_t a = 0, b = half, k = 0; a < half; k++) {
        bool second = b < count && jinja_compare(state, &dict->entries[order[b]].key, &dict->entries[spare[a]].key, "<") < 0;
        order[k] = second ? order[b++] : spare[a++];
    }
}

static void json_dict(jinja_state *state, jinja_buffer *out, const jinja_dict *dict, const jinja_json_style *style, int level)
{
    size_t *order = jinja_alloc(state, dict->count + 1, sizeof *order);
    for (size_t i = 0; i < dict->count; i++) order[i] = i;
    if (style->sort_keys) sort_keys(state, dict, order, jinja_alloc(state, dict->count + 1, sizeof *order), dict->count);
    jinja_append_text(state, out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) jinja_append(state, out, style->item.text, style->item.length);
        json_break(state, out, style, level + 1);
        json_key(state, out, &dict->entries[order[i]].key, style);
        jinja_append(state, out, style->key.text, style->key.length);
        json_value(state, out, &dict->entries[order[i]].value, style, level + 1);
    }
    if (dict->count) json_break(state, out, style, level);
    jinja_append_text(state, out, "}");
}

static void json_value(jinja_state *state, jinja_buffer *out, const jinja_value *value, const jinja_json_style *style, int level)
{
    jinja_work(state, 1 + (style->indent ? (size_t)level : 0));
    jinja_enter(state);
    switch (value->kind) {
    case JINJA_NONE: jinja_append_text(state, out, "null"); break;
    case JINJA_BOOL: jinja_append_text(state, out, value->boolean ? "true" : "false"); break;
    case JINJA_INT: jinja_append_format(state, out, "%lld", (long long)value->integer); break;
    case JINJA_FLOAT: json_float(state, out, value->real); break;
    case JINJA_STRING: json_text(state, out, value, style->ascii); break;
    case JINJA_LIST:
    case JINJA_TUPLE: json_list(state, out, value->list, style, level); break;
    case JINJA_DICT: json_dict(state, out, value->dict, style, level); break;
    default: jinja_fail(state, "Object of type %s is not JSON serializable", jinja_type(value));
    }
    jinja_leave(state);
}

void jinja_write_json(jinja_state *state, jinja_buffer *out, const jinja_value *value, const jinja_json_style *style)
{
    json_value(state, out, value, style, 0);
}
