/* jinja_format.c - Python's two ways to format: "text %05.2f" % value and "text {name:>8}".format(...). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/jinja_eval.h"
#include "data/jinja_text.h"

#define MAX_PRECISION 1000

/* One field: what stands between % or : and the type letter. */
typedef struct format_field {
    bool     left, plus, space, alternate, zero; /* flags of % */
    char     align, sign, grouping;              /* of format(): < > ^ = ; + - space ; , _ ; 0: not given */
    uint32_t fill;
    int64_t  width, precision; /* precision -1: not given */
    char     type;             /* 0: not given */
} format_field;

static double need_real(jinja_state *state, const jinja_value *value)
{
    jinja_need_defined(state, value);
    if (value->kind == JINJA_FLOAT) return value->real;
    if (value->kind == JINJA_INT) return (double)value->integer;
    if (value->kind == JINJA_BOOL) return value->boolean;
    jinja_fail(state, "must be real number, not %s", jinja_type(value));
}

/* Digits of |value| by C's formatting, in the arena. */
static jinja_value real_digits(jinja_state *state, const format_field *field, char type, double value)
{
    jinja_buffer out = {0};
    char         format[16];
    int          precision = field->precision < 0 ? 6 : (int)field->precision;
    if (!isfinite(value)) return jinja_static(type < 'a' ? (isnan(value) ? "NAN" : "INF") : isnan(value) ? "nan" : "inf");
    snprintf(format, sizeof format, "%%%s.*%c", field->alternate ? "#" : "", type);
    int   length = snprintf(NULL, 0, format, precision, fabs(value));
    char *text = jinja_alloc(state, (size_t)length + 1, 1);
    snprintf(text, (size_t)length + 1, format, precision, fabs(value));
    jinja_append(state, &out, text, (size_t)length);
    return jinja_finish(&out);
}

static jinja_value integer_digits(jinja_state *state, int64_t value, char type)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    unsigned          base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    uint64_t          rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char              text[64];
    size_t            at = sizeof text;
    do text[--at] = (type == 'X' ? upper : lower)[rest % base];
    while (rest /= base);
    jinja_buffer out = {0};
    jinja_append(state, &out, text + at, sizeof text - at);
    return jinja_finish(&out);
}

static jinja_value cut(jinja_state *state, jinja_value text, int64_t precision)
{
    if (precision < 0 || precision >= (int64_t)text.length) return text;
    return jinja_slice_text(state, text, 0, 1, (int64_t)jinja_code_count(text.text, text.length) < precision ? (int64_t)text.length : precision);
}

/* Sign, prefix (0x) and digits, with zeros put between them up to the width. */
static jinja_value put_number(jinja_state *state, const char *sign, const char *prefix, jinja_value digits, int64_t zeros_to)
{
    jinja_buffer out = {0};
    jinja_append_text(state, &out, sign);
    jinja_append_text(state, &out, prefix);
    int64_t have = (int64_t)(strlen(sign) + strlen(prefix) + digits.length);
    if (zeros_to > (int64_t)JINJA_MAX_OUTPUT) jinja_fail(state, "a field of %lld characters is too wide", (long long)zeros_to);
    for (; have < zeros_to; have++) jinja_append_text(state, &out, "0");
    jinja_append(state, &out, digits.text, digits.length);
    return jinja_finish(&out);
}

/* --- "..." % value --- */

typedef struct percent_job {
    jinja_state       *state;
    const jinja_value *value; /* the right side */
    size_t             used;  /* of its items */
} percent_job;

static jinja_value next_argument(percent_job *percent)
{
    const jinja_value *value = percent->value;
    if (value->kind == JINJA_TUPLE) {
        if (percent->used < value->list->count) return value->list->items[percent->used++];
    } else if (!percent->used) {
        percent->used = 1;
        return *value;
    }
    jinja_fail(percent->state, "not enough arguments for format string");
}

static int64_t read_count(percent_job *percent, const jinja_value *format, size_t *at)
{
    int64_t count = 0;
    if (*at < format->length && format->text[*at] == '*') {
        ++*at;
        jinja_value value = next_argument(percent);
        return jinja_need_int(percent->state, &value, "a * field");
    }
    for (; *at < format->length && format->text[*at] >= '0' && format->text[*at] <= '9'; ++*at)
        if ((count = count * 10 + format->text[*at] - '0') > (int64_t)JINJA_MAX_OUTPUT) jinja_fail(percent->state, "a field is too wide");
    return count;
}

static format_field read_percent_field(percent_job *percent, const jinja_value *format, size_t *at)
{
    format_field field = {.precision = -1};
    for (; *at < format->length; ++*at) {
        char c = format->text[*at];
        if (c == '-') field.left = true;
        else if (c == '+') field.plus = true;
        else if (c == ' ') field.space = true;
        else if (c == '#') field.alternate = true;
        else if (c == '0') field.zero = true;
        else break;
    }
    field.width = read_count(percent, format, at);
    if (field.width < 0) field.left = true, field.width = field.width < -(int64_t)JINJA_MAX_OUTPUT ? (int64_t)JINJA_MAX_OUTPUT + 1 : -field.width;
    if (*at < format->length && format->text[*at] == '.') {
        ++*at;
        field.precision = read_count(percent, format, at);
        if (field.precision < 0) field.precision = 0;
    }
    while (*at < format->length && strchr("hlL", format->text[*at])) ++*at;
    if (*at >= format->length) jinja_fail(percent->state, "incomplete format");
    field.type = format->text[(*at)++];
    return field;
}

static jinja_value percent_number(jinja_state *state, format_field *field, const jinja_value *value)
{
    static const char *const prefixes[] = {"0x", "0X", "0o", ""};
    jinja_value              digits;
    bool                     negative;
    const char              *prefix = "";
    if (field->precision > MAX_PRECISION) jinja_fail(state, "a precision of %lld is too large", (long long)field->precision);
    if (strchr("eEfFgG", field->type)) {
        double real = need_real(state, value);
        negative = signbit(real) && !isnan(real);
        digits = real_digits(state, field, field->type, real);
    } else {
        int64_t integer;
        jinja_need_defined(state, value);
        if (value->kind == JINJA_FLOAT && strchr("diu", field->type)) {
            if (!(fabs(value->real) < 9.2e18)) jinja_fail(state, "cannot convert float %g to integer", value->real);
            integer = (int64_t)value->real;
        } else {
            if (value->kind != JINJA_INT && value->kind != JINJA_BOOL)
                jinja_fail(state, "%%%c format: an integer is required, not %s", field->type, jinja_type(value));
            integer = value->kind == JINJA_BOOL ? value->boolean : value->integer;
        }
        negative = integer < 0;
        if (field->alternate) prefix = prefixes[field->type == 'x' ? 0 : field->type == 'X' ? 1 : field->type == 'o' ? 2 : 3];
        digits = put_number(state, "", "", integer_digits(state, integer, field->type), field->precision);
    }
    const char *sign = negative ? "-" : field->plus ? "+" : field->space ? " " : "";
    return put_number(state, sign, prefix, digits, field->zero && !field->left ? field->width : 0);
}

static jinja_value percent_field(percent_job *percent, format_field *field, jinja_value value)
{
    jinja_state *state = percent->state;
    jinja_buffer out = {0};
    switch (field->type) {
    case 's': return cut(state, jinja_str(state, &value), field->precision);
    case 'r':
    case 'a': jinja_repr(state, &out, &value); return cut(state, jinja_finish(&out), field->precision);
    case 'c':
        if (value.kind == JINJA_STRING && jinja_code_count(value.text, value.length) == 1) return value;
        if (value.kind != JINJA_INT || value.integer < 0 || value.integer > 0x10FFFF || (value.integer >= 0xD800 && value.integer < 0xE000))
            jinja_fail(state, "%%c requires an int that is a character, or one character");
        jinja_append_code(state, &out, (uint32_t)value.integer);
        return jinja_finish(&out);
    case 'd': case 'i': case 'u': case 'x': case 'X': case 'o': case 'e': case 'E': case 'f': case 'F': case 'g': case 'G':
        return percent_number(state, field, &value);
    default: jinja_fail(state, "unsupported format character '%c'", field->type);
    }
}

static jinja_value read_key(percent_job *percent, const jinja_value *format, size_t *at)
{
    size_t start = ++*at;
    for (int depth = 1; *at < format->length; ++*at) {
        if (format->text[*at] == '(') depth++;
        if (format->text[*at] == ')' && --depth == 0) break;
    }
    if (*at >= format->length) jinja_fail(percent->state, "incomplete format key");
    if (percent->value->kind != JINJA_DICT) jinja_fail(percent->state, "format requires a mapping");
    jinja_value        key = jinja_string(format->text + start, *at - start);
    const jinja_value *value = jinja_dict_get(percent->state, percent->value->dict, &key);
    if (!value) jinja_fail(percent->state, "format needs the key '%.*s'", (int)(key.length < 60 ? key.length : 60), key.text);
    ++*at;
    return *value;
}

jinja_value jinja_percent(jinja_state *state, jinja_value format, const jinja_value *value)
{
    percent_job  percent = {state, value, 0};
    jinja_buffer out = {0};
    bool         mapping = value->kind == JINJA_DICT || value->kind == JINJA_LIST || value->kind == JINJA_RANGE || value->kind == JINJA_UNDEFINED;
    for (size_t at = 0; at < format.length;) {
        const char *mark = memchr(format.text + at, '%', format.length - at);
        size_t      end = mark ? (size_t)(mark - format.text) : format.length;
        jinja_append(state, &out, format.text + at, end - at);
        if (!mark) break;
        jinja_work(state, 1);
        at = end + 1;
        bool        keyed = at < format.length && format.text[at] == '(';
        jinja_value argument = keyed ? read_key(&percent, &format, &at) : jinja_none();
        format_field       field = read_percent_field(&percent, &format, &at);
        if (field.type == '%') {
            jinja_append_text(state, &out, "%");
            continue;
        }
        if (!keyed) argument = next_argument(&percent);
        jinja_value text = jinja_pad(state, percent_field(&percent, &field, argument), field.width, ' ', field.left ? -1 : 1);
        jinja_append(state, &out, text.text, text.length);
    }
    /* what gives items by key, as these do in Python, need not be used up */
    size_t given = value->kind == JINJA_TUPLE ? value->list->count : 1;
    if (percent.used < given && !mapping) jinja_fail(state, "not all arguments converted during string formatting");
    return jinja_finish(&out);
}

/* --- "{}".format(...) --- */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static format_field read_spec(jinja_state *state, const jinja_value *spec)
{
    format_field  field = {.precision = -1, .fill = ' '};
    size_t at = 0, next = 0, end = spec->length;
    if (end) {
        uint32_t first = jinja_next_code(spec->text, end, &next);
        if (next < end && strchr("<>=^", spec->text[next])) field.fill = first, field.align = spec->text[next], at = next + 1;
        else if (first < 0x80 && first && strchr("<>=^", (int)first)) field.align = (char)first, at = 1;
    }
    if (at < end && spec->text[at] && strchr("+- ", spec->text[at])) field.sign = spec->text[at++];
    if (at < end && spec->text[at] == '#') field.alternate = true, at++;
    if (at < end && spec->text[at] == '0') {
        at++;
        field.zero = true;
        if (!field.align) field.fill = '0';
    }
    for (; at < end && spec->text[at] >= '0' && spec->text[at] <= '9'; at++)
        if ((field.width = field.width * 10 + spec->text[at] - '0') > (int64_t)JINJA_MAX_OUTPUT) jinja_fail(state, "a field is too wide");
    if (at < end && (spec->text[at] == ',' || spec->text[at] == '_')) field.grouping = spec->text[at++];
    if (at < end && spec->text[at] == '.') {
        for (field.precision = 0, at++; at < end && spec->text[at] >= '0' && spec->text[at] <= '9'; at++)
            if ((field.precision = field.precision * 10 + spec->text[at] - '0') > (int64_t)JINJA_MAX_OUTPUT) jinja_fail(state, "a precision is too large");
    }
    if (at < end) field.type = spec->text[at++];
    if (at < end) jinja_fail(state, "Invalid format specifier '%.*s'", (int)(end < 60 ? end : 60), spec->text);
    return field;
}

static jinja_value group_digits(jinja_state *state, jinja_value digits, const format_field *field)
{
    size_t       whole = 0, every = field->type == 'x' || field->type == 'X' || field->type == 'o' || field->type == 'b' ? 4 : 3;
    jinja_buffer out = {0};
    if (!field->grouping) return digits;
    while (whole < digits.length && digits.text[whole] != '.' && digits.text[whole] != 'e' && digits.text[whole] != '%') whole++;
    for (size_t i = 0; i < digits.length; i++) {
        if (i && i < whole && (whole - i) % every == 0) jinja_append(state, &out, &field->grouping, 1);
        jinja_append(state, &out, digits.text + i, 1);
    }
    return jinja_finish(&out);
}

/* Digits of a float for format(): without a type the shortest that reads back, or %g with a decimal point kept. */
static jinja_value spec_real(jinja_state *state, const format_field *field, double real)
{
    jinja_buffer out = {0};
    jinja_value  digits;
    if (!field->type && field->precision < 0) {
        jinja_write_float(state, &out, fabs(real));
        return jinja_finish(&out);
    }
    if (field->type == '%') {
        digits = real_digits(state, field, 'f', real * 100);
        return jinja_concat(state, digits, jinja_static("%"));
    }
    digits = real_digits(state, field, field->type ? field->type : 'g', real);
    if (!field->type && !memchr(digits.text, '.', digits.length) && !memchr(digits.text, 'e', digits.length) && isfinite(real))
        return jinja_concat(state, digits, jinja_static(".0"));
    return digits;
}

static jinja_value spec_number(jinja_state *state, const format_field *field, const jinja_value *value)
{
    jinja_value digits;
    bool        negative;
    const char *prefix = "";
    if (field->precision > MAX_PRECISION) jinja_fail(state, "a precision of %lld is too large", (long long)field->precision);
    if (value->kind == JINJA_FLOAT || (field->type && strchr("eEfFgG%", field->type))) {
        if (field->type && !strchr("eEfFgG%", field->type)) jinja_fail(state, "Unknown format code '%c' for object of type 'float'", field->type);
        double real = need_real(state, value);
        negative = signbit(real) && !isnan(real);
        digits = spec_real(state, field, real);
    } else {
        int64_t integer = value->kind == JINJA_BOOL ? (int64_t)value->boolean : value->integer;
        if (field->type && !strchr("dboxXn", field->type)) jinja_fail(state, "Unknown format code '%c' for object of type 'int'", field->type);
        if (field->precision >= 0) jinja_fail(state, "Precision not allowed in integer format specifier");
        negative = integer < 0;
        digits = integer_digits(state, integer, field->type);
        if (field->alternate) prefix = field->type == 'x' ? "0x" : field->type == 'X' ? "0X" : field->type == 'o' ? "0o" : field->type == 'b' ? "0b" : "";
    }
    const char *sign = negative ? "-" : field->sign == '+' ? "+" : field->sign == ' ' ? " " : "";
    bool        inside = field->align == '=' || (field->zero && !field->align);
    if (inside && field->fill != '0' && !field->zero) { /* fill between the sign and the digits */
        jinja_value filled = jinja_pad(state, group_digits(state, digits, field), field->width - (int64_t)strlen(sign), field->fill, 1);
        return put_number(state, sign, prefix, filled, 0);
    }
    jinja_value number = put_number(state, sign, prefix, group_digits(state, digits, field), inside ? field->width : 0);
    return jinja_pad(state, number, field->width, field->fill, field->align == '<' ? -1 : field->align == '^' ? 0 : 1);
}

static jinja_value centred(jinja_state *state, jinja_value text, int64_t width, uint32_t fill) /* the spare one goes right */
{
    int64_t length = (int64_t)jinja_code_count(text.text, text.length);
    return jinja_pad(state, jinja_pad(state, text, width > length ? length + (width - length) / 2 : 0, fill, 1), width, fill, -1);
}

static jinja_value format_value(jinja_state *state, const jinja_value *value, const jinja_value *spec)
{
    if (!spec->length) return jinja_str(state, value);
    format_field field = read_spec(state, spec);
    if (value->kind == JINJA_INT || value->kind == JINJA_FLOAT || (value->kind == JINJA_BOOL && field.type && field.type != 's'))
        return spec_number(state, &field, value);
    if (value->kind != JINJA_STRING && value->kind != JINJA_BOOL) jinja_fail(state, "unsupported format string passed to %s.__format__", jinja_type(value));
    if (field.type && field.type != 's') jinja_fail(state, "Unknown format code '%c' for object of type 'str'", field.type);
    if (field.align == '=') jinja_fail(state, "'=' alignment not allowed in string format specifier");
    jinja_value text = cut(state, jinja_str(state, value), field.precision);
    if (field.align == '^') return centred(state, text, field.width, field.fill);
    return jinja_pad(state, text, field.width, field.fill, field.align == '>' ? 1 : -1);
}

typedef struct braces_job {
    jinja_state           *state;
    const jinja_arguments *arguments;
    int64_t                next; /* automatic number; -1: numbers are written out */
} braces_job;

static jinja_value first_part(braces_job *braces, jinja_value name)
{
    const jinja_arguments *arguments = braces->arguments;
    int64_t                number = 0;
    bool                   digits = name.length && name.length < 10;
    for (size_t i = 0; i < name.length && digits; i++) {
        digits = name.text[i] >= '0' && name.text[i] <= '9';
        number = number * 10 + name.text[i] - '0';
    }
    if (!name.length || digits) {
        if (digits ? braces->next > 0 : braces->next < 0) jinja_fail(braces->state, "cannot switch between automatic and manual field numbering");
        if (digits) braces->next = -1;
        else number = braces->next++;
        if (number >= (int64_t)arguments->count) jinja_fail(braces->state, "Replacement index %lld out of range for positional args tuple", (long long)number);
        return arguments->positional[number];
    }
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (arguments->names[i].length == name.length && memcmp(arguments->names[i].text, name.text, name.length) == 0) return arguments->values[i];
    jinja_fail(braces->state, "format needs the argument '%.*s'", (int)(name.length < 60 ? name.length : 60), name.text);
}

/* name.attribute[item]... */
static jinja_value find_field(braces_job *braces, jinja_value name)
{
    size_t at = 0;
    while (at < name.length && name.text[at] != '.' && name.text[at] != '[') at++;
    jinja_value value = first_part(braces, jinja_string(name.text, at));
    while (at < name.length) {
        bool   item = name.text[at] == '[';
        size_t start = at + 1, end = start;
        if (!item && name.text[at] != '.') jinja_fail(braces->state, "Only '.' or '[' may follow ']' in format field specifier");
        while (end < name.length && (item ? name.text[end] != ']' : name.text[end] != '.' && name.text[end] != '[')) end++;
        if (item && end >= name.length) jinja_fail(braces->state, "Missing ']' in format string");
        jinja_value part = jinja_string(name.text + start, end - start);
        if (!part.length) jinja_fail(braces->state, "Empty attribute in format string");
        value = item ? jinja_path(braces->state, value, &part) : jinja_get_attribute(braces->state, &value, part);
        at = end + item;
    }
    return value;
}

static jinja_value expand(braces_job *braces, jinja_value format, int level);

/* The field's name ends at ! or :, which may also stand inside [...]. */
static size_t name_end(const jinja_value *text)
{
    bool bracket = false;
    for (size_t at = 0; at < text->length; at++) {
        char c = text->text[at];
        if (c == '[') bracket = true;
        else if (c == ']') bracket = false;
        else if (!bracket && (c == '!' || c == ':')) return at;
    }
    return text->length;
}

/* What stands between { and its }: name!conversion:spec, where the spec may hold fields itself. */
static jinja_value one_field(braces_job *braces, jinja_value text, int level)
{
    jinja_state *state = braces->state;
    size_t       name = name_end(&text);
    jinja_value  value = find_field(braces, jinja_string(text.text, name));
    jinja_buffer out = {0};
    if (name < text.length && text.text[name] == '!') {
        char conversion = name + 1 < text.length ? text.text[name + 1] : 0;
        if (conversion == 's') value = jinja_str(state, &value);
        else if (conversion == 'r') jinja_repr(state, &out, &value), value = jinja_finish(&out);
        else jinja_fail(state, "Unknown conversion specifier after '!'");
        name += 2;
        if (name < text.length && text.text[name] != ':') jinja_fail(state, "expected ':' after conversion specifier");
    }
    jinja_value spec = name < text.length ? jinja_string(text.text + name + 1, text.length - name - 1) : jinja_static("");
    spec = expand(braces, spec, level + 1);
    return format_value(state, &value, &spec);
}

static jinja_value expand(braces_job *braces, jinja_value format, int level)
{
    jinja_state *state = braces->state;
    jinja_buffer out = {0};
    if (level > 2) jinja_fail(state, "Max string recursion exceeded");
    for (size_t at = 0; at < format.length; at++) {
        char c = format.text[at];
        if ((c == '{' || c == '}') && at + 1 < format.length && format.text[at + 1] == c) {
            jinja_append(state, &out, &c, 1);
            at++;
            continue;
        }
        if (c == '}') jinja_fail(state, "Single '}' encountered in format string");
        if (c != '{') {
            jinja_append(state, &out, &c, 1);
            continue;
        }
        size_t end = at + 1;
        for (int depth = 1; end < format.length; end++) {
            if (format.text[end] == '{') depth++;
            if (format.text[end] == '}' && --depth == 0) break;
        }
        if (end >= format.length) jinja_fail(state, "expected '}' before end of string");
        jinja_work(state, 1 + (end - at) / 16);
        jinja_value text = one_field(braces, jinja_string(format.text + at + 1, end - at - 1), level);
        jinja_append(state, &out, text.text, text.length);
        at = end;
    }
    return jinja_finish(&out);
}

jinja_value jinja_format_braces(jinja_state *state, jinja_value format, const jinja_arguments *arguments)
{
    braces_job braces = {state, arguments, 0};
    return expand(&braces, format, 0);
}
