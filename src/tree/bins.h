/* bins.h - features as small numbers: bounds of bins found once from a sample, and the matrix of all rows' bins.
 *
 * A *slot* is a feature's place in a row of bins. Slots stand in blocks of 16 (the last of a kind: 8) whose features have the same
 * room for bins in a histogram: 16, 64 or 256. So the histogram of a block of 16 takes at most 32 KiB and stays in the first-level
 * cache, and the place of a bin is (slot in block) * room + bin. */
#ifndef CRANK_TREE_BINS_H
#define CRANK_TREE_BINS_H

#include "tree/tree.h"

enum { MOST_BINS = 256 };

typedef struct feature_bins {
    int32_t  column, bins;      /* bins: with the one of missing values */
    bool     categorical;
    bool     has_missing;       /* numbers: the last bin is that of NaN */
    double  *upper;             /* numbers [bins - has_missing]: x is in the first bin with x <= upper; the last is infinite */
    float    cut[MOST_BINS];    /* the same for floats, infinite from the last on */
    int32_t *category;          /* categories [bins]: of each bin; bin 0 holds all others and missing ones */
    int16_t *bin_of;            /* [largest + 1]: bin of a category */
    int32_t  largest;
    double   low, high;         /* seen in the sample; low > high: nothing */
} feature_bins;

typedef struct bin_block {
    int32_t first, width;       /* slots */
    int32_t room;               /* bins of each */
    int64_t offset;             /* of its histogram, in entries */
} bin_block;

typedef struct bin_mapper {
    int64_t       columns;
    int32_t       features, slots, blocks;
    feature_bins *feature;      /* [features] */
    int32_t      *feature_of;   /* [slots], -1: none */
    int32_t      *slot_of;      /* [features] */
    int32_t      *of_column;    /* [columns]: feature, or -1 */
    bin_block    *block;
    int64_t       entries;      /* of a histogram of all slots */
} bin_mapper;

typedef struct bin_matrix {
    int64_t  rows;
    int32_t  slots;
    uint8_t *by_row;            /* [rows, slots] */
    uint8_t *by_slot;           /* [slots, rows], or NULL */
} bin_matrix;

bin_mapper  *mapper_find(crank_context *context, const crank_tree_options *options, const crank_tree_data *data);
void         mapper_free(bin_mapper *mapper);
/* Bounds from distinct values in ascending order with their counts -> upper [*count], the last infinite. */
void         bounds_find(const double *values, const int64_t *counts, int64_t distinct, int64_t max_bin, int64_t min_data_in_bin, double *upper, int32_t *count);
crank_status matrix_fill(crank_context *context, const bin_mapper *mapper, const crank_tree_data *data, bool by_slot, bin_matrix *matrix);
void         matrix_free(bin_matrix *matrix);
int32_t      feature_bin(const feature_bins *f, float x);

/* For n values x[0], x[stride], ... -> the number of cuts below each; NaN gives `missing`. cut [256], infinite from cut[bins - 1] on */
typedef void bins_search(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out);
bins_search bins_search_plain, bins_search_avx2, bins_search_avx512;
bins_search *bins_search_best(void); /* of this machine */
#endif
