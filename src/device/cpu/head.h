/* head.h - the vocabulary head: logits a chunk of rows at a time, never whole.
 *
 * For a chunk of rows: logits z = x W^T + bias (one product, f32); one pass over each row turns z into c_i (softmax(z) - onehot),
 * where c_i is the factor of the row; then dx = that W and dW += that^T x. Rows without a target that nothing asks about are left
 * out before the product. */
#ifndef CRANK_DEVICE_CPU_HEAD_H
#define CRANK_DEVICE_CPU_HEAD_H

#include "device/cpu/bodies.h"

/* One row of logits z [vocab]: *lse = log sum e^z, *logp = z[target] - lse (0 when target < 0). When `to` is not NULL it receives
 * factor * (softmax(z) - onehot(target)), all zeros when target < 0, as f32 (may be z itself) or bf16 (may start where z does). */
typedef void head_row(float *z, int64_t vocab, int64_t target, float factor, void *to, bool bf16, float *logp, float *lse);

/* Finds one of the three operations with rows done by `row`; the body must be `run`, which calls head_run with the same row. */
bool         head_find(const char *operation, const crank_call *call, int threads, crank_kernel *run, const char *level, crank_body *body);
crank_status head_run(crank_context *context, const crank_call *call, head_row *row);
#endif
