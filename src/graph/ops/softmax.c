/* softmax.c - softmax and log-softmax over the last axis.
 *
 *     softmax  dx = y (dy - sum dy y)        log-softmax  dx = dy - e^y sum dy */
#include "graph/ops/op.h"

static crank_status infer_softmax(crank_graph *graph, crank_node *node)
{
    crank_tensor *x = node->inputs[0];
    if (!op_is_float(x) || x->rank == 0)
        return op_refuse(graph, "softmax: %s is no float tensor with a last axis", op_shape(x).text);
    crank_set_output(node, 0, x->dtype, x->rank, x->dims);
    return CRANK_OK;
}

static crank_status infer_softmax_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *y = node->inputs[0], *dy = node->inputs[1];
    if (!op_is_float(y) || y->rank == 0 || y->dtype != dy->dtype || !op_same_dims(y, dy))
        return op_refuse(graph, "softmax_backward: %s does not go with a gradient %s", op_shape(y).text,
                         op_shape(dy).text);
    crank_set_output(node, 0, y->dtype, y->rank, y->dims);
    return CRANK_OK;
}

static double softmax_flops(const crank_node *node)
{
    return 5.0 * (double)op_count(node->outputs[0]);
}

const crank_op op_softmax_backward = {.name = "softmax_backward",
                                      .infer = infer_softmax_backward,
                                      .gradient = op_no_second,
                                      .attributes_size = sizeof(crank_softmax_attributes),
                                      .inplace = {1 + 1},
                                      .flops = softmax_flops};

static void gradient_softmax(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *inputs[2] = {node->outputs[0], op_rows(dy[0])};
    dx[0] = op_gradient_for(op_one(&op_softmax_backward, inputs, 2, node->attributes), node->inputs[0]);
}

const crank_op op_softmax = {.name = "softmax",
                             .infer = infer_softmax,
                             .gradient = gradient_softmax,
                             .attributes_size = sizeof(crank_softmax_attributes),
                             .inplace = {1 + 0},
                             .cheap = true,
                             .flops = softmax_flops};

crank_tensor *crank_softmax(crank_tensor *x, bool log)
{
    if (op_failed(x)) return x;
    x = op_rows(x);
    return op_one(&op_softmax, &x, 1, &(crank_softmax_attributes){log});
}
