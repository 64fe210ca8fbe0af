/* json_text.c - JSON as text: keys in order, real numbers as the shortest text that reads back equal, UTF-8 as it is.
 *
 * The layout with an indent is Python's json.dumps(indent=2), without one its separators=(",", ":"). */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "base/text.h"

static void put_string(text_buffer *out, const char *bytes, size_t length)
{
    text_putc(out, '"');
    for (size_t i = 0, start = 0; i <= length; i++) {
        unsigned char c = i < length ? (unsigned char)bytes[i] : 0;
        bool          last = i == length;
        if (!last && c >= 0x20 && c != '"' && c != '\\') continue;
        text_add(out, bytes + start, i - start);
        start = i + 1;
        if (last) break;
        const char *plain = "\"\\\b\f\n\r\t", *letters = "\"\\bfnrt", *found = c ? strchr(plain, c) : NULL;
        if (found) text_printf(out, "\\%c", letters[found - plain]);
        else text_printf(out, "\\u%04x", c);
    }
    text_putc(out, '"');
}

static void put_real(text_buffer *out, double value)
{
    char   number[NUMBER_SIZE];
    size_t length = number_print(value, number);
    text_add(out, number, length);
    if (strcspn(number, ".e") == length) text_puts(out, ".0"); /* stays a real when it is read again */
}

static void put_break(text_buffer *out, int indent, int depth)
{
    if (indent <= 0) return;
    text_putc(out, '\n');
    for (int i = 0; i < indent * depth; i++) text_putc(out, ' ');
}

static void put(text_buffer *out, const json_t *value, int indent, int depth)
{
    const char *key;
    json_t     *each;
    size_t      i, count = 0;
    switch (json_typeof(value)) {
    case JSON_NULL: text_puts(out, "null"); return;
    case JSON_TRUE: text_puts(out, "true"); return;
    case JSON_FALSE: text_puts(out, "false"); return;
    case JSON_INTEGER: text_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); return;
    case JSON_REAL: put_real(out, json_real_value(value)); return;
    case JSON_STRING: put_string(out, json_string_value(value), json_string_length(value)); return;
    case JSON_ARRAY:
        text_putc(out, '[');
        json_array_foreach(value, i, each) {
            if (i) text_putc(out, ',');
            put_break(out, indent, depth + 1);
            put(out, each, indent, depth + 1);
        }
        if (json_array_size(value)) put_break(out, indent, depth);
        text_putc(out, ']');
        return;
    case JSON_OBJECT:
        text_putc(out, '{');
        json_object_foreach((json_t *)(uintptr_t)value, key, each) {
            if (count++) text_putc(out, ',');
            put_break(out, indent, depth + 1);
            put_string(out, key, strlen(key));
            text_puts(out, indent > 0 ? ": " : ":");
            put(out, each, indent, depth + 1);
        }
        if (count) put_break(out, indent, depth);
        text_putc(out, '}');
        return;
    }
}

void json_put_string(text_buffer *out, const char *bytes, size_t length) { put_string(out, bytes, length); }

char *json_text(crank_context *context, const json_t *value, int indent)
{
    text_buffer out = {0};
    put(&out, value, indent, 0);
    return text_take(context, &out, "JSON text");
}

crank_status json_write(crank_context *context, const char *path, const json_t *value)
{
    text_buffer out = {0};
    put(&out, value, 2, 0);
    text_putc(&out, '\n');
    char        *text = text_take(context, &out, path);
    crank_status status = text ? file_write_text(context, path, text) : CRANK_FAILED;
    crank_free(text);
    return status;
}
