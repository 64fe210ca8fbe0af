/* jinja_filter_select.c - filters that call filters and tests: map, select, reject, selectattr, rejectattr. */
#include "data/jinja_filter.h"

static jinja_arguments without_first(const jinja_arguments *all, size_t count)
{
    jinja_arguments rest = *all;
    if (count) rest.positional += count;
    rest.count -= count;
    return rest;
}

static _Noreturn void unknown(jinja_state *state, const char *what, const jinja_value *name)
{
    if (name->kind != JINJA_STRING) jinja_fail(state, "the name of a %s must be text, not %s", what, jinja_type(name));
    jinja_fail(state, "unknown %s '%.*s'", what, (int)(name->length < 60 ? name->length : 60), name->text);
}

static const jinja_value *keyword(const jinja_arguments *all, const char *name)
{
    for (size_t i = 0; i < all->keyword_count; i++)
        if (jinja_is(&all->names[i], name)) return &all->values[i];
    return NULL;
}

static jinja_list *map_attribute(jinja_state *state, const jinja_list *items, const jinja_arguments *all)
{
    const jinja_value *attribute = keyword(all, "attribute"), *otherwise = keyword(all, "default");
    jinja_list        *list = jinja_list_new(state, items->count);
    if (all->count || !attribute) jinja_fail(state, "map requires a filter argument");
    if (all->keyword_count > 1 + (size_t)(otherwise != NULL)) jinja_fail(state, "map has no such keyword argument");
    for (size_t i = 0; i < items->count; i++) {
        jinja_value value = jinja_path(state, items->items[i], attribute);
        bool        missing = value.kind == JINJA_UNDEFINED && otherwise && otherwise->kind != JINJA_NONE;
        jinja_list_add(state, list, missing ? *otherwise : value);
    }
    return list;
}

FILTER(map)
{
    UNUSED;
    if (!jinja_truth(&self)) return jinja_iterator_value(state, jinja_list_new(state, 0), "generator");
    jinja_list *items = jinja_items(state, &self);
    if (!all->count) return jinja_iterator_value(state, map_attribute(state, items, all), "generator");
    const jinja_builtin *filter = all->positional[0].kind == JINJA_STRING ? jinja_find_filter(all->positional[0]) : NULL;
    if (!filter) unknown(state, "filter", &all->positional[0]);
    jinja_arguments rest = without_first(all, 1);
    jinja_list     *list = jinja_list_new(state, items->count);
    for (size_t i = 0; i < items->count; i++) {
        jinja_enter(state);
        jinja_list_add(state, list, jinja_run_builtin(state, filter, "filter", items->items[i], &rest));
        jinja_leave(state);
    }
    return jinja_iterator_value(state, list, "generator");
}

/* attribute: the first argument is a path. keep: what the test must say for an item to stay. */
static jinja_value choose(jinja_state *state, jinja_value self, const jinja_arguments *all, bool attribute, bool keep)
{
    if (!jinja_truth(&self)) return jinja_iterator_value(state, jinja_list_new(state, 0), "generator");
    jinja_list          *items = jinja_items(state, &self), *list = jinja_list_new(state, 0);
    size_t               skip = attribute;
    const jinja_builtin *test = NULL;
    if (all->count < skip) jinja_fail(state, "Missing parameter for attribute name");
    if (all->count > skip) {
        const jinja_value *name = &all->positional[skip];
        test = name->kind == JINJA_STRING ? jinja_find_test(*name) : NULL;
        if (!test) unknown(state, "test", name);
        skip++;
    }
    jinja_arguments rest = without_first(all, skip);
    jinja_work(state, items->count);
    for (size_t i = 0; i < items->count; i++) {
        jinja_value value = attribute ? jinja_path(state, items->items[i], &all->positional[0]) : items->items[i];
        if (test) value = jinja_run_builtin(state, test, "test", value, &rest);
        if (jinja_truth(&value) == keep) jinja_list_add(state, list, items->items[i]);
    }
    return jinja_iterator_value(state, list, "generator");
}
FILTER(select) { UNUSED; return choose(state, self, all, false, true); }
FILTER(reject) { UNUSED; return choose(state, self, all, false, false); }
FILTER(selectattr) { UNUSED; return choose(state, self, all, true, true); }
FILTER(rejectattr) { UNUSED; return choose(state, self, all, true, false); }

const jinja_builtin jinja_select_filters[] = {
    {"map", NULL, 0, filter_map},
    {"reject", NULL, 0, filter_reject},
    {"rejectattr", NULL, 0, filter_rejectattr},
    {"select", NULL, 0, filter_select},
    {"selectattr", NULL, 0, filter_selectattr},
    {0},
};

const jinja_builtin *jinja_find_filter(jinja_value name)
{
    const jinja_builtin *found = jinja_find_in(jinja_text_filters, name);
    if (!found) found = jinja_find_in(jinja_number_filters, name);
    if (!found) found = jinja_find_in(jinja_list_filters, name);
    if (!found) found = jinja_find_in(jinja_select_filters, name);
    return found;
}
