/* eigh.c - eigenvalues and eigenvectors of a small symmetric matrix: those of r x r Gram matrices in an update. */
#include "graph/ops/op.h"

static crank_status infer_eigh(crank_graph *graph, crank_node *node)
{
    const crank_tensor *a = node->inputs[0];
    if (!op_is_float(a) || a->rank != 2 || a->dims[0] != a->dims[1]) return op_refuse(graph, "eigh: %s must be a square float matrix", op_shape(a).text);
    crank_set_output(node, 0, a->dtype, 1, a->dims);
    crank_set_output(node, 1, a->dtype, 2, a->dims);
    return CRANK_OK;
}

static double eigh_flops(const crank_node *node)
{
    double r = (double)node->inputs[0]->dims[0];
    return 40 * r * r * r;
}

const crank_op op_eigh = {.name = "eigh", .infer = infer_eigh, .flops = eigh_flops};

crank_tensor *crank_eigh(crank_tensor *a, crank_tensor **vectors)
{
    *vectors = a;
    if (op_failed(a)) return a;
    crank_tensor *inputs[1] = {op_rows(crank_stop_gradient(a))};
    crank_node   *node = crank_record(a->graph, &op_eigh, inputs, 1, NULL, 2, 3);
    if (!node) return a;
    *vectors = node->outputs[1];
    return node->outputs[0];
}
