/* attention.c - multi-head attention with grouped queries: o = softmax(q k^T * scale + mask) v, a head at a time.
 *
 * q, k, v come from three maps, or as slices of one (GPT-2); q and k may be normed over each head (Qwen3) and rotated
 * by position. With a cache, k and v are written behind the tokens that it holds and q looks at all of it. */
#include "nn/nn.h"

static crank_tensor *as_heads(crank_tensor *x, int64_t heads, int64_t head_dim)
{
    return crank_reshape(x, 3, (const int64_t[]){-1, heads, head_dim});
}

/* x [n, hidden] -> q [n,h,d], k and v [n,hk,d] */
static void project(crank_graph *graph, const nn_attention *a, crank_tensor *x, crank_tensor **q, crank_tensor **k,
                    crank_tensor **v)
{
    if (!a->qkv) {
        *q = as_heads(crank_linear_forward(graph, a->q, x), a->heads, a->head_dim);
        *k = as_heads(crank_linear_forward(graph, a->k, x), a->kv_heads, a->head_dim);
        *v = as_heads(crank_linear_forward(graph, a->v, x), a->kv_heads, a->head_dim);
        return;
    }
    crank_tensor *all = as_heads(crank_linear_forward(graph, a->qkv, x), a->heads + 2 * a->kv_heads, a->head_dim);
    *q = crank_slice(all, 1, 0, a->heads);
    *k = crank_slice(all, 1, a->heads, a->kv_heads);
    *v = crank_slice(all, 1, a->heads + a->kv_heads, a->kv_heads);
}

crank_tensor *nn_attention_forward(crank_graph *graph, const nn_attention *a, crank_tensor *x, const nn_tokens *tokens,
                                   int layer, crank_tensor *rows)
{
    crank_tensor *q, *k, *v, *o;
    project(graph, a, x, &q, &k, &v);
    q = nn_norm_forward(graph, &a->q_norm, q);
    k = nn_norm_forward(graph, &a->k_norm, k);
    if (tokens->rope) {
        q = crank_rope(q, tokens->positions, tokens->rope, false);
        k = crank_rope(k, tokens->positions, tokens->rope, false);
    }
    if (tokens->cache) {
        k = crank_cache_write(k, tokens->position, crank_use(graph, tokens->cache->keys[layer]));
        v = crank_cache_write(v, tokens->position, crank_use(graph, tokens->cache->values[layer]));
        o = crank_attention_cached(q, k, v, tokens->position, &a->attributes);
    } else {
        crank_attention_attributes attributes = a->attributes;
        attributes.longest = tokens->longest;
        o = crank_attention(q, k, v, tokens->segments, &attributes);
    }
    o = crank_reshape(o, 2, (const int64_t[]){-1, a->heads * a->head_dim});
    return crank_linear_forward(graph, a->out, rows ? crank_gather_rows(o, rows) : o);
}
