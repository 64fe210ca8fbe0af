/* segment.c - one row for each segment of rows: their mean, the first or the last of them.
 *
 *     mean   y_i = 1/len_i sum_(j in segment i) x_j        reverse: dx_j = dy_i / len_i
 *     first  y_i = x_(first of segment i)                  reverse: dx is dy_i there, 0 elsewhere (last: the same)
 *
 * An empty segment gives zeros and takes no gradient. */
#include "graph/ops/op.h"

typedef struct segment_attributes {
    crank_segment_attributes segment;
    int64_t rows; /* of dx: the reverse has no operand that tells them */
} segment_attributes;

static crank_status check(crank_graph *graph, const crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *segments = node->inputs[1];
    if (op_is_float(x) && x->rank == 2 && op_is(segments, CRANK_I32, 1) && segments->dims[0] >= 2) return CRANK_OK;
    return op_refuse(graph, "%s: rows %s must be a float matrix, segments %s i32 [s+1]", node->op->name,
                     op_shape(x).text, op_shape(segments).text);
}

static crank_status infer_segment_pool(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *segments = node->inputs[1];
    if (check(graph, node) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, x->dtype, 2, (int64_t[]){segments->dims[0] - 1, x->dims[1]});
    return CRANK_OK;
}

static crank_status infer_segment_pool_backward(crank_graph *graph, crank_node *node)
{
    const crank_tensor *dy = node->inputs[0], *segments = node->inputs[1];
    if (check(graph, node) != CRANK_OK) return CRANK_USAGE;
    if (dy->dims[0] != segments->dims[0] - 1)
        return op_refuse(graph, "%s: %s has not one row for each segment of %s", node->op->name, op_shape(dy).text,
                         op_shape(segments).text);
    crank_set_output(node, 0, dy->dtype, 2,
                     (int64_t[]){((const segment_attributes *)node->attributes)->rows, dy->dims[1]});
    return CRANK_OK;
}

static void gradient_segment_pool(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *x = node->inputs[0], *inputs[2] = {op_rows(dy[0]), node->inputs[1]};
    segment_attributes attributes = *(const segment_attributes *)node->attributes;
    attributes.rows = x->dims[0];
    dx[0] = op_gradient_for(op_one(&op_segment_pool_backward, inputs, 2, &attributes), x);
}

static void gradient_segment_pool_backward(crank_graph *graph, crank_node *node, crank_tensor *const *dy,
                                           crank_tensor **dx)
{
    (void)graph;
    const segment_attributes *attributes = node->attributes;
    dx[0] = op_gradient_for(crank_segment_pool(dy[0], node->inputs[1], attributes->segment.kind), node->inputs[0]);
}

const crank_op op_segment_pool = {.name = "segment_pool",
                                  .infer = infer_segment_pool,
                                  .gradient = gradient_segment_pool,
                                  .attributes_size = sizeof(segment_attributes)};

const crank_op op_segment_pool_backward = {.name = "segment_pool_backward",
                                           .infer = infer_segment_pool_backward,
                                           .gradient = gradient_segment_pool_backward,
                                           .attributes_size = sizeof(segment_attributes)};

crank_tensor *crank_segment_pool(crank_tensor *x, crank_tensor *segments, crank_segment_kind kind)
{
    if (op_failed(x)) return x;
    return op_one(&op_segment_pool, (crank_tensor *[]){op_rows(x), op_rows(segments)}, 2,
                  &(segment_attributes){{kind}, 0});
}
