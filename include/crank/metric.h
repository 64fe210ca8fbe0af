/* metric.h - measures of rankings for learning to rank: NDCG, DCG, MAP, MRR, ERR, precision and recall of scored lists.
 *
 * All parts of crank (trees, linear models, networks) report these. `crank metrics` measures TREC files with trec_eval's conventions
 * instead; where the two differ, docs/metrics.md says so.
 *
 *     order     score descending; equal scores keep the order of the items
 *     gain      G = 2^label - 1 (LETOR, LightGBM), or the label itself
 *     discount  1 / log2(1 + r); LETOR 3 and 4: 1 at ranks 1 and 2, then 1 / log2(r)
 *     empty     a list without a relevant item counts as 0, as 1 (LightGBM, XGBoost), or is left out of the mean */
#ifndef CRANK_METRIC_H
#define CRANK_METRIC_H

#include "crank/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum crank_gain { CRANK_GAIN_EXPONENTIAL, CRANK_GAIN_LINEAR } crank_gain;
typedef enum crank_discount { CRANK_DISCOUNT_LOG, CRANK_DISCOUNT_LETOR } crank_discount;
typedef enum crank_empty_list { CRANK_EMPTY_ZERO, CRANK_EMPTY_ONE, CRANK_EMPTY_SKIP } crank_empty_list;

typedef struct crank_metric_options {
    crank_gain       gain;
    crank_discount   discount;
    crank_empty_list empty;
    double           relevant;  /* relevant from this label on (map, mrr, precision, recall); 0: from 1 on */
    double           max_label; /* highest label of the scale, for ERR; 0: 4 */
} crank_metric_options; /* {0} is LETOR's and MSLR's convention */

/* The mean over lists of a measure "ndcg@10", "ndcg", "dcg@K", "map@K", "mrr@K", "err@K", "p@K", "recall@K" (no @K: the whole list).
 * offsets [lists + 1] are the first items of the lists, scores and labels [items]; list_weights [lists] may be NULL. `counted` (may be
 * NULL) receives the lists in the mean, `each` (may be NULL, [lists]) the value of each, NaN for one that is left out. Labels below 0
 * count as 0. map@K divides by min(K, relevant items). CRANK_USAGE: unknown measure; CRANK_BAD_DATA: a score or label is NaN. The result
 * does not depend on the number of threads. */
CRANK_API crank_status crank_metric(crank_context *context, const char *measure, const crank_metric_options *options, int64_t lists,
                                    const int32_t *offsets, const float *scores, const float *labels, const float *list_weights, double *mean,
                                    int64_t *counted, double *each);

/* sum over the k largest labels of gain and discount: the ideal DCG@k of n items; k <= 0: all. -1: out of memory. */
CRANK_API double crank_ideal_dcg(const float *labels, int64_t n, int64_t k, crank_gain gain, crank_discount discount);

/* The indices 0 .. n-1 by falling score, equal scores in their order; spare [n] is overwritten. */
CRANK_API void crank_rank_order(const float *scores, int32_t *order, int32_t *spare, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
