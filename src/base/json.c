/* json.c - reading JSON through jansson, and typed members.
 *
 * Python writes whole numbers of any size (transformers' model_max_length is 10^30), jansson stops at 64 bits. Where it
 * stops for that reason, such literals are given a fraction (".0") and read as reals, as other 64-bit readers do. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

enum { FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY };

/* Digits of the literal at text[*at], which is moved behind it; false when it has a fraction or an exponent. */
static bool whole_literal(const char *text, size_t length, size_t *at, size_t *digits)
{
    size_t i = *at + (text[*at] == '-');
    *digits = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) ++*digits;
    bool whole = !(i < length && (text[i] == '.' || text[i] == 'e' || text[i] == 'E'));
    while (i < length && text[i] && strchr("+-.0123456789eE", text[i])) i++;
    *at = i;
    return whole;
}

static bool beyond_64_bits(const char *literal, size_t digits)
{
    const char *limit = *literal == '-' ? "9223372036854775808" : "9223372036854775807";
    return digits > 19 || (digits == 19 && memcmp(literal + (*literal == '-'), limit, 19) > 0);
}

/* The text with ".0" behind each whole number outside strings that needs more than 64 bits */
static void widen_integers(const char *text, size_t length, text_buffer *out)
{
    size_t copied = 0, digits;
    for (size_t i = 0; i < length;) {
        if (text[i] == '"') {
            for (i++; i < length && text[i] != '"'; i++) i += text[i] == '\\' && i + 1 < length;
            i += i < length;
        } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
            size_t start = i;
            if (!whole_literal(text, length, &i, &digits) || !beyond_64_bits(text + start, digits)) continue;
            text_add(out, text + copied, i - copied);
            text_puts(out, ".0");
            copied = i;
        } else i++;
    }
    text_add(out, text + copied, length - copied);
}

json_t *json_parse(crank_context *context, const char *text, size_t length, const char *where)
{
    json_error_t error;
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        text += 3;
        length -= 3;
    }
    json_t *value = json_loadb(text, length, FLAGS, &error);
    if (!value && json_error_code(&error) == json_error_numeric_overflow) {
        text_buffer wide = {0};
        widen_integers(text, length, &wide);
        if (!wide.failed) value = json_loadb(wide.bytes, wide.length, FLAGS, &error);
        text_clear(&wide);
    }
    if (!value) crank_fail(context, CRANK_BAD_DATA, "%s:%d:%d: not valid JSON: %s", where, error.line, error.column, error.text);
    return value;
}

json_t *json_read(crank_context *context, const char *path)
{
    size_t  length;
    char   *text = file_read(context, path, &length);
    json_t *value = text ? json_parse(context, text, length, path) : NULL;
    crank_free(text);
    return value;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number with a fraction";
    case JSON_NULL: return "null";
    default: return "true or false";
    }
}

static crank_status wrong_type(crank_context *context, const json_t *value, const char *key, const char *where,
                               const char *wanted)
{
    return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is %s; it must be %s", where, key, type_name(value), wanted);
}

/* The member, NULL when it is absent or null. *status is CRANK_BAD_DATA when `object` is no object. */
static const json_t *member(crank_context *context, const json_t *object, const char *key, const char *where,
                            crank_status *status)
{
    *status = CRANK_OK;
    if (!json_is_object(object)) {
        *status = crank_fail(context, CRANK_BAD_DATA, "%s: must be a JSON object with `%s`", where, key);
        return NULL;
    }
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static crank_status take_int(crank_context *context, const json_t *value, const char *key, int64_t low, int64_t high,
                             int64_t *out, const char *where)
{
    if (!json_is_integer(value)) return wrong_type(context, value, key, where, "a whole number");
    json_int_t number = json_integer_value(value);
    if (number < low || number > high)
        return crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is %lld; it must be from %lld to %lld", where, key, number,
                          (long long)low, (long long)high);
    *out = number;
    return CRANK_OK;
}

crank_status json_get_int(crank_context *context, const json_t *object, const char *key, int64_t low, int64_t high,
                          int64_t initial, int64_t *out, const char *where)
{
    crank_status  status;
    const json_t *value = member(context, object, key, where, &status);
    *out = initial;
    return value ? take_int(context, value, key, low, high, out, where) : status;
}

crank_status json_need_int(crank_context *context, const json_t *object, const char *key, int64_t low, int64_t high,
                           int64_t *out, const char *where)
{
    crank_status  status;
    const json_t *value = member(context, object, key, where, &status);
    *out = 0;
    if (value) return take_int(context, value, key, low, high, out, where);
    return status != CRANK_OK ? status : crank_fail(context, CRANK_BAD_DATA, "%s: `%s` is missing", where, key);
}

crank_status json_get_number(crank_context *context, const json_t *object, const char *key, double initial, double *out,
                             const char *where)
{
    crank_status  status;
    const json_t *value = member(context, object, key, where, &status);
    *out = initial;
    if (!value) return status;
    if (!json_is_number(value)) return wrong_type(context, value, key, where, "a number");
    *out = json_number_value(value);
    return CRANK_OK;
}

crank_status json_get_bool(crank_context *context, const json_t *object, const char *key, bool initial, bool *out,
                           const char *where)
{
    crank_status  status;
    const json_t *value = member(context, object, key, where, &status);
    *out = initial;
    if (!value) return status;
    if (!json_is_boolean(value)) return wrong_type(context, value, key, where, "true or false");
    *out = json_is_true(value);
    return CRANK_OK;
}

const char *json_get_string(crank_context *context, const json_t *object, const char *key, const char *where,
                            crank_status *status)
{
    const json_t *value = member(context, object, key, where, status);
    if (!value) return NULL;
    if (!json_is_string(value)) {
        *status = wrong_type(context, value, key, where, "a string");
        return NULL;
    }
    return json_string_value(value);
}
