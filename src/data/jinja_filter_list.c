/* jinja_filter_list.c - filters on sequences: first, last, list, sort, unique, min, max, sum, batch, slice, groupby... */
#include <string.h>

#include "data/jinja_filter.h"

FILTER(first)
{
    UNUSED;
    if (self.kind == JINJA_ITERATOR) {
        jinja_iterator *iterator = self.iterator;
        if (iterator->next < iterator->list->count) return iterator->list->items[iterator->next++];
    } else {
        jinja_list *items = jinja_items(state, &self);
        if (items->count) return items->items[0];
    }
    return jinja_hint("No first item, sequence was empty.");
}

FILTER(last)
{
    UNUSED;
    if (self.kind == JINJA_ITERATOR) jinja_fail(state, "'%s' object is not reversible", jinja_type(&self));
    jinja_list *items = jinja_items(state, &self);
    return items->count ? items->items[items->count - 1] : jinja_hint("No last item, sequence was empty.");
}

static jinja_list *copied(jinja_state *state, const jinja_list *items)
{
    jinja_list *list = jinja_list_new(state, items->count);
    for (size_t i = 0; i < items->count; i++) jinja_list_add(state, list, items->items[i]);
    return list;
}

FILTER(list) { UNUSED; return jinja_list_value(copied(state, jinja_items(state, &self))); }

FILTER(reverse)
{
    UNUSED;
    if (self.kind == JINJA_STRING) {
        int64_t length = (int64_t)jinja_code_count(self.text, self.length);
        return jinja_slice_text(state, self, length - 1, -1, length);
    }
    jinja_list *items = copied(state, jinja_items(state, &self));
    for (size_t i = 0; i < items->count / 2; i++) {
        jinja_value swap = items->items[i];
        items->items[i] = items->items[items->count - 1 - i];
        items->items[items->count - 1 - i] = swap;
    }
    if (self.kind == JINJA_ITERATOR) return jinja_list_value(items);
    return jinja_iterator_value(state, items, self.kind == JINJA_LIST ? "list_reverseiterator" : "reversed");
}

FILTER(items)
{
    UNUSED;
    if (self.kind != JINJA_UNDEFINED && self.kind != JINJA_DICT) jinja_fail(state, "Can only get item pairs from a mapping.");
    jinja_value view = {.kind = JINJA_VIEW, .flag = JINJA_ITEMS, .dict = self.dict};
    return jinja_iterator_value(state, self.kind == JINJA_DICT ? jinja_items(state, &view) : jinja_list_new(state, 0), "generator");
}

/* --- sorting --- */

/* Stable merge sort of item numbers by their keys; `reverse` keeps the order of equal items, as Python does. */
static void merge_sort(jinja_state *state, const jinja_value *keys, size_t *order, size_t *spare, size_t count, bool reverse)
{
    if (count < 2) return;
    size_t half = count / 2;
    merge_sort(state, keys, order, spare, half, reverse);
    merge_sort(state, keys, order + half, spare, count - half, reverse);
    memcpy(spare, order, half * sizeof *order);
    for (size_t a = 0, b = half, k = 0; a < half; k++) {
        const jinja_value *first = b < count ? &keys[reverse ? spare[a] : order[b]] : NULL;
        bool second = first && jinja_compare(state, first, &keys[reverse ? order[b] : spare[a]], "<") < 0;
        order[k] = second ? order[b++] : spare[a++];
    }
}

static jinja_value sorted(jinja_state *state, const jinja_list *items, const jinja_value *keys, bool reverse)
{
    size_t     *order = jinja_alloc(state, items->count + 1, sizeof *order), *spare = jinja_alloc(state, items->count + 1, sizeof *order);
    jinja_list *list = jinja_list_new(state, items->count);
    for (size_t i = 0; i < items->count; i++) order[i] = i;
    merge_sort(state, keys, order, spare, items->count, reverse);
    for (size_t i = 0; i < items->count; i++) jinja_list_add(state, list, items->items[order[i]]);
    return jinja_list_value(list);
}

static jinja_value key_of(jinja_state *state, jinja_value item, const jinja_value *attribute, bool fold)
{
    item = jinja_path(state, item, attribute);
    return fold ? fold_case(state, item) : item;
}

/* "a,b.c": a key of several attributes is the tuple of them. */
static jinja_value keys_of(jinja_state *state, jinja_value item, const jinja_value *attributes, bool fold)
{
    if (!attributes || attributes->kind != JINJA_STRING) return key_of(state, item, attributes, fold);
    jinja_value comma = jinja_static(",");
    jinja_list *paths = jinja_split(state, *attributes, &comma, -1, false), *key = jinja_list_new(state, paths->count);
    for (size_t i = 0; i < paths->count; i++) jinja_list_add(state, key, key_of(state, item, &paths->items[i], fold));
    return jinja_list_value(key);
}

FILTER(sort)
{
    UNUSED;
    jinja_list  *items = jinja_items(state, &self);
    jinja_value *keys = jinja_alloc(state, items->count + 1, sizeof *keys);
    for (size_t i = 0; i < items->count; i++) keys[i] = keys_of(state, items->items[i], given(&slots[2]), !flag_or(&slots[1], false));
    return sorted(state, items, keys, flag_or(&slots[0], false));
}

FILTER(dictsort)
{
    UNUSED;
    jinja_value by = given(&slots[1]) ? slots[1] : jinja_static("key");
    bool        value = jinja_is(&by, "value");
    jinja_need_defined(state, &self);
    if (self.kind != JINJA_DICT) jinja_fail(state, "filter 'dictsort' needs a mapping, not %s", jinja_type(&self));
    if (!value && !jinja_is(&by, "key")) jinja_fail(state, "You can only sort by either \"key\" or \"value\"");
    jinja_value  view = {.kind = JINJA_VIEW, .flag = JINJA_ITEMS, .dict = self.dict};
    jinja_list  *items = jinja_items(state, &view);
    jinja_value *keys = jinja_alloc(state, items->count + 1, sizeof *keys);
    for (size_t i = 0; i < items->count; i++) {
        keys[i] = items->items[i].list->items[value];
        if (!flag_or(&slots[0], false)) keys[i] = fold_case(state, keys[i]);
    }
    return sorted(state, items, keys, flag_or(&slots[2], false));
}

FILTER(groupby)
{
    UNUSED;
    jinja_list  *items = jinja_items(state, &self), *groups = jinja_list_new(state, 0);
    bool         fold = !flag_or(&slots[2], false);
    jinja_value *keys = jinja_alloc(state, items->count + 1, sizeof *keys), previous = {0};
    for (size_t i = 0; i < items->count; i++) {
        keys[i] = key_of(state, items->items[i], &slots[0], fold);
        if (keys[i].kind == JINJA_UNDEFINED && given(&slots[1])) keys[i] = fold ? fold_case(state, slots[1]) : slots[1];
    }
    jinja_list *ordered = sorted(state, items, keys, false).list;
    for (size_t i = 0; i < ordered->count; i++) {
        jinja_value shown = jinja_path(state, ordered->items[i], &slots[0]);
        if (shown.kind == JINJA_UNDEFINED && given(&slots[1])) shown = slots[1];
        jinja_value key = fold ? fold_case(state, shown) : shown;
        if (!i || !jinja_equal(state, &key, &previous)) {
            jinja_value group = jinja_pair(state, shown, jinja_list_value(jinja_list_new(state, 0)));
            group.flag = 1;
            jinja_list_add(state, groups, group);
        }
        jinja_list_add(state, groups->items[groups->count - 1].list->items[1].list, ordered->items[i]);
        previous = key;
    }
    return jinja_list_value(groups);
}

/* --- reductions --- */

static jinja_value extreme(jinja_state *state, const jinja_value *self, const jinja_value *slots, bool largest)
{
    jinja_list *items = jinja_items(state, self);
    bool        fold = !flag_or(&slots[0], false);
    if (!items->count) return jinja_hint("No aggregated item, sequence was empty.");
    jinja_value best = items->items[0], best_key = key_of(state, best, given(&slots[1]), fold);
    for (size_t i = 1; i < items->count; i++) {
        jinja_value key = key_of(state, items->items[i], given(&slots[1]), fold);
        int         order = jinja_compare(state, &key, &best_key, largest ? ">" : "<");
        if (order == 2 || (largest ? order <= 0 : order >= 0)) continue;
        best = items->items[i];
        best_key = key;
    }
    return best;
}
FILTER(min) { UNUSED; return extreme(state, &self, slots, false); }
FILTER(max) { UNUSED; return extreme(state, &self, slots, true); }

FILTER(sum)
{
    UNUSED;
    jinja_list *items = jinja_items(state, &self);
    jinja_value total = given(&slots[1]) ? slots[1] : jinja_int(0);
    if (total.kind == JINJA_STRING) jinja_fail(state, "sum() can't sum strings [use ''.join(seq) instead]");
    jinja_work(state, items->count);
    for (size_t i = 0; i < items->count; i++)
        total = jinja_arithmetic(state, OP_ADD, total, jinja_path(state, items->items[i], given(&slots[0])));
    return total;
}

FILTER(unique)
{
    UNUSED;
    jinja_list *items = jinja_items(state, &self), *list = jinja_list_new(state, 0);
    jinja_dict *seen = jinja_dict_new(state, 0);
    for (size_t i = 0; i < items->count; i++) {
        jinja_value key = key_of(state, items->items[i], given(&slots[1]), !flag_or(&slots[0], false));
        size_t      before = seen->count;
        jinja_dict_set(state, seen, key, jinja_none());
        if (seen->count > before) jinja_list_add(state, list, items->items[i]);
    }
    return jinja_iterator_value(state, list, "generator");
}

/* --- parts --- */

FILTER(batch)
{
    UNUSED;
    jinja_list *items = jinja_items(state, &self), *rows = jinja_list_new(state, 0), *row = NULL;
    int64_t     count = jinja_need_int(state, &slots[0], "linecount");
    bool        fill = given(&slots[1]) && slots[1].kind != JINJA_NONE;
    for (size_t i = 0; i < items->count; i++) {
        if (!row || (int64_t)row->count == count) jinja_list_add(state, rows, jinja_list_value(row = jinja_list_new(state, 0)));
        jinja_list_add(state, row, items->items[i]);
    }
    while (row && fill && (int64_t)row->count < count) jinja_list_add(state, row, slots[1]);
    return jinja_iterator_value(state, rows, "generator");
}

FILTER(slice)
{
    UNUSED;
    jinja_list *items = jinja_items(state, &self), *parts = jinja_list_new(state, 0);
    int64_t     count = jinja_need_int(state, &slots[0], "slices"), at = 0, length = (int64_t)items->count;
    bool        fill = given(&slots[1]) && slots[1].kind != JINJA_NONE;
    if (!count) jinja_fail(state, "integer division or modulo by zero");
    for (int64_t part = 0; part < count; part++) {
        jinja_list *list = jinja_list_new(state, 0);
        bool        longer = part < length % count;
        for (int64_t end = at + length / count + longer; at < end; at++) jinja_list_add(state, list, items->items[at]);
        if (fill && !longer) jinja_list_add(state, list, slots[1]);
        jinja_list_add(state, parts, jinja_list_value(list));
    }
    return jinja_iterator_value(state, parts, "generator");
}

const jinja_builtin jinja_list_filters[] = {
    {"batch", "linecount fill_with", 1, filter_batch},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"first", "", 0, filter_first},
    {"groupby", "attribute default case_sensitive", 1, filter_groupby},
    {"items", "", 0, filter_items},
    {"last", "", 0, filter_last},
    {"list", "", 0, filter_list},
    {"max", "case_sensitive attribute", 0, filter_max},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"reverse", "", 0, filter_reverse},
    {"slice", "slices fill_with", 1, filter_slice},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"sum", "attribute start", 0, filter_sum},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {0},
};
