/* product.h - products of matrices through cuBLASLt, with a plan for each shape that is tuned once.
 *
 *     C = alpha op(A) op(B) + bias + C0        row-major, a batch of matrices or one */
#ifndef CRANK_DEVICE_CUDA_PRODUCT_H
#define CRANK_DEVICE_CUDA_PRODUCT_H

#include "device/cuda/cuda.h"

enum { PRODUCT_WORKSPACE = 32 << 20 }; /* bytes that every product may use */

/* What a plan is for; filled by product_make, compared as bytes. */
typedef struct product {
    int64_t m, n, k, batch;
    int64_t a_row, b_row, c_row, c0_row;         /* elements from row to row as stored */
    int64_t a_batch, b_batch, c_batch, c0_batch; /* from matrix to matrix; 0: the same one */
    int32_t type, c_type;                        /* crank_dtype of A and B, of C, C0 and bias */
    int32_t trans_a, trans_b, bias, c0, inplace; /* inplace: C0 is C */
    int32_t a_align, b_align, c_align, c0_align; /* bytes, a power of two up to 128 */
    int32_t unused;                              /* no padding: compared as bytes */
} product;

/* The operands of one run. */
typedef struct product_data {
    const void *a, *b, *bias, *c0;
    void       *c, *workspace; /* PRODUCT_WORKSPACE bytes */
    double      alpha;
} product_data;

/* Views as of the operation "matmul"; bias and c0 may be absent. */
product product_make(const crank_view *a, bool trans_a, const crank_view *b, bool trans_b, const crank_view *bias, const crank_view *c0,
                     const crank_view *c);
crank_status product_run(crank_context *context, cuda_device *device, const product *p, const product_data *data);

#endif
