/* nn.h - the blocks that model families are made of: norms, rotary tables, attention, feed-forward, embeddings,
 * pooling.
 *
 * A block is a plain struct of linears, parameters and numbers that the family fills in; its `forward` records
 * operations. Tokens of all sequences stand in one row without padding: x [n, hidden]. */
#ifndef CRANK_NN_NN_H
#define CRANK_NN_NN_H

#include "crank/linear.h"
#include "crank/ops.h"

/* ---- parameters ---- */

/* A parameter as an operand of operations in the compute type: f32 stays (norms take it beside any x), others are cast.
 */
crank_tensor *nn_weight(crank_graph *graph, crank_param *param);

/* ---- norms ---- */

typedef struct nn_norm {
    crank_param *weight, *bias; /* [d]; weight NULL: no norm here */
    double epsilon;
    bool centred; /* layer norm; else root mean square norm */
} nn_norm;

/* x [.., d] -> [.., d]; x itself where there is no norm. */
crank_tensor *nn_norm_forward(crank_graph *graph, const nn_norm *norm, crank_tensor *x);

/* ---- rotary positions (rope.c) ---- */

typedef enum nn_rope_kind { NN_ROPE_NONE, NN_ROPE_DEFAULT, NN_ROPE_LINEAR, NN_ROPE_LLAMA3 } nn_rope_kind;
typedef struct nn_rope {
    nn_rope_kind kind;
    int64_t dims; /* of a head that are rotated, even */
    double theta;
    double factor;    /* LINEAR, LLAMA3 */
    double low, high; /* LLAMA3: low_freq_factor, high_freq_factor */
    double original;  /* LLAMA3: context of pretraining */
} nn_rope;

/* table [rows, dims]: dims/2 cosines, then dims/2 sines of each position. */
void nn_rope_fill(const nn_rope *rope, int64_t rows, float *table);

/* ---- attention ---- */

/* Keys and values of one sequence, a pair for each layer: [capacity, kv_heads, head_dim] in the compute type. */
typedef struct nn_cache {
    int64_t layers, capacity;
    crank_param **keys, **values;
} nn_cache;

/* What the layers of one graph share. */
typedef struct nn_tokens {
    crank_tensor *ids, *positions; /* i32 [n] */
    crank_tensor *types;           /* i32 [n] or NULL */
    crank_tensor *segments;        /* i32 [s+1]; NULL with a cache */
    crank_tensor *rope;            /* table, or NULL */
    const nn_cache *cache;         /* or NULL */
    crank_tensor *position;        /* i32 [1]: tokens in the cache before this run */
    int64_t longest;               /* no segment has more tokens; 0: not known */
    crank_tensor *rows;            /* i32 [r]: tokens whose last hidden states are wanted, or NULL: all */
} nn_tokens;

typedef struct nn_attention {
    crank_linear *q, *k, *v; /* three maps, or */
    crank_linear *qkv;       /* one map whose outputs are q, then k, then v */
    crank_linear *out;
    nn_norm q_norm, k_norm; /* over a head */
    int64_t heads, kv_heads, head_dim;
    crank_attention_attributes attributes;
} nn_attention;

/* x [n, hidden] -> [n, hidden], or with `rows` (i32 [r], may be NULL) [r, hidden]; `layer` chooses the cache's pair. */
crank_tensor *nn_attention_forward(crank_graph *graph, const nn_attention *attention, crank_tensor *x,
                                   const nn_tokens *tokens, int layer, crank_tensor *rows);

/* ---- feed-forward ---- */

typedef struct nn_mlp {
    crank_linear *gate; /* down(act(gate x) * up x), or NULL: down(act(up x)) */
    crank_linear *up, *down;
    crank_unary_kind activation;
} nn_mlp;

crank_tensor *nn_mlp_forward(crank_graph *graph, const nn_mlp *mlp, crank_tensor *x);

/* ---- transformers (transformer.c) ---- */

/* One layer. Norms first: x += attention(norm x); x += mlp(norm x).  Norms last: x = norm(x + attention x); x = norm(x
 * + mlp x). */
typedef struct nn_block {
    nn_norm attention_norm, mlp_norm;
    nn_attention attention;
    nn_mlp mlp;
    bool norms_last;
} nn_block;

typedef struct nn_transformer {
    crank_linear *tokens;    /* embedding of ids */
    crank_param *positions;  /* learned [P, hidden], or NULL */
    int64_t position_offset; /* row of position 0 (RoBERTa: 2) */
    crank_param *types;      /* [types, hidden], or NULL */
    nn_norm embedding_norm, last_norm;
    nn_rope rope;
    nn_block *blocks;
    int count;
} nn_transformer;

/* -> hidden states [n, hidden] after the last norm, in the compute type. */
crank_tensor *nn_transformer_forward(crank_graph *graph, const nn_transformer *transformer, const nn_tokens *tokens);

#endif
