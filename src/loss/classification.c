/* classification.c - cross-entropy over the classes of each sequence, with optional label smoothing:
 *
 *     L = sum_s w_s [ -(1 - e) log p_s(label_s) - e/C sum_c log p_s(c) ],   p_s = softmax(outputs of sequence s) */
#include "crank/loss.h"

typedef struct {
    double smoothing;
} options;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, smoothing, 0, 0, 0.999, "label smoothing: weight of the uniform distribution"),
    CRANK_END
};

static crank_tensor *record(crank_graph *graph, const crank_scores *scores, const void *opt)
{
    const options *o = opt;
    int64_t       column[2] = {scores->labels->dims[0], 1};
    crank_tensor *logp = crank_softmax(crank_cast(scores->outputs, crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : CRANK_F32), true);
    crank_tensor *weights = crank_cast(crank_reshape(scores->sequence_weights, 2, column), logp->dtype); /* [s, 1] */
    crank_tensor *chosen = crank_pick(logp, crank_reshape(scores->labels, 2, column));                   /* [s, 1] */
    crank_tensor *sum = crank_scale(crank_sum(crank_mul(chosen, weights)), -(1 - o->smoothing));
    if (o->smoothing == 0) return sum;
    crank_tensor *uniform = crank_reduce(CRANK_MEAN, logp, 1u << 1, true);
    return crank_add(sum, crank_scale(crank_sum(crank_mul(uniform, weights)), -o->smoothing));
}

const crank_objective objective_classification = {
    .name = "classification",
    .paper = "cross-entropy",
    .summary = "cross-entropy over the classes of a sequence",
    .options = option_table,
    .options_size = sizeof(options),
    .scores = CRANK_SCORES_OUTPUTS,
    .fields = CRANK_FIELD_LABELS,
    .record = record,
};
