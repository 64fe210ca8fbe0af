/* attention_dnn.h - attention as a graph of cuDNN: what the graph is built for, and the plan that comes of it.
 *
 * Packed rows are told to cuDNN as a batch of sequences: `lengths` [B] i32 and for each operand the element at which each sequence
 * starts ("ragged offsets", [B+1] i64: first token times the operand's token stride). Both are written on the device from the
 * segments at the start of each call. Row statistics are [token, head] there. */
#ifndef CRANK_DEVICE_CUDA_ATTENTION_DNN_H
#define CRANK_DEVICE_CUDA_ATTENTION_DNN_H

#include <cudnn.h>

#include "device/cuda/attention.h"

/* Operands of a graph; the numbers are their names in it (from 1), and those of their offsets (from 101). */
enum {
    DNN_Q = 1, DNN_K, DNN_V, DNN_O, DNN_STATS, DNN_DO, DNN_DQ, DNN_DK, DNN_DV, DNN_DELTA, DNN_DQ_SUM,
    DNN_OPERANDS,
    DNN_SCALE = 50, DNN_HIDDEN, DNN_ONE, DNN_QUERIES, DNN_KEYS,
    DNN_OFFSETS = 100
};

/* What a graph is built for. Compared byte by byte: cleared before it is filled. */
typedef struct dnn_shape {
    int64_t batch, longest; /* sequences; most tokens of one */
    int64_t hq, hk, d;
    int64_t token[DNN_OPERANDS], head[DNN_OPERANDS]; /* strides; 0: not in this graph, or not packed */
    int64_t type;                                    /* cudnnDataType_t of q, k, v */
    int64_t causal, backward;
} dnn_shape;

typedef struct dnn_graph dnn_graph;

/* The operation graph; NULL where cuDNN does not take it. Freed with dnn_graph_free. */
dnn_graph *dnn_graph_make(const dnn_shape *shape, cudnnHandle_t handle);
void       dnn_graph_free(dnn_graph *graph);
/* A plan that runs it, living as long as the graph; NULL: no engine serves it. */
cudnnBackendDescriptor_t dnn_graph_plan(dnn_graph *graph, cudnnHandle_t handle, cudnnBackendDescriptor_t properties, int64_t *workspace);
/* Where the offsets of operand i stand among the arrays of offsets: operands of equal token stride share one. -1: it has none. */
int dnn_offset_slot(const dnn_shape *shape, int operand, int64_t *stride);

#endif
