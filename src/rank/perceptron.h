/* perceptron.h - linear separators by gradient descent with any step size: logistic regression, its normalised form, and perceptrons
 * (arXiv:2412.08424).
 *
 * s_i = y_i a_i: rows of the data times their label, or differences of the feature vectors of ordered pairs. m_i = s_i theta,
 * w_i = 1 / (1 + e^{m_i}). theta starts at 0; a run ends when all m_i > 0, tested before each update.
 *
 *     lr                  theta += gamma/n sum_i w_i s_i
 *     normalized-lr       theta += gamma (sum_i w_i s_i) / (sum_i w_i)
 *     batch-perceptron    theta += 1/(2n) sum_i s_i at first; then 1/n times the sum of rows with m_i <= 0       (lr for gamma -> inf)
 *     normalized-batch    theta += mean of rows with m_i <= 0
 *     perceptron          theta += one row with m_i <= 0: the first, the next one in turn, or one at random
 *
 * With R the longest row and mu the margin of separable rows: lr at large gamma and batch-perceptron need at most n R^2/mu^2 updates,
 * perceptron and normalized-batch R^2/mu^2, normalized-lr R^2/mu^2 + 2 log(2n - 1)/(gamma mu^2). Large steps raise the loss on the way. */
#ifndef CRANK_RANK_PERCEPTRON_H
#define CRANK_RANK_PERCEPTRON_H

#include "crank/random.h"
#include "data/letor.h"

typedef enum perceptron_rule { PERCEPTRON_LR, PERCEPTRON_NORMALIZED_LR, PERCEPTRON_BATCH, PERCEPTRON_NORMALIZED_BATCH, PERCEPTRON_ONE } perceptron_rule;
typedef enum perceptron_pick { PERCEPTRON_FIRST, PERCEPTRON_CYCLIC, PERCEPTRON_RANDOM } perceptron_pick;

/* Rows dense [n, d] or compressed; row i is multiplied by sign[i] (NULL: 1). */
typedef struct perceptron_rows {
    int64_t        n, d;
    const double  *dense;
    const int64_t *starts;
    const int32_t *indices;
    const double  *values;
    const double  *sign;
} perceptron_rows;

typedef struct perceptron_step {
    int64_t updates, violated; /* done before this test; rows with m_i <= 0 */
    double  loss;              /* mean log(1 + e^-m) */
    double  gradient, norm;    /* norms of the loss's gradient and of theta */
    double  margin;            /* least m_i / norm of theta (0 at theta = 0) */
} perceptron_step;
/* Before each update; false ends the run. */
typedef bool perceptron_trace(void *user, const perceptron_step *step, const double *theta);

typedef struct perceptron_options {
    perceptron_rule   rule;
    perceptron_pick   pick;
    double            gamma;
    int64_t           most; /* updates */
    uint64_t          seed;
    bool              resume; /* theta and `updates` hold an earlier run's end */
    perceptron_trace *trace;  /* may be NULL */
    void             *user;
} perceptron_options;

typedef struct perceptron_result {
    bool    separated;
    int64_t updates, violated, best_violated; /* at the end; the fewest on the way */
    double  largest_loss;
} perceptron_result;

/* theta [d]. A row that is not finite, an empty set or gamma <= 0: CRANK_BAD_DATA, CRANK_USAGE. Rows that are not separated after `most`
 * updates are no error. One pass over the rows an update, in blocks whose sums are added in their order: the same bits for any threads. */
crank_status perceptron_run(crank_context *context, const perceptron_rows *rows, const perceptron_options *options, double *theta, perceptron_result *result);

/* Differences of ordered pairs of each list, compressed; *rows is freed with perceptron_pairs_free. */
crank_status perceptron_pairs(crank_context *context, const letor_set *set, perceptron_rows *rows);
void         perceptron_pairs_free(perceptron_rows *rows);
#endif
