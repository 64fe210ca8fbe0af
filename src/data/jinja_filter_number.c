/* jinja_filter_number.c - filters on single values: int, float, round, abs, default, length, attr. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_filter.h"

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

static jinja_value trimmed(jinja_value text)
{
    while (text.length) {
        size_t at = 0;
        if (!jinja_is_space(jinja_next_code(text.text, text.length, &at))) break;
        text = jinja_string(text.text + at, text.length - at);
    }
    while (text.length) {
        size_t at = text.length;
        if (!jinja_is_space(jinja_previous_code(text.text, &at))) break;
        text.length = at;
    }
    return text;
}

/* A base prefix counts when it names the base that was asked for, or base 0, where it decides. */
static size_t skip_prefix(const jinja_value *text, size_t at, int64_t *base)
{
    if (at + 1 >= text->length || text->text[at] != '0') {
        if (!*base) *base = 10;
        return at;
    }
    char    mark = (char)(text->text[at + 1] | 32);
    int64_t named = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    bool    counts = named && (!*base || *base == named);
    if (!*base) *base = named ? named : 10;
    return counts ? at + 2 + (at + 2 < text->length && text->text[at + 2] == '_') : at;
}

bool jinja_parse_int(jinja_value text, int64_t base, int64_t *out)
{
    text = trimmed(text);
    size_t  at = text.length && (text.text[0] == '-' || text.text[0] == '+');
    bool    negative = at && text.text[0] == '-', digits = false;
    int64_t value = 0;
    if (base && (base < 2 || base > 36)) return false;
    for (at = skip_prefix(&text, at, &base); at < text.length; at++) {
        if (text.text[at] == '_' && digits && at + 1 < text.length && text.text[at + 1] != '_') continue;
        int digit = digit_value(text.text[at]);
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
        digits = true;
    }
    *out = value;
    return digits && text.text[text.length - 1] != '_';
}

/* Digits with single underscores between them; moves *at behind them. */
static bool skip_digits(const jinja_value *text, size_t *at, jinja_state *state, jinja_buffer *out)
{
    size_t start = *at;
    while (*at < text->length) {
        char c = text->text[*at];
        if (c == '_' && *at > start && *at + 1 < text->length && text->text[*at - 1] != '_' && digit_value(text->text[*at + 1]) < 10) {
            ++*at;
            continue;
        }
        if (digit_value(c) >= 10) break;
        jinja_append(state, out, &c, 1);
        ++*at;
    }
    return *at > start;
}

bool jinja_parse_float(jinja_state *state, jinja_value text, double *out)
{
    text = trimmed(text);
    size_t       at = text.length && (text.text[0] == '-' || text.text[0] == '+');
    jinja_value  word = jinja_change_case(state, jinja_string(text.text + at, text.length - at), JINJA_LOWER);
    bool         negative = at && text.text[0] == '-';
    jinja_buffer number = {0};
    if (jinja_is(&word, "inf") || jinja_is(&word, "infinity")) return *out = negative ? -INFINITY : INFINITY, true;
    if (jinja_is(&word, "nan")) return *out = NAN, true;
    bool digits = skip_digits(&text, &at, state, &number);
    if (at < text.length && text.text[at] == '.') {
        jinja_append_text(state, &number, ".");
        at++;
        digits |= skip_digits(&text, &at, state, &number);
    }
    if (!digits) return false;
    if (at < text.length && (text.text[at] | 32) == 'e') {
        jinja_append_text(state, &number, "e");
        if (++at < text.length && (text.text[at] == '-' || text.text[at] == '+')) jinja_append(state, &number, &text.text[at++], 1);
        if (!skip_digits(&text, &at, state, &number)) return false;
    }
    if (at != text.length) return false;
    jinja_append(state, &number, "", 1);
    *out = strtod(number.text, NULL);
    if (negative) *out = -*out;
    return true;
}

FILTER(int)
{
    UNUSED;
    int64_t     integer, base = int_or(state, &slots[1], 10, "base");
    double      real;
    jinja_value otherwise = slots[0].kind == JINJA_ABSENT ? jinja_int(0) : slots[0];
    switch (self.kind) {
    case JINJA_INT: return self;
    case JINJA_BOOL: return jinja_int(self.boolean);
    case JINJA_FLOAT: real = self.real; break;
    case JINJA_STRING:
        if (jinja_parse_int(self, base, &integer)) return jinja_int(integer);
        if (!jinja_parse_float(state, self, &real) || isinf(real)) return otherwise;
        break;
    default: jinja_need_defined(state, &self); return otherwise;
    }
    if (isnan(real)) return otherwise;
    if (isinf(real)) jinja_fail(state, "cannot convert float infinity to integer");
    if (fabs(real) >= 9.2233720368547758e18) jinja_fail(state, "an integer does not fit 64 bits");
    return jinja_int((int64_t)real);
}

FILTER(float)
{
    UNUSED;
    double real;
    switch (self.kind) {
    case JINJA_FLOAT: return self;
    case JINJA_INT: return jinja_float((double)self.integer);
    case JINJA_BOOL: return jinja_float(self.boolean);
    case JINJA_STRING:
        if (jinja_parse_float(state, self, &real)) return jinja_float(real);
        break;
    default: jinja_need_defined(state, &self);
    }
    return slots[0].kind == JINJA_ABSENT ? jinja_float(0) : slots[0];
}

/* An integer rounded to a multiple of 10^-precision, halves to even. */
static jinja_value round_integer(jinja_state *state, int64_t value, int64_t precision)
{
    if (precision >= 0) return jinja_int(value);
    if (precision < -18) return jinja_int(0);
    int64_t unit = 1, result;
    for (; precision < 0; precision++) unit *= 10;
    int64_t rest = ((value % unit) + unit) % unit, half = unit / 2;
    if (__builtin_sub_overflow(value, rest, &result)) jinja_fail(state, "an integer does not fit 64 bits");
    if ((rest > half || (rest == half && (result / unit) % 2)) && __builtin_add_overflow(result, unit, &result))
        jinja_fail(state, "an integer does not fit 64 bits");
    return jinja_int(result);
}

static double round_real(double value, int64_t precision)
{
    char text[800];
    if (!isfinite(value) || precision > 340) return value;
    if (precision < -310) return copysign(0, value);
    if (precision < 0) {
        double unit = pow(10, (double)-precision);
        return rint(value / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", (int)precision, value); /* exact decimal, halves to even, as Python's round */
    return strtod(text, NULL);
}

FILTER(round)
{
    UNUSED;
    jinja_value method = given(&slots[1]) ? slots[1] : jinja_static("common");
    int64_t     precision = int_or(state, &slots[0], 0, "precision");
    jinja_need_defined(state, &self);
    if (self.kind != JINJA_INT && self.kind != JINJA_FLOAT && self.kind != JINJA_BOOL)
        jinja_fail(state, "filter 'round' needs a number, not %s", jinja_type(&self));
    double value = self.kind == JINJA_FLOAT ? self.real : self.kind == JINJA_INT ? (double)self.integer : (double)self.boolean;
    if (jinja_is(&method, "common")) {
        if (self.kind != JINJA_FLOAT) return round_integer(state, self.kind == JINJA_INT ? self.integer : self.boolean, precision);
        return jinja_float(round_real(value, precision));
    }
    bool ceiling = jinja_is(&method, "ceil");
    if (!ceiling && !jinja_is(&method, "floor")) jinja_fail(state, "method must be common, ceil or floor");
    if (!isfinite(value)) jinja_fail(state, "cannot convert float %g to integer", value);
    double unit = pow(10, (double)precision);
    return jinja_float((ceiling ? ceil(value * unit) : floor(value * unit)) / unit);
}

FILTER(abs)
{
    UNUSED;
    jinja_need_defined(state, &self);
    if (self.kind == JINJA_FLOAT) return jinja_float(fabs(self.real));
    if (self.kind == JINJA_BOOL) return jinja_int(self.boolean);
    if (self.kind != JINJA_INT) jinja_fail(state, "bad operand type for abs(): '%s'", jinja_type(&self));
    if (self.integer == INT64_MIN) jinja_fail(state, "an integer does not fit 64 bits");
    return jinja_int(self.integer < 0 ? -self.integer : self.integer);
}

FILTER(default)
{
    UNUSED;
    bool missing = self.kind == JINJA_UNDEFINED || (flag_or(&slots[1], false) && !jinja_truth(&self));
    return !missing ? self : given(&slots[0]) ? slots[0] : jinja_static("");
}

FILTER(length)
{
    UNUSED;
    int64_t length = self.kind == JINJA_STRING ? (int64_t)jinja_code_count(self.text, self.length) : jinja_length(&self);
    if (self.kind == JINJA_STRING) jinja_work(state, self.length / 64);
    if (length < 0) jinja_fail(state, "object of type '%s' has no len()", jinja_type(&self));
    return jinja_int(length);
}

/* The attribute alone, never an item of that name. */
FILTER(attr)
{
    UNUSED;
    jinja_value name = jinja_str(state, &slots[0]);
    if (self.kind == JINJA_DICT && !jinja_find_method(&self, name)) return jinja_no_attribute(&self, name);
    return jinja_get_attribute(state, &self, name);
}

const jinja_builtin jinja_number_filters[] = {
    {"abs", "", 0, filter_abs},
    {"attr", "name", 1, filter_attr},
    {"count", "", 0, filter_length},
    {"d", "default_value boolean", 0, filter_default},
    {"default", "default_value boolean", 0, filter_default},
    {"float", "default", 0, filter_float},
    {"int", "default base", 0, filter_int},
    {"length", "", 0, filter_length},
    {"round", "precision method", 0, filter_round},
    {0},
};
