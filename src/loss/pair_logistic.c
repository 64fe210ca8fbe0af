/* pair_logistic.c - the logistic loss of ordered pairs (RankNet, Burges et al. 2005; the loss of DPO and of Bradley and Terry).
 *
 *     numerator   sum over lists of   sum_{i,j: label_i > label_j} w_i w_j log(1 + exp(-(s_i - s_j)))
 *     d1_i        - sum_j w_i w_j sigmoid(-(s_i - s_j)) for pairs that i wins, + the same for pairs that i loses
 *     d2_i        sum over its pairs of w_i w_j p (1 - p),   p = sigmoid(-(s_i - s_j))
 *     denominator lists that have a pair, or with `average: pairs` the sum of w_i w_j
 *
 * Ties in the label make no pair. Sums run in f64 in the order of the items. */
#include <math.h>
#include <string.h>

#include "crank/loss.h"

typedef struct {
    const char *average;
} options;

static const crank_option option_table[] = {
    CRANK_CHOICE(options, average, "lists", "lists|pairs", "what the sum over pairs is divided by"),
    CRANK_END
};

/* The pair that i wins over j; every sum is kept in the rows of its items. */
static double pair(const crank_lists *lists, int64_t i, int64_t j, double w, crank_list_result *result)
{
    double margin = (double)lists->scores[i] - lists->scores[j], e = exp(-fabs(margin));
    double p = margin >= 0 ? e / (1 + e) : 1 / (1 + e); /* sigmoid(-margin) without overflow */
    result->d1[i] -= (float)(w * p);
    result->d1[j] += (float)(w * p);
    if (result->d2) {
        result->d2[i] += (float)(w * p * (1 - p));
        result->d2[j] += (float)(w * p * (1 - p));
    }
    return w * (log1p(e) + (margin < 0 ? -margin : 0));
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    const options *o = opt;
    bool           by_pairs = o && !strcmp(o->average, "pairs");
    int64_t        items = lists->offsets[lists->lists];
    if (lists->outputs != 1)
        return crank_fail(context, CRANK_USAGE, "pair_logistic takes one score an item, not %lld", (long long)lists->outputs);
    memset(result->d1, 0, (size_t)items * sizeof *result->d1);
    if (result->d2) memset(result->d2, 0, (size_t)items * sizeof *result->d2);
    result->numerator = result->denominator = 0;
    for (int64_t l = 0; l < lists->lists; l++) {
        double weights = 0;
        for (int64_t i = lists->offsets[l]; i < lists->offsets[l + 1]; i++)
            for (int64_t j = lists->offsets[l]; j < lists->offsets[l + 1]; j++) {
                double w = lists->weights ? (double)lists->weights[i] * lists->weights[j] : 1;
                if (!(lists->labels[i] > lists->labels[j]) || w == 0) continue;
                result->numerator += pair(lists, i, j, w, result);
                weights += w;
            }
        result->denominator += by_pairs ? weights : weights > 0;
    }
    return CRANK_OK;
}

const crank_list_objective list_objective_pair_logistic = {
    .name = "pair_logistic",
    .paper = "Burges et al. 2005",
    .summary = "logistic loss of ordered pairs",
    .options = option_table,
    .options_size = sizeof(options),
    .run = run,
};

/* The score of a sequence is the one output of its classification head. */
static crank_tensor *record(crank_graph *graph, const crank_scores *scores, const void *opt)
{
    (void)opt;
    crank_tensor *outputs = scores->outputs; /* [s, 1] */
    if (outputs->dims[1] != 1)
        return crank_graph_error(graph, CRANK_USAGE, "pair_logistic needs a head of one output (model.labels: 1); this one has %lld",
                                 (long long)outputs->dims[1]);
    return outputs;
}

const crank_objective objective_pair_logistic = {
    .name = "pair_logistic",
    .paper = "Burges et al. 2005",
    .summary = "logistic loss of the pairs of a batch that its real-valued labels order",
    .options = option_table,
    .options_size = sizeof(options),
    .scores = CRANK_SCORES_OUTPUTS,
    .fields = CRANK_FIELD_VALUES,
    .coupled = true,
    .list = &list_objective_pair_logistic,
    .record = record,
};
