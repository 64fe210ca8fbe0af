/* copy.c - cast and contiguous (both are "copy"), fill, concat, pad.
 *
 *     copy     dx = dy in the type of x (f32 for a 16-bit parameter)
 *     concat   dx_j = slice of dy            pad   dx = slice of dy */
#include <string.h>

#include "graph/ops/op.h"

/* ---- copy ---- */

static crank_status infer_copy(crank_graph *graph, crank_node *node)
{
    const copy_attributes *copy = node->attributes;
    crank_tensor *x = node->inputs[0];
    if (copy->dtype != x->dtype && !(op_is_float(x) && crank_dtype_is_float(copy->dtype)))
        return op_refuse(graph, "cast: %s does not become %s; only float types change into each other",
                         op_shape(x).text, crank_dtype_name(copy->dtype));
    crank_set_output(node, 0, copy->dtype, x->rank, x->dims);
    return CRANK_OK;
}

static void gradient_copy(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    dx[0] = op_gradient_for(dy[0], node->inputs[0]);
}

const crank_op op_copy = {.name = "copy",
                          .infer = infer_copy,
                          .gradient = gradient_copy,
                          .attributes_size = sizeof(copy_attributes),
                          .cheap = true};

crank_tensor *crank_cast(crank_tensor *x, crank_dtype dtype)
{
    if (op_failed(x) || x->dtype == dtype) return x;
    if (dtype < 0 || dtype >= CRANK_DTYPES) {
        op_refuse(x->graph, "cast: %d is no type", (int)dtype);
        return x;
    }
    double value;
    if (op_is_fill(x, &value)) {
        crank_tensor *fill = crank_fill(x->graph, dtype, 0, NULL, value);
        return crank_broadcast(fill, x->rank, x->dims);
    }
    return op_one(&op_copy, &x, 1, &(copy_attributes){dtype});
}

crank_tensor *crank_contiguous(crank_tensor *x)
{
    double value;
    if (op_failed(x) || op_is_contiguous(x)) return x;
    if (op_is_fill(x, &value)) return crank_fill(x->graph, x->dtype, x->rank, x->dims, value);
    return op_one(&op_copy, &x, 1, &(copy_attributes){x->dtype});
}

/* ---- fill ---- */

static crank_status infer_fill(crank_graph *graph, crank_node *node)
{
    const fill_attributes *fill = node->attributes;
    if (!crank_dtype_is_float(fill->dtype))
        return op_refuse(graph, "fill: %s is no float type", crank_dtype_name(fill->dtype));
    crank_set_output(node, 0, fill->dtype, fill->shape.rank, fill->shape.dims);
    return CRANK_OK;
}

const crank_op op_fill = {
    .name = "fill", .infer = infer_fill, .attributes_size = sizeof(fill_attributes), .cheap = true};

crank_tensor *crank_fill(crank_graph *graph, crank_dtype dtype, int rank, const int64_t *dims, double value)
{
    fill_attributes fill = {.fill = {value}, .dtype = dtype, .shape = {.rank = rank}};
    if (rank < 0 || rank > CRANK_MAX_RANK)
        return crank_graph_error(graph, CRANK_USAGE, "fill: rank %d is not in 0..%d", rank, CRANK_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        fill.shape.dims[i] = dims[i];
        if (dims[i] < 1)
            return crank_graph_error(graph, CRANK_USAGE, "fill: dim %d is %lld; a dim is at least 1", i,
                                     (long long)dims[i]);
    }
    crank_node *node = crank_record(graph, &op_fill, NULL, 0, &fill, 1, 1);
    return node ? node->outputs[0] : crank_graph_error(graph, crank_graph_status(graph), "fill: the graph has failed");
}

/* ---- concat ---- */

static crank_status infer_concat(crank_graph *graph, crank_node *node)
{
    int axis = ((const crank_concat_attributes *)node->attributes)->axis;
    crank_tensor *first = node->inputs[0];
    if (axis < 0 || axis >= first->rank)
        return op_refuse(graph, "concat: %s has no axis %d", op_shape(first).text, axis);
    int64_t dims[CRANK_MAX_RANK], extent = 0;
    memcpy(dims, first->dims, sizeof dims);
    for (int j = 0; j < node->input_count; j++) {
        const crank_tensor *x = node->inputs[j];
        bool fits = x->rank == first->rank && x->dtype == first->dtype;
        for (int i = 0; fits && i < x->rank; i++) fits = i == axis || x->dims[i] == first->dims[i];
        if (!fits)
            return op_refuse(graph, "concat along axis %d: %s does not go with %s", axis, op_shape(x).text,
                             op_shape(first).text);
        extent += x->dims[axis];
    }
    dims[axis] = extent;
    crank_set_output(node, 0, first->dtype, first->rank, dims);
    return CRANK_OK;
}

static void gradient_concat(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    int axis = ((const crank_concat_attributes *)node->attributes)->axis;
    int64_t start = 0;
    for (int j = 0; j < node->input_count; j++) {
        crank_tensor *x = node->inputs[j];
        if (x->needs_gradient) dx[j] = op_gradient_for(crank_slice(dy[0], axis, start, x->dims[axis]), x);
        start += x->dims[axis];
    }
}

const crank_op op_concat = {.name = "concat",
                            .infer = infer_concat,
                            .gradient = gradient_concat,
                            .attributes_size = sizeof(crank_concat_attributes),
                            .cheap = true};

/* More parts than a node has inputs: parts of parts, each level CRANK_MAX_INPUTS times shorter. */
crank_tensor *crank_concat(crank_tensor *const *x, int count, int axis)
{
    crank_tensor *part[CRANK_MAX_INPUTS];
    if (count < 1) return NULL;
    if (count == 1 || op_failed(x[0])) return x[0];
    int groups = 0;
    int64_t each = 1;
    while (each * CRANK_MAX_INPUTS < count) each *= CRANK_MAX_INPUTS;
    for (int64_t from = 0; from < count; from += each) {
        int length = (int)(count - from < each ? count - from : each);
        part[groups++] = each == 1 ? op_rows(x[from]) : crank_concat(x + from, length, axis);
    }
    return op_one(&op_concat, part, groups, &(crank_concat_attributes){axis});
}

/* ---- pad ---- */

static crank_status infer_pad(crank_graph *graph, crank_node *node)
{
    const pad_attributes *pad = node->attributes;
    crank_tensor *x = node->inputs[0];
    int axis = pad->pad.axis;
    if (axis < 0 || axis >= x->rank || pad->pad.start < 0 || pad->pad.start > pad->length - x->dims[axis])
        return op_refuse(graph, "pad: %s at %lld does not lie inside %lld elements of axis %d", op_shape(x).text,
                         (long long)pad->pad.start, (long long)pad->length, axis);
    int64_t dims[CRANK_MAX_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = pad->length;
    crank_set_output(node, 0, x->dtype, x->rank, dims);
    return CRANK_OK;
}

static void gradient_pad(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const crank_pad_attributes *pad = node->attributes;
    crank_tensor *x = node->inputs[0];
    dx[0] = op_gradient_for(crank_slice(dy[0], pad->axis, pad->start, x->dims[pad->axis]), x);
}

const crank_op op_pad = {.name = "pad",
                         .infer = infer_pad,
                         .gradient = gradient_pad,
                         .attributes_size = sizeof(pad_attributes),
                         .cheap = true};
