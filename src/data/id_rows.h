/* id_rows.h - texts, or pairs of texts, as token ids for models that are only run: no loss mask, no batches. */
#ifndef CRANK_DATA_ID_ROWS_H
#define CRANK_DATA_ID_ROWS_H

#include "data/rows.h"

typedef struct id_rows {
    int32_t *ids;
    uint8_t *second; /* 1: token of the second text of a pair; NULL without pairs */
    int64_t *starts; /* [count + 1] first token of each row */
    int64_t  count;
    int64_t  cut;    /* rows that were longer than the limit */
} id_rows;

/* How a row becomes a text. */
typedef struct id_rows_format {
    const char *prefix;   /* before the first text of each row, or NULL */
    const char *form;     /* a prompt with {text} and {pair} in it: one text is made of a pair; NULL: the tokenizer joins a pair */
    bool        chat;     /* the prompt is a user's turn: it stands in the model's chat template */
    int64_t     limit;    /* most tokens of a row */
} id_rows_format;

/* Tokenises rows [from, to) with all threads and the tokenizer's special tokens. A row that is too long is cut at its end as the
 * `tokenizers` library does it: the special tokens stay, and of a pair the longer text is cut first. Of a prompt's row the pair's text is
 * cut, else the first text. A row without a token becomes the token that a text begins with; where there is none, an error. */
crank_status id_rows_make(crank_context *context, const crank_tokenizer *tokenizer, const raw_rows *rows, size_t from, size_t to,
                          const id_rows_format *format, id_rows *out);
/* JSON: a list of token ids, or a list of such lists; each from 0 to vocab - 1, each row of 1 to `limit` tokens. */
crank_status id_rows_read(crank_context *context, const char *path, int64_t vocab, int64_t limit, id_rows *out);
void         id_rows_free(id_rows *rows);
#endif
