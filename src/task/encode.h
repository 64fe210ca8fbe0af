/* encode.h - one vector a row of tokens, from a model that is only run: embeddings, a classification head's outputs, or the
 * log-probabilities of a few answers at the last token.
 *
 * Rows are packed without padding, longest first (packs.h); a graph is recorded once for each shape of a pack and run again for all packs
 * that fit it; results stand in the rows' order. Where one token of a row is read, the last layer's feed-forward and the last norm see
 * that token alone, and of the vocabulary's head only the answers' columns are computed. */
#ifndef CRANK_TASK_ENCODE_H
#define CRANK_TASK_ENCODE_H

#include "crank/model.h"
#include "data/id_rows.h"

typedef enum encode_kind {
    ENCODE_VECTORS, /* hidden states pooled: [hidden] */
    ENCODE_OUTPUTS, /* the classification head: [labels] */
    ENCODE_ANSWERS  /* log-probabilities of the answers at the last token: [answer_count] */
} encode_kind;

typedef struct encode_options {
    encode_kind    kind;
    const char    *pooling;   /* VECTORS: mean, cls, last, pooler (the model must have been loaded with it); NULL: mean of an encoder, last of a decoder */
    bool           normalize; /* VECTORS: to length 1 */
    const int32_t *answers;   /* token ids */
    int            answer_count;
    bool           vocabulary; /* ANSWERS: among all tokens; else among the answers */
    int64_t        tokens;    /* of a pack; 0: by the device */
} encode_options;

typedef struct encoder encoder;

/* The options' arrays are copied. NULL: message set. */
encoder    *encoder_open(crank_context *context, crank_model *model, const encode_options *options);
void        encoder_close(encoder *e);
int64_t     encoder_width(const encoder *e);   /* numbers a row */
int64_t     encoder_tokens(const encoder *e);  /* most tokens of a pack */
const char *encoder_pooling(const encoder *e); /* VECTORS: as chosen */
/* out [rows, width]. Rows longer than the model's context, or ids beyond its vocabulary, are errors that name the row. */
crank_status encoder_run(crank_context *context, encoder *e, const id_rows *rows, float *out);

typedef struct encode_counts {
    int64_t packs, tokens, filled; /* since the encoder was opened: packs run, tokens of rows, tokens computed */
    int     graphs;                /* recorded so far */
    double  flops;                 /* of all runs */
} encode_counts;
encode_counts encoder_counts(const encoder *e);
/* Times every operation from the next run on; the tables of all graphs as text (crank_free). */
void  encoder_profile(encoder *e);
char *encoder_table(crank_context *context, encoder *e, double flop_rate, double byte_rate);
#endif
