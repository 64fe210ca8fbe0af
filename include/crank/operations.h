/* operations.h - the operation table: for each base operation its operands, attributes and meaning.
 *
 * This page is what a device implements. Sizes: n rows (tokens), d columns. "f" is any float type (f32, bf16, f16, f64);
 * operands of one call that are marked f have the same type unless said. Sums, means, norms and softmax are accumulated in
 * f32 at least (f64 for f64). In a call whose f operands are f64, those written f32 below (statistics, log-probabilities,
 * weights of rows, rotation tables) are f64 too, all but `scalars`. Rows of the last dimension have stride 1 unless "any
 * strides" is said; leading dimensions may be strided. An operand in [brackets] is optional. `->` stands before outputs.
 * Where an output may share its memory with an input, "in place: k" names the input's index.
 */
#ifndef CRANK_OPERATIONS_H
#define CRANK_OPERATIONS_H

#include "crank/random.h"
#include "crank/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "copy": x (any strides, any type) -> y (same dims, any type, any strides): cast, gather of a strided view. */

/* "fill": -> y = value */
typedef struct crank_fill_attributes { double value; } crank_fill_attributes;

/* "binary": a f, b f -> y f: broadcast as in NumPy (a stride of 0 or a dim of 1 in a or b). in place: 0 or 1.
 * GT..EQ give 1 or 0. */
typedef enum crank_binary_kind {
    CRANK_ADD, CRANK_SUB, CRANK_MUL, CRANK_DIV, CRANK_MAX, CRANK_MIN, CRANK_POW, CRANK_GT, CRANK_GE, CRANK_EQ
} crank_binary_kind;
typedef struct crank_binary_attributes { crank_binary_kind kind; } crank_binary_attributes;

/* "where": c f (0 is false), a f, b f -> y f: broadcast. */

/* "affine": x f -> y = scale * x + shift. in place: 0 */
typedef struct crank_affine_attributes { double scale, shift; } crank_affine_attributes;

/* "unary": x f -> y f. in place: 0.   "unary_backward": x f, y f, dy f -> dx f (x or y may be absent when the kind's
 * derivative does not need it: see crank_unary_needs_x / _y). in place: 2.
 * GELU is the erf form, GELU_TANH the tanh form. SOFTPLUS = log(1 + e^x), stable. */
typedef enum crank_unary_kind {
    CRANK_NEG, CRANK_EXP, CRANK_LOG, CRANK_SQRT, CRANK_RSQRT, CRANK_RECIPROCAL, CRANK_SQUARE, CRANK_ABS, CRANK_SIGN,
    CRANK_TANH, CRANK_SIGMOID, CRANK_SOFTPLUS, CRANK_RELU, CRANK_SILU, CRANK_GELU, CRANK_GELU_TANH, CRANK_SIN, CRANK_COS
} crank_unary_kind;
typedef struct crank_unary_attributes { crank_unary_kind kind; } crank_unary_attributes;
/* What the derivative reads: exp, sqrt, rsqrt, reciprocal, tanh, sigmoid, relu use y; neg and sign nothing; the others x. */
CRANK_API bool crank_unary_needs_x(crank_unary_kind kind);
CRANK_API bool crank_unary_needs_y(crank_unary_kind kind);

/* "reduce": x f (any strides) -> y (f, or f32 for a 16-bit x): over the axes whose bit is set; y has them as dims of 1.
 * SUM_SQUARES sums x*x. */
typedef enum crank_reduce_kind { CRANK_SUM, CRANK_MEAN, CRANK_AMAX, CRANK_SUM_SQUARES } crank_reduce_kind;
typedef struct crank_reduce_attributes { crank_reduce_kind kind; unsigned axes; } crank_reduce_attributes;

/* "concat": x_0..x_{k-1} f -> y f: along `axis`. */
typedef struct crank_concat_attributes { int axis; } crank_concat_attributes;

/* "pad": x f -> y f: y is zero but for x at `start` of `axis` (the reverse of a slice). */
typedef struct crank_pad_attributes { int axis; int64_t start; } crank_pad_attributes;

/* "gather_rows": table f or f' [V,d], ids i32 [n] -> y f [n,d]. An id outside [0,V) gives a row of zeros.
 * "scatter_rows": dy f [n,d], ids i32 [n] -> dtable (f or f32) [V,d]: zero, plus dy summed by id in the order of rows. */

/* "pick": x f [n,c], ids i32 [n,k] -> y f [n,k]: y[i,j] = x[i, ids[i,j]]; outside [0,c): 0.
 * "unpick": dy f [n,k], ids i32 [n,k] -> dx f [n,c]: the reverse, repeated ids add. */

/* "top_k": c f [n,c] -> mask f [n,c]: 1 at the k largest entries of each row, ties to the lowest index, else 0. A NaN counts as the
 *     smallest. No gradient. */
typedef struct crank_top_k_attributes { int64_t k; } crank_top_k_attributes;

/* "eigh": a f [r,r] symmetric (the mean of a and a^T is taken) -> values f [r] ascending, vectors f [r,r], one in each column with its
 *     entry of largest magnitude positive. In f64 inside. No gradient. */

/* "segment_pool": x f [n,d], segments i32 [s+1] (as of attention) -> y f [s,d]: one row a segment: the mean of its rows, or its
 *     first or last row; zeros for an empty segment.
 * "segment_pool_backward": dy f [s,d], segments i32 [s+1] -> dx f [n,d]: zeros, but for what the segments' rows receive. */
typedef enum crank_segment_kind { CRANK_SEGMENT_MEAN, CRANK_SEGMENT_FIRST, CRANK_SEGMENT_LAST } crank_segment_kind;
typedef struct crank_segment_attributes { crank_segment_kind kind; } crank_segment_attributes;

/* "softmax": x f [.., c] -> y f: over the last axis; log: log-softmax. in place: 0.
 * "softmax_backward": y f, dy f -> dx f (of softmax, or of log-softmax with log). in place: 1 */
typedef struct crank_softmax_attributes { bool log; } crank_softmax_attributes;

/* "matmul": a [.., m, k] (or [.., k, m] with trans_a), b [.., k, n] (or [.., n, k] with trans_b), [bias f [n]], [c0 [.., m, n]]
 *           -> c [.., m, n] = alpha * op(a) op(b) + bias + c0.   in place: 3 (c0)
 * Types: a, b both f32, both bf16, both f16 or both f64; c is a's type or f32; bias and c0 are of c's type. Leading
 * dimensions: none, or one batch dimension (a batch of 1 broadcasts). Row strides of a, b, c, c0 may exceed their rows. */
typedef struct crank_matmul_attributes { bool trans_a, trans_b; double alpha; } crank_matmul_attributes;

/* "matmul_augmented": a f [n,k], b f [k,m] (or [m,k] with trans_b), t f [n,r], s f [r,m] (or [m,r]), [c0 f [n,m]] -> c f [n,m]
 *           = a op(b) + scale t op(s) + c0.   in place: 4 (c0)
 * A body may make it one product of k + r terms, with the term's operands in the room of a and b: what lies between the rows of a; what lies
 * between the rows of b, and as many rows below its last (crank_param_make_room). What stands there afterwards is left open. */
typedef struct crank_augmented_attributes { bool trans_b; double scale; } crank_augmented_attributes;

/* "scale_columns": x f [n,d], k p [d] -> y f [n,d] = x k_j.   in place: 0
 * "scale_columns_backward": dy f [n,d], y f [n,d], k p [d] -> dx f [n,d] = dy k_j, [dk s [d] = sum over rows of dy y / k_j; 0 for k_j = 0, where
 *     y tells nothing].   in place: 0
 * "glu_scaled": gate f [n,d], kg p [d], up f [n,d], ku p [d] -> h f [n,d]: "glu" of both with scaled columns.   in place: 0
 * "glu_scaled_backward": dh f, gate f, kg p, up f, ku p -> dgate f, dup f [n,d], [dkg s, dku s [d]].   in place: 1, 3 */

/* "sparse_matmul": x f [n,a], v f [k], index i32 [k] -> y f [n,b]: a product with the sparse matrix S [rows,cols] that holds v_i at place
 *     index_i of its rows one after the other: y = x S^T (a = cols, b = rows), or with `transpose` y = x S. Repeated places add, places
 *     outside of S are left out; ascending ones are fast.
 * "sparse_sample": a f [n,rows], b f [n,cols], index i32 [k] -> v (f or f32) [k] = (a^T b) at those places; 0 outside. */
typedef struct crank_sparse_attributes { int64_t rows, cols; bool transpose; } crank_sparse_attributes;

/* "dequantize": w nf4 or f8e4m3 [m,k] (contiguous), scales, [map f32 [256]], [second f32 [g]], [offset f32 [1]] -> y f [m,k]
 *     f8e4m3: scales f32 [m]; y = w scales_row.
 *     nf4: element i of the flattened matrix belongs to block j = i / block; y = level(w_i) a_j with a = scales f32 [blocks], or with scales
 *     u8 [blocks] (double quantisation) a_j = map[scales_j] second_{j / 256} + offset. Levels and layout are bitsandbytes'; the products and
 *     the sum are rounded to f32 one by one, y then to its type. No gradient: such a weight is frozen. */
typedef struct crank_dequantize_attributes { int64_t block; } crank_dequantize_attributes; /* nf4: even; else not read */

/* "quantize_rows": x f [n,k] -> q f8e4m3 [n,k] (contiguous), scale f32 [n]: scale = max |x_row| / 448 (1 for a row of zeros), q = x / scale,
 *     in f32, rounded to nearest even. Its gradient passes as it is.
 * "scaled_matmul": q f8e4m3 [n,k], scale f32 [n], w f8e4m3 [m,k], w_scale f32 [m], turned f8e4m3 [k,m], turned_scale f32 [k], [bias f [m]]
 *     -> y f [n,m] = scale_i w_scale_j sum_k q_ik w_jk + bias_j. turned is W^T, quantised by its own rows: not read here, but by the reverse,
 *     which is the same operation on the quantised dy with the two exchanged. */

/* "rmsnorm": x f [n,d], w [d], [residual f [n,d]] -> y f [n,d], rstd f32 [n], [sum f [n,d]]
 *     z = x + residual (written to sum when there is a residual); rstd = 1/sqrt(mean(z^2) + epsilon); y = z * rstd * w
 * "rmsnorm_backward": dy f, z f, w [d], rstd f32 [n], [dres f [n,d]] -> dx f [n,d], [dw [d]]
 *     dx = dres + rstd (w dy - z rstd^2 mean(w dy z));  dw = sum_rows dy z rstd.   w is f or f32, dw of w's type. in place: 4 */
typedef struct crank_norm_attributes { double epsilon; } crank_norm_attributes;

/* "layernorm": x f [n,d], [w [d]], [b [d]], [residual f [n,d]] -> y f, mean f32 [n], rstd f32 [n], [sum f [n,d]]
 * "layernorm_backward": dy f, z f, [w [d]], mean f32 [n], rstd f32 [n], [dres f] -> dx f, [dw [d]], [db [d]]. in place: 5 */

/* "rope": x f [n,h,d], positions i32 [n], table f32 [P, r] (r/2 cosines then r/2 sines a position, r <= d even)
 *         -> y f [n,h,d]. in place: 0. The first r of each head are rotated, the rest pass.
 *     half pairs (i, i + r/2) as Llama; interleaved pairs (2i, 2i+1). inverse: rotate by minus the angle (the reverse pass). */
typedef struct crank_rope_attributes { bool interleaved, inverse; } crank_rope_attributes;

/* The mask of an attention: query i sees key j of its own segment when j <= i (causal) and i - j < window (window > 0). */
typedef enum crank_mask_kind { CRANK_MASK_NONE, CRANK_MASK_CAUSAL } crank_mask_kind;
typedef struct crank_attention_attributes {
    crank_mask_kind mask;
    int64_t         window; /* 0: unlimited; with MASK_NONE it is symmetric: |i - j| < window */
    double          scale;
    int64_t         longest; /* an upper bound of a segment's tokens that the caller knows; 0: none. Bodies may be slower without it */
} crank_attention_attributes;
/* "attention": q f [n,hq,d], k f [n,hk,d], v f [n,hk,d], segments i32 [s+1] (first token of each packed row, ascending, the
 *     last is n; repeated values are empty rows) -> o f [n,hq,d], lse f32 [hq,n].  hq % hk == 0: head h reads h / (hq/hk).
 *     The n x n scores are never stored: only tiles. Token strides may exceed h*d (q, k, v as slices of one buffer).
 * "attention_backward": do f, q, k, v, o f, lse f32 [hq,n], segments -> dq f, dk f, dv f (shapes of q, k, v). */

/* "cache_write" (state): x f [n,h,d], position i32 [1], cache f [P,h,d] -> cache (in place: 2): rows position.. of the cache.
 * "attention_cached": q f [n,hq,d], k f [P,hk,d], v f [P,hk,d], position i32 [1] -> o f [n,hq,d]: query i is token
 *     position + i and sees keys 0..position+i (less the window). attributes: crank_attention_attributes. */

/* "glu": gate f [n,d], up f [n,d] -> h = act(gate) * up. in place: 0 or 1.
 * "glu_backward": dh f, gate f, up f -> dgate f, dup f. in place: out 0 with 1, out 1 with 2. */
typedef struct crank_glu_attributes { crank_unary_kind activation; } crank_glu_attributes; /* SILU, GELU, GELU_TANH */

/* "head_logprob": x f [n,d], w f [V,d], [bias [V]], targets i32 [n] -> logp f32 [n], lse f32 [n], [unit f [n,d]]
 *     z = w x_i + bias (chunk by chunk; never whole); logp_i = z[target] - lse; target outside [0,V): logp 0, lse still given.
 *     unit_i = d logp_i / d x_i = w[target] - sum_v softmax(z)_v w_v: what the reverse pass multiplies by d logp_i.
 * "head_logprob_backward": dlogp f32 [n], x, w, [bias], targets, lse -> [dx f [n,d]], [dw (f or f32) [V,d]], [dbias [V]]
 *     logits are computed again chunk by chunk. dbias has the type of bias, which is f or f32.
 * "head_cross_entropy": x f [n,d], w f [V,d], [bias [V]], targets i32 [n], weights f32 [n]
 *     -> numerator f32 [] = -sum_i weights_i logp_i, logp f32 [n], [dx f [n,d]], [dw (f or f32) [V,d]], [dbias [V]]
 *     the gradients of the numerator come with the forward pass: one product fewer than computing the logits again. */
typedef struct crank_head_attributes { int64_t chunk; } crank_head_attributes; /* rows a chunk; 0: the body chooses */

/* "dropout": x f, step i64 [1] -> y = keep ? x / (1-p) : 0; element i of the call uses draw number step * 2^34 + i
 *     of the stream (seed, DROPOUT, index), kept when uniform >= p: the reverse pass is the same operation on dy. in place: 0 */
typedef struct crank_dropout_attributes { double p; uint64_t seed; uint32_t index; } crank_dropout_attributes;

/* Updates (state operations, all in place on their parameter and state). `g` is f32 or the parameter's type. scalars f32 [8]:
 * CRANK_SCALAR_* below. When scalars[SKIP] != 0 nothing changes. The gradient is first multiplied by scalars[CLIP].
 * rate_factor multiplies the rate; decay is decoupled: w -= rate*decay*w.
 *
 * "adamw": w f32 or bf16, g, m f32, v f32, scalars -> w, m, v
 *     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w -= rate * ( (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + epsilon) ) ;
 *     decay before the step (torch).  adam_l2: g += decay*w instead.
 * "adamw8bit": w, g, codes_m u8, codes_v u8, amax_m f32 [ceil(N/256)], amax_v f32, scalars -> w, codes_m, codes_v, amax_m,
 *     amax_v: bitsandbytes' block-wise dynamic map, blocks of 256 (card optim-baselines), decay after the step.
 * "sgd": w, g, [buffer f32], scalars -> w, [buffer]: torch's momentum, dampening, nesterov; decay is L2 (added to g).
 * "lion": w, g, m f32, scalars -> w, m.
 * A bf16 parameter is rounded stochastically: element i uses the high 16 bits of draw number
 * STEP * 2^34 + i of stream (seed, ROUNDING, index): bits16 is added to the f32 pattern before it is cut. */
typedef enum crank_scalar_index {
    CRANK_SCALAR_RATE, CRANK_SCALAR_STEP, CRANK_SCALAR_CLIP, CRANK_SCALAR_SKIP, CRANK_SCALAR_DENOMINATOR, CRANK_SCALAR_PROGRESS,
    CRANK_SCALARS = 8
} crank_scalar_index;
typedef struct crank_adam_attributes {
    double   beta1, beta2, epsilon, decay, rate_factor;
    bool     l2;
    uint64_t seed;
    uint32_t index;
} crank_adam_attributes;
typedef struct crank_sgd_attributes {
    double   momentum, dampening, decay, rate_factor;
    bool     nesterov;
    uint64_t seed;
    uint32_t index;
} crank_sgd_attributes;
typedef struct crank_lion_attributes {
    double   beta1, beta2, decay, rate_factor;
    uint64_t seed;
    uint32_t index;
} crank_lion_attributes;

/* "assign" (state): x f, [old] target -> target (in place: 1) = x, or target + x with `add`; casts to the target's type. */
typedef struct crank_assign_attributes { bool add; } crank_assign_attributes;

/* "clip_scale" (state): squares f32 [k] (sum of squares of each gradient), scalars f32 [8] -> scalars (in place: 1),
 *     norm f32 []: norm = sqrt(sum squares) / DENOMINATOR; CLIP = min(1, limit / norm) / DENOMINATOR (limit 0: 1 / DENOMINATOR);
 *     SKIP = 1 when the norm is not finite, else as it was. */
typedef struct crank_clip_attributes { double limit; } crank_clip_attributes;

/* "check_finite" (state): x f32 [], scalars -> scalars (in place: 1): SKIP = 1 when x is not finite. */

/* Collectives over the processes that share a run (crank_device.group). Operands: k tensors of any sizes, then one or more *orders*, of which
 * nothing is read: they only stand before. Outputs: the k tensors, and an order f32 [1], of which nothing is written. A collective is begun,
 * runs beside what follows, and is waited for under the same `bucket`; between the two nobody reads or writes its tensors. In all processes
 * the same collectives are begun in the same order.
 *
 * "group_sum": x f, orders -> y f, order: begins y_i = the sum of x_i over the processes, in all of them or with root_i >= 0 in that one;
 *     elsewhere y_i is undefined. in place: each.
 * "group_broadcast" (state): x, orders -> x, order: begins x_i = that of process root_i. In place.
 * "group_wait": y, orders -> z, order: z_i = y_i, complete. in place: each.
 * "group_settle" (state): x, orders -> x, order: the same in place. */
enum { CRANK_GROUP_MOST = 7 }; /* tensors of one node */
typedef struct crank_group_attributes { int bucket, root[CRANK_GROUP_MOST]; } crank_group_attributes;

#ifdef __cplusplus
}
#endif
#endif
