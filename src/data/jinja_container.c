/* jinja_container.c - methods of list, tuple, range and dict, and which type has which methods. */
#include "data/jinja_eval.h"

#define METHOD(function) static jinja_value method_##function(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)
#define UNUSED (void)state, (void)self, (void)slots, (void)all

static jinja_value view(jinja_value self, jinja_view_kind kind)
{
    return (jinja_value){.kind = JINJA_VIEW, .flag = (uint8_t)kind, .dict = self.dict};
}
METHOD(keys) { UNUSED; return view(self, JINJA_KEYS); }
METHOD(values) { UNUSED; return view(self, JINJA_VALUES); }
METHOD(items) { UNUSED; return view(self, JINJA_ITEMS); }
METHOD(copy) { UNUSED; return self; } /* nothing can change the original or the copy */

METHOD(get)
{
    UNUSED;
    const jinja_value *value = jinja_dict_get(state, self.dict, &slots[0]);
    return value ? *value : slots[1].kind == JINJA_ABSENT ? jinja_none() : slots[1];
}

METHOD(count)
{
    UNUSED;
    const jinja_list *list = jinja_items(state, &self);
    int64_t           equal = 0;
    for (size_t i = 0; i < list->count; i++) equal += jinja_equal(state, &list->items[i], &slots[0]);
    return jinja_int(equal);
}

METHOD(index_of)
{
    UNUSED;
    const jinja_list *list = jinja_items(state, &self);
    int64_t           length = (int64_t)list->count;
    int64_t           from = slots[1].kind == JINJA_ABSENT ? 0 : jinja_need_int(state, &slots[1], "start");
    int64_t           to = slots[2].kind == JINJA_ABSENT ? length : jinja_need_int(state, &slots[2], "stop");
    if (from < 0) from = from < -length ? 0 : from + length;
    if (to < 0) to = to < -length ? 0 : to + length;
    for (int64_t i = from; i < to && i < length; i++)
        if (jinja_equal(state, &list->items[i], &slots[0])) return jinja_int(i);
    jinja_fail(state, "the value is not in the list");
}

static const jinja_builtin dict_methods[] = {
    {"clear", "", 0, NULL},      {"copy", "", 0, method_copy},   {"get", "key default", 1, method_get},  {"items", "", 0, method_items},
    {"keys", "", 0, method_keys},       {"pop", "", 0, NULL},    {"popitem", "", 0, NULL},        {"setdefault", "", 0, NULL},
    {"update", "", 0, NULL},     {"values", "", 0, method_values}, {0},
};
static const jinja_builtin list_methods[] = {
    {"append", "", 0, NULL}, {"clear", "", 0, NULL},  {"copy", "", 0, method_copy}, {"count", "value", 1, method_count}, {"extend", "", 0, NULL},
    {"index", "value start stop", 1, method_index_of}, {"insert", "", 0, NULL}, {"pop", "", 0, NULL}, {"remove", "", 0, NULL},
    {"reverse", "", 0, NULL}, {"sort", "", 0, NULL}, {0},
};
static const jinja_builtin tuple_methods[] = {{"count", "value", 1, method_count}, {"index", "value start stop", 1, method_index_of}, {0}};

const jinja_builtin *jinja_find_method(const jinja_value *object, jinja_value name)
{
    switch (object->kind) {
    case JINJA_STRING: return jinja_find_in(jinja_string_methods, name);
    case JINJA_DICT: return jinja_find_in(dict_methods, name);
    case JINJA_LIST: return jinja_find_in(list_methods, name);
    case JINJA_TUPLE:
    case JINJA_RANGE: return jinja_find_in(tuple_methods, name);
    default: return NULL;
    }
}
