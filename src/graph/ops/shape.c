/* shape.c - views: reshape, slice, transpose, broadcast. No memory, no work; the reverse of a view is a view, a pad or
 * a sum.
 *
 *     reshape     dx = dy in the dims of x                slice      dx = zeros with dy at `start`
 *     transpose   dx = dy transposed                      broadcast  dx = dy summed along the new axes
 *
 * Axes of one element carry the stride that a dense tensor would have there, so that layout tests need not know about
 * them. */
#include <string.h>

#include "graph/ops/op.h"

/* Makes output 0 a view of input 0, `offset` elements behind its start. */
static void set_view(crank_node *node, const int64_t *strides, int64_t offset)
{
    crank_tensor *x = node->inputs[0], *y = node->outputs[0];
    y->base = x->base ? x->base : x;
    y->offset = x->offset + offset;
    int64_t inner = 1; /* extent of all that lies behind axis i */
    for (int i = y->rank - 1; i >= 0; i--) {
        y->strides[i] = y->dims[i] == 1 ? inner : strides[i];
        inner = y->strides[i] * y->dims[i];
    }
}

/* ---- reshape ---- */

/* The strides of x in new dims of as many elements: runs of axes that are dense among themselves may be cut anew.
 * False: no strides do it. */
static bool reshape_strides(const crank_tensor *x, int rank, const int64_t *dims, int64_t *strides)
{
    int next = rank - 1;
    int64_t run = 1, base = x->rank ? x->strides[x->rank - 1] : 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        run *= x->dims[i];
        bool last_of_run = i == 0 || (x->dims[i - 1] != 1 && x->strides[i - 1] != run * base);
        if (!last_of_run) continue;
        int64_t taken = 1;
        for (; next >= 0 && (taken < run || dims[next] == 1); next--) {
            strides[next] = taken * base;
            taken *= dims[next];
        }
        if (taken != run) return false;
        if (i > 0) base = x->strides[i - 1];
        run = 1;
    }
    for (; next >= 0; next--) strides[next] = 1; /* a scalar seen as [1, .., 1] */
    return true;
}

static crank_status infer_reshape(crank_graph *graph, crank_node *node)
{
    const shape_attributes *shape = node->attributes;
    crank_tensor *x = node->inputs[0];
    int64_t strides[CRANK_MAX_RANK];
    crank_set_output(node, 0, x->dtype, shape->rank, shape->dims);
    if (op_count(x) != op_count(node->outputs[0]))
        return op_refuse(graph, "reshape: %s has %lld elements, %s has %lld", op_shape(x).text, (long long)op_count(x),
                         op_shape(node->outputs[0]).text, (long long)op_count(node->outputs[0]));
    if (op_same_dims(x, node->outputs[0]))
        memcpy(strides, x->strides, sizeof strides);
    else if (!reshape_strides(x, shape->rank, shape->dims, strides))
        return op_refuse(graph,
                         "reshape: %s is strided so that %s is no view of it; copy it with crank_contiguous first",
                         op_shape(x).text, op_shape(node->outputs[0]).text);
    set_view(node, strides, 0);
    return CRANK_OK;
}

static void gradient_reshape(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const crank_tensor *x = node->inputs[0];
    dx[0] = op_gradient_for(op_reshaped(dy[0], x->rank, x->dims), x);
}

const crank_op op_reshape = {.name = "reshape",
                             .infer = infer_reshape,
                             .gradient = gradient_reshape,
                             .attributes_size = sizeof(shape_attributes)};

/* Fills in a dim of -1. */
static crank_status deduce(crank_tensor *x, int rank, const int64_t *dims, shape_attributes *shape)
{
    if (rank < 0 || rank > CRANK_MAX_RANK)
        return op_refuse(x->graph, "reshape: rank %d is not in 0..%d", rank, CRANK_MAX_RANK);
    int unknown = -1;
    int64_t known = 1;
    for (int i = 0; i < rank; i++) {
        shape->dims[i] = dims[i];
        if (dims[i] == -1 && unknown < 0)
            unknown = i;
        else if (dims[i] < 1 || __builtin_mul_overflow(known, dims[i], &known))
            return op_refuse(x->graph, "reshape of %s: dim %d is %lld; a dim is at least 1, and only one may be -1",
                             op_shape(x).text, i, (long long)dims[i]);
    }
    shape->rank = rank;
    if (unknown < 0) return CRANK_OK;
    if (op_count(x) % known)
        return op_refuse(x->graph, "reshape: the %lld elements of %s are no multiple of %lld", (long long)op_count(x),
                         op_shape(x).text, (long long)known);
    shape->dims[unknown] = op_count(x) / known;
    return CRANK_OK;
}

crank_tensor *crank_reshape(crank_tensor *x, int rank, const int64_t *dims)
{
    shape_attributes shape = {0};
    if (op_failed(x) || deduce(x, rank, dims, &shape) != CRANK_OK) return x;
    if (rank == x->rank && memcmp(shape.dims, x->dims, (size_t)rank * sizeof *dims) == 0) return x;
    return op_one(&op_reshape, &x, 1, &shape);
}

crank_tensor *op_reshaped(crank_tensor *x, int rank, const int64_t *dims)
{
    int64_t strides[CRANK_MAX_RANK];
    if (op_failed(x)) return x;
    if (!op_is_contiguous(x) && !reshape_strides(x, rank, dims, strides)) x = crank_contiguous(x);
    return crank_reshape(x, rank, dims);
}

/* The same memory, but a value that needs no gradient: the reverse pass stops here. */
crank_tensor *crank_stop_gradient(crank_tensor *x)
{
    if (op_failed(x) || !x->needs_gradient) return x;
    shape_attributes shape = {.rank = x->rank};
    memcpy(shape.dims, x->dims, sizeof shape.dims);
    crank_tensor *y = op_one(&op_reshape, &x, 1, &shape);
    if (y != x) y->needs_gradient = false;
    return y;
}

/* ---- slice ---- */

static crank_status infer_slice(crank_graph *graph, crank_node *node)
{
    const slice_attributes *slice = node->attributes;
    crank_tensor *x = node->inputs[0];
    if (slice->axis < 0 || slice->axis >= x->rank)
        return op_refuse(graph, "slice: %s has no axis %d", op_shape(x).text, slice->axis);
    int64_t dims[CRANK_MAX_RANK], extent = x->dims[slice->axis];
    if (slice->start < 0 || slice->length < 1 || slice->start > extent - slice->length)
        return op_refuse(graph, "slice: %lld elements from %lld on are not inside axis %d of %s",
                         (long long)slice->length, (long long)slice->start, slice->axis, op_shape(x).text);
    memcpy(dims, x->dims, sizeof dims);
    dims[slice->axis] = slice->length;
    crank_set_output(node, 0, x->dtype, x->rank, dims);
    set_view(node, x->strides, slice->start * x->strides[slice->axis]);
    return CRANK_OK;
}

static void gradient_slice(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const slice_attributes *slice = node->attributes;
    const crank_tensor *x = node->inputs[0];
    pad_attributes pad = {{slice->axis, slice->start}, x->dims[slice->axis]};
    crank_tensor *rows = op_rows(dy[0]);
    dx[0] = op_gradient_for(op_one(&op_pad, &rows, 1, &pad), x);
}

const crank_op op_slice = {
    .name = "slice", .infer = infer_slice, .gradient = gradient_slice, .attributes_size = sizeof(slice_attributes)};

crank_tensor *crank_slice(crank_tensor *x, int axis, int64_t start, int64_t length)
{
    if (op_failed(x)) return x;
    if (axis >= 0 && axis < x->rank && start == 0 && length == x->dims[axis]) return x;
    slice_attributes slice = {axis, start, length};
    return op_one(&op_slice, &x, 1, &slice);
}

/* ---- transpose ---- */

static crank_status infer_transpose(crank_graph *graph, crank_node *node)
{
    const transpose_attributes *axes = node->attributes;
    crank_tensor *x = node->inputs[0];
    if (axes->a < 0 || axes->b < 0 || axes->a >= x->rank || axes->b >= x->rank)
        return op_refuse(graph, "transpose: %s has no axes %d and %d", op_shape(x).text, axes->a, axes->b);
    int64_t dims[CRANK_MAX_RANK], strides[CRANK_MAX_RANK];
    memcpy(dims, x->dims, sizeof dims);
    memcpy(strides, x->strides, sizeof strides);
    dims[axes->a] = x->dims[axes->b], strides[axes->a] = x->strides[axes->b];
    dims[axes->b] = x->dims[axes->a], strides[axes->b] = x->strides[axes->a];
    crank_set_output(node, 0, x->dtype, x->rank, dims);
    set_view(node, strides, 0);
    return CRANK_OK;
}

static void gradient_transpose(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const transpose_attributes *axes = node->attributes;
    dx[0] = op_gradient_for(crank_transpose(dy[0], axes->a, axes->b), node->inputs[0]);
}

const crank_op op_transpose = {.name = "transpose",
                               .infer = infer_transpose,
                               .gradient = gradient_transpose,
                               .attributes_size = sizeof(transpose_attributes)};

crank_tensor *crank_transpose(crank_tensor *x, int axis_a, int axis_b)
{
    if (op_failed(x) || (axis_a == axis_b && axis_a >= 0 && axis_a < x->rank)) return x;
    transpose_attributes axes = {axis_a < axis_b ? axis_a : axis_b, axis_a < axis_b ? axis_b : axis_a};
    if (x->node && x->node->op == &op_transpose && x->needs_gradient == x->node->inputs[0]->needs_gradient) {
        const transpose_attributes *before = x->node->attributes;
        if (before->a == axes.a && before->b == axes.b) return x->node->inputs[0]; /* there and back */
    }
    return op_one(&op_transpose, &x, 1, &axes);
}

/* ---- broadcast ---- */

static crank_status infer_broadcast(crank_graph *graph, crank_node *node)
{
    const shape_attributes *shape = node->attributes;
    crank_tensor *x = node->inputs[0];
    int extra = shape->rank - x->rank;
    int64_t strides[CRANK_MAX_RANK] = {0};
    crank_set_output(node, 0, x->dtype, shape->rank, shape->dims);
    bool fits = extra >= 0;
    for (int i = 0; fits && i < x->rank; i++) {
        strides[i + extra] = x->dims[i] == shape->dims[i + extra] ? x->strides[i] : 0;
        fits = x->dims[i] == shape->dims[i + extra] || x->dims[i] == 1;
    }
    if (!fits)
        return op_refuse(graph,
                         "broadcast: %s does not spread over %s (dims are compared from the last one; each is equal "
                         "or 1)",
                         op_shape(x).text, op_shape(node->outputs[0]).text);
    set_view(node, strides, 0);
    return CRANK_OK;
}

static void gradient_broadcast(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    dx[0] = op_gradient_for(dy[0], node->inputs[0]);
}

const crank_op op_broadcast = {.name = "broadcast",
                               .infer = infer_broadcast,
                               .gradient = gradient_broadcast,
                               .attributes_size = sizeof(shape_attributes)};

crank_tensor *crank_broadcast(crank_tensor *x, int rank, const int64_t *dims)
{
    if (op_failed(x)) return x;
    if (rank < 0 || rank > CRANK_MAX_RANK) {
        op_refuse(x->graph, "broadcast: rank %d is not in 0..%d", rank, CRANK_MAX_RANK);
        return x;
    }
    shape_attributes shape = {.rank = rank};
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    for (int i = 0; i < rank; i++)
        if (dims[i] < 1) {
            op_refuse(x->graph, "broadcast: dim %d is %lld; a dim is at least 1", i, (long long)dims[i]);
            return x;
        }
    if (rank == x->rank && memcmp(dims, x->dims, (size_t)rank * sizeof *dims) == 0) return x;
    return op_one(&op_broadcast, &x, 1, &shape);
}
