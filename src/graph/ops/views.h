/* views.h - the four view operations: they make a node, so that the reverse pass can walk through it, and never run.
 *
 * The output of such a node lies in the memory of its input: output->base is the tensor that owns the memory (never
 * itself a view), with `offset` and `strides` in elements. The reverse of a slice is "pad"; where slices of one axis
 * partition a tensor, one "concat" of their gradients does the same. */
#ifndef CRANK_GRAPH_OPS_VIEWS_H
#define CRANK_GRAPH_OPS_VIEWS_H

#include "crank/graph.h"

typedef struct shape_attributes { /* of "reshape" and "broadcast": the dims of the result, all known */
    int rank;
    int64_t dims[CRANK_MAX_RANK];
} shape_attributes;

typedef struct slice_attributes {
    int axis;
    int64_t start, length;
} slice_attributes;

typedef struct transpose_attributes {
    int a, b;
} transpose_attributes;

extern const crank_op op_reshape, op_slice, op_transpose, op_broadcast;
#endif
