/* dataset.h - rows of files as batches of tokens.
 *
 * Files are read row by row (plain text, jsonl, TSV, CSV; gzip by its magic), tokenised once by all threads, and held as one table of
 * tokens with a loss mask. A batch is a pure function of (seed, number): rows of an epoch come in an order drawn by counter, epochs
 * follow each other without a border, and the next batch is prepared by a background thread while the present one is used. */
#ifndef CRANK_DATA_DATASET_H
#define CRANK_DATA_DATASET_H

#include "crank/option.h"
#include "crank/tokenizer.h"
#include "data/batch.h"

typedef struct dataset_options {
    const char *train, *eval, *tokenizer;
    const char *format, *document, *overflow;
    const char *prompt_field, *completion_field, *text_field, *pair_field, *label_field, *labels;
    const char *separator;
    int64_t     context, rows;
    double      eval_share;
    bool        packing, eos, shuffle;
} dataset_options;
extern const crank_option dataset_option_table[]; /* the recipe's section `data` */

typedef enum dataset_part { DATASET_TRAIN, DATASET_EVAL } dataset_part;

/* What the task reads. BARE: texts, or with pair_field pairs of texts, without labels; every line of a plain text is a row. */
enum { DATASET_TARGETS = 1, DATASET_LABELS = 2, DATASET_VALUES = 4, DATASET_BARE = 64 };

typedef struct dataset_request {
    unsigned fields;  /* DATASET_*: data that lack one are refused */
    int64_t  batch;   /* rows a batch; with packing, batch * context tokens */
    int64_t  context; /* tokens that the model takes: data.context must not exceed it */
    int64_t  labels;  /* classes of the head: labels must lie below; 0: any */
    int64_t  slots;   /* batches alive at once, at least 1 */
    uint64_t seed;
} dataset_request;

typedef struct data_set data_set;

/* NULL: message set. The tokenizer must outlive the set; the options need not. */
data_set *dataset_open(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, const dataset_request *request,
                       dataset_part part);
void      dataset_close(data_set *set);
bool      dataset_has_eval(const dataset_options *options); /* an eval file or a share is given */

/* Batches that begin in the first epoch; later epochs may differ by a few where rows are packed. */
int64_t dataset_batches_per_epoch(const data_set *set);
/* Batch `k` since the start of the run, k >= 0. The eval part is never shuffled. It lives until `slot` (< slots) is asked for again. */
crank_status dataset_batch(crank_context *context, data_set *set, int64_t k, int slot, const data_batch **out);

int64_t dataset_largest_tokens(const data_set *set);    /* of any batch: for the memory plan */
int64_t dataset_largest_sequences(const data_set *set);
int64_t dataset_longest(const data_set *set);          /* no sequence has more tokens */
bool    dataset_has_types(const data_set *set);          /* token types: pairs of texts */
size_t  dataset_bytes(const data_set *set);              /* memory that it holds */
/* "7473 rows, 1.2M tokens, 62 % of them trained; 3 rows cut to 512 tokens; schema prompt + completion". malloc'd; crank_free. */
char *dataset_report(crank_context *context, const data_set *set);

/* Row i as it will be trained, for `crank data show`: its tokens and their loss mask, views into the set. */
int64_t dataset_rows(const data_set *set);
void    dataset_row(const data_set *set, int64_t i, const int32_t **ids, const uint8_t **mask, int64_t *count, int32_t *label);
#endif
