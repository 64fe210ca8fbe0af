/* regression.c - squared error of one output a sequence: L = sum_s w_s (output_s - value_s)^2. */
#include "crank/loss.h"

static crank_tensor *record(crank_graph *graph, crank_model *model, const crank_batch_tensors *batch, const void *options, crank_tensor **scores)
{
    (void)options;
    crank_tensor *features = crank_model_features(graph, model, &batch->model);
    crank_tensor *outputs = crank_model_classify(graph, model, features, batch->model.segments); /* [s, 1] */
    if (scores) *scores = outputs;
    if (outputs->dims[1] != 1)
        return crank_graph_error(graph, CRANK_USAGE, "regression needs a head of one output (model.labels: 1); this one has %lld",
                                 (long long)outputs->dims[1]);
    crank_dtype   type = crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : CRANK_F32;
    crank_tensor *predicted = crank_cast(crank_reshape(outputs, 1, batch->values->dims), type);
    crank_tensor *error = crank_sub(predicted, crank_cast(batch->values, type));
    return crank_sum(crank_mul(crank_unary(CRANK_SQUARE, error), crank_cast(batch->sequence_weights, type)));
}

const crank_objective objective_regression = {
    .name = "regression",
    .paper = "least squares",
    .summary = "squared error of one real-valued output a sequence",
    .fields = CRANK_FIELD_VALUES,
    .record = record,
};
