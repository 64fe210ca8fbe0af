/* plain.h - what the plain bodies share: elements of views as doubles, and a walk over strided views.
 *
 * The plain bodies are the definition of every operation on the CPU: one thread, every float type, any strides, all
 * arithmetic in double, each result rounded once. All other bodies are tested against them. */
#ifndef CRANK_DEVICE_CPU_PLAIN_H
#define CRANK_DEVICE_CPU_PLAIN_H

#include "device/cpu/bodies.h"
#include "device/cpu/element.h"
#include "device/operations.h"

static inline double get(const crank_view *view, int64_t offset)
{
    return element_read(view->data, view->dtype, offset);
}
static inline void put(const crank_view *view, int64_t offset, double value)
{
    element_write(view->data, view->dtype, offset, value);
}

static inline int64_t at1(const crank_view *view, int64_t i) { return i * view->strides[0]; }
static inline int64_t at2(const crank_view *view, int64_t i, int64_t j)
{
    return i * view->strides[0] + j * view->strides[1];
}
static inline int64_t at3(const crank_view *view, int64_t i, int64_t j, int64_t k)
{
    return i * view->strides[0] + j * view->strides[1] + k * view->strides[2];
}
static inline int64_t id_at(const crank_view *view, int64_t offset) { return ((const int32_t *)view->data)[offset]; }

static inline int64_t last_dim(const crank_view *view) { return view->rank ? view->dims[view->rank - 1] : 1; }
static inline int64_t last_stride(const crank_view *view) { return view->rank ? view->strides[view->rank - 1] : 1; }

/* A walk over the indices of a shape in row-major order that keeps one offset for each of a few views:
 *
 *     for (walk w = walk_over(y, y->rank, 2, (const crank_view *[]){x, y}); w.left; walk_next(&w))
 *         put(y, w.offset[1], f(get(x, w.offset[0])));
 *
 * Views spread over the shape as in NumPy. `axes` < rank walks the leading axes only (rows). */
enum { WALK_VIEWS = 5 };
typedef struct walk {
    int     axes, views;
    int64_t left; /* indices still to visit, the present one included */
    int64_t dims[CRANK_MAX_RANK], index[CRANK_MAX_RANK], strides[WALK_VIEWS][CRANK_MAX_RANK], offset[WALK_VIEWS];
} walk;

walk walk_over(const crank_view *shape, int axes, int views, const crank_view *const *view);
void walk_next(walk *w);

#define WALK(w, shape, axes, ...)                                                                                      \
    for (walk w = walk_over(shape, axes, sizeof((const crank_view *[]){__VA_ARGS__}) / sizeof(crank_view *),           \
                            (const crank_view *[]){__VA_ARGS__});                                                      \
         w.left; walk_next(&w))
#define WALK_ROWS(w, shape, ...) WALK (w, shape, (shape)->rank > 0 ? (shape)->rank - 1 : 0, __VA_ARGS__)

/* f(x) and f'(x) given what crank_unary_needs_x / _y say. */
double plain_activation(crank_unary_kind kind, double x);
double plain_activation_slope(crank_unary_kind kind, double x, double y);

crank_kernel plain_copy, plain_fill, plain_binary, plain_where, plain_affine, plain_unary, plain_unary_backward,
    plain_glu, plain_glu_backward, plain_sparse_matmul, plain_sparse_sample, plain_dequantize, plain_quantize_rows, plain_scaled_matmul, plain_dropout, plain_reduce, plain_concat, plain_pad, plain_gather_rows,
    plain_scatter_rows, plain_pick, plain_unpick, plain_top_k, plain_eigh, plain_segment_pool, plain_segment_pool_backward, plain_softmax,
    plain_softmax_backward, plain_matmul, plain_matmul_augmented, plain_scale_columns, plain_scale_columns_backward,
    plain_glu_scaled, plain_glu_scaled_backward, plain_rmsnorm, plain_rmsnorm_backward, plain_layernorm,
    plain_layernorm_backward, plain_rope, plain_attention, plain_attention_backward, plain_cache_write,
    plain_attention_cached, plain_head_logprob, plain_head_logprob_backward, plain_head_cross_entropy, plain_adamw,
    plain_adamw8bit, plain_sgd, plain_lion, plain_assign, plain_clip_scale, plain_check_finite,
    plain_group_sum, plain_group_broadcast, plain_group_wait, plain_group_settle;

/* Bytes of workspace that a call needs; operations that are not named here need none. */
size_t plain_scatter_rows_workspace(const crank_call *call);
size_t plain_sparse_matmul_workspace(const crank_call *call);
size_t plain_top_k_workspace(const crank_call *call);
size_t plain_eigh_workspace(const crank_call *call);
size_t plain_attention_workspace(const crank_call *call);
size_t plain_head_workspace(const crank_call *call);
#endif
