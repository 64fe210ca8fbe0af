/* jinja_global.c - functions that every template has: range, dict, namespace, raise_exception, strftime_now. */
#include <string.h>
#include <time.h>

#include "data/jinja_filter.h"

#define GLOBAL(function)                                                                                               \
    static jinja_value global_##function(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)

GLOBAL(range)
{
    UNUSED;
    int64_t a = jinja_need_int(state, &slots[0], "range"), b = slots[1].kind == JINJA_ABSENT ? 0 : jinja_need_int(state, &slots[1], "range");
    int64_t step = slots[2].kind == JINJA_ABSENT ? 1 : jinja_need_int(state, &slots[2], "range"), limit = (int64_t)1 << 40;
    if (slots[1].kind == JINJA_ABSENT) b = a, a = 0;
    if (!step) jinja_fail(state, "range() arg 3 must not be zero");
    if (a < -limit || a > limit || b < -limit || b > limit || step < -limit || step > limit) jinja_fail(state, "a range is too big");
    int64_t length = step > 0 && a < b ? (b - a - 1) / step + 1 : step < 0 && b < a ? (a - b - 1) / -step + 1 : 0;
    if (length > JINJA_MAX_RANGE) jinja_fail(state, "Range too big. The sandbox blocks ranges larger than %d.", JINJA_MAX_RANGE);
    jinja_range *range = jinja_alloc(state, 1, sizeof *range);
    *range = (jinja_range){a, b, step, length};
    return (jinja_value){.kind = JINJA_RANGE, .range = range};
}

/* dict(mapping or pairs, name=value...) */
static jinja_dict *make_dict(jinja_state *state, const jinja_arguments *all, const char *what)
{
    jinja_dict *dict = jinja_dict_new(state, all->keyword_count);
    if (all->count > 1) jinja_fail(state, "%s expected at most 1 argument, got %zu", what, all->count);
    if (all->count && all->positional[0].kind == JINJA_DICT) {
        const jinja_dict *source = all->positional[0].dict;
        for (size_t i = 0; i < source->count; i++) jinja_dict_set(state, dict, source->entries[i].key, source->entries[i].value);
    } else if (all->count) {
        jinja_list *pairs = jinja_items(state, &all->positional[0]);
        for (size_t i = 0; i < pairs->count; i++) {
            jinja_list *pair = jinja_items(state, &pairs->items[i]);
            if (pair->count != 2) jinja_fail(state, "%s: element %zu has length %zu; 2 is required", what, i, pair->count);
            jinja_dict_set(state, dict, pair->items[0], pair->items[1]);
        }
    }
    for (size_t i = 0; i < all->keyword_count; i++) jinja_dict_set(state, dict, all->names[i], all->values[i]);
    return dict;
}
GLOBAL(dict) { UNUSED; return (jinja_value){.kind = JINJA_DICT, .dict = make_dict(state, all, "dict")}; }

GLOBAL(namespace)
{
    UNUSED;
    jinja_dict *dict = make_dict(state, all, "namespace");
    for (size_t i = 0; i < dict->count; i++) {
        const jinja_value *key = &dict->entries[i].key;
        if (key->kind == JINJA_STRING && key->length && key->text[0] == '_')
            jinja_fail(state, "a namespace has no attributes that begin with an underscore: '%.*s'", (int)(key->length < 60 ? key->length : 60), key->text);
    }
    return (jinja_value){.kind = JINJA_NAMESPACE, .dict = dict};
}

GLOBAL(raise_exception)
{
    UNUSED;
    jinja_value text = jinja_str(state, &slots[0]);
    jinja_fail(state, "%.*s", (int)(text.length < 1500 ? text.length : 1500), text.text);
}

/* strftime of the time that the caller gave, in UTC. %f is microseconds, always 000000; a naive time has no zone. */
GLOBAL(strftime_now)
{
    UNUSED;
    jinja_need_defined(state, &slots[0]);
    if (slots[0].kind != JINJA_STRING) jinja_fail(state, "strftime_now needs a format, not %s", jinja_type(&slots[0]));
    jinja_buffer out = {0};
    time_t       seconds = (time_t)state->now;
    struct tm    now;
    if (!gmtime_r(&seconds, &now)) jinja_fail(state, "the time %lld is out of range", (long long)state->now);
    for (size_t i = 0; i < slots[0].length; i++) {
        char c = slots[0].text[i], format[4] = {'%', 0, 0, 0}, text[256];
        if (c != '%' || i + 1 >= slots[0].length) {
            jinja_append(state, &out, &c, 1);
            continue;
        }
        format[1] = slots[0].text[++i];
        if (strchr("-_0^#", format[1]) && format[1] && i + 1 < slots[0].length) format[2] = slots[0].text[++i];
        char kind = format[2] ? format[2] : format[1];
        if (kind == 'f') jinja_append_text(state, &out, "000000");
        if (kind == 'f' || kind == 'z' || kind == 'Z') continue;
        if (!kind || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", kind)) jinja_fail(state, "strftime_now does not know %%%c", kind ? kind : '?');
        size_t length = strftime(text, sizeof text, format, &now);
        jinja_append(state, &out, text, length);
    }
    return jinja_finish(&out);
}

static const jinja_builtin globals[] = {
    {"dict", NULL, 0, global_dict},
    {"namespace", NULL, 0, global_namespace},
    {"raise_exception", "message", 1, global_raise_exception},
    {"range", "start stop step", 1, global_range},
    {"strftime_now", "format", 1, global_strftime_now},
    {0},
};

const jinja_builtin *jinja_find_global(jinja_value name) { return jinja_find_in(globals, name); }
