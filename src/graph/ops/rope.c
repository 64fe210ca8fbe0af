/* rope.c - rotary position embedding (Su et al. 2021, arXiv:2104.09864); the reverse of a rotation is the one by minus
 * the angle. */
#include "graph/ops/op.h"

static crank_status infer_rope(crank_graph *graph, crank_node *node)
{
    crank_tensor *x = node->inputs[0], *positions = node->inputs[1], *table = node->inputs[2];
    if (!op_is_float(x) || x->rank != 3)
        return op_refuse(graph, "rope: x %s must be float [n, heads, d]", op_shape(x).text);
    if (!op_is_vector(positions, x->dims[0], CRANK_I32, CRANK_I32))
        return op_refuse(graph, "rope: positions %s must be i32 [%lld]", op_shape(positions).text,
                         (long long)x->dims[0]);
    if (!op_is(table, op_wide(x->dtype), 2) || table->dims[1] % 2 || table->dims[1] > x->dims[2])
        return op_refuse(graph, "rope: table %s must be [positions, r] with an even r of at most %lld",
                         op_shape(table).text, (long long)x->dims[2]);
    if (table->needs_gradient) return op_refuse(graph, "rope: the table of angles is no parameter that can be trained");
    crank_set_output(node, 0, x->dtype, 3, x->dims);
    return CRANK_OK;
}

static void gradient_rope(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_rope_attributes attributes = *(const crank_rope_attributes *)node->attributes;
    attributes.inverse = !attributes.inverse;
    crank_tensor *inputs[3] = {op_rows(dy[0]), node->inputs[1], node->inputs[2]};
    dx[0] = op_gradient_for(op_one(node->op, inputs, 3, &attributes), node->inputs[0]);
}

static double rope_flops(const crank_node *node)
{
    return 3.0 * (double)op_count(node->outputs[0]);
}

const crank_op op_rope = {.name = "rope",
                          .infer = infer_rope,
                          .gradient = gradient_rope,
                          .attributes_size = sizeof(crank_rope_attributes),
                          .inplace = {1 + 0},
                          .cheap = true,
                          .flops = rope_flops};

crank_tensor *crank_rope(crank_tensor *x, crank_tensor *positions, crank_tensor *table, bool interleaved)
{
    if (op_failed(x)) return x;
    crank_tensor *inputs[3] = {op_rows(x), op_rows(positions), op_rows(crank_cast(table, op_wide(x->dtype)))};
    return op_one(&op_rope, inputs, 3, &(crank_rope_attributes){interleaved, false});
}
