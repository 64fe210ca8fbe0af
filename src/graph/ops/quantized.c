/* quantized.c - a frozen weight of four or eight bits as an operand of products.
 *
 *     quantize_rows   dx = dq: rounding passes gradients as they are
 *     scaled_matmul   dq = dy W, by the same operation: dy quantised by its rows, W^T in the place of W
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

/* ---- eight bits ---- */

static crank_status infer_quantize_rows(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0];
    if (!op_is_float(x) || x->rank != 2) return op_refuse(graph, "quantize_rows: %s is no matrix of floats", op_shape(x).text);
    crank_set_output(node, 0, CRANK_F8E4M3, 2, x->dims);
    crank_set_output(node, 1, CRANK_F32, 1, x->dims);
    return CRANK_OK;
}

static void gradient_quantize_rows(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    if (dy[0]) dx[0] = op_gradient_for(dy[0], node->inputs[0]);
}

const crank_op op_quantize_rows = {.name = "quantize_rows", .infer = infer_quantize_rows, .gradient = gradient_quantize_rows};

crank_tensor *crank_quantize_rows(crank_tensor *x, crank_tensor **scale)
{
    *scale = x;
    if (op_failed(x)) return x;
    x = op_rows(x);
    crank_node *node = crank_record(x->graph, &op_quantize_rows, &x, 1, NULL, 2, 3);
    if (!node) return x;
    *scale = node->outputs[1];
    return node->outputs[0];
}

static bool is_scaled(const crank_tensor *w, const crank_tensor *scale, int64_t rows, int64_t columns)
{
    return op_is(w, CRANK_F8E4M3, 2) && w->dims[0] == rows && w->dims[1] == columns && op_is(scale, CRANK_F32, 1) && scale->dims[0] == rows;
}

static crank_status infer_scaled_matmul(crank_graph *graph, crank_node *node)
{
    crank_dtype out = ((const copy_attributes *)node->attributes)->dtype;
    crank_tensor *const *in = node->inputs;
    if (in[0]->rank != 2 || in[2]->rank != 2)
        return op_refuse(graph, "scaled_matmul: %s and %s are no matrices", op_shape(in[0]).text, op_shape(in[2]).text);
    int64_t n = in[0]->dims[0], k = in[0]->dims[1], m = in[2]->dims[0];
    if (!is_scaled(in[0], in[1], n, k) || !is_scaled(in[2], in[3], m, k) || !is_scaled(in[4], in[5], k, m))
        return op_refuse(graph, "scaled_matmul: %s, %s and its transpose %s do not go together, or not with their scales", op_shape(in[0]).text,
                         op_shape(in[2]).text, op_shape(in[4]).text);
    if (!crank_dtype_is_float(out) || (in[6] && (!op_is(in[6], out, 1) || in[6]->dims[0] != m)))
        return op_refuse(graph, "scaled_matmul: bias %s does not go with a result of %s", op_shape(in[6]).text, crank_dtype_name(out));
    crank_set_output(node, 0, out, 2, (int64_t[]){n, m});
    return CRANK_OK;
}

static void gradient_scaled_matmul(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    if (op_wants(node->inputs[6])) dx[6] = op_gradient_for(dy[0], node->inputs[6]);
    if (!op_wants(node->inputs[0])) return;
    crank_tensor *scale, *q = crank_quantize_rows(dy[0], &scale), *const *w = node->inputs + 2;
    dx[0] = crank_scaled_matmul(q, scale, w[2], w[3], w[0], w[1], NULL, node->outputs[0]->dtype);
}

static double flops_scaled_matmul(const crank_node *node)
{
    return 2.0 * (double)op_count(node->inputs[0]) * (double)node->inputs[2]->dims[0];
}

const crank_op op_scaled_matmul = {.name = "scaled_matmul",
                                   .infer = infer_scaled_matmul,
                                   .gradient = gradient_scaled_matmul,
                                   .attributes_size = sizeof(copy_attributes),
                                   .flops = flops_scaled_matmul};

crank_tensor *crank_scaled_matmul(crank_tensor *q, crank_tensor *scale, crank_tensor *w, crank_tensor *w_scale, crank_tensor *turned,
                                  crank_tensor *turned_scale, crank_tensor *bias, crank_dtype out)
{
    if (op_failed(q)) return q;
    crank_tensor *inputs[7] = {q, scale, w, w_scale, turned, turned_scale, bias ? op_rows(bias) : NULL};
    return op_one(&op_scaled_matmul, inputs, 7, &(copy_attributes){out});
}
