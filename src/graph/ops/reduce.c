/* reduce.c - sum, mean, max and sum of squares over axes.
 *
 *     sum          dx = dy                    mean  dx = dy / count
 *     sum squares  dx = 2 x dy                max   dx = dy [x = y], shared equally where several elements are the
 * largest */
#include "graph/ops/op.h"

static crank_status infer_reduce(crank_graph *graph, crank_node *node)
{
    unsigned axes = ((const crank_reduce_attributes *)node->attributes)->axes;
    crank_tensor *x = node->inputs[0];
    if (!op_is_float(x)) return op_refuse(graph, "reduce: %s is not of a float type", op_shape(x).text);
    if (axes >> x->rank) return op_refuse(graph, "reduce: %s lacks axes of the mask 0x%x", op_shape(x).text, axes);
    int64_t dims[CRANK_MAX_RANK];
    for (int i = 0; i < x->rank; i++) dims[i] = axes >> i & 1 ? 1 : x->dims[i];
    crank_set_output(node, 0, op_wide(x->dtype), x->rank, dims);
    return CRANK_OK;
}

static int64_t reduced_count(const crank_node *node)
{
    return op_count(node->inputs[0]) / op_count(node->outputs[0]);
}

static void gradient_reduce(crank_graph *graph, crank_node *node, crank_tensor *const *dys, crank_tensor **dx)
{
    (void)graph;
    const crank_reduce_attributes *reduce = node->attributes;
    crank_tensor *x = node->inputs[0], *dy = dys[0], *y = node->outputs[0];
    crank_tensor *slope = NULL; /* d y / d x, where it is not one number */
    if (reduce->kind == CRANK_MEAN) dy = crank_scale(dy, 1.0 / (double)reduced_count(node));
    if (reduce->kind == CRANK_SUM_SQUARES) {
        dy = crank_scale(dy, 2);
        slope = x;
    }
    if (reduce->kind == CRANK_AMAX) {
        slope = crank_binary(CRANK_EQ, x, crank_cast(y, x->dtype));
        dy = crank_div(dy, crank_reduce(CRANK_SUM, slope, reduce->axes, true));
    }
    dy = crank_cast(dy, slope ? slope->dtype : op_gradient_dtype(x));
    dx[0] = slope ? op_gradient_for(op_times(slope, dy), x) : crank_broadcast(dy, x->rank, x->dims);
}

static double reduce_flops(const crank_node *node)
{
    return (double)op_count(node->inputs[0]);
}

const crank_op op_reduce = {.name = "reduce",
                            .infer = infer_reduce,
                            .gradient = gradient_reduce,
                            .attributes_size = sizeof(crank_reduce_attributes),
                            .flops = reduce_flops};

crank_tensor *crank_reduce(crank_reduce_kind kind, crank_tensor *x, unsigned axes, bool keep)
{
    if (op_failed(x)) return x;
    if (kind < CRANK_SUM || kind > CRANK_SUM_SQUARES) {
        op_refuse(x->graph, "reduce: %d is no kind", (int)kind);
        return x;
    }
    if (axes == 0) /* nothing is summed */
        return crank_cast(kind == CRANK_SUM_SQUARES ? crank_unary(CRANK_SQUARE, x) : x, op_wide(x->dtype));
    crank_tensor *y = op_one(&op_reduce, &x, 1, &(crank_reduce_attributes){kind, axes});
    if (keep || op_failed(y)) return y;
    int64_t dims[CRANK_MAX_RANK];
    int rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (!(axes >> i & 1)) dims[rank++] = x->dims[i];
    return crank_reshape(y, rank, dims);
}

crank_tensor *crank_sum(crank_tensor *x)
{
    return crank_reduce(CRANK_SUM, x, (1u << x->rank) - 1, false);
}
crank_tensor *crank_mean(crank_tensor *x)
{
    return crank_reduce(CRANK_MEAN, x, (1u << x->rank) - 1, false);
}
