/* unicode.h - UTF-8, character classes, case and the four normal forms, as tokenizers need them. */
#ifndef CRANK_DATA_UNICODE_H
#define CRANK_DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNICODE_REPLACEMENT 0xFFFDu

/* Bytes of the character at `text` when it is valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF), else 0.
 */
size_t utf8_check(const char *text, size_t length, uint32_t *character);
/* Bytes of `text` before the first invalid one. */
size_t utf8_valid_length(const char *text, size_t length);
/* Bytes at an invalid place that become one U+FFFD: the longest prefix of a valid character, at least 1 (the Unicode
 * Standard's "maximal subpart", as Python's errors="replace" and Rust's from_utf8_lossy do). */
size_t utf8_invalid_length(const char *text, size_t length);
/* The character at `text`, known to be valid; *length is its bytes. */
uint32_t utf8_get(const char *text, size_t *length);
/* Writes 1 to 4 bytes. */
size_t utf8_put(uint32_t character, char out[4]);
/* Bytes of the last character before `text + length`, known to be valid; 0 when length is 0. */
size_t utf8_last(const char *text, size_t length, uint32_t *character);
static inline size_t utf8_size(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

bool unicode_is_whitespace(uint32_t c); /* White_Space */
bool unicode_is_numeric(uint32_t c);    /* categories Nd, Nl, No */
bool unicode_is_word(uint32_t c);       /* \w: Alphabetic, marks, Nd, Pc, Join_Control */
bool unicode_is_ideograph(uint32_t c);  /* BERT's "Chinese character" blocks */
/* The three below and unicode_is_mark follow the frozen tables of unicode_tables.c. */
bool unicode_is_punctuation(uint32_t c); /* ASCII punctuation and categories P* */
bool unicode_is_other(uint32_t c);       /* categories Cc, Cf, Co, and U+FFFD: what BERT removes (tab, CR, LF aside) */
bool unicode_is_nonspacing(uint32_t c);  /* category Mn */
bool unicode_is_mark(uint32_t c);        /* categories M* */

/* Lower case of one character without context: 1 or 2 characters (only U+0130 gives two). */
size_t unicode_lower(uint32_t c, uint32_t out[2]);

/* A character of a text under change. `change` says how it lines up with the characters that stood there before: 0 it
 * replaces the next one, 1 it is new (it belongs to the one before), -n it replaces the next one and swallows n more.
 */
typedef struct unicode_edit {
    uint32_t character;
    int32_t change;
} unicode_edit;

/* Decompositions are at most 18 characters long. */
#define UNICODE_EXPANSION 18
/* The full decomposition of one character (canonical, or compatibility too); returns how many, at least 1. */
size_t unicode_decompose(uint32_t c, bool compatibility, uint32_t out[UNICODE_EXPANSION]);
unsigned unicode_combining_class(uint32_t c);
/* The canonical composition of two characters, or 0. */
uint32_t unicode_compose(uint32_t first, uint32_t second);
/* Sorts runs of non-starters by class (stable). scratch [count]. */
void unicode_reorder(unicode_edit *edits, size_t count, unicode_edit *scratch);
/* Composes decomposed, reordered characters in place; returns the new count. */
size_t unicode_recompose(unicode_edit *edits, size_t count);
/* True when no normal form changes the character and it never composes with the one before it. */
static inline bool unicode_is_inert(uint32_t c)
{
    return c < 0xA0;
}

typedef struct unicode_range {
    uint32_t low, high;
} unicode_range;
extern const unicode_range unicode_table_punctuation[], unicode_table_other[], unicode_table_nonspacing[],
    unicode_table_mark[];
extern const size_t unicode_table_sizes[4];
#endif
