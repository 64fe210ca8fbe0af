/* tokenizer_regex.h - the regular expressions of tokenizer.json: Oniguruma's syntax (the library behind Hugging Face's
 * tokenizers), run by PCRE2 with its JIT. */
#ifndef CRANK_DATA_TOKENIZER_REGEX_H
#define CRANK_DATA_TOKENIZER_REGEX_H

#include "crank/base.h"

typedef struct regex regex;

/* NULL on error: the message shows the pattern and what is wrong or unknown in it. */
regex *regex_new(crank_context *context, const char *pattern, size_t length);
void regex_free(regex *expression);
/* The PCRE2 pattern that means the same; crank_free. */
char *regex_translate(crank_context *context, const char *pattern, size_t length);

/* What a thread needs to match; zero at first. */
typedef struct regex_scratch {
    void *match_data, *match_context, *stack;
} regex_scratch;
void regex_scratch_clear(regex_scratch *scratch);

/* Matches from left to right without overlap; an empty match right behind the match before is skipped, as Oniguruma's
 * iterator does. Start with a zeroed walk. */
typedef struct regex_walk {
    size_t at, last_end;
    bool has_last;
} regex_walk;
/* 1: a match [*start, *end); 0: no more; -1: error (the pattern backtracks without end on this text). `text` is valid
 * UTF-8. */
int regex_next(crank_context *context, const regex *expression, regex_scratch *scratch, const char *text, size_t length,
               regex_walk *walk, size_t *start, size_t *end);
#endif
