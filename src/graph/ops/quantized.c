/* quantized.c - a frozen weight of four or eight bits as an operand of products.
 *
 * The dense copy lives from its making to the product that reads it: the reverse pass makes it again (op_again) instead of keeping it,
 * so that all products of a step share one place in the arena. */
#include "graph/graph.h"
#include "graph/ops/op.h"

typedef struct dequantize_attributes {
    crank_dequantize_attributes dequantize;
    crank_dtype dtype;
} dequantize_attributes;

static crank_status infer_dequantize(crank_graph *graph, crank_node *node)
{
    const dequantize_attributes *a = node->attributes;
    const crank_tensor *w = node->inputs[0], *scales = node->inputs[1];
    if (w->rank != 2 || (w->dtype != CRANK_NF4 && w->dtype != CRANK_F8E4M3))
        return op_refuse(graph, "dequantize: %s is no matrix of nf4 or f8e4m3", op_shape(w).text);
    if (a->dtype != CRANK_F32 && a->dtype != CRANK_BF16 && a->dtype != CRANK_F16 && a->dtype != CRANK_F64)
        return op_refuse(graph, "dequantize: a weight does not become %s", crank_dtype_name(a->dtype));
    int64_t count = op_count(w), block = a->dequantize.block, scaled = w->dims[0];
    bool coded = scales->dtype == CRANK_U8;
    if (w->dtype == CRANK_NF4 && (block < 2 || block % 2))
        return op_refuse(graph, "dequantize: blocks of %lld elements; an even number of at least 2 is needed", (long long)block);
    if (w->dtype == CRANK_NF4) scaled = count / block + (count % block != 0);
    if (!(coded ? op_is(scales, CRANK_U8, 1) : op_is(scales, CRANK_F32, 1)) || scales->dims[0] != scaled)
        return op_refuse(graph, "dequantize: %s takes %lld scales, not %s", op_shape(w).text, (long long)scaled, op_shape(scales).text);
    bool fits = coded ? w->dtype == CRANK_NF4 && op_is(node->inputs[2], CRANK_F32, 1) && node->inputs[2]->dims[0] == 256 &&
                            op_is(node->inputs[3], CRANK_F32, 1) && node->inputs[3]->dims[0] == (scaled + 255) / 256 &&
                            op_is(node->inputs[4], CRANK_F32, 1) && node->inputs[4]->dims[0] == 1
                      : !node->inputs[2] && !node->inputs[3] && !node->inputs[4];
    if (!fits) return op_refuse(graph, "dequantize: scales %s do not go with what explains their codes", op_shape(scales).text);
    crank_set_output(node, 0, a->dtype, 2, w->dims);
    return CRANK_OK;
}

const crank_op op_dequantize = {.name = "dequantize", .infer = infer_dequantize, .attributes_size = sizeof(dequantize_attributes)};

crank_tensor *crank_dequantize(crank_tensor *w, crank_tensor *scales, crank_tensor *map, crank_tensor *second, crank_tensor *offset, int64_t block,
                               crank_dtype dtype)
{
    if (op_failed(w)) return w;
    crank_tensor *inputs[5] = {w, scales, map, second, offset};
    return op_one(&op_dequantize, inputs, 5, &(dequantize_attributes){{block}, dtype});
}

crank_tensor *op_again(crank_tensor *x)
{
    if (op_failed(x) || !x->graph->reverse || !x->node || x->node->op != &op_dequantize) return x;
    return op_one(&op_dequantize, x->node->inputs, x->node->input_count, x->node->attributes);
}
