/* subset.h - rows and columns of a weight that are kept: gathered into a smaller one, scattered back among zeros. */
#ifndef CRANK_LINEAR_SUBSET_H
#define CRANK_LINEAR_SUBSET_H

#include "crank/base.h"

/* Kept places of `whole`, rising; at NULL: all. */
typedef struct subset {
    const int32_t *at;
    int64_t        count, whole;
} subset;
static inline subset  subset_all(int64_t whole) { return (subset){NULL, whole, whole}; }
static inline int64_t subset_at(const subset *s, int64_t i) { return s->at ? s->at[i] : i; }

/* to [rows.count, cols.count] = from[rows, cols], from [rows.whole, cols.whole] */
void subset_gather(const float *from, subset rows, subset cols, float *to);
/* to [rows.whole, cols.whole] is zero but for to[rows, cols] = from [rows.count, cols.count] */
void subset_scatter(const float *from, subset rows, subset cols, float *to);
/* How many of `whole` stay at a ratio of removed ones: neurons whole - ceil(whole ratio), heads whole - floor(whole ratio) (the rounding of the
 * published code), rounded to the nearest multiple of `round_to` that is not above `whole`. */
int64_t subset_neurons(int64_t whole, double ratio, int64_t round_to);
int64_t subset_heads(int64_t whole, double ratio);
/* The `keep` places of highest score, rising; of equal scores the lower place. places [keep] */
crank_status subset_best(crank_context *context, const double *scores, int64_t whole, int64_t keep, int32_t *places);
/* `keep` places drawn uniformly, rising. */
crank_status subset_draw(crank_context *context, uint64_t seed, uint32_t index, int64_t whole, int64_t keep, int32_t *places);
#endif
