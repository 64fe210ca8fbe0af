/* batch.h - a batch as a data set hands it to a task: the tokens of all its sequences in one row, without padding. */
#ifndef CRANK_DATA_BATCH_H
#define CRANK_DATA_BATCH_H

#include <stdint.h>

typedef struct data_batch {
    int64_t  tokens, sequences;
    int32_t *ids;       /* [tokens] */
    int32_t *positions; /* [tokens] from 0 in each sequence */
    int32_t *targets;   /* [tokens] the next token of the same sequence; -1 where the loss does not count */
    float   *weights;   /* [tokens] 1 where the loss counts, else 0 */
    int32_t *types;     /* [tokens] token types of encoders, or NULL */
    int32_t *segments;  /* [sequences + 1] first token of each sequence */
    int32_t *labels;    /* [sequences] class, or NULL */
    float   *values;    /* [sequences] real-valued label, or NULL */
    float   *reference; /* [tokens] log-probability of each target under the reference policy, stored with the data, or NULL */
    int32_t *lists;     /* [list_count + 1] first sequence of each list, or NULL */
    int64_t  list_count;
    int64_t  trained;   /* tokens that the loss counts, or labelled sequences where there are no targets */
} data_batch;
#endif
