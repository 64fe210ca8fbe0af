/* jinja_value.c - lists, dicts, iteration and the way from JSON to values. */
#include <string.h>

#include "data/jinja_eval.h"

jinja_value jinja_static(const char *text) { return jinja_string(text, strlen(text)); }

jinja_value jinja_hint(const char *message)
{
    jinja_value value = jinja_static(message);
    value.kind = JINJA_UNDEFINED;
    value.flag = JINJA_HINT;
    return value;
}

jinja_value jinja_no_attribute(const jinja_value *object, jinja_value name)
{
    name.kind = JINJA_UNDEFINED;
    name.flag = JINJA_NO_ATTRIBUTE;
    name.owner = object->kind;
    return name;
}

bool jinja_is(const jinja_value *value, const char *text)
{
    return value->kind == JINJA_STRING && value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}

jinja_list *jinja_list_new(jinja_state *state, size_t capacity)
{
    jinja_list *list = jinja_alloc(state, 1, sizeof *list);
    list->items = capacity ? jinja_alloc(state, capacity, sizeof *list->items) : NULL;
    list->capacity = capacity;
    return list;
}

void jinja_list_add(jinja_state *state, jinja_list *list, jinja_value value)
{
    jinja_work(state, 1);
    if (list->count == list->capacity) {
        size_t       capacity = list->capacity ? list->capacity * 2 : 4;
        jinja_value *items = jinja_alloc(state, capacity, sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
}

jinja_value jinja_list_value(jinja_list *list) { return (jinja_value){.kind = JINJA_LIST, .list = list}; }
jinja_value jinja_tuple_value(jinja_list *list) { return (jinja_value){.kind = JINJA_TUPLE, .list = list}; }

jinja_value jinja_iterator_value(jinja_state *state, jinja_list *list, const char *type)
{
    jinja_iterator *iterator = jinja_alloc(state, 1, sizeof *iterator);
    iterator->list = list;
    iterator->type = type;
    return (jinja_value){.kind = JINJA_ITERATOR, .iterator = iterator};
}

jinja_value jinja_pair(jinja_state *state, jinja_value first, jinja_value second)
{
    jinja_list *list = jinja_list_new(state, 2);
    jinja_list_add(state, list, first);
    jinja_list_add(state, list, second);
    return jinja_tuple_value(list);
}

/* --- dicts --- */

static uint64_t hash_bytes(const char *text, size_t length)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a, 64 bits */
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)text[i]) * 1099511628211u;
    return hash;
}

static uint64_t mix(uint64_t x) /* the finaliser of MurmurHash3 */
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

bool jinja_hashable(const jinja_value *value)
{
    switch (value->kind) {
    case JINJA_LIST:
    case JINJA_DICT: return false;
    case JINJA_TUPLE:
        for (size_t i = 0; i < value->list->count; i++) /* a tuple's tuples count, but a list inside refuses it */
            if (value->list->items[i].kind == JINJA_LIST || value->list->items[i].kind == JINJA_DICT) return false;
        return true;
    default: return true;
    }
}

/* Equal values have equal hashes: 1, 1.0 and true are one key. */
static uint64_t hash_value(jinja_state *state, const jinja_value *value)
{
    if (!jinja_hashable(value)) jinja_fail(state, "unhashable type: '%s'", jinja_type(value));
    uint64_t hash = value->kind;
    switch (value->kind) {
    case JINJA_BOOL: return mix((uint64_t)value->boolean);
    case JINJA_INT: return mix((uint64_t)value->integer);
    case JINJA_FLOAT:
        if (value->real >= -9.2e18 && value->real <= 9.2e18 && value->real == (double)(int64_t)value->real)
            return mix((uint64_t)(int64_t)value->real);
        memcpy(&hash, &value->real, sizeof hash);
        return mix(hash);
    case JINJA_STRING: jinja_work(state, value->length / 64); return hash_bytes(value->text, value->length);
    case JINJA_TUPLE:
        jinja_enter(state);
        jinja_work(state, value->list->count);
        for (size_t i = 0; i < value->list->count; i++) hash = mix(hash * 31 + hash_value(state, &value->list->items[i]));
        jinja_leave(state);
        return hash;
    default: return hash;
    }
}

jinja_dict *jinja_dict_new(jinja_state *state, size_t capacity)
{
    jinja_dict *dict = jinja_alloc(state, 1, sizeof *dict);
    dict->entries = capacity ? jinja_alloc(state, capacity, sizeof *dict->entries) : NULL;
    dict->capacity = capacity;
    return dict;
}

static jinja_entry *find_entry(jinja_state *state, const jinja_dict *dict, const jinja_value *key, uint64_t hash)
{
    if (!dict->index_size) {
        jinja_work(state, dict->count / 8);
        for (size_t i = 0; i < dict->count; i++)
            if (dict->entries[i].hash == hash && jinja_equal(state, &dict->entries[i].key, key)) return &dict->entries[i];
        return NULL;
    }
    for (size_t slot = hash & (dict->index_size - 1); dict->index[slot]; slot = (slot + 1) & (dict->index_size - 1)) {
        jinja_entry *entry = &dict->entries[dict->index[slot] - 1];
        jinja_work(state, 1);
        if (entry->hash == hash && jinja_equal(state, &entry->key, key)) return entry;
    }
    return NULL;
}

static void index_add(jinja_dict *dict, size_t entry)
{
    size_t slot = dict->entries[entry].hash & (dict->index_size - 1);
    while (dict->index[slot]) slot = (slot + 1) & (dict->index_size - 1);
    dict->index[slot] = (uint32_t)(entry + 1);
}

void jinja_dict_set(jinja_state *state, jinja_dict *dict, jinja_value key, jinja_value value)
{
    uint64_t     hash = hash_value(state, &key);
    jinja_entry *entry = find_entry(state, dict, &key, hash);
    jinja_work(state, 1);
    if (entry) {
        entry->value = value;
        return;
    }
    if (dict->count == dict->capacity) {
        size_t       capacity = dict->capacity ? dict->capacity * 2 : 4;
        jinja_entry *entries = jinja_alloc(state, capacity, sizeof *entries);
        if (dict->count) memcpy(entries, dict->entries, dict->count * sizeof *entries);
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->count++] = (jinja_entry){key, value, hash};
    if (dict->count >= 16 && dict->count * 2 > dict->index_size) {
        dict->index_size = 64;
        while (dict->index_size < dict->count * 4) dict->index_size *= 2;
        dict->index = jinja_alloc(state, dict->index_size, sizeof *dict->index);
        for (size_t i = 0; i < dict->count; i++) index_add(dict, i);
    } else if (dict->index_size) {
        index_add(dict, dict->count - 1);
    }
}

const jinja_value *jinja_dict_get(jinja_state *state, const jinja_dict *dict, const jinja_value *key)
{
    jinja_entry *entry = find_entry(state, dict, key, hash_value(state, key));
    return entry ? &entry->value : NULL;
}

const jinja_value *jinja_dict_text(jinja_state *state, const jinja_dict *dict, const char *text, size_t length)
{
    jinja_value key = jinja_string(text, length);
    return jinja_dict_get(state, dict, &key);
}

/* --- iteration --- */

int64_t jinja_length(const jinja_value *value)
{
    switch (value->kind) {
    case JINJA_UNDEFINED: return 0;
    case JINJA_LIST:
    case JINJA_TUPLE: return (int64_t)value->list->count;
    case JINJA_DICT:
    case JINJA_VIEW: return (int64_t)value->dict->count;
    case JINJA_RANGE: return value->range->length;
    default: return -1; /* a string's is counted in code points by its users */
    }
}

bool jinja_iterable(const jinja_value *value)
{
    return value->kind == JINJA_STRING || value->kind == JINJA_ITERATOR || jinja_length(value) >= 0;
}

static jinja_list *view_items(jinja_state *state, const jinja_dict *dict, int kind)
{
    jinja_list *list = jinja_list_new(state, dict->count);
    for (size_t i = 0; i < dict->count; i++) {
        const jinja_entry *entry = &dict->entries[i];
        jinja_list_add(state, list,
                       kind == JINJA_KEYS     ? entry->key
                       : kind == JINJA_VALUES ? entry->value
                                              : jinja_pair(state, entry->key, entry->value));
    }
    return list;
}

static jinja_list *characters(jinja_state *state, const jinja_value *value)
{
    jinja_list *list = jinja_list_new(state, 0);
    for (size_t at = 0; at < value->length;) {
        size_t start = at++;
        while (at < value->length && (value->text[at] & 0xC0) == 0x80) at++;
        jinja_list_add(state, list, jinja_string(value->text + start, at - start));
    }
    return list;
}

jinja_list *jinja_items(jinja_state *state, const jinja_value *value)
{
    jinja_list *list;
    switch (value->kind) {
    case JINJA_UNDEFINED: return jinja_list_new(state, 0);
    case JINJA_LIST:
    case JINJA_TUPLE: return value->list;
    case JINJA_STRING: return characters(state, value);
    case JINJA_DICT: return view_items(state, value->dict, JINJA_KEYS);
    case JINJA_VIEW: return view_items(state, value->dict, value->flag);
    case JINJA_RANGE:
        list = jinja_list_new(state, (size_t)value->range->length);
        for (int64_t i = 0; i < value->range->length; i++)
            jinja_list_add(state, list, jinja_int(value->range->start + i * value->range->step));
        return list;
    case JINJA_ITERATOR: {
        jinja_iterator *iterator = value->iterator;
        list = jinja_list_new(state, iterator->list->count - iterator->next);
        while (iterator->next < iterator->list->count) jinja_list_add(state, list, iterator->list->items[iterator->next++]);
        return list;
    }
    default: jinja_fail(state, "'%s' object is not iterable", jinja_type(value));
    }
}

/* --- JSON --- */

jinja_value jinja_from_json(jinja_state *state, const json_t *json)
{
    jinja_work(state, 1);
    switch (json_typeof(json)) {
    case JSON_NULL: return jinja_none();
    case JSON_TRUE: return jinja_bool(true);
    case JSON_FALSE: return jinja_bool(false);
    case JSON_INTEGER: return jinja_int(json_integer_value(json));
    case JSON_REAL: return jinja_float(json_real_value(json));
    case JSON_STRING: return jinja_string(json_string_value(json), json_string_length(json));
    case JSON_ARRAY: {
        size_t      count = json_array_size(json);
        jinja_list *list = jinja_list_new(state, count);
        jinja_enter(state);
        for (size_t i = 0; i < count; i++) jinja_list_add(state, list, jinja_from_json(state, json_array_get(json, i)));
        jinja_leave(state);
        return jinja_list_value(list);
    }
    case JSON_OBJECT: break;
    }
    jinja_dict *dict = jinja_dict_new(state, json_object_size(json));
    json_t     *object = (json_t *)json; /* iteration does not change it; jansson's iterator type lacks const */
    jinja_enter(state);
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        const char *key = json_object_iter_key(i);
        jinja_dict_set(state, dict, jinja_static(key), jinja_from_json(state, json_object_iter_value(i)));
    }
    jinja_leave(state);
    return (jinja_value){.kind = JINJA_DICT, .dict = dict};
}
