/* jinja_operator.c - Python's operators between values, and access to items, slices and attributes. */
#include <math.h>
#include <string.h>

#include "data/jinja_loop.h"
#include "data/jinja_text.h"

static const char *const operator_names[] = {"+", "-", "*", "/", "//", "%", "** or pow()", "==", "!=", "<", "<=", ">", ">="};

static bool is_integer(const jinja_value *value) { return value->kind == JINJA_INT || value->kind == JINJA_BOOL; }
static bool is_number(const jinja_value *value) { return is_integer(value) || value->kind == JINJA_FLOAT; }
static int64_t to_integer(const jinja_value *value) { return value->kind == JINJA_BOOL ? (int64_t)value->boolean : value->integer; }
static double to_real(const jinja_value *value) { return value->kind == JINJA_FLOAT ? value->real : (double)to_integer(value); }

static _Noreturn void unsupported(jinja_state *state, jinja_operator operation, const jinja_value *a, const jinja_value *b)
{
    jinja_fail(state, "unsupported operand type(s) for %s: '%s' and '%s'", operator_names[operation], jinja_type(a), jinja_type(b));
}

static _Noreturn void too_large(jinja_state *state) { jinja_fail(state, "an integer does not fit 64 bits"); }

/* --- numbers --- */

static jinja_value integer_power(jinja_state *state, int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        if (!base) jinja_fail(state, "0.0 cannot be raised to a negative power");
        return jinja_float(pow((double)base, (double)exponent));
    }
    int64_t result = 1;
    while (exponent) { /* by squaring: at most 63 rounds before it overflows or the base is 0, 1 or -1 */
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) too_large(state);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) too_large(state);
    }
    return jinja_int(result);
}

static jinja_value integer_arithmetic(jinja_state *state, jinja_operator operation, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool    overflow = false;
    if (!b && (operation == OP_DIVIDE || operation == OP_FLOOR_DIVIDE || operation == OP_MODULO))
        jinja_fail(state, operation == OP_DIVIDE ? "division by zero" : "integer division or modulo by zero");
    switch (operation) {
    case OP_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
    case OP_SUBTRACT: overflow = __builtin_sub_overflow(a, b, &result); break;
    case OP_MULTIPLY: overflow = __builtin_mul_overflow(a, b, &result); break;
    case OP_DIVIDE: return jinja_float((double)((long double)a / (long double)b));
    case OP_POWER: return integer_power(state, a, b);
    default: /* floor division and the remainder that has the divisor's sign */
        if (b == -1) {
            overflow = operation == OP_FLOOR_DIVIDE && __builtin_sub_overflow(0, a, &result);
            break;
        }
        result = operation == OP_MODULO ? a % b : a / b;
        if (a % b && (a % b < 0) != (b < 0)) result += operation == OP_MODULO ? b : -1;
    }
    if (overflow) too_large(state);
    return jinja_int(result);
}

static jinja_value real_arithmetic(jinja_state *state, jinja_operator operation, double a, double b)
{
    if (b == 0 && (operation == OP_DIVIDE || operation == OP_FLOOR_DIVIDE || operation == OP_MODULO))
        jinja_fail(state, operation == OP_MODULO ? "float modulo by zero" : operation == OP_DIVIDE ? "float division by zero" : "float floor division by zero");
    double remainder, quotient;
    switch (operation) {
    case OP_ADD: return jinja_float(a + b);
    case OP_SUBTRACT: return jinja_float(a - b);
    case OP_MULTIPLY: return jinja_float(a * b);
    case OP_DIVIDE: return jinja_float(a / b);
    case OP_POWER:
        if (a == 0 && b < 0) jinja_fail(state, "0.0 cannot be raised to a negative power");
        if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) jinja_fail(state, "a negative number has no real power %g", b);
        quotient = pow(a, b);
        if (isinf(quotient) && isfinite(a) && isfinite(b)) jinja_fail(state, "the result of ** is too large");
        return jinja_float(quotient);
    default: /* as CPython: the remainder first, its sign the divisor's, then the quotient rounded to an integer */
        remainder = fmod(a, b);
        quotient = (a - remainder) / b;
        if (remainder != 0 && (b < 0) != (remainder < 0)) {
            remainder += b;
            quotient -= 1;
        }
        if (remainder == 0) remainder = copysign(0, b);
        if (operation == OP_MODULO) return jinja_float(remainder);
        double whole = floor(quotient);
        if (quotient == 0) whole = copysign(0, a / b);
        else if (quotient - whole > 0.5) whole += 1;
        return jinja_float(whole);
    }
}

/* --- sequences --- */

static jinja_value repeat(jinja_state *state, const jinja_value *value, int64_t times)
{
    if (times < 0) times = 0;
    size_t length = value->kind == JINJA_STRING ? value->length : value->list->count;
    if (length && (uint64_t)times > JINJA_MAX_MEMORY / length) jinja_fail(state, "a repetition is too long");
    if (value->kind == JINJA_STRING) {
        jinja_buffer out = {0};
        for (int64_t i = 0; length && i < times; i++) {
            jinja_append(state, &out, value->text, length);
            if (!(i & 63)) jinja_work(state, 1);
        }
        return jinja_finish(&out);
    }
    jinja_list *list = jinja_list_new(state, 0);
    for (int64_t i = 0; length && i < times; i++)
        for (size_t k = 0; k < length; k++) jinja_list_add(state, list, value->list->items[k]);
    return value->kind == JINJA_LIST ? jinja_list_value(list) : jinja_tuple_value(list);
}

static bool is_sequence(const jinja_value *value)
{
    return value->kind == JINJA_STRING || value->kind == JINJA_LIST || value->kind == JINJA_TUPLE;
}

static jinja_value join_lists(jinja_state *state, const jinja_value *a, const jinja_value *b)
{
    jinja_list *list = jinja_list_new(state, a->list->count + b->list->count);
    for (size_t i = 0; i < a->list->count; i++) jinja_list_add(state, list, a->list->items[i]);
    for (size_t i = 0; i < b->list->count; i++) jinja_list_add(state, list, b->list->items[i]);
    return a->kind == JINJA_LIST ? jinja_list_value(list) : jinja_tuple_value(list);
}

/* Text marked safe stays so, and what is joined to it is escaped. */
static jinja_value join_texts(jinja_state *state, jinja_value a, jinja_value b)
{
    if (!a.flag && !b.flag) return jinja_concat(state, a, b);
    jinja_value all = jinja_concat(state, jinja_escape(state, a), jinja_escape(state, b));
    all.flag = 1;
    return all;
}

jinja_value jinja_arithmetic(jinja_state *state, jinja_operator operation, jinja_value a, jinja_value b)
{
    if (operation == OP_MODULO && a.kind == JINJA_STRING) return jinja_percent(state, a, &b);
    jinja_need_defined(state, &a);
    jinja_need_defined(state, &b);
    if (is_integer(&a) && is_integer(&b)) return integer_arithmetic(state, operation, to_integer(&a), to_integer(&b));
    if (is_number(&a) && is_number(&b)) return real_arithmetic(state, operation, to_real(&a), to_real(&b));
    if (operation == OP_ADD && a.kind == b.kind && is_sequence(&a))
        return a.kind == JINJA_STRING ? join_texts(state, a, b) : join_lists(state, &a, &b);
    if (operation == OP_MULTIPLY && is_sequence(&a) && is_integer(&b)) return repeat(state, &a, to_integer(&b));
    if (operation == OP_MULTIPLY && is_integer(&a) && is_sequence(&b)) return repeat(state, &b, to_integer(&a));
    if (operation == OP_ADD && a.kind == JINJA_STRING) jinja_fail(state, "can only concatenate str (not \"%s\") to str", jinja_type(&b));
    unsupported(state, operation, &a, &b);
}

/* --- relations --- */

static bool range_contains(const jinja_range *range, const jinja_value *item)
{
    double real = item->kind == JINJA_FLOAT ? item->real : 0;
    if (!is_number(item) || real != floor(real) || fabs(real) > 9e18) return false;
    int64_t value = item->kind == JINJA_FLOAT ? (int64_t)real : to_integer(item), last = range->start + (range->length - 1) * range->step;
    if (!range->length || (range->step > 0 ? value < range->start || value > last : value > range->start || value < last)) return false;
    return (value - range->start) % range->step == 0;
}

bool jinja_contains(jinja_state *state, const jinja_value *container, const jinja_value *item)
{
    if (container->kind == JINJA_STRING) {
        jinja_need_defined(state, item);
        if (item->kind != JINJA_STRING) jinja_fail(state, "'in <string>' requires string as left operand, not %s", jinja_type(item));
        jinja_work(state, container->length / 64);
        return jinja_find(container, item, 0) >= 0;
    }
    if (container->kind == JINJA_DICT || (container->kind == JINJA_VIEW && container->flag == JINJA_KEYS))
        return jinja_dict_get(state, container->dict, item) != NULL;
    if (container->kind == JINJA_RANGE) return range_contains(container->range, item);
    if (!jinja_iterable(container)) jinja_fail(state, "argument of type '%s' is not iterable", jinja_type(container));
    const jinja_list *items = jinja_items(state, container);
    for (size_t i = 0; i < items->count; i++)
        if (jinja_equal(state, &items->items[i], item)) return true;
    return false;
}

bool jinja_relation(jinja_state *state, jinja_operator operation, const jinja_value *a, const jinja_value *b)
{
    switch (operation) {
    case OP_EQUAL: return jinja_equal(state, a, b);
    case OP_NOT_EQUAL: return !jinja_equal(state, a, b);
    case OP_IN: return jinja_contains(state, b, a);
    case OP_NOT_IN: return !jinja_contains(state, b, a);
    default: break;
    }
    int order = jinja_compare(state, a, b, operator_names[operation]);
    if (order == 2) return false; /* NaN */
    return operation == OP_LESS ? order < 0 : operation == OP_LESS_EQUAL ? order <= 0 : operation == OP_GREATER ? order > 0 : order >= 0;
}

/* --- attributes --- */

jinja_value jinja_get_attribute(jinja_state *state, const jinja_value *object, jinja_value name)
{
    jinja_need_defined(state, object);
    if (object->kind == JINJA_LOOP) return jinja_loop_attribute(state, object->loop, name);
    if (name.length >= 4 && memcmp(name.text, "__", 2) == 0 && memcmp(name.text + name.length - 2, "__", 2) == 0)
        return jinja_hint("access to attributes with double underscores is unsafe");
    const jinja_builtin *builtin = jinja_find_method(object, name);
    if (builtin && !builtin->run) return jinja_hint("access to a method that changes its object is unsafe: chat templates may not change their data");
    if (builtin) {
        jinja_method *method = jinja_alloc(state, 1, sizeof *method);
        *method = (jinja_method){*object, builtin};
        return (jinja_value){.kind = JINJA_METHOD, .method = method};
    }
    if (object->kind == JINJA_DICT || object->kind == JINJA_NAMESPACE) {
        const jinja_value *value = jinja_dict_get(state, object->dict, &name);
        if (value) return *value;
    }
    if (object->kind == JINJA_TUPLE && object->flag && (jinja_is(&name, "grouper") || jinja_is(&name, "list")))
        return object->list->items[jinja_is(&name, "list")];
    if (object->kind == JINJA_MACRO && jinja_is(&name, "name") && object->macro->node->kind == NODE_MACRO)
        return state->tmpl->names[object->macro->node->name];
    if (object->kind == JINJA_RANGE && (jinja_is(&name, "start") || jinja_is(&name, "stop") || jinja_is(&name, "step")))
        return jinja_int(name.length == 5 ? object->range->start : name.text[2] == 'o' ? object->range->stop : object->range->step);
    return jinja_no_attribute(object, name);
}

static jinja_value no_element(jinja_state *state, const jinja_value *object, const jinja_value *index)
{
    if (index->kind == JINJA_STRING) return jinja_get_attribute(state, object, *index);
    jinja_buffer hint = {0};
    jinja_append_format(state, &hint, "%s object has no element ", jinja_type(object));
    if (index->kind == JINJA_INT) jinja_append_format(state, &hint, "%lld", (long long)index->integer);
    else jinja_append_format(state, &hint, "of type '%s'", jinja_type(index));
    jinja_value value = jinja_finish(&hint);
    value.kind = JINJA_UNDEFINED;
    value.flag = JINJA_HINT;
    return value;
}

static int64_t sequence_length(jinja_state *state, const jinja_value *object)
{
    if (object->kind != JINJA_STRING) return jinja_length(object);
    jinja_work(state, object->length / 64);
    return (int64_t)jinja_code_count(object->text, object->length);
}

static jinja_value item_at(jinja_state *state, const jinja_value *object, int64_t at)
{
    if (object->kind == JINJA_STRING) return jinja_slice_text(state, *object, at, 1, 1);
    if (object->kind == JINJA_RANGE) return jinja_int(object->range->start + at * object->range->step);
    return object->list->items[at];
}

jinja_value jinja_get_item(jinja_state *state, const jinja_value *object, const jinja_value *index)
{
    jinja_need_defined(state, object);
    if (object->kind == JINJA_DICT) {
        const jinja_value *value = jinja_hashable(index) ? jinja_dict_get(state, object->dict, index) : NULL;
        return value ? *value : no_element(state, object, index);
    }
    if (!is_integer(index) || !(is_sequence(object) || object->kind == JINJA_RANGE)) return no_element(state, object, index);
    int64_t length = sequence_length(state, object), at = to_integer(index);
    if (at < 0) at += length;
    return at < 0 || at >= length ? no_element(state, object, index) : item_at(state, object, at);
}

static int64_t slice_bound(jinja_state *state, const jinja_value *value, int64_t initial, int64_t low, int64_t high, int64_t length)
{
    if (value->kind == JINJA_NONE) return initial;
    jinja_need_defined(state, value);
    if (!is_integer(value)) jinja_fail(state, "slice indices must be integers or None");
    int64_t at = to_integer(value);
    if (at < 0) at = at < -length ? low : at + length;
    return at < low ? low : at > high ? high : at;
}

jinja_value jinja_get_slice(jinja_state *state, const jinja_value *object, const jinja_value *start, const jinja_value *stop,
                            const jinja_value *step)
{
    jinja_need_defined(state, object);
    if (object->kind == JINJA_DICT) jinja_fail(state, "unhashable type: 'slice'");
    if (!is_sequence(object) && object->kind != JINJA_RANGE) jinja_fail(state, "'%s' object is not subscriptable", jinja_type(object));
    int64_t length = sequence_length(state, object), stride = 1;
    if (step->kind != JINJA_NONE) {
        jinja_need_defined(state, step);
        if (!is_integer(step)) jinja_fail(state, "slice indices must be integers or None");
        stride = to_integer(step);
    }
    if (!stride) jinja_fail(state, "slice step cannot be zero");
    if (stride < -length || stride > length) stride = stride < 0 ? -length - 1 : length + 1; /* one item at most */
    int64_t low = stride < 0 ? -1 : 0, high = stride < 0 ? length - 1 : length;
    int64_t from = slice_bound(state, start, stride < 0 ? high : low, low, high, length);
    int64_t to = slice_bound(state, stop, stride < 0 ? low : high, low, high, length), count = 0;
    if (stride > 0 && from < to) count = (to - from - 1) / stride + 1;
    if (stride < 0 && to < from) count = (from - to - 1) / -stride + 1;
    if (object->kind == JINJA_STRING) return jinja_slice_text(state, *object, from, stride, count);
    if (object->kind == JINJA_RANGE) {
        jinja_range *range = jinja_alloc(state, 1, sizeof *range);
        const jinja_range *whole = object->range;
        *range = (jinja_range){whole->start + from * whole->step, whole->start + to * whole->step, whole->step * stride, count};
        return (jinja_value){.kind = JINJA_RANGE, .range = range};
    }
    jinja_list *list = jinja_list_new(state, (size_t)count);
    for (int64_t i = 0; i < count; i++) jinja_list_add(state, list, object->list->items[from + i * stride]);
    return object->kind == JINJA_LIST ? jinja_list_value(list) : jinja_tuple_value(list);
}

jinja_value jinja_path(jinja_state *state, jinja_value item, const jinja_value *path)
{
    if (!path || path->kind == JINJA_NONE || path->kind == JINJA_ABSENT) return item;
    if (path->kind != JINJA_STRING) return jinja_get_item(state, &item, path);
    for (size_t at = 0; at <= path->length;) {
        const char *dot = memchr(path->text + at, '.', path->length - at);
        size_t      end = dot ? (size_t)(dot - path->text) : path->length;
        jinja_value part = jinja_string(path->text + at, end - at);
        if (part.length && part.length < 18 && jinja_all(part, JINJA_DECIMAL) && jinja_all(part, JINJA_ASCII)) {
            int64_t number = 0;
            for (size_t i = 0; i < part.length; i++) number = number * 10 + (part.text[i] - '0');
            part = jinja_int(number);
        }
        item = jinja_get_item(state, &item, &part);
        at = end + 1;
    }
    return item;
}
