/* unicode.c - UTF-8, character classes, lower case, canonical decomposition and composition.
 *
 * Properties come from utf8proc, except the classes of unicode_tables.c. Normal forms are done character by character,
 * because a tokenizer has to know which source bytes each normalised character came from:
 *
 *     NFD = reorder(decompose(c) of all c)        NFC = recompose(NFD)        K: compatibility decompositions too */
#include "data/unicode.h"

#include <utf8proc.h>

size_t utf8_invalid_length(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xBF;
    size_t wanted;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        wanted = 2;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        wanted = 3;
        if (s[0] == 0xE0) low = 0xA0;
        if (s[0] == 0xED) high = 0x9F; /* surrogates */
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        wanted = 4;
        if (s[0] == 0xF0) low = 0x90;
        if (s[0] == 0xF4) high = 0x8F; /* above U+10FFFF */
    } else {
        return 1;
    }
    size_t good = 1;
    while (good < wanted && good < length && s[good] >= low && s[good] <= high) {
        good++;
        low = 0x80;
        high = 0xBF;
    }
    return good;
}

size_t utf8_check(const char *text, size_t length, uint32_t *character)
{
    if (length == 0) return 0;
    unsigned char first = (unsigned char)text[0];
    if (first >= 0x80) {
        size_t size = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
        if (!size || size > length || utf8_invalid_length(text, length) != size) return 0;
    }
    size_t size;
    *character = utf8_get(text, &size);
    return size;
}

size_t utf8_valid_length(const char *text, size_t length)
{
    size_t at = 0;
    uint32_t c;
    while (at < length) {
        uint64_t word;
        if (at + 8 <= length) {
            __builtin_memcpy(&word, text + at, 8);
            if (!(word & 0x8080808080808080u)) {
                at += 8;
                continue;
            }
        }
        size_t size = utf8_check(text + at, length - at, &c);
        if (!size) break;
        at += size;
    }
    return at;
}

uint32_t utf8_get(const char *text, size_t *length)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *length = 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *length = 2;
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    }
    if (s[0] < 0xF0) {
        *length = 3;
        return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    }
    *length = 4;
    return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

size_t utf8_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t utf8_last(const char *text, size_t length, uint32_t *character)
{
    if (length == 0) return 0;
    size_t start = length - 1, size;
    while (start > 0 && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
    *character = utf8_get(text + start, &size);
    return size;
}

static bool in_table(const unicode_range *table, size_t count, uint32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > table[middle].high)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && c >= table[low].low;
}

bool unicode_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    return in_table(unicode_table_punctuation, unicode_table_sizes[0], c);
}

bool unicode_is_other(uint32_t c)
{
    if (c >= 0x20 && c < 0x7F) return false;
    return in_table(unicode_table_other, unicode_table_sizes[1], c);
}

bool unicode_is_nonspacing(uint32_t c)
{
    return c >= 0x300 && in_table(unicode_table_nonspacing, unicode_table_sizes[2], c);
}

bool unicode_is_mark(uint32_t c)
{
    return c >= 0x300 && in_table(unicode_table_mark, unicode_table_sizes[3], c);
}

bool unicode_is_whitespace(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool unicode_is_numeric(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool unicode_is_word(uint32_t c)
{
    if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    /* Alphabetic is L*, Nl and Other_Alphabetic; what of the latter is no mark are circled and squared letters. */
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

bool unicode_is_ideograph(uint32_t c)
{
    return c >= 0x3400 &&
           ((c >= 0x4E00 && c <= 0x9FFF) || c <= 0x4DBF || (c >= 0xF900 && c <= 0xFAFF) ||
            (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) ||
            (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0x2F800 && c <= 0x2FA1F));
}

size_t unicode_lower(uint32_t c, uint32_t out[2])
{
    if (c < 0x80) {
        out[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) { /* I with a dot above: the only lower case of two characters */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}

/* Characters that got a decomposition after Unicode 12.0, the version of the tokenizers library's normaliser. */
static bool is_decomposable_later(uint32_t c)
{
    static const unicode_range later[] = {
        {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
        {0x107B2, 0x107BA}, {0x11938, 0x11938}, {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};
    return in_table(later, sizeof later / sizeof later[0], c);
}

size_t unicode_decompose(uint32_t c, bool compatibility, uint32_t out[UNICODE_EXPANSION])
{
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
    int boundary = 0;
    if (c >= 0xA0 && !is_decomposable_later(c)) {
        utf8proc_int32_t *buffer = (utf8proc_int32_t *)out;
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)c, buffer, UNICODE_EXPANSION, options, &boundary);
        if (count >= 1 && count <= UNICODE_EXPANSION) return (size_t)count;
    }
    out[0] = c;
    return 1;
}

unsigned unicode_combining_class(uint32_t c)
{
    return c < 0x300 ? 0 : (unsigned)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

uint32_t unicode_compose(uint32_t first, uint32_t second)
{
    if (second < 0x300) return 0; /* no composition has an earlier second character */
    utf8proc_int32_t pair[3] = {(utf8proc_int32_t)first, (utf8proc_int32_t)second, 0};
    utf8proc_ssize_t count = utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return count == 1 && !is_decomposable_later((uint32_t)pair[0]) ? (uint32_t)pair[0] : 0;
}

/* Counting sort of one run: classes are below 256, and a run may be as long as the text. */
static void sort_run(unicode_edit *run, size_t count, unicode_edit *scratch)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++) starts[unicode_combining_class(run[i].character) + 1]++;
    for (size_t class = 0; class < 256; class ++) starts[class + 1] += starts[class];
    for (size_t i = 0; i < count; i++) scratch[starts[unicode_combining_class(run[i].character)]++] = run[i];
    for (size_t i = 0; i < count; i++) run[i] = scratch[i];
}

void unicode_reorder(unicode_edit *edits, size_t count, unicode_edit *scratch)
{
    for (size_t i = 0; i < count;) {
        if (!unicode_combining_class(edits[i].character)) {
            i++;
            continue;
        }
        size_t end = i + 1;
        bool sorted = true;
        for (; end < count; end++) {
            unsigned class = unicode_combining_class(edits[end].character);
            if (!class) break;
            if (class < unicode_combining_class(edits[end - 1].character)) sorted = false;
        }
        if (!sorted) sort_run(edits + i, end - i, scratch);
        i = end;
    }
}

size_t unicode_recompose(unicode_edit *edits, size_t count)
{
    size_t out = 0, starter = SIZE_MAX; /* place of the last starter in the output */
    unsigned last_class = 0;            /* class of the character before, when it stands between starter and this one */
    for (size_t i = 0; i < count; i++) {
        unicode_edit edit = edits[i];
        unsigned class = unicode_combining_class(edit.character);
        bool adjacent = starter != SIZE_MAX && out == starter + 1;
        if (starter != SIZE_MAX && (adjacent || last_class < class)) {
            uint32_t composed = unicode_compose(edits[starter].character, edit.character);
            if (composed) {
                edits[starter].character = composed;
                edits[starter].change += edit.change - 1;
                continue;
            }
        }
        if (!class) starter = out;
        last_class = class;
        edits[out++] = edit;
    }
    return out;
}
