/* head_plan.h - how one call of the vocabulary head is cut into chunks of rows, blocks of the vocabulary and products.
 */
#ifndef CRANK_DEVICE_CPU_HEAD_PLAN_H
#define CRANK_DEVICE_CPU_HEAD_PLAN_H

#include "device/cpu/head.h"
#include "device/cpu/product.h"

typedef enum head_kind { HEAD_LOGPROB, HEAD_BACKWARD, HEAD_CROSS_ENTROPY } head_kind;

/* The products of a block: z = x W^T, u += e W, dW = e^T x, dW += e^T x. */
typedef enum head_product { HEAD_LOGITS, HEAD_UNIT, HEAD_WEIGHT_SET, HEAD_WEIGHT_ADD, HEAD_PRODUCTS } head_product;

/* Chunks hold the largest number of rows, and what remains one of its halves, quarters...: products have fixed sizes.
 */
enum { HEAD_SIZES = 6 };

typedef struct head_plan {
    head_kind kind;
    const crank_view *x, *w, *bias, *targets, *factors, *lse_in; /* factors: weights or dlogp; NULL: absent */
    const crank_view *numerator, *logp, *lse, *dx, *dw, *dbias;  /* NULL: not asked for */
    int64_t n, d, vocabulary;
    crank_dtype type, work; /* of x and W; of the products: f32 or bf16 */
    bool widened;           /* W is copied to f32 block by block */
    bool stored;            /* e of a whole chunk is kept: dW must wait for lse */
    int threads;
    int64_t columns, blocks; /* vocabulary entries of a block */
    int64_t rows[HEAD_SIZES];
    int sizes;
    size_t scratch; /* of the largest product */
    /* places in the workspace, bytes; per_thread ones repeat every thread_bytes from `thread` on */
    size_t at_list, at_lse, at_logp, at_target, at_factor, at_x, at_scaled, at_e, at_max, at_bias, at_dbias, at_dw;
    size_t thread, thread_bytes, in_z, in_e, in_w, in_u, in_scaled, in_max, in_sum, in_keep, in_scratch;
    size_t bytes;
} head_plan;

bool head_plan_read(const char *operation, const crank_call *call, head_plan *p); /* the operands alone */
bool head_plan_make(const char *operation, const crank_call *call, int threads, head_plan *p);
product_spec head_product_spec(const head_plan *p, head_product kind, int size, bool last);
#endif
