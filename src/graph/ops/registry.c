/* registry.c - the list of all operations. */
#include <string.h>

#include "graph/ops/op.h"

extern const crank_op op_where, op_binary, op_affine, op_unary, op_unary_backward, op_reduce, op_softmax,
    op_softmax_backward, op_rmsnorm, op_rmsnorm_backward, op_layernorm, op_layernorm_backward, op_rope, op_attention,
    op_attention_backward, op_cache_write, op_attention_cached, op_glu_scaled, op_glu_scaled_backward, op_scale_columns,
    op_scale_columns_backward, op_head_logprob,
    op_head_logprob_backward, op_head_cross_entropy, op_dropout, op_adamw, op_adamw8bit, op_sgd, op_lion, op_assign,
    op_clip_scale, op_check_finite, op_group_sum, op_group_broadcast, op_group_wait, op_group_settle, op_top_k, op_eigh, op_dequantize, op_quantize_rows, op_scaled_matmul;

static const crank_op *const operations[] = {
    // clang-format off
    /* shape.c       */ &op_reshape, &op_slice, &op_transpose, &op_broadcast,
    /* copy.c        */ &op_copy, &op_fill, &op_concat, &op_pad,
    /* elementwise.c */ &op_binary, &op_where, &op_affine, &op_unary, &op_unary_backward,
    /* reduce.c      */ &op_reduce,
    /* matmul.c      */ &op_matmul, &op_matmul_augmented,
    /* quantized.c   */ &op_dequantize, &op_quantize_rows, &op_scaled_matmul,
    /* gather.c      */ &op_gather_rows, &op_scatter_rows, &op_pick, &op_unpick,
    /* sparse.c      */ &op_sparse_matmul, &op_sparse_sample,
    /* select.c      */ &op_top_k,
    /* eigh.c        */ &op_eigh,
    /* segment.c     */ &op_segment_pool, &op_segment_pool_backward,
    /* softmax.c     */ &op_softmax, &op_softmax_backward,
    /* norm.c        */ &op_rmsnorm, &op_rmsnorm_backward, &op_layernorm, &op_layernorm_backward,
    /* rope.c        */ &op_rope,
    /* attention.c   */ &op_attention, &op_attention_backward, &op_cache_write, &op_attention_cached,
    /* glu.c         */ &op_glu, &op_glu_backward,
    /* columns.c     */ &op_scale_columns, &op_scale_columns_backward, &op_glu_scaled, &op_glu_scaled_backward,
    /* head.c        */ &op_head_logprob, &op_head_logprob_backward, &op_head_cross_entropy,
    /* dropout.c     */ &op_dropout,
    /* update.c      */ &op_adamw, &op_adamw8bit, &op_sgd, &op_lion, &op_assign, &op_clip_scale, &op_check_finite,
    /* group.c       */ &op_group_sum, &op_group_broadcast, &op_group_wait, &op_group_settle,
    // clang-format on
};

const crank_op *op_at(int i)
{
    int count = (int)(sizeof operations / sizeof *operations);
    return i >= 0 && i < count ? operations[i] : NULL;
}

const crank_op *op_find(const char *name)
{
    for (int i = 0; op_at(i); i++)
        if (!strcmp(op_at(i)->name, name)) return op_at(i);
    return NULL;
}
