/* pointwise.c - losses of single items.
 *
 *     point_mse       sum_i w_i (s_i - y_i)^2                                         d1 = 2 w (s - y), d2 = 2 w
 *     point_logistic  -sum_i w_i [y_i log sigma(s_i) + (1 - y_i) log sigma(-s_i)]     d1 = w (sigma(s) - y), d2 = w sigma (1 - sigma)
 *                     labels from 0 to 1; with `threshold` labels above it are 1, all others 0
 *
 * denominator: the sum of weights. */
#include <math.h>

#include "loss/lists.h"

static void squared(list_view *v, const void *options)
{
    (void)options;
    for (int64_t i = 0; i < v->n; i++) {
        double error = v->s[i] - v->y[i];
        v->numerator += v->w[i] * error * error;
        v->d1[i] = 2 * v->w[i] * error;
        v->d2[i] = 2 * v->w[i];
        v->denominator += v->w[i];
    }
}

static crank_status run_mse(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result)
{
    return lists_run(context, "point_mse", lists, options, result, 0, squared);
}

static const crank_option no_options[] = { CRANK_END };

LIST_OBJECTIVE(point_mse, "point_mse", "least squares", "squared error of each item's score against its label", no_options, 0, run_mse);

typedef struct options { bool binary; double threshold; } options;

static const crank_option option_table[] = {
    CRANK_BOOL(options, binary, false, "labels above the threshold are 1, all others 0"),
    CRANK_FLOAT(options, threshold, 0, -1e9, 1e9, "the threshold of binary"),
    CRANK_END
};

static void logistic(list_view *v, const void *opt)
{
    const options *o = opt;
    for (int64_t i = 0; i < v->n; i++) {
        double y = o->binary ? v->y[i] > o->threshold : v->y[i], p = lists_sigmoid(v->s[i]);
        if (y < 0 || y > 1) {
            v->problem = "a label is outside 0 to 1; binary: true makes them 0 and 1";
            return;
        }
        v->numerator += v->w[i] * (y * lists_softplus(-v->s[i]) + (1 - y) * lists_softplus(v->s[i]));
        v->d1[i] = v->w[i] * (p - y);
        v->d2[i] = v->w[i] * p * (1 - p);
        v->denominator += v->w[i];
    }
}

static crank_status run_logistic(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    return lists_run(context, "point_logistic", lists, opt, result, 0, logistic);
}

LIST_OBJECTIVE(point_logistic, "point_logistic", "logistic regression", "binary cross-entropy of each item's score", option_table, sizeof(options), run_logistic);
