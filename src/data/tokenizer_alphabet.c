/* tokenizer_alphabet.c - the byte-level alphabet of GPT-2: every byte written as one printable character.
 *
 *     ! to ~, U+00A1 to U+00AC, U+00AE to U+00FF stand for themselves;
 *     the 68 other bytes, in rising order, are U+0100, U+0101, ... (a space is U+0120) */
#include "data/tokenizer_parts.h"

uint32_t byte_to_character(unsigned char byte)
{
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE) return byte;
    if (byte <= ' ') return 0x100u + byte;
    if (byte <= 0xA0) return 0x100u + 33 + (byte - 0x7Fu);
    return 0x100u + 67; /* 0xAD */
}

int character_to_byte(uint32_t c)
{
    if (c < 0x100) return byte_to_character((unsigned char)c) == c ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c < 0x100 + 67) return (int)(c - 0x100 - 33 + 0x7F);
    return c == 0x100 + 67 ? 0xAD : -1;
}

bool change_to_byte_level(encoder *e, const void *part, const piece *old)
{
    (void)part;
    char bytes[4];
    for (size_t at = old->start; at < old->end; at++) {
        size_t length = utf8_put(byte_to_character((unsigned char)e->text[at]), bytes);
        source_span span = e->keeps_spans ? e->spans[at] : (source_span){0, 0};
        if (!work_append(e, bytes, length, span)) return false;
    }
    return true;
}
