/* text.h - a text that grows. Out of memory is sticky: adding goes on doing nothing, text_take tells it once. */
#ifndef CRANK_BASE_TEXT_H
#define CRANK_BASE_TEXT_H

#include "crank/base.h"

typedef struct text_buffer {
    char  *bytes; /* NUL-terminated when not NULL; free with crank_free */
    size_t length, capacity;
    bool   failed;
} text_buffer; /* starts as {0} */

void text_add(text_buffer *text, const char *bytes, size_t length);
void text_puts(text_buffer *text, const char *string);
void text_putc(text_buffer *text, char c);
void text_printf(text_buffer *text, const char *format, ...) CRANK_PRINTF(2, 3);
/* The text (crank_free), the buffer empty again; NULL with a message naming `what` when memory was out. */
char *text_take(crank_context *context, text_buffer *text, const char *what);
void  text_clear(text_buffer *text); /* frees */
#endif
