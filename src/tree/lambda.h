/* lambda.h - LambdaRank's gradients (Burges 2010, MSR-TR-2010-82), with LightGBM's truncation and normalisation.
 *
 * Items of a query sorted by score; for each pair of places i < min(n, T), j > i with different labels, h the better item, l the other:
 *     d = (gain_h - gain_l) |D_i - D_j| / IDCG@T            D_r = 1 / log2(2 + r)
 *     d /= 0.01 + |s_h - s_l|                               with norm, where the query's scores are not all equal
 *     p = 1 / (1 + e^(a (s_h - s_l)))
 *     g_h -= a d p, g_l += a d p, both hessians += a^2 d p (1 - p), S += 2 a d p
 * With norm and S > 0 the query's values are multiplied by log2(1 + S) / S. */
#ifndef CRANK_TREE_LAMBDA_H
#define CRANK_TREE_LAMBDA_H

#include "tree/tree.h"

typedef struct lambda_data {
    const int32_t *offsets;
    int64_t        queries, longest;
    float         *gain;         /* [rows] */
    double        *inverse_best; /* [queries]: 1 / IDCG@T, 0 where no item has gain */
    float         *discount;     /* [longest] */
    int32_t       *order;        /* [rows]: places within the query by score, kept from one call to the next */
} lambda_data;

/* One query in the order of scores, each array padded to 16 places: place[j] = j, -1 in the padding. */
typedef struct lambda_query {
    const float *score, *gain, *discount, *place;
    float       *g, *h;          /* zeroed; added to */
    int          n, truncation;
    float        slope, inverse_best;
    bool         divide;
} lambda_query;
typedef double lambda_pairs(const lambda_query *q); /* returns S */
lambda_pairs lambda_pairs_plain, lambda_pairs_avx2, lambda_pairs_avx512;
/* The definition, pair by pair in double: the oracle. scores, gains in the order of the query's rows. */
void lambda_reference(const double *score, const float *gain, int n, int truncation, double slope, bool norm, double *g, double *h);

bool         lambda_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, const int32_t *offsets, int64_t queries, lambda_data *l);
void         lambda_close(lambda_data *l);
crank_status lambda_gradient(crank_context *context, const crank_tree_options *options, lambda_data *l, const double *scores, const float *weights, float *g, float *h);
/* order[0..n): places by descending score, equal scores in file order. It may hold an older order, which is repaired. */
void         sort_places(const double *score, int32_t *order, int32_t *spare, int n);
#endif
