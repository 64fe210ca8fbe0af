/* plain.c - the family of plain bodies: name of the operation -> its body; and the walk that they share. */
#include "device/cpu/plain.h"

typedef struct plain_entry {
    const char   *operation;
    crank_kernel *run;
    size_t (*workspace)(const crank_call *call);
} plain_entry;

static const plain_entry entries[] = {
    {"copy", plain_copy, NULL},
    {"fill", plain_fill, NULL},
    {"binary", plain_binary, NULL},
    {"where", plain_where, NULL},
    {"affine", plain_affine, NULL},
    {"unary", plain_unary, NULL},
    {"unary_backward", plain_unary_backward, NULL},
    {"glu", plain_glu, NULL},
    {"glu_backward", plain_glu_backward, NULL},
    {"dropout", plain_dropout, NULL},
    {"reduce", plain_reduce, NULL},
    {"concat", plain_concat, NULL},
    {"pad", plain_pad, NULL},
    {"gather_rows", plain_gather_rows, NULL},
    {"scatter_rows", plain_scatter_rows, plain_scatter_rows_workspace},
    {"pick", plain_pick, NULL},
    {"unpick", plain_unpick, NULL},
    {"top_k", plain_top_k, plain_top_k_workspace},
    {"eigh", plain_eigh, plain_eigh_workspace},
    {"sparse_matmul", plain_sparse_matmul, plain_sparse_matmul_workspace},
    {"sparse_sample", plain_sparse_sample, NULL},
    {"segment_pool", plain_segment_pool, NULL},
    {"segment_pool_backward", plain_segment_pool_backward, NULL},
    {"softmax", plain_softmax, NULL},
    {"softmax_backward", plain_softmax_backward, NULL},
    {"matmul", plain_matmul, NULL},
    {"matmul_augmented", plain_matmul_augmented, NULL},
    {"scale_columns", plain_scale_columns, NULL},
    {"scale_columns_backward", plain_scale_columns_backward, NULL},
    {"glu_scaled", plain_glu_scaled, NULL},
    {"glu_scaled_backward", plain_glu_scaled_backward, NULL},
    {"dequantize", plain_dequantize, NULL},
    {"quantize_rows", plain_quantize_rows, NULL},
    {"scaled_matmul", plain_scaled_matmul, NULL},
    {"rmsnorm", plain_rmsnorm, NULL},
    {"rmsnorm_backward", plain_rmsnorm_backward, NULL},
    {"layernorm", plain_layernorm, NULL},
    {"layernorm_backward", plain_layernorm_backward, NULL},
    {"rope", plain_rope, NULL},
    {"attention", plain_attention, plain_attention_workspace},
    {"attention_backward", plain_attention_backward, plain_attention_workspace},
    {"cache_write", plain_cache_write, NULL},
    {"attention_cached", plain_attention_cached, plain_attention_workspace},
    {"head_logprob", plain_head_logprob, plain_head_workspace},
    {"head_logprob_backward", plain_head_logprob_backward, plain_head_workspace},
    {"head_cross_entropy", plain_head_cross_entropy, plain_head_workspace},
    {"adamw", plain_adamw, NULL},
    {"adamw8bit", plain_adamw8bit, NULL},
    {"sgd", plain_sgd, NULL},
    {"lion", plain_lion, NULL},
    {"assign", plain_assign, NULL},
    {"clip_scale", plain_clip_scale, NULL},
    {"check_finite", plain_check_finite, NULL},
    {"group_sum", plain_group_sum, NULL},
    {"group_broadcast", plain_group_broadcast, NULL},
    {"group_wait", plain_group_wait, NULL},
    {"group_settle", plain_group_settle, NULL},
};

bool plain_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    (void)threads;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        const plain_entry *entry = &entries[i];
        if (strcmp(entry->operation, operation) != 0) continue;
        *body = (crank_body){
            .name = "plain", .run = entry->run, .workspace = entry->workspace ? entry->workspace(call) : 0};
        return true;
    }
    return false;
}

walk walk_over(const crank_view *shape, int axes, int views, const crank_view *const *view)
{
    walk w = {.axes = axes, .views = views, .left = 1};
    for (int axis = 0; axis < axes; axis++) {
        w.dims[axis] = shape->dims[axis];
        w.left *= shape->dims[axis];
    }
    for (int k = 0; k < views; k++) {
        int shift = shape->rank - view[k]->rank;
        for (int axis = 0; axis < view[k]->rank; axis++)
            if (axis + shift < axes && view[k]->dims[axis] != 1) w.strides[k][axis + shift] = view[k]->strides[axis];
    }
    return w;
}

void walk_next(walk *w)
{
    w->left--;
    for (int axis = w->axes - 1; axis >= 0; axis--) {
        for (int k = 0; k < w->views; k++) w->offset[k] += w->strides[k][axis];
        if (++w->index[axis] < w->dims[axis]) return;
        for (int k = 0; k < w->views; k++) w->offset[k] -= w->strides[k][axis] * w->dims[axis];
        w->index[axis] = 0;
    }
}
