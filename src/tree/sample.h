/* sample.h - which rows and features a tree learns from. */
#ifndef CRANK_TREE_SAMPLE_H
#define CRANK_TREE_SAMPLE_H

#include "tree/tree.h"

typedef struct row_sample {
    int32_t *rows;   /* ascending */
    int64_t  count;
    uint8_t *taken;  /* [all rows]: 1 where the row is in the sample; NULL: all are */
    float   *key;    /* goss: work */
} row_sample;

bool sample_open(crank_context *context, const crank_tree_options *o, int64_t rows, row_sample *s);
void sample_close(row_sample *s);
/* Draws the rows of iteration `it`. g, h [outputs, rows]; with goss the gradients of the rows drawn from the rest are multiplied. */
void sample_rows(const crank_tree_options *o, const crank_tree_data *data, int64_t it, int64_t outputs, float *g, float *h, row_sample *s);
/* wanted [features]: feature_fraction of them. */
bool sample_features(crank_context *context, const crank_tree_options *o, int64_t it, int32_t features, uint8_t *wanted);
#endif
