/* jinja_filter_text.c - filters that make text: case, trim, replace, indent, join, escape, tojson... A value that is no
 * text is written as text first, as Jinja does. */
#include <string.h>

#include "data/jinja_filter.h"

FILTER(upper) { UNUSED; return jinja_change_case(state, jinja_str(state, &self), JINJA_UPPER); }
FILTER(lower) { UNUSED; return jinja_change_case(state, jinja_str(state, &self), JINJA_LOWER); }
FILTER(capitalize) { UNUSED; return jinja_change_case(state, jinja_str(state, &self), JINJA_CAPITALIZE); }
FILTER(string) { UNUSED; return jinja_str(state, &self); }

FILTER(safe)
{
    UNUSED;
    jinja_value text = jinja_str(state, &self);
    text.flag = 1;
    return text;
}

FILTER(escape) { UNUSED; return jinja_escape(state, jinja_str(state, &self)); }

FILTER(forceescape)
{
    UNUSED;
    jinja_value text = jinja_str(state, &self);
    text.flag = 0;
    return jinja_escape(state, text);
}

/* Words begin at the text's start and behind white space, -, (, {, [ and <. */
FILTER(title)
{
    UNUSED;
    jinja_value  text = jinja_str(state, &self);
    jinja_buffer out = {0};
    for (size_t at = 0, start = 0; at < text.length; start = at) {
        uint32_t code = jinja_next_code(text.text, text.length, &at);
        bool     between = jinja_is_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code));
        if (between) {
            jinja_append(state, &out, text.text + start, at - start);
            continue;
        }
        jinja_value first = jinja_change_case(state, jinja_string(text.text + start, at - start), JINJA_UPPER);
        size_t      rest = at;
        while (at < text.length) {
            size_t next = at;
            code = jinja_next_code(text.text, text.length, &next);
            if (jinja_is_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code))) break;
            at = next;
        }
        jinja_value lower = jinja_change_case(state, jinja_string(text.text + rest, at - rest), JINJA_LOWER);
        jinja_append(state, &out, first.text, first.length);
        jinja_append(state, &out, lower.text, lower.length);
    }
    return jinja_finish(&out);
}

FILTER(trim)
{
    UNUSED;
    const jinja_value *chars = slots[0].kind == JINJA_STRING ? &slots[0] : NULL;
    return jinja_strip(state, jinja_str(state, &self), chars, true, true);
}

FILTER(replace)
{
    UNUSED;
    jinja_value text = jinja_str(state, &self), from = jinja_str(state, &slots[0]), to = jinja_str(state, &slots[1]);
    return jinja_replace(state, text, from, to, int_or(state, &slots[2], -1, "count"));
}

FILTER(join)
{
    UNUSED;
    jinja_value  between = given(&slots[0]) ? jinja_str(state, &slots[0]) : jinja_static("");
    jinja_list  *items = jinja_items(state, &self);
    jinja_buffer out = {0};
    jinja_work(state, items->count);
    for (size_t i = 0; i < items->count; i++) {
        jinja_value item = jinja_path(state, items->items[i], given(&slots[1])), text = jinja_str(state, &item);
        if (i) jinja_append(state, &out, between.text, between.length);
        jinja_append(state, &out, text.text, text.length);
    }
    return jinja_finish(&out);
}

FILTER(indent)
{
    UNUSED;
    bool         first = flag_or(&slots[1], false), blank = flag_or(&slots[2], false);
    jinja_value  with = given(&slots[0]) ? slots[0] : jinja_int(4);
    jinja_buffer out = {0}, text = {0};
    if (with.kind != JINJA_STRING) with = jinja_pad(state, jinja_static(""), jinja_need_int(state, &with, "width"), ' ', -1);
    jinja_need_defined(state, &self);
    if (self.kind != JINJA_STRING) jinja_fail(state, "filter 'indent' needs str, not %s", jinja_type(&self));
    jinja_append(state, &text, self.text, self.length);
    jinja_append_text(state, &text, "\n"); /* so that a closing line end makes an empty last line */
    jinja_list *lines = jinja_split_lines(state, jinja_finish(&text), false);
    for (size_t i = 0; i < lines->count; i++) {
        const jinja_value *line = &lines->items[i];
        if (i) jinja_append_text(state, &out, "\n");
        if (i ? blank || line->length : first) jinja_append(state, &out, with.text, with.length);
        jinja_append(state, &out, line->text, line->length);
    }
    return jinja_finish(&out);
}

FILTER(center) { UNUSED; return jinja_pad(state, jinja_str(state, &self), int_or(state, &slots[0], 80, "width"), ' ', 0); }

FILTER(truncate)
{
    UNUSED;
    jinja_value text = jinja_str(state, &self), end = given(&slots[2]) ? jinja_str(state, &slots[2]) : jinja_static("...");
    int64_t     limit = int_or(state, &slots[0], 255, "length"), leeway = int_or(state, &slots[3], 5, "leeway");
    int64_t     closing = (int64_t)jinja_code_count(end.text, end.length);
    if (limit < closing) jinja_fail(state, "expected length >= %lld, got %lld", (long long)closing, (long long)limit);
    if (leeway < 0) jinja_fail(state, "expected leeway >= 0, got %lld", (long long)leeway);
    if (self.kind != JINJA_STRING) {
        if (jinja_length(&self) < 0) jinja_fail(state, "object of type '%s' has no len()", jinja_type(&self));
        if (jinja_length(&self) - limit <= leeway) return self;
        jinja_fail(state, "filter 'truncate' needs text, not %s", jinja_type(&self));
    }
    if ((int64_t)jinja_code_count(text.text, text.length) - limit <= leeway) return text;
    jinja_value cut = jinja_slice_text(state, text, 0, 1, limit - closing);
    if (!flag_or(&slots[1], false)) {
        jinja_value space = jinja_static(" ");
        int64_t     at = jinja_find_last(state, &cut, &space);
        if (at >= 0) cut.length = (size_t)at;
    }
    return jinja_concat(state, cut, end);
}

FILTER(wordcount)
{
    UNUSED;
    jinja_value text = jinja_str(state, &self);
    int64_t     words = 0;
    bool        inside = false;
    jinja_work(state, text.length / 16);
    for (size_t at = 0; at < text.length;) {
        bool word = jinja_is_word(jinja_next_code(text.text, text.length, &at));
        words += word && !inside;
        inside = word;
    }
    return jinja_int(words);
}

/* Percent-encodes text; in a query / is encoded too and a space is +. */
static void quote_url(jinja_state *state, jinja_buffer *out, const jinja_value *value, bool query)
{
    jinja_value text = jinja_str(state, value);
    jinja_work(state, text.length / 16);
    for (size_t i = 0; i < text.length; i++) {
        char c = text.text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain) jinja_append(state, out, &c, 1);
        else if (c == ' ' && query) jinja_append_text(state, out, "+");
        else jinja_append_format(state, out, "%%%02X", (unsigned)(uint8_t)c);
    }
}

/* Text, or the pairs of a mapping or sequence as a query. */
FILTER(urlencode)
{
    UNUSED;
    jinja_buffer out = {0};
    if (self.kind == JINJA_STRING || !jinja_iterable(&self)) {
        quote_url(state, &out, &self, false);
        return jinja_finish(&out);
    }
    jinja_value view = {.kind = JINJA_VIEW, .flag = JINJA_ITEMS, .dict = self.dict};
    jinja_list *pairs = jinja_items(state, self.kind == JINJA_DICT ? &view : &self);
    for (size_t i = 0; i < pairs->count; i++) {
        jinja_list *pair = jinja_items(state, &pairs->items[i]);
        if (pair->count != 2) jinja_fail(state, "filter 'urlencode' needs pairs, element %zu has %zu values", i, pair->count);
        if (i) jinja_append_text(state, &out, "&");
        quote_url(state, &out, &pair->items[0], true);
        jinja_append_text(state, &out, "=");
        quote_url(state, &out, &pair->items[1], true);
    }
    return jinja_finish(&out);
}

FILTER(format)
{
    UNUSED;
    jinja_value format = jinja_str(state, &self), value;
    if (all->count && all->keyword_count) jinja_fail(state, "filter 'format' cannot take positional and keyword arguments at once");
    if (all->keyword_count) {
        jinja_dict *dict = jinja_dict_new(state, all->keyword_count);
        for (size_t i = 0; i < all->keyword_count; i++) jinja_dict_set(state, dict, all->names[i], all->values[i]);
        value = (jinja_value){.kind = JINJA_DICT, .dict = dict};
    } else {
        jinja_list *list = jinja_list_new(state, all->count);
        for (size_t i = 0; i < all->count; i++) jinja_list_add(state, list, all->positional[i]);
        value = jinja_tuple_value(list);
    }
    return jinja_percent(state, format, &value);
}

/* json.dumps: without indent ", " and ": ", with one a line break an item and "," alone. */
FILTER(tojson)
{
    UNUSED;
    jinja_json_style style = {.ascii = flag_or(&slots[0], false), .sort_keys = flag_or(&slots[3], false), .key = jinja_static(": ")};
    jinja_value      indent = slots[1];
    if (indent.kind == JINJA_INT || indent.kind == JINJA_BOOL)
        indent = jinja_pad(state, jinja_static(""), jinja_need_int(state, &indent, "indent"), ' ', -1);
    if (indent.kind == JINJA_STRING) style.indent = &indent;
    else if (indent.kind != JINJA_ABSENT && indent.kind != JINJA_NONE) jinja_fail(state, "indent must be a number or text, not %s", jinja_type(&indent));
    style.item = jinja_static(style.indent ? "," : ", ");
    if (slots[2].kind != JINJA_ABSENT && slots[2].kind != JINJA_NONE) {
        jinja_list *pair = jinja_items(state, &slots[2]);
        if (pair->count != 2 || pair->items[0].kind != JINJA_STRING || pair->items[1].kind != JINJA_STRING)
            jinja_fail(state, "separators must be two texts");
        style.item = pair->items[0];
        style.key = pair->items[1];
    }
    jinja_buffer out = {0};
    jinja_write_json(state, &out, &self, &style);
    return jinja_finish(&out);
}

const jinja_builtin jinja_text_filters[] = {
    {"capitalize", "", 0, filter_capitalize},
    {"center", "width", 0, filter_center},
    {"e", "", 0, filter_escape},
    {"escape", "", 0, filter_escape},
    {"forceescape", "", 0, filter_forceescape},
    {"format", NULL, 0, filter_format},
    {"indent", "width first blank", 0, filter_indent},
    {"join", "d attribute", 0, filter_join},
    {"lower", "", 0, filter_lower},
    {"replace", "old new count", 2, filter_replace},
    {"safe", "", 0, filter_safe},
    {"string", "", 0, filter_string},
    {"title", "", 0, filter_title},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"trim", "chars", 0, filter_trim},
    {"truncate", "length killwords end leeway", 0, filter_truncate},
    {"upper", "", 0, filter_upper},
    {"urlencode", "", 0, filter_urlencode},
    {"wordcount", "", 0, filter_wordcount},
    {0},
};
