/* regression.c - squared error of one output a sequence: L = sum_s w_s (output_s - value_s)^2. */
#include "crank/loss.h"

static crank_tensor *record(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)options;
    crank_tensor *outputs = scores->outputs; /* [s, 1] */
    if (outputs->dims[1] != 1)
        return crank_graph_error(graph, CRANK_USAGE, "regression needs a head of one output (model.labels: 1); this one has %lld",
                                 (long long)outputs->dims[1]);
    crank_dtype   type = crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    crank_tensor *predicted = crank_cast(crank_reshape(outputs, 1, scores->values->dims), type);
    crank_tensor *error = crank_sub(predicted, crank_cast(scores->values, type));
    return crank_sum(crank_mul(crank_unary(CRANK_SQUARE, error), crank_cast(scores->sequence_weights, type)));
}

const crank_objective objective_regression = {
    .name = "regression",
    .paper = "least squares",
    .summary = "squared error of one real-valued output a sequence",
    .scores = CRANK_SCORES_OUTPUTS,
    .fields = CRANK_FIELD_VALUES,
    .record = record,
};
