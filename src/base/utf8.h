/* utf8.h - one code point at a time, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef CRANK_BASE_UTF8_H
#define CRANK_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the code point at text[0..length), 0 when it is invalid or cut. */
static inline size_t utf8_next(const char *text, size_t length, uint32_t *code)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (length == 0) return 0;
    if (byte[0] < 0x80) {
        *code = byte[0];
        return 1;
    }
    size_t size = byte[0] >= 0xf0 ? 4 : byte[0] >= 0xe0 ? 3 : 2;
    if (byte[0] < 0xc2 || byte[0] > 0xf4 || size > length) return 0;
    uint32_t value = byte[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        if ((byte[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (byte[i] & 0x3fu);
    }
    if (value < (size == 2 ? 0x80u : size == 3 ? 0x800u : 0x10000u) || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *code = value;
    return size;
}

static inline bool utf8_is_valid(const char *text, size_t length)
{
    uint32_t code;
    for (size_t i = 0, size; i < length; i += size)
        if (!(size = utf8_next(text + i, length - i, &code))) return false;
    return true;
}
#endif
