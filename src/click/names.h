/* names.h - numbers for names: each (scope, text) gets the next number when it is first seen. */
#ifndef CRANK_CLICK_NAMES_H
#define CRANK_CLICK_NAMES_H

#include "base/text.h"

typedef struct names {
    text_buffer text;
    int64_t    *at;     /* [count]: place of the text */
    int32_t    *scope;  /* [count] */
    uint32_t   *length;
    int32_t    *slots;  /* [capacity]: number + 1 */
    int64_t     count, room, capacity;
} names; /* starts as {0} */

int64_t names_find(const names *table, int32_t scope, const char *text, size_t length); /* -1: none */
int64_t names_add(names *table, int32_t scope, const char *text, size_t length);        /* -1: out of memory */
void    names_free(names *table);
#endif
