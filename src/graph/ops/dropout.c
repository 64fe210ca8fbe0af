/* dropout.c - y = keep ? x / (1-p) : 0 with a mask that is drawn again, not stored: the reverse is the same operation
 * on dy. */
#include "graph/ops/op.h"

static crank_status infer_dropout(crank_graph *graph, crank_node *node)
{
    const crank_dropout_attributes *dropout = node->attributes;
    crank_tensor *x = node->inputs[0];
    if (!op_is_float(x)) return op_refuse(graph, "dropout: %s is not of a float type", op_shape(x).text);
    if (!(dropout->p >= 0 && dropout->p < 1)) return op_refuse(graph, "dropout: p = %g is not in [0, 1)", dropout->p);
    if (!op_is_vector(node->inputs[1], 1, CRANK_I64, CRANK_I64))
        return op_refuse(graph, "dropout: step %s must be i64 [1]", op_shape(node->inputs[1]).text);
    crank_set_output(node, 0, x->dtype, x->rank, x->dims);
    return CRANK_OK;
}

static void gradient_dropout(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *inputs[2] = {op_rows(dy[0]), node->inputs[1]};
    dx[0] = op_gradient_for(op_one(node->op, inputs, 2, node->attributes), node->inputs[0]);
}

const crank_op op_dropout = {.name = "dropout",
                             .infer = infer_dropout,
                             .gradient = gradient_dropout,
                             .attributes_size = sizeof(crank_dropout_attributes),
                             .inplace = {1 + 0},
                             .cheap = true};

crank_tensor *crank_dropout(crank_tensor *x, double p)
{
    if (op_failed(x) || p == 0 || !crank_graph_training(x->graph)) return x;
    crank_graph *graph = x->graph;
    crank_tensor *inputs[2] = {op_rows(x), crank_step_counter(graph)};
    return op_one(&op_dropout, inputs, 2,
                  &(crank_dropout_attributes){p, crank_graph_seed(graph), crank_graph_next_stream(graph)});
}
