/* text.c - a text that grows by doubling. */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for `more` bytes and the NUL. */
static bool reserve(text_buffer *text, size_t more)
{
    if (text->failed) return false;
    if (more < text->capacity - text->length && text->capacity) return true;
    size_t wanted = text->length + more + 1, capacity = text->capacity ? text->capacity : 64;
    if (wanted <= more) capacity = 0; /* overflow */
    while (capacity && capacity < wanted) capacity = capacity > SIZE_MAX / 2 ? 0 : capacity * 2;
    char *grown = capacity ? realloc(text->bytes, capacity) : NULL;
    if (!grown) {
        text->failed = true;
        return false;
    }
    text->bytes = grown;
    text->capacity = capacity;
    return true;
}

void text_add(text_buffer *text, const char *bytes, size_t length)
{
    if (!reserve(text, length)) return;
    if (length) memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
}

void text_puts(text_buffer *text, const char *string) { text_add(text, string, strlen(string)); }
void text_putc(text_buffer *text, char c) { text_add(text, &c, 1); }

void text_printf(text_buffer *text, const char *format, ...)
{
    char   *made = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&made, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = true;
        return;
    }
    text_add(text, made, (size_t)length);
    free(made);
}

char *text_take(crank_context *context, text_buffer *text, const char *what)
{
    text_add(text, "", 0);
    char *bytes = text->bytes;
    if (text->failed) {
        crank_fail(context, CRANK_FAILED, "out of memory: %zu bytes for %s", text->length, what);
        free(bytes);
        bytes = NULL;
    }
    *text = (text_buffer){0};
    return bytes;
}

void text_clear(text_buffer *text)
{
    free(text->bytes);
    *text = (text_buffer){0};
}
