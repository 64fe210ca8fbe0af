/* select.c - the k largest entries of each row. */
#include "graph/ops/op.h"

static crank_status infer_top_k(crank_graph *graph, crank_node *node)
{
    const crank_tensor *c = node->inputs[0];
    int64_t             k = ((const crank_top_k_attributes *)node->attributes)->k;
    if (!op_is_float(c) || c->rank != 2) return op_refuse(graph, "top_k: %s must be a float matrix", op_shape(c).text);
    if (k < 1 || k > c->dims[1]) return op_refuse(graph, "top_k: %lld of %lld entries", (long long)k, (long long)c->dims[1]);
    crank_set_output(node, 0, c->dtype, 2, c->dims);
    return CRANK_OK;
}

const crank_op op_top_k = {.name = "top_k", .infer = infer_top_k, .attributes_size = sizeof(crank_top_k_attributes)};

crank_tensor *crank_top_k(crank_tensor *c, int64_t k)
{
    if (op_failed(c)) return c;
    crank_tensor *inputs[1] = {op_rows(crank_stop_gradient(c))};
    return op_one(&op_top_k, inputs, 1, &(crank_top_k_attributes){k});
}
