/* jinja_text.c - Python's str on UTF-8: positions, stripping, searching, replacing, splitting, padding.
 *
 * Parts of a text share its memory; only what is put together anew is copied. */
#include <string.h>

#include "data/jinja_text.h"

size_t jinja_valid_utf8(const char *text, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t i = 0; i < length;) {
        uint8_t  first = bytes[i];
        int      more = first < 0x80 ? 0 : first >= 0xC2 && first < 0xE0 ? 1 : first >= 0xE0 && first < 0xF0 ? 2
                      : first >= 0xF0 && first < 0xF5                    ? 3
                                                                         : -1;
        uint32_t code = more <= 0 ? first : first & (0x3Fu >> more);
        if (more < 0 || (size_t)more >= length - i) return i;
        for (int k = 1; k <= more; k++) {
            if ((bytes[i + (size_t)k] & 0xC0) != 0x80) return i;
            code = code << 6 | (bytes[i + (size_t)k] & 0x3F);
        }
        if ((more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
            (more == 3 && (code < 0x10000 || code > 0x10FFFF)))
            return i;
        i += (size_t)more + 1;
    }
    return length;
}

uint32_t jinja_next_code(const char *text, size_t length, size_t *at)
{
    uint8_t  first = (uint8_t)text[(*at)++];
    uint32_t code = first < 0x80 ? first : first < 0xE0 ? first & 0x1Fu : first < 0xF0 ? first & 0x0Fu : first & 7u;
    while (first >= 0xC0 && *at < length && ((uint8_t)text[*at] & 0xC0) == 0x80) code = code << 6 | ((uint8_t)text[(*at)++] & 0x3Fu);
    return code;
}

uint32_t jinja_previous_code(const char *text, size_t *at)
{
    size_t end = *at, start = end - 1;
    while (start > 0 && ((uint8_t)text[start] & 0xC0) == 0x80) start--;
    *at = start;
    return jinja_next_code(text, end, &start);
}

size_t jinja_code_count(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) count += ((uint8_t)text[i] & 0xC0) != 0x80;
    return count;
}

size_t jinja_code_offset(const char *text, size_t length, size_t index)
{
    size_t at = 0;
    for (; index > 0 && at < length; index--) {
        at++;
        while (at < length && ((uint8_t)text[at] & 0xC0) == 0x80) at++;
    }
    return at;
}

static bool in_set(const jinja_value *chars, uint32_t code)
{
    if (!chars) return jinja_is_space(code);
    for (size_t at = 0; at < chars->length;)
        if (jinja_next_code(chars->text, chars->length, &at) == code) return true;
    return false;
}

jinja_value jinja_strip(jinja_state *state, jinja_value text, const jinja_value *chars, bool left, bool right)
{
    size_t start = 0, end = text.length, cost = chars ? chars->length / 8 : 0;
    while (left && start < end) {
        size_t at = start;
        jinja_work(state, cost);
        if (!in_set(chars, jinja_next_code(text.text, end, &at))) break;
        start = at;
    }
    while (right && end > start) {
        size_t at = end;
        jinja_work(state, cost);
        if (!in_set(chars, jinja_previous_code(text.text, &at))) break;
        end = at;
    }
    jinja_work(state, (text.length - (end - start)) / 16);
    return jinja_string(text.text + start, end - start);
}

int64_t jinja_find(const jinja_value *text, const jinja_value *part, size_t from)
{
    if (from > text->length || part->length > text->length - from) return -1;
    if (!part->length) return (int64_t)from;
    const char *found = part->length == 1 ? memchr(text->text + from, part->text[0], text->length - from)
                                          : memmem(text->text + from, text->length - from, part->text, part->length);
    return found ? found - text->text : -1;
}

int64_t jinja_find_last(jinja_state *state, const jinja_value *text, const jinja_value *part)
{
    if (!part->length) return (int64_t)text->length;
    if (part->length > text->length) return -1;
    for (size_t at = text->length - part->length + 1; at-- > 0;) {
        if (text->text[at] != part->text[0]) continue;
        jinja_work(state, 1 + part->length / 256);
        if (memcmp(text->text + at, part->text, part->length) == 0) return (int64_t)at;
    }
    return -1;
}

int64_t jinja_count(jinja_state *state, const jinja_value *text, const jinja_value *part)
{
    jinja_work(state, text->length / 64);
    if (!part->length) return (int64_t)jinja_code_count(text->text, text->length) + 1;
    int64_t count = 0;
    for (int64_t at = jinja_find(text, part, 0); at >= 0; at = jinja_find(text, part, (size_t)at + part->length)) count++;
    return count;
}

jinja_value jinja_replace(jinja_state *state, jinja_value text, jinja_value from, jinja_value to, int64_t limit)
{
    jinja_buffer out = {0};
    size_t       at = 0;
    jinja_work(state, text.length / 64);
    for (int64_t done = 0; limit < 0 || done < limit; done++) {
        int64_t found = jinja_find(&text, &from, at);
        if (found < 0) break;
        jinja_work(state, 1);
        if (from.length) {
            jinja_append(state, &out, text.text + at, (size_t)found - at);
            jinja_append(state, &out, to.text, to.length);
            at = (size_t)found + from.length;
            continue;
        }
        jinja_append(state, &out, to.text, to.length); /* an empty text stands before each character and at the end */
        if (at == text.length) return jinja_finish(&out);
        size_t next = at + jinja_code_offset(text.text + at, text.length - at, 1);
        jinja_append(state, &out, text.text + at, next - at);
        at = next;
    }
    if (at == 0 && !out.length) return text;
    jinja_append(state, &out, text.text + at, text.length - at);
    return jinja_finish(&out);
}

static void add_part(jinja_state *state, jinja_list *list, const jinja_value *text, size_t start, size_t end)
{
    jinja_list_add(state, list, jinja_string(text->text + start, end - start));
}

static void split_spaces(jinja_state *state, jinja_list *list, const jinja_value *text, int64_t limit)
{
    for (size_t at = 0; at < text->length;) {
        size_t start = at, end;
        if (jinja_is_space(jinja_next_code(text->text, text->length, &at))) continue;
        if (limit >= 0 && (int64_t)list->count == limit) {
            add_part(state, list, text, start, text->length); /* the rest keeps its far end */
            return;
        }
        for (end = at; end < text->length; end = at)
            if (jinja_is_space(jinja_next_code(text->text, text->length, &at))) break;
        add_part(state, list, text, start, end);
    }
}

static void split_spaces_right(jinja_state *state, jinja_list *list, const jinja_value *text, int64_t limit)
{
    for (size_t at = text->length; at > 0;) {
        size_t end = at, start;
        if (jinja_is_space(jinja_previous_code(text->text, &at))) continue;
        if (limit >= 0 && (int64_t)list->count == limit) {
            add_part(state, list, text, 0, end);
            return;
        }
        for (start = at; start > 0; start = at)
            if (jinja_is_space(jinja_previous_code(text->text, &at))) break;
        add_part(state, list, text, start, end);
    }
}

static void reverse(jinja_list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        jinja_value swap = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swap;
    }
}

jinja_list *jinja_split(jinja_state *state, jinja_value text, const jinja_value *separator, int64_t limit, bool from_right)
{
    jinja_list *list = jinja_list_new(state, 0);
    jinja_work(state, text.length / 32);
    if (separator && !separator->length) jinja_fail(state, "empty separator");
    if (!separator) {
        if (from_right) split_spaces_right(state, list, &text, limit);
        else split_spaces(state, list, &text, limit);
        if (from_right) reverse(list);
        return list;
    }
    jinja_value rest = text;
    while (limit < 0 || (int64_t)list->count < limit) {
        int64_t found = from_right ? jinja_find_last(state, &rest, separator) : jinja_find(&rest, separator, 0);
        if (found < 0) break;
        size_t behind = (size_t)found + separator->length;
        if (from_right) {
            add_part(state, list, &rest, behind, rest.length);
            rest.length = (size_t)found;
        } else {
            add_part(state, list, &rest, 0, (size_t)found);
            rest = jinja_string(rest.text + behind, rest.length - behind);
        }
    }
    jinja_list_add(state, list, rest);
    if (from_right) reverse(list);
    return list;
}

jinja_list *jinja_split_lines(jinja_state *state, jinja_value text, bool keep_ends)
{
    jinja_list *list = jinja_list_new(state, 0);
    jinja_work(state, text.length / 32);
    for (size_t at = 0, start = 0; at < text.length; start = at) {
        size_t   end = at;
        uint32_t code = 0;
        while (at < text.length && !jinja_is_line_end(code = jinja_next_code(text.text, text.length, &at))) end = at;
        if (code == '\r' && at < text.length && text.text[at] == '\n') at++;
        add_part(state, list, &text, start, keep_ends ? at : end);
    }
    return list;
}

/* Code points start, start + step, ... : `count` of them, all inside. */
jinja_value jinja_slice_text(jinja_state *state, jinja_value text, int64_t start, int64_t step, int64_t count)
{
    if (count <= 0) return jinja_static("");
    jinja_work(state, text.length / 64);
    size_t at = jinja_code_offset(text.text, text.length, (size_t)start);
    if (step == 1) {
        size_t end = at + jinja_code_offset(text.text + at, text.length - at, (size_t)count);
        return jinja_string(text.text + at, end - at);
    }
    jinja_buffer out = {0};
    for (int64_t i = 0; i < count; i++) {
        size_t end = at;
        jinja_append_code(state, &out, jinja_next_code(text.text, text.length, &end));
        if (i + 1 == count) break;
        jinja_work(state, 1);
        if (step > 0) at = end + jinja_code_offset(text.text + end, text.length - end, (size_t)step - 1);
        else
            for (int64_t k = step; k < 0; k++) jinja_previous_code(text.text, &at);
    }
    return jinja_finish(&out);
}

/* Text behind `a` in memory belongs to nobody else when `a` ends where the last text ended, so it grows there. */
jinja_value jinja_concat(jinja_state *state, jinja_value a, jinja_value b)
{
    if (!b.length || !a.length) return jinja_string(a.length ? a.text : b.text, a.length + b.length);
    size_t length = a.length + b.length;
    jinja_work(state, b.length / 64);
    if (!state->tail || a.text + a.length != state->tail || b.length > state->tail_room) {
        jinja_work(state, a.length / 64);
        size_t capacity = length < 256 ? length : length * 2;
        char  *text = jinja_alloc(state, capacity, 1);
        memcpy(text, a.text, a.length);
        a.text = text;
        state->tail = text + a.length;
        state->tail_room = capacity - a.length;
    }
    memcpy(state->tail, b.text, b.length);
    state->tail += b.length;
    state->tail_room -= b.length;
    return jinja_string(a.text, length);
}

jinja_value jinja_escape(jinja_state *state, jinja_value text)
{
    if (text.flag) return text;
    jinja_buffer out = {0};
    for (size_t i = 0; i < text.length; i++) {
        char        c = text.text[i];
        const char *name = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : c == '\'' ? "&#39;" : NULL;
        if (name) jinja_append_text(state, &out, name);
        else jinja_append(state, &out, &c, 1);
    }
    jinja_work(state, text.length / 16);
    jinja_value safe = jinja_finish(&out);
    safe.flag = 1;
    return safe;
}

jinja_value jinja_pad(jinja_state *state, jinja_value text, int64_t width, uint32_t fill, int align)
{
    int64_t length = (int64_t)jinja_code_count(text.text, text.length);
    if (width <= length) return text;
    int64_t room = width - length, left = align < 0 ? 0 : align > 0 ? room : room / 2 + (room & width & 1);
    if (width > (int64_t)JINJA_MAX_OUTPUT) jinja_fail(state, "a field of %lld characters is too wide", (long long)width);
    jinja_work(state, (size_t)room / 16);
    jinja_buffer out = {0};
    for (int64_t i = 0; i < left; i++) jinja_append_code(state, &out, fill);
    jinja_append(state, &out, text.text, text.length);
    for (int64_t i = left; i < room; i++) jinja_append_code(state, &out, fill);
    return jinja_finish(&out);
}
