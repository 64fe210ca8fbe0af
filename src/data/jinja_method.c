/* jinja_method.c - methods of str, list, tuple and dict. Those that would change a list or dict are known and refused, as
 * in the immutable sandbox that chat templates run in. */
#include <string.h>

#include "data/jinja_eval.h"
#include "data/jinja_text.h"

#define METHOD(function) static jinja_value method_##function(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)
#define UNUSED (void)state, (void)self, (void)slots, (void)all

static const jinja_value *need_text(jinja_state *state, const jinja_value *value)
{
    jinja_need_defined(state, value);
    if (value->kind != JINJA_STRING) jinja_fail(state, "an argument must be str, not %s", jinja_type(value));
    return value;
}

/* An optional argument: NULL when it is absent or None. */
static const jinja_value *text_or_none(jinja_state *state, const jinja_value *value)
{
    return value->kind == JINJA_ABSENT || value->kind == JINJA_NONE ? NULL : need_text(state, value);
}

static int64_t int_or(jinja_state *state, const jinja_value *value, int64_t initial)
{
    return value->kind == JINJA_ABSENT ? initial : jinja_need_int(state, value, "an argument");
}

/* --- case and classes --- */

METHOD(upper) { UNUSED; return jinja_change_case(state, self, JINJA_UPPER); }
METHOD(lower) { UNUSED; return jinja_change_case(state, self, JINJA_LOWER); }
METHOD(title) { UNUSED; return jinja_change_case(state, self, JINJA_TITLE); }
METHOD(capitalize) { UNUSED; return jinja_change_case(state, self, JINJA_CAPITALIZE); }
METHOD(swapcase) { UNUSED; return jinja_change_case(state, self, JINJA_SWAPCASE); }
METHOD(casefold) { UNUSED; return jinja_change_case(state, self, JINJA_CASEFOLD); }

static jinja_value all_of(jinja_state *state, jinja_value self, jinja_class which)
{
    jinja_work(state, self.length / 16);
    return jinja_bool(jinja_all(self, which));
}
METHOD(isalpha) { UNUSED; return all_of(state, self, JINJA_ALPHA); }
METHOD(isalnum) { UNUSED; return all_of(state, self, JINJA_ALNUM); }
METHOD(isascii) { UNUSED; return all_of(state, self, JINJA_ASCII); }
METHOD(isdecimal) { UNUSED; return all_of(state, self, JINJA_DECIMAL); }
METHOD(isdigit) { UNUSED; return all_of(state, self, JINJA_DIGIT); }
METHOD(isnumeric) { UNUSED; return all_of(state, self, JINJA_NUMERIC); }
METHOD(isspace) { UNUSED; return all_of(state, self, JINJA_SPACE); }
METHOD(islower) { UNUSED; return all_of(state, self, JINJA_ISLOWER); }
METHOD(isupper) { UNUSED; return all_of(state, self, JINJA_ISUPPER); }
METHOD(istitle) { UNUSED; return all_of(state, self, JINJA_ISTITLE); }
METHOD(isprintable) { UNUSED; return all_of(state, self, JINJA_PRINTABLE); }
METHOD(isidentifier) { UNUSED; return all_of(state, self, JINJA_IDENTIFIER); }

/* --- ends --- */

METHOD(strip) { UNUSED; return jinja_strip(state, self, text_or_none(state, &slots[0]), true, true); }
METHOD(lstrip) { UNUSED; return jinja_strip(state, self, text_or_none(state, &slots[0]), true, false); }
METHOD(rstrip) { UNUSED; return jinja_strip(state, self, text_or_none(state, &slots[0]), false, true); }

static bool text_starts(const jinja_value *text, const jinja_value *part)
{
    return part->length <= text->length && memcmp(text->text, part->text, part->length) == 0;
}

static bool text_ends(const jinja_value *text, const jinja_value *part)
{
    return part->length <= text->length && memcmp(text->text + text->length - part->length, part->text, part->length) == 0;
}

/* text[start:end] as str.find and its family count it; *valid false: start is behind the end. */
static jinja_value window(jinja_state *state, jinja_value text, const jinja_value *start, const jinja_value *end, int64_t *from, bool *valid)
{
    int64_t length = (int64_t)jinja_code_count(text.text, text.length), a = 0, b = length;
    jinja_work(state, text.length / 64);
    if (start->kind != JINJA_ABSENT && start->kind != JINJA_NONE) a = jinja_need_int(state, start, "start");
    if (end->kind != JINJA_ABSENT && end->kind != JINJA_NONE) b = jinja_need_int(state, end, "end");
    if (a < 0) a = a < -length ? 0 : a + length;
    if (b < 0) b = b < -length ? 0 : b + length;
    if (b > length) b = length;
    *from = a;
    *valid = a <= b;
    return *valid ? jinja_slice_text(state, text, a, 1, b - a) : jinja_static("");
}

static jinja_value has_end(jinja_state *state, jinja_value self, jinja_value *slots, bool (*test)(const jinja_value *, const jinja_value *))
{
    int64_t     from;
    bool        valid;
    jinja_value text = window(state, self, &slots[1], &slots[2], &from, &valid);
    jinja_need_defined(state, &slots[0]);
    if (slots[0].kind != JINJA_TUPLE) return jinja_bool(test(&text, need_text(state, &slots[0])) && valid);
    for (size_t i = 0; i < slots[0].list->count; i++)
        if (test(&text, need_text(state, &slots[0].list->items[i])) && valid) return jinja_bool(true);
    return jinja_bool(false);
}
METHOD(startswith) { UNUSED; return has_end(state, self, slots, text_starts); }
METHOD(endswith) { UNUSED; return has_end(state, self, slots, text_ends); }

METHOD(removeprefix)
{
    UNUSED;
    size_t cut = text_starts(&self, need_text(state, &slots[0])) ? slots[0].length : 0;
    return jinja_string(self.text + cut, self.length - cut);
}
METHOD(removesuffix)
{
    UNUSED;
    return jinja_string(self.text, self.length - (text_ends(&self, need_text(state, &slots[0])) ? slots[0].length : 0));
}

/* --- searching --- */

static int64_t search(jinja_state *state, jinja_value self, jinja_value *slots, bool last)
{
    int64_t     from;
    bool        valid;
    jinja_value text = window(state, self, &slots[1], &slots[2], &from, &valid);
    need_text(state, &slots[0]);
    int64_t at = !valid ? -1 : last ? jinja_find_last(state, &text, &slots[0]) : jinja_find(&text, &slots[0], 0);
    return at < 0 ? -1 : from + (int64_t)jinja_code_count(text.text, (size_t)at);
}

static jinja_value found(jinja_state *state, int64_t at)
{
    if (at < 0) jinja_fail(state, "substring not found");
    return jinja_int(at);
}
METHOD(find) { UNUSED; return jinja_int(search(state, self, slots, false)); }
METHOD(rfind) { UNUSED; return jinja_int(search(state, self, slots, true)); }
METHOD(text_index) { UNUSED; return found(state, search(state, self, slots, false)); }
METHOD(rindex) { UNUSED; return found(state, search(state, self, slots, true)); }

METHOD(text_count)
{
    UNUSED;
    int64_t     from;
    bool        valid;
    jinja_value text = window(state, self, &slots[1], &slots[2], &from, &valid);
    return jinja_int(valid ? jinja_count(state, &text, need_text(state, &slots[0])) : 0);
}

METHOD(replace)
{
    UNUSED;
    return jinja_replace(state, self, *need_text(state, &slots[0]), *need_text(state, &slots[1]), int_or(state, &slots[2], -1));
}

/* --- splitting and joining --- */

METHOD(split)
{
    UNUSED;
    return jinja_list_value(jinja_split(state, self, text_or_none(state, &slots[0]), int_or(state, &slots[1], -1), false));
}
METHOD(rsplit)
{
    UNUSED;
    return jinja_list_value(jinja_split(state, self, text_or_none(state, &slots[0]), int_or(state, &slots[1], -1), true));
}
METHOD(splitlines) { UNUSED; return jinja_list_value(jinja_split_lines(state, self, jinja_truth(&slots[0]))); }

static jinja_value three(jinja_state *state, jinja_value a, jinja_value b, jinja_value c)
{
    jinja_list *list = jinja_list_new(state, 3);
    jinja_list_add(state, list, a);
    jinja_list_add(state, list, b);
    jinja_list_add(state, list, c);
    return jinja_tuple_value(list);
}
METHOD(partition)
{
    UNUSED;
    if (!need_text(state, &slots[0])->length) jinja_fail(state, "empty separator");
    int64_t at = jinja_find(&self, &slots[0], 0);
    if (at < 0) return three(state, self, jinja_static(""), jinja_static(""));
    size_t behind = (size_t)at + slots[0].length;
    return three(state, jinja_string(self.text, (size_t)at), slots[0], jinja_string(self.text + behind, self.length - behind));
}
METHOD(rpartition)
{
    UNUSED;
    if (!need_text(state, &slots[0])->length) jinja_fail(state, "empty separator");
    int64_t at = jinja_find_last(state, &self, &slots[0]);
    if (at < 0) return three(state, jinja_static(""), jinja_static(""), self);
    size_t behind = (size_t)at + slots[0].length;
    return three(state, jinja_string(self.text, (size_t)at), slots[0], jinja_string(self.text + behind, self.length - behind));
}

METHOD(join)
{
    UNUSED;
    jinja_need_defined(state, &self);
    const jinja_list *items = jinja_items(state, &slots[0]);
    jinja_buffer      out = {0};
    jinja_work(state, items->count);
    for (size_t i = 0; i < items->count; i++) {
        jinja_need_defined(state, &items->items[i]);
        if (items->items[i].kind != JINJA_STRING)
            jinja_fail(state, "sequence item %zu: expected str instance, %s found", i, jinja_type(&items->items[i]));
        if (i) jinja_append(state, &out, self.text, self.length);
        jinja_append(state, &out, items->items[i].text, items->items[i].length);
    }
    return jinja_finish(&out);
}

/* --- padding and formatting --- */

static uint32_t fill_of(jinja_state *state, const jinja_value *value)
{
    if (value->kind == JINJA_ABSENT) return ' ';
    size_t at = 0;
    if (jinja_code_count(need_text(state, value)->text, value->length) != 1)
        jinja_fail(state, "The fill character must be exactly one character long");
    return jinja_next_code(value->text, value->length, &at);
}
static int64_t width_of(jinja_state *state, const jinja_value *value) { return jinja_need_int(state, value, "width"); }
METHOD(ljust) { UNUSED; return jinja_pad(state, self, width_of(state, &slots[0]), fill_of(state, &slots[1]), -1); }
METHOD(rjust) { UNUSED; return jinja_pad(state, self, width_of(state, &slots[0]), fill_of(state, &slots[1]), 1); }
METHOD(center) { UNUSED; return jinja_pad(state, self, width_of(state, &slots[0]), fill_of(state, &slots[1]), 0); }

METHOD(zfill)
{
    UNUSED;
    bool        sign = self.length && (self.text[0] == '-' || self.text[0] == '+');
    jinja_value digits = jinja_string(self.text + sign, self.length - sign);
    digits = jinja_pad(state, digits, width_of(state, &slots[0]) - sign, '0', 1);
    return sign ? jinja_concat(state, jinja_string(self.text, 1), digits) : digits;
}

METHOD(expandtabs)
{
    UNUSED;
    int64_t      size = int_or(state, &slots[0], 8), column = 0;
    jinja_buffer out = {0};
    if (size > 1000) jinja_fail(state, "a tab of %lld columns is too wide", (long long)size);
    for (size_t at = 0; at < self.length;) {
        size_t   start = at;
        uint32_t code = jinja_next_code(self.text, self.length, &at);
        if (code != '\t') {
            jinja_append(state, &out, self.text + start, at - start);
            column = code == '\n' || code == '\r' ? 0 : column + 1;
        } else if (size > 0) {
            do jinja_append_text(state, &out, " ");
            while (++column % size);
        }
    }
    return jinja_finish(&out);
}

METHOD(format) { UNUSED; return jinja_format_braces(state, self, all); }
METHOD(format_map)
{
    UNUSED;
    jinja_need_defined(state, &slots[0]);
    if (slots[0].kind != JINJA_DICT) jinja_fail(state, "format_map() needs a mapping, not %s", jinja_type(&slots[0]));
    const jinja_dict *dict = slots[0].dict;
    jinja_arguments   arguments = {.names = jinja_alloc(state, dict->count + 1, sizeof(jinja_value)),
                                   .values = jinja_alloc(state, dict->count + 1, sizeof(jinja_value))};
    for (size_t i = 0; i < dict->count; i++) {
        if (dict->entries[i].key.kind != JINJA_STRING) continue;
        arguments.names[arguments.keyword_count] = dict->entries[i].key;
        arguments.values[arguments.keyword_count++] = dict->entries[i].value;
    }
    return jinja_format_braces(state, self, &arguments);
}

const jinja_builtin jinja_string_methods[] = {
    {"capitalize", "", 0, method_capitalize},
    {"casefold", "", 0, method_casefold},
    {"center", "width fillchar", 1, method_center},
    {"count", "sub start end", 1, method_text_count},
    {"endswith", "suffix start end", 1, method_endswith},
    {"expandtabs", "tabsize", 0, method_expandtabs},
    {"find", "sub start end", 1, method_find},
    {"format", NULL, 0, method_format},
    {"format_map", "mapping", 1, method_format_map},
    {"index", "sub start end", 1, method_text_index},
    {"isalnum", "", 0, method_isalnum},
    {"isalpha", "", 0, method_isalpha},
    {"isascii", "", 0, method_isascii},
    {"isdecimal", "", 0, method_isdecimal},
    {"isdigit", "", 0, method_isdigit},
    {"isidentifier", "", 0, method_isidentifier},
    {"islower", "", 0, method_islower},
    {"isnumeric", "", 0, method_isnumeric},
    {"isprintable", "", 0, method_isprintable},
    {"isspace", "", 0, method_isspace},
    {"istitle", "", 0, method_istitle},
    {"isupper", "", 0, method_isupper},
    {"join", "iterable", 1, method_join},
    {"ljust", "width fillchar", 1, method_ljust},
    {"lower", "", 0, method_lower},
    {"lstrip", "chars", 0, method_lstrip},
    {"partition", "sep", 1, method_partition},
    {"removeprefix", "prefix", 1, method_removeprefix},
    {"removesuffix", "suffix", 1, method_removesuffix},
    {"replace", "old new count", 2, method_replace},
    {"rfind", "sub start end", 1, method_rfind},
    {"rindex", "sub start end", 1, method_rindex},
    {"rjust", "width fillchar", 1, method_rjust},
    {"rpartition", "sep", 1, method_rpartition},
    {"rsplit", "sep maxsplit", 0, method_rsplit},
    {"rstrip", "chars", 0, method_rstrip},
    {"split", "sep maxsplit", 0, method_split},
    {"splitlines", "keepends", 0, method_splitlines},
    {"startswith", "prefix start end", 1, method_startswith},
    {"strip", "chars", 0, method_strip},
    {"swapcase", "", 0, method_swapcase},
    {"title", "", 0, method_title},
    {"upper", "", 0, method_upper},
    {"zfill", "width", 1, method_zfill},
    {0},
};
