/* head.h - the vocabulary head: logits exist as one block of rows and vocabulary entries at a time.
 *
 *     z = x W^T + bias;  lse_i = log sum_v e^z_iv;  p = e^(z - lse);  u_i = sum_v p_iv W_v
 *     dx_i = f_i (u_i - W_target);  dW_v = sum_i f_i (p_iv - [v = target_i]) x_i;  dbias_v likewise
 *
 * with the factor f_i of a row: its weight for the cross-entropy, -1 for the unit of a log-probability, -dlogp_i in the
 * reverse of log-probabilities. Threads own parts of the vocabulary, so that W and dW are read and written by one
 * thread each; a row's sums run over a thread's blocks with a running maximum, as in attention, and are merged over the
 * threads in their order. */
#ifndef CRANK_DEVICE_CPU_HEAD_H
#define CRANK_DEVICE_CPU_HEAD_H

#include "device/cpu/bodies.h"

/* A block of logits on its way to e = 2^(z log2(e) - m): numerators of a softmax relative to m. */
typedef struct head_block {
    float *z; /* [rows][stride]: logits without bias; overwritten */
    int64_t rows, columns, stride;
    const float *bias; /* [columns] or NULL */
    void *e;           /* [rows][stride] f32 (may be z) or bf16; NULL: only the sums are asked for */
    crank_dtype e_type;
    const float *fixed;      /* m [rows] where it is known; the following are then not touched */
    float *max, *sum, *keep; /* [rows]: the running m and sum of e; keep: what earlier sums must be multiplied by */
} head_block;

typedef struct head_kernels {
    const char *level;
    bool (*soften)(const head_block *block); /* whether any keep is not 1 */
    /* to = keep to + factor from, n elements; from NULL: to = keep to; keep 0 does not read `to` */
    void (*add_row)(float *to, float keep, const void *from, crank_dtype type, float factor, int64_t n);
    /* to = factor from */
    void (*scale_row)(void *to, crank_dtype to_type, const void *from, crank_dtype type, float factor, int64_t n);
} head_kernels;

bool head_find(const char *operation, const crank_call *call, int threads, const head_kernels *kernels,
               crank_kernel *run, crank_body *body);
crank_status head_run(crank_context *context, const crank_call *call, const head_kernels *kernels);
#endif
