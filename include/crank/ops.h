/* ops.h - the functions that record operations: what model, method, objective and optimiser code is written with.
 *
 * Every function appends to the graph of its first tensor and returns the result. Shapes are checked; an error is sticky in the
 * graph. Rows of the last dimension are contiguous in every result. */
#ifndef CRANK_OPS_H
#define CRANK_OPS_H

#include "crank/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Views: no memory, no work. reshape needs a contiguous tensor (dims of -1: deduced once). */
CRANK_API crank_tensor *crank_reshape(crank_tensor *x, int rank, const int64_t *dims);
CRANK_API crank_tensor *crank_slice(crank_tensor *x, int axis, int64_t start, int64_t length);
CRANK_API crank_tensor *crank_transpose(crank_tensor *x, int axis_a, int axis_b); /* strides only; products take it as it is */
CRANK_API crank_tensor *crank_broadcast(crank_tensor *x, int rank, const int64_t *dims);

/* Copies. */
CRANK_API crank_tensor *crank_cast(crank_tensor *x, crank_dtype dtype); /* x itself when it has the type */
CRANK_API crank_tensor *crank_contiguous(crank_tensor *x);              /* x itself when it is */
CRANK_API crank_tensor *crank_concat(crank_tensor *const *x, int count, int axis);
CRANK_API crank_tensor *crank_fill(crank_graph *graph, crank_dtype dtype, int rank, const int64_t *dims, double value);
/* The same values, but no gradient flows back through it. */
CRANK_API crank_tensor *crank_stop_gradient(crank_tensor *x);

/* Elementwise, NumPy broadcasting. */
CRANK_API crank_tensor *crank_binary(crank_binary_kind kind, crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_add(crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_sub(crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_mul(crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_div(crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_where(crank_tensor *condition, crank_tensor *a, crank_tensor *b);
CRANK_API crank_tensor *crank_affine(crank_tensor *x, double scale, double shift);
CRANK_API crank_tensor *crank_scale(crank_tensor *x, double scale);
CRANK_API crank_tensor *crank_unary(crank_unary_kind kind, crank_tensor *x);

/* Reductions over the axes of a bit mask; reduced dims stay as 1 when keep, else go. */
CRANK_API crank_tensor *crank_reduce(crank_reduce_kind kind, crank_tensor *x, unsigned axes, bool keep);
CRANK_API crank_tensor *crank_sum(crank_tensor *x);         /* over all: a scalar */
CRANK_API crank_tensor *crank_mean(crank_tensor *x);
CRANK_API crank_tensor *crank_softmax(crank_tensor *x, bool log);

/* Products. a [.., m, k], b [.., k, n] with optional transposes; bias [n] and c0 [.., m, n] may be NULL.
 * c = alpha op(a) op(b) + bias + c0 in `out` type (CRANK_DTYPES: a's type). */
CRANK_API crank_tensor *crank_matmul(crank_tensor *a, bool trans_a, crank_tensor *b, bool trans_b);
CRANK_API crank_tensor *crank_matmul_full(crank_tensor *a, bool trans_a, crank_tensor *b, bool trans_b, double alpha,
                                          crank_tensor *bias, crank_tensor *c0, crank_dtype out);

/* A frozen weight of nf4 or f8e4m3 [m,k] in a float type, for a product that reads it; what absent scales of scales are: operations.h. The
 * reverse pass of a product makes it again. */
CRANK_API crank_tensor *crank_dequantize(crank_tensor *w, crank_tensor *scales, crank_tensor *map, crank_tensor *second, crank_tensor *offset,
                                         int64_t block, crank_dtype dtype);

/* x [n,k] in eight bits with a scale a row; gradients pass as they are. */
CRANK_API crank_tensor *crank_quantize_rows(crank_tensor *x, crank_tensor **scale);
/* y [n,m] of type `out`: the product of q with a frozen weight in eight bits, held as W and, for the reverse pass, as W^T. */
CRANK_API crank_tensor *crank_scaled_matmul(crank_tensor *q, crank_tensor *scale, crank_tensor *w, crank_tensor *w_scale, crank_tensor *turned,
                                            crank_tensor *turned_scale, crank_tensor *bias, crank_dtype out);

/* x S^T [n,rows], or with `transpose` x S [n,cols], with the sparse S [rows,cols] of values v [k] at the places index i32 [k] (of its rows
 * one after the other); the gradient of v is that of these places alone. v is cast to x's type. */
CRANK_API crank_tensor *crank_sparse_matmul(crank_tensor *x, crank_tensor *v, crank_tensor *index, int64_t rows, int64_t cols, bool transpose);

/* Rows of a table, and elements of rows. */
CRANK_API crank_tensor *crank_gather_rows(crank_tensor *table, crank_tensor *ids);
/* The same in another float type: no copy is made, and the gradient reaches the table unrounded. */
CRANK_API crank_tensor *crank_gather_rows_as(crank_tensor *table, crank_tensor *ids, crank_dtype dtype);
CRANK_API crank_tensor *crank_pick(crank_tensor *x, crank_tensor *ids); /* x [n,c], ids i32 [n,k] -> [n,k] */

/* 1 at the k largest entries of each row of c [n,c], ties to the lowest index, else 0; no gradient. */
CRANK_API crank_tensor *crank_top_k(crank_tensor *c, int64_t k);
/* a [r,r] symmetric = vectors diag(values) vectors^T: values [r] ascending, vectors [r,r]; no gradient. */
CRANK_API crank_tensor *crank_eigh(crank_tensor *a, crank_tensor **vectors);

/* One row for each segment: x [n,d], segments i32 [s+1] -> [s,d]; empty segments give zeros. */
CRANK_API crank_tensor *crank_segment_pool(crank_tensor *x, crank_tensor *segments, crank_segment_kind kind);

/* Transformer pieces; operands as in operations.h. w, b may be NULL where they are optional there. */
CRANK_API crank_tensor *crank_rmsnorm(crank_tensor *x, crank_tensor *w, double epsilon);
CRANK_API crank_tensor *crank_layernorm(crank_tensor *x, crank_tensor *w, crank_tensor *b, double epsilon);
CRANK_API crank_tensor *crank_rope(crank_tensor *x, crank_tensor *positions, crank_tensor *table, bool interleaved);
CRANK_API crank_tensor *crank_attention(crank_tensor *q, crank_tensor *k, crank_tensor *v, crank_tensor *segments,
                                        const crank_attention_attributes *attributes);
CRANK_API crank_tensor *crank_attention_cached(crank_tensor *q, crank_tensor *k_cache, crank_tensor *v_cache,
                                               crank_tensor *position, const crank_attention_attributes *attributes);
CRANK_API crank_tensor *crank_cache_write(crank_tensor *x, crank_tensor *position, crank_tensor *cache); /* -> the cache after it */
/* y = x diag(k): x [.., d], k [d]. */
CRANK_API crank_tensor *crank_scale_columns(crank_tensor *x, crank_tensor *k);
CRANK_API crank_tensor *crank_glu(crank_tensor *gate, crank_tensor *up, crank_unary_kind activation);
CRANK_API crank_tensor *crank_dropout(crank_tensor *x, double p); /* x itself when p is 0 or the graph is not for training */

/* Log-probabilities of a vocabulary head; logits exist only chunk by chunk. x [n,d], w [V,d], bias [V] or NULL, targets i32 [n]
 * (-1: ignored). lse (f32 [n]) may be NULL. */
CRANK_API crank_tensor *crank_head_logprob(crank_tensor *x, crank_tensor *w, crank_tensor *bias, crank_tensor *targets,
                                           crank_tensor **lse);
/* The weighted sum -sum_i weights_i logp_i (f32 scalar); its gradients come with the forward pass, so it may be differentiated
 * once, as a target or scaled by a scalar. logp (f32 [n], no gradient) may be NULL. */
CRANK_API crank_tensor *crank_head_cross_entropy(crank_tensor *x, crank_tensor *w, crank_tensor *bias, crank_tensor *targets,
                                                 crank_tensor *weights, crank_tensor **logp);

/* State operations: they change parameters. */
CRANK_API void crank_assign(crank_tensor *target, crank_tensor *value, bool add); /* target must be a parameter or a view of one */
CRANK_API void crank_check_finite(crank_tensor *scalar);
/* norm (f32 scalar) of gradients, and CLIP and SKIP set in the step scalars. limit 0: none. */
CRANK_API crank_tensor *crank_clip_scale(crank_tensor *const *gradients, int count, double limit, crank_graph *graph);
/* The same from sums of squares, f32 [k], and the sums of squares that it makes of gradients. */
CRANK_API crank_tensor *crank_clip_squares(crank_tensor *squares, double limit, crank_graph *graph);
CRANK_API crank_tensor *crank_square_sums(crank_tensor *const *gradients, int count, crank_graph *graph);

/* Collectives over the processes that share a run; see operations.h. A sum or a broadcast of up to CRANK_GROUP_MOST tensors is begun and
 * later waited for under its bucket (numbers from 0 in each graph); the tensors of a sum become those under way, then those that are complete.
 * *order is the last collective's place, from crank_group_order at first: what is recorded stands behind it and becomes it. `behind`: another
 * tensor that must be made before (may be NULL). Broadcast and settle work on parameters. A graph ends with a settle, behind all waits. */
CRANK_API crank_tensor *crank_group_order(crank_graph *graph);
CRANK_API void crank_group_sum(crank_tensor **tensors, int count, const int *roots, int bucket, crank_tensor *behind, crank_tensor **order);
CRANK_API void crank_group_wait(crank_tensor **tensors, int count, int bucket, crank_tensor *behind, crank_tensor **order);
CRANK_API void crank_group_broadcast(crank_tensor *const *targets, int count, const int *roots, int bucket, crank_tensor **order);
CRANK_API void crank_group_settle(crank_tensor *const *targets, int count, int bucket, crank_tensor *behind, crank_tensor **order);
/* Updates. adamw, sgd and lion also take scalars [rows, CRANK_SCALARS]: each row of w is updated by its own (f32 and f64 only). */
CRANK_API void crank_adamw(crank_tensor *w, crank_tensor *g, crank_tensor *m, crank_tensor *v, crank_tensor *scalars,
                           const crank_adam_attributes *attributes);
CRANK_API void crank_adamw8bit(crank_tensor *w, crank_tensor *g, crank_tensor *codes_m, crank_tensor *codes_v,
                               crank_tensor *amax_m, crank_tensor *amax_v, crank_tensor *scalars,
                               const crank_adam_attributes *attributes);
CRANK_API void crank_sgd(crank_tensor *w, crank_tensor *g, crank_tensor *buffer, crank_tensor *scalars,
                         const crank_sgd_attributes *attributes); /* buffer NULL when momentum is 0 */
CRANK_API void crank_lion(crank_tensor *w, crank_tensor *g, crank_tensor *m, crank_tensor *scalars,
                          const crank_lion_attributes *attributes);

#ifdef __cplusplus
}
#endif
#endif
