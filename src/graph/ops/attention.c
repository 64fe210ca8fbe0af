/* attention.c - softmax attention over packed rows, with grouped key heads; attention over a cache, and writing to it.
 *
 *     o_i = sum_j softmax_j(scale q_i k_j) v_j over the keys j that the mask lets query i see
 *
 * The reverse makes the scores again from q, k and the log-sum-exp of each row: n x n is never stored. */
#include "graph/ops/op.h"

/* Common to the ways of attention: q [n,hq,d], k and v [m,hk,d], hq a multiple of hk, one float type. */
static crank_status check_heads(crank_graph *graph, const char *name, const crank_tensor *q, const crank_tensor *k,
                                const crank_tensor *v)
{
    bool fits = op_is_float(q) && q->rank == 3 && op_is(k, q->dtype, 3) && op_is(v, q->dtype, 3) &&
                op_same_dims(k, v) && k->dims[2] == q->dims[2] && q->dims[1] % k->dims[1] == 0;
    return fits
               ? CRANK_OK
               : op_refuse(graph,
                           "%s: q %s, k %s, v %s must be [n, heads, d] of one float type, the heads of q a multiple of "
                           "those of k and v",
                           name, op_shape(q).text, op_shape(k).text, op_shape(v).text);
}

static crank_status infer_attention(crank_graph *graph, crank_node *node)
{
    crank_tensor *q = node->inputs[0], *k = node->inputs[1], *v = node->inputs[2], *segments = node->inputs[3];
    if (check_heads(graph, "attention", q, k, v) != CRANK_OK) return CRANK_USAGE;
    if (k->dims[0] != q->dims[0])
        return op_refuse(graph, "attention: q %s and k %s must have as many tokens", op_shape(q).text,
                         op_shape(k).text);
    if (!op_is(segments, CRANK_I32, 1) || segments->dims[0] < 2)
        return op_refuse(graph, "attention: segments %s must be i32 [rows + 1]: the first token of each row, and n",
                         op_shape(segments).text);
    crank_set_output(node, 0, q->dtype, 3, q->dims);
    crank_set_output(node, 1, op_wide(q->dtype), 2, (int64_t[]){q->dims[1], q->dims[0]});
    return CRANK_OK;
}

/* Pairs of query and key times heads, for rows as long as the caller says (one row of all tokens where it does not): an upper bound where
 * shorter ones are packed. */
static double pairs(const crank_tensor *q, const crank_attention_attributes *attributes)
{
    double all = (double)q->dims[0], n = attributes->longest > 0 && (double)attributes->longest < all ? (double)attributes->longest : all;
    double seen = n, w = (double)attributes->window;
    if (attributes->mask == CRANK_MASK_CAUSAL) {
        seen = (n + 1) / 2;
        if (w > 0 && w < n) seen = w - w * (w - 1) / (2 * n);
    } else if (w > 0 && 2 * w - 1 < n) {
        seen = 2 * w - 1;
    }
    return all * seen * (double)q->dims[1];
}

static double attention_flops(const crank_node *node)
{
    return 4.0 * (double)node->inputs[0]->dims[2] * pairs(node->inputs[0], node->attributes);
}

/* The scores again, and four products more. */
static double attention_backward_flops(const crank_node *node)
{
    return 10.0 * (double)node->inputs[1]->dims[2] * pairs(node->inputs[1], node->attributes);
}

static crank_status infer_attention_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *dout = node->inputs[0], *q = node->inputs[1];
    if (dout->dtype != q->dtype || !op_same_dims(dout, q))
        return op_refuse(graph, "attention_backward: a gradient %s does not go with q %s", op_shape(dout).text,
                         op_shape(q).text);
    for (int i = 0; i < 3; i++) {
        crank_tensor *x = node->inputs[1 + i];
        crank_set_output(node, i, x->dtype, 3, x->dims);
    }
    return CRANK_OK;
}

const crank_op op_attention_backward = {.name = "attention_backward",
                                        .infer = infer_attention_backward,
                                        .gradient = op_no_second,
                                        .attributes_size = sizeof(crank_attention_attributes),
                                        .flops = attention_backward_flops};

static void gradient_attention(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *const *in = node->inputs;
    crank_tensor *inputs[7] = {op_heads(dy[0]), in[0], in[1], in[2], node->outputs[0], node->outputs[1], in[3]};
    crank_node *backward = crank_record(graph, &op_attention_backward, inputs, 7, node->attributes, 3, 7);
    for (int i = 0; backward && i < 3; i++)
        if (in[i]->needs_gradient) dx[i] = op_gradient_for(backward->outputs[i], in[i]);
}

const crank_op op_attention = {.name = "attention",
                               .infer = infer_attention,
                               .gradient = gradient_attention,
                               .attributes_size = sizeof(crank_attention_attributes),
                               .flops = attention_flops};

crank_tensor *crank_attention(crank_tensor *q, crank_tensor *k, crank_tensor *v, crank_tensor *segments,
                              const crank_attention_attributes *attributes)
{
    if (op_failed(q)) return q;
    crank_tensor *inputs[4] = {op_heads(q), op_heads(k), op_heads(v), op_rows(segments)};
    crank_node *node = crank_record(q->graph, &op_attention, inputs, 4, attributes, 2, 3);
    if (!node) return q;
    node->outputs[1]->needs_gradient = false;
    return node->outputs[0];
}

/* ---- with a cache: generation, which needs no gradient ---- */

static crank_status infer_cache_write(crank_graph *graph, crank_node *node)
{
    crank_tensor *x = node->inputs[0], *position = node->inputs[1], *cache = node->inputs[2];
    if (!op_is_float(x) || x->rank != 3 || !op_is(cache, x->dtype, 3) || x->dims[1] != cache->dims[1] ||
        x->dims[2] != cache->dims[2] || x->dims[0] > cache->dims[0])
        return op_refuse(graph, "cache_write: %s is no part of the cache %s", op_shape(x).text, op_shape(cache).text);
    if (!op_is_vector(position, 1, CRANK_I32, CRANK_I32))
        return op_refuse(graph, "cache_write: position %s must be i32 [1]", op_shape(position).text);
    crank_set_output(node, 0, cache->dtype, 3, cache->dims);
    return CRANK_OK;
}

static double cache_write_flops(const crank_node *node)
{
    return (double)op_count(node->inputs[0]);
}

const crank_op op_cache_write = {
    .name = "cache_write", .infer = infer_cache_write, .inplace = {1 + 2}, .state = true, .flops = cache_write_flops};

crank_tensor *crank_cache_write(crank_tensor *x, crank_tensor *position, crank_tensor *cache)
{
    if (op_failed(x)) return x;
    crank_tensor *inputs[3] = {op_heads(x), position, cache};
    return op_one(&op_cache_write, inputs, 3, NULL);
}

static crank_status infer_attention_cached(crank_graph *graph, crank_node *node)
{
    crank_tensor *q = node->inputs[0], *position = node->inputs[3];
    if (check_heads(graph, "attention_cached", q, node->inputs[1], node->inputs[2]) != CRANK_OK) return CRANK_USAGE;
    if (!op_is_vector(position, 1, CRANK_I32, CRANK_I32))
        return op_refuse(graph, "attention_cached: position %s must be i32 [1]", op_shape(position).text);
    crank_set_output(node, 0, q->dtype, 3, q->dims);
    return CRANK_OK;
}

static double attention_cached_flops(const crank_node *node)
{
    const crank_tensor *q = node->inputs[0], *k = node->inputs[1];
    return 4.0 * (double)op_count(q) * (double)k->dims[0];
}

const crank_op op_attention_cached = {.name = "attention_cached",
                                      .infer = infer_attention_cached,
                                      .gradient = op_no_second,
                                      .attributes_size = sizeof(crank_attention_attributes),
                                      .flops = attention_cached_flops};

crank_tensor *crank_attention_cached(crank_tensor *q, crank_tensor *k_cache, crank_tensor *v_cache,
                                     crank_tensor *position, const crank_attention_attributes *attributes)
{
    if (op_failed(q)) return q;
    crank_tensor *inputs[4] = {op_heads(q), k_cache, v_cache, position};
    return op_one(&op_attention_cached, inputs, 4, attributes);
}
