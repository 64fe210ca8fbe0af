/* lists.h - what the list objectives share: one list at a time in f64, lists on all threads, sums in the order of the lists.
 *
 * Weights: a pair counts w_i w_j, a term of one item w_i. Lists that teach nothing (one item, no pair, no gain) add 0 to both sums. */
#ifndef CRANK_LOSS_LISTS_H
#define CRANK_LOSS_LISTS_H

#include "crank/loss.h"

typedef struct list_view {
    int64_t       n, index; /* items; number of the list */
    const double *s, *y, *w; /* [n] scores, labels, weights */
    double       *d1, *d2;   /* [n], zero at the start; d2 is always there */
    double       *spare;     /* [doubles * n], undefined at the start */
    int32_t      *order;     /* [4 * n] */
    bool          second;    /* d2 is wanted */
    double        numerator, denominator;
    const char   *problem;   /* set: why this list cannot be learnt from */
} list_view;

typedef void list_body(list_view *list, const void *options);

/* Runs the body on every list. `doubles`: spare numbers an item. Several outputs an item, offsets that fall, scores or labels that are not
 * finite, and `problem`s are refused, naming the list. Negative d2 is written as 0: steps along it are bounded by the caller's damping. */
crank_status lists_run(crank_context *context, const char *name, const crank_lists *lists, const void *options, crank_list_result *result, int64_t doubles, list_body *body);

/* The scores of a batch: one output of the classification head a sequence. */
crank_tensor *lists_record(crank_graph *graph, const crank_scores *scores, const void *options);

/* Indices by falling key, equal keys in their order; spare [n]. */
void lists_order(const double *key, int32_t *order, int32_t *spare, int64_t n);

double lists_softplus(double x);  /* log(1 + e^x) without overflow */
double lists_sigmoid(double x);
double lists_gain(double label, const char *gain); /* exponential: 2^y - 1 | linear: y | constant: y as is, weights of 1 are the caller's */
/* log sum e^s; p [n] becomes softmax(s) */
double lists_softmax(const double *s, double *p, int64_t n);

#define LIST_OBJECTIVE(id, title, source, text, table, size, body)                                                                  \
    const crank_list_objective list_objective_##id = { title, source, text, table, size, body };                                    \
    const crank_objective      objective_##id = {                                                                                   \
        .name = title, .paper = source, .summary = text, .options = table, .options_size = size, .scores = CRANK_SCORES_OUTPUTS,    \
        .fields = CRANK_FIELD_VALUES, .coupled = true, .list = &list_objective_##id, .record = lists_record }
#endif
