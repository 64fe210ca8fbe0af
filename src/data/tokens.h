/* tokens.h - rows as token ids with a loss mask, brought into the context. */
#ifndef CRANK_DATA_TOKENS_H
#define CRANK_DATA_TOKENS_H

#include "data/rows.h"

typedef struct token_row {
    int64_t first, count; /* in the table */
    float   label;        /* NAN: none */
} token_row;

typedef struct token_table {
    int32_t   *ids;
    uint8_t   *mask;   /* 1: the loss counts this token as a target */
    uint8_t   *second; /* 1: token of the second text (token type); NULL without pairs */
    int64_t    count, capacity;
    token_row *rows;
    int64_t    row_count, row_capacity;
    int64_t    trained;                        /* tokens whose mask is 1 and that have a token before them in their row */
    int64_t    cut, dropped, split, longest;   /* rows by overflow; longest row before it */
    int64_t    empty;                          /* rows without a token: left out */
} token_table;

/* Tokenises rows [from, to) with all threads; the result does not depend on their number. */
crank_status tokens_make(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, const raw_rows *rows, size_t from,
                         size_t to, int64_t context_length, token_table *out);
void         tokens_free(token_table *table);
#endif
