/* jinja_compare.c - truth, equality and order of values, as Python defines them between its types. */
#include <math.h>
#include <string.h>

#include "data/jinja_value.h"

const char *jinja_type(const jinja_value *value)
{
    switch (value->kind) {
    case JINJA_UNDEFINED: return "Undefined";
    case JINJA_NONE: return "NoneType";
    case JINJA_BOOL: return "bool";
    case JINJA_INT: return "int";
    case JINJA_FLOAT: return "float";
    case JINJA_STRING: return "str";
    case JINJA_LIST: return "list";
    case JINJA_TUPLE: return "tuple";
    case JINJA_DICT: return "dict";
    case JINJA_RANGE: return "range";
    case JINJA_VIEW: return value->flag == JINJA_KEYS ? "dict_keys" : value->flag == JINJA_VALUES ? "dict_values" : "dict_items";
    case JINJA_ITERATOR: return value->iterator->type;
    case JINJA_NAMESPACE: return "Namespace";
    case JINJA_LOOP: return "LoopContext";
    case JINJA_MACRO: return "Macro";
    case JINJA_METHOD: return "builtin_function_or_method";
    default: return "function";
    }
}

void jinja_need_defined(jinja_state *state, const jinja_value *value)
{
    if (value->kind != JINJA_UNDEFINED) return;
    int length = value->length > 200 ? 200 : (int)value->length;
    if (value->flag == JINJA_HINT) jinja_fail(state, "%.*s", length, value->text);
    if (value->flag == JINJA_NO_NAME) jinja_fail(state, "'%.*s' is undefined", length, value->text);
    jinja_value owner = {.kind = value->owner};
    const char *type = value->owner == JINJA_VIEW || value->owner == JINJA_ITERATOR ? "iterator" : jinja_type(&owner);
    jinja_fail(state, "'%s%s' has no attribute '%.*s'", value->owner == JINJA_NONE ? "None" : type,
               value->owner == JINJA_NONE ? "" : " object", length, value->text);
}

int64_t jinja_need_int(jinja_state *state, const jinja_value *value, const char *what)
{
    jinja_need_defined(state, value);
    if (value->kind == JINJA_BOOL) return value->boolean;
    if (value->kind != JINJA_INT) jinja_fail(state, "%s must be an integer, not '%s'", what, jinja_type(value));
    return value->integer;
}

bool jinja_truth(const jinja_value *value)
{
    switch (value->kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE: return false;
    case JINJA_BOOL: return value->boolean;
    case JINJA_INT: return value->integer != 0;
    case JINJA_FLOAT: return value->real != 0;
    case JINJA_STRING: return value->length != 0;
    case JINJA_LOOP: return true;
    default: return jinja_length(value) != 0;
    }
}

static bool is_number(const jinja_value *value)
{
    return value->kind == JINJA_BOOL || value->kind == JINJA_INT || value->kind == JINJA_FLOAT;
}

static int64_t as_integer(const jinja_value *value)
{
    return value->kind == JINJA_BOOL ? (int64_t)value->boolean : value->integer;
}

/* -1, 0, 1, or 2 when one is NaN. An integer and a double are compared exactly. */
static int compare_numbers(const jinja_value *a, const jinja_value *b)
{
    if (a->kind != JINJA_FLOAT && b->kind != JINJA_FLOAT)
        return (as_integer(a) > as_integer(b)) - (as_integer(a) < as_integer(b));
    if (a->kind == JINJA_FLOAT && b->kind == JINJA_FLOAT) {
        if (isnan(a->real) || isnan(b->real)) return 2;
        return (a->real > b->real) - (a->real < b->real);
    }
    if (a->kind == JINJA_FLOAT) {
        int order = compare_numbers(b, a);
        return order == 2 ? 2 : -order;
    }
    int64_t integer = as_integer(a);
    double  real = b->real;
    if (isnan(real)) return 2;
    if (real >= 9223372036854775808.0) return -1;
    if (real < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)real; /* towards zero */
    if (integer != whole) return integer > whole ? 1 : -1;
    double rest = real - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_text(jinja_state *state, const jinja_value *a, const jinja_value *b)
{
    size_t shorter = a->length < b->length ? a->length : b->length;
    jinja_work(state, shorter / 64);
    int order = shorter ? memcmp(a->text, b->text, shorter) : 0; /* UTF-8 sorts as its code points do */
    if (order) return order > 0 ? 1 : -1; /* 2 is NaN's */
    return (a->length > b->length) - (a->length < b->length);
}

static bool equal_dicts(jinja_state *state, const jinja_dict *a, const jinja_dict *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const jinja_value *other = jinja_dict_get(state, b, &a->entries[i].key);
        if (!other || !jinja_equal(state, &a->entries[i].value, other)) return false;
    }
    return true;
}

static bool equal_lists(jinja_state *state, const jinja_list *a, const jinja_list *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (!jinja_equal(state, &a->items[i], &b->items[i])) return false;
    return true;
}

static bool equal_ranges(const jinja_range *a, const jinja_range *b)
{
    return a->length == b->length && (!a->length || (a->start == b->start && (a->length == 1 || a->step == b->step)));
}

bool jinja_equal(jinja_state *state, const jinja_value *a, const jinja_value *b)
{
    jinja_work(state, 1);
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a->kind != b->kind) return false;
    bool equal;
    switch (a->kind) {
    case JINJA_STRING: return a->length == b->length && compare_text(state, a, b) == 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        jinja_enter(state);
        equal = equal_lists(state, a->list, b->list);
        jinja_leave(state);
        return equal;
    case JINJA_DICT:
        jinja_enter(state);
        equal = equal_dicts(state, a->dict, b->dict);
        jinja_leave(state);
        return equal;
    case JINJA_RANGE: return equal_ranges(a->range, b->range);
    case JINJA_VIEW: return a->dict == b->dict && a->flag == b->flag && a->flag != JINJA_VALUES;
    case JINJA_METHOD: return a->method->builtin == b->method->builtin && jinja_equal(state, &a->method->self, &b->method->self);
    case JINJA_UNDEFINED:
    case JINJA_NONE: return true;
    default: return a->dict == b->dict; /* one pointer for all that is left: the same object or not */
    }
}

int jinja_compare(jinja_state *state, const jinja_value *a, const jinja_value *b, const char *operator_name)
{
    jinja_work(state, 1);
    jinja_need_defined(state, a);
    jinja_need_defined(state, b);
    if (is_number(a) && is_number(b)) return compare_numbers(a, b);
    if (a->kind == JINJA_STRING && b->kind == JINJA_STRING) return compare_text(state, a, b);
    if (a->kind == b->kind && (a->kind == JINJA_LIST || a->kind == JINJA_TUPLE)) {
        const jinja_list *x = a->list, *y = b->list;
        for (size_t i = 0; i < x->count && i < y->count; i++)
            if (!jinja_equal(state, &x->items[i], &y->items[i])) {
                jinja_enter(state);
                int order = jinja_compare(state, &x->items[i], &y->items[i], operator_name);
                jinja_leave(state);
                return order;
            }
        return (x->count > y->count) - (x->count < y->count);
    }
    jinja_fail(state, "'%s' not supported between instances of '%s' and '%s'", operator_name, jinja_type(a), jinja_type(b));
}
