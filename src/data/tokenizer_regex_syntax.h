/* tokenizer_regex_syntax.h - what the two halves of the translation share: reading a pattern, writing one, sets. */
#ifndef CRANK_DATA_TOKENIZER_REGEX_SYNTAX_H
#define CRANK_DATA_TOKENIZER_REGEX_SYNTAX_H

#include "base/text.h"

#define REGEX_NESTING_LIMIT 100

/* Contents of brackets. */
#define REGEX_SPACE                                                                                                    \
    "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define REGEX_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define REGEX_HEX  "0-9A-Fa-f"

typedef struct translator {
    crank_context *context;
    const char *pattern, *at, *end;
    int depth;
    bool extended; /* (?x): white space and comments do not count */
    bool failed;   /* sticky, with a message */
} translator;

/* The first failure is told with the pattern and the place in it. */
void regex_fail(translator *t, const char *what);
void regex_put(translator *t, text_buffer *out, const char *text, size_t length);
void regex_puts(translator *t, text_buffer *out, const char *text);
void regex_put_character(translator *t, text_buffer *out, uint32_t c);
bool regex_peek(const translator *t, const char *text);
bool regex_accept(translator *t, const char *text);
uint32_t regex_next_character(translator *t);
/* Behind a backslash: true with *c when it stands for one character, false when *c names something else. */
bool regex_escaped_character(translator *t, uint32_t *c);

/* A set of characters on its way: the contents of PCRE2 brackets, and alternatives ("|x|y") that those cannot hold. */
typedef struct charset {
    text_buffer inside, beside;
} charset;

/* \s \S \w \W \d \D \h \H \p \P; false when `c` is none of them. */
bool charset_add_escape(translator *t, charset *set, uint32_t c);
/* Writes a set as an expression that takes one character. */
void charset_put(translator *t, text_buffer *out, const charset *set, bool negated);
void charset_clear(charset *set);
/* Behind an opening bracket. Writes to `out`, or joins a set around it. */
void charset_bracket(translator *t, text_buffer *out, charset *parent);
#endif
