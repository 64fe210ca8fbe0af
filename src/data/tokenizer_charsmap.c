/* tokenizer_charsmap.c - SentencePiece's precompiled normalisation (the "Precompiled" normaliser).
 *
 * The map is, in base64: a 32-bit little-endian size, a double-array trie (Darts-clone) of that many bytes, and
 * normalised texts ended by NULs, to which the trie's values point. Of a grapheme of at most 5 bytes, else of each
 * character, the shortest prefix that the trie knows stands for the whole. */
#include <string.h>
#include <utf8proc.h>

#include "data/tokenizer_parts.h"

struct charsmap {
    uint32_t *units;
    size_t unit_count;
    char *texts;
    size_t texts_length;
};

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The bytes of base64 text, NULL when it is not base64 or memory is out. */
static unsigned char *base64_decode(crank_context *context, const char *text, size_t length, size_t *bytes)
{
    while (length && text[length - 1] == '=') length--;
    unsigned char *out = crank_alloc(context, length * 3 / 4 + 1, 1, "a character map");
    uint32_t bits = 0;
    int held = 0;
    *bytes = 0;
    for (size_t i = 0; out && i < length; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) {
            crank_free(out);
            crank_fail(context, CRANK_BAD_DATA, "`precompiled_charsmap` is not base64 at character %zu", i);
            return NULL;
        }
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        out[(*bytes)++] = (unsigned char)(bits >> held);
    }
    return out;
}

static uint32_t read_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

charsmap *charsmap_new(crank_context *context, const char *base64, size_t length)
{
    size_t bytes;
    unsigned char *data = base64_decode(context, base64, length, &bytes);
    charsmap *map = data ? crank_alloc(context, 1, sizeof *map, "a character map") : NULL;
    if (!map) {
        crank_free(data);
        return NULL;
    }
    uint32_t size = bytes >= 4 ? read_u32(data) : 0;
    bool good = bytes >= 4 && size % 4 == 0 && size >= 4 && size <= bytes - 4;
    if (!good)
        crank_fail(context, CRANK_BAD_DATA, "`precompiled_charsmap` has %zu bytes but a trie of %u", bytes, size);
    if (good) {
        map->unit_count = size / 4;
        map->texts_length = bytes - 4 - size;
        map->units = crank_alloc(context, map->unit_count, sizeof *map->units, "a character map");
        map->texts = crank_alloc(context, map->texts_length + 1, 1, "a character map");
        good = map->units && map->texts;
    }
    if (good) {
        for (size_t i = 0; i < map->unit_count; i++) map->units[i] = read_u32(data + 4 + 4 * i);
        memcpy(map->texts, data + 4 + size, map->texts_length);
        good = utf8_valid_length(map->texts, map->texts_length) == map->texts_length;
        if (!good) crank_fail(context, CRANK_BAD_DATA, "the texts of `precompiled_charsmap` are not UTF-8");
    }
    crank_free(data);
    if (good) return map;
    charsmap_free(map);
    return NULL;
}

void charsmap_free(charsmap *map)
{
    if (!map) return;
    crank_free(map->units);
    crank_free(map->texts);
    crank_free(map);
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* What stands for the shortest known prefix of a text, NULL when none is known. */
static const char *find(const charsmap *map, const char *text, size_t length)
{
    size_t at = unit_offset(map->units[0]);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        at ^= byte;
        if (!byte || at >= map->unit_count) return NULL;
        uint32_t unit = map->units[at];
        if ((unit & 0x800000FFu) != byte) return NULL;
        at ^= unit_offset(unit);
        if (at >= map->unit_count) return NULL;
        if (!(unit >> 8 & 1)) continue;
        size_t place = map->units[at] & 0x7FFFFFFFu;
        if (place > map->texts_length || ((unsigned char)map->texts[place] & 0xC0) == 0x80) return NULL;
        return map->texts + place;
    }
    return NULL;
}

/* Characters wait until it is known how many behind them vanish. */
typedef struct pending_edit {
    work_editor editor;
    unicode_edit edit;
    bool waits;
} pending_edit;

static bool put(encoder *e, pending_edit *pending, uint32_t c, int32_t change)
{
    if (pending->waits && !work_put(e, &pending->editor, pending->edit)) return false;
    pending->edit = (unicode_edit){c, change};
    pending->waits = true;
    return true;
}

/* `old` characters become the text `new`: one by one, then the rest is new or swallowed. */
static bool replace(encoder *e, pending_edit *pending, size_t old, const char *new)
{
    size_t count = 0, size;
    for (; *new; new += size, count++)
        if (!put(e, pending, utf8_get(new, &size), count >= old)) return false;
    if (count >= old) return true;
    if (pending->waits) {
        pending->edit.change -= (int32_t)(old - count);
        return true;
    }
    for (; count < old; count++) pending->editor.at += utf8_size((unsigned char)e->text[pending->editor.at]);
    return true;
}

static size_t grapheme_length(const char *text, size_t length)
{
    size_t size;
    utf8proc_int32_t state = 0, before = (utf8proc_int32_t)utf8_get(text, &size), c;
    for (size_t at = size; at < length; at += size, before = c) {
        c = (utf8proc_int32_t)utf8_get(text + at, &size);
        if (utf8proc_grapheme_break_stateful(before, c, &state)) return at;
    }
    return length;
}

bool charsmap_change(encoder *e, const void *part, const piece *old)
{
    const charsmap *map = part;
    pending_edit pending = {.editor = {old->start, old->start}};
    for (size_t at = old->start, length; at < old->end; at += length) {
        length = grapheme_length(e->text + at, old->end - at);
        const char *whole = length < 6 ? find(map, e->text + at, length) : NULL;
        size_t count = 0, size;
        if (whole) {
            for (size_t i = 0; i < length; i++) count += ((unsigned char)e->text[at + i] & 0xC0) != 0x80;
            if (!replace(e, &pending, count, whole)) return false;
            continue;
        }
        for (size_t i = at; i < at + length; i += size) {
            uint32_t c = utf8_get(e->text + i, &size);
            const char *single = find(map, e->text + i, size);
            if (single ? !replace(e, &pending, 1, single) : !put(e, &pending, c, 0)) return false;
        }
    }
    return !pending.waits || work_put(e, &pending.editor, pending.edit);
}
