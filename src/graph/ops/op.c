/* op.c - shared by the operations: refusals, layout of rows, gradients of broadcast and cast operands. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"
#include "graph/ops/op.h"

/* ---- refusals ---- */

shape_text op_shape(const crank_tensor *x)
{
    shape_text shape;
    if (!x) {
        snprintf(shape.text, sizeof shape.text, "nothing");
        return shape;
    }
    int used = snprintf(shape.text, sizeof shape.text, "%s [", crank_dtype_name(x->dtype));
    for (int i = 0; i < x->rank; i++)
        used += snprintf(shape.text + used, sizeof shape.text - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)x->dims[i]);
    snprintf(shape.text + used, sizeof shape.text - (size_t)used, "]");
    return shape;
}

crank_status op_refuse(crank_graph *graph, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    crank_graph_error(graph, CRANK_USAGE, "%s", text);
    return CRANK_USAGE;
}

bool op_failed(const crank_tensor *x)
{
    return crank_graph_status(x->graph) != CRANK_OK;
}

bool op_same_dims(const crank_tensor *a, const crank_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

bool op_is(const crank_tensor *x, crank_dtype dtype, int rank)
{
    return x && x->dtype == dtype && x->rank == rank;
}

bool op_is_float(const crank_tensor *x)
{
    return x && crank_dtype_is_float(x->dtype);
}

bool op_is_vector(const crank_tensor *x, int64_t n, crank_dtype dtype, crank_dtype other)
{
    return x && x->rank == 1 && x->dims[0] == n && (x->dtype == dtype || x->dtype == other);
}

int64_t op_count(const crank_tensor *x)
{
    int64_t count = 1;
    for (int i = 0; i < x->rank; i++) count *= x->dims[i];
    return count;
}

crank_dtype op_wide(crank_dtype dtype)
{
    return dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32;
}

/* ---- recording ---- */

crank_tensor *op_one(const crank_op *op, crank_tensor *const *inputs, int count, const void *attributes)
{
    crank_node *node = crank_record(inputs[0]->graph, op, inputs, count, attributes, 1, 1);
    return node ? node->outputs[0] : inputs[0];
}

/* ---- layout ---- */

bool op_is_contiguous(const crank_tensor *x)
{
    int64_t dense = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        if (x->dims[i] != 1 && x->strides[i] != dense) return false;
        dense *= x->dims[i];
    }
    return true;
}

crank_tensor *op_rows(crank_tensor *x)
{
    bool dense = x->rank == 0 || x->dims[x->rank - 1] == 1 || x->strides[x->rank - 1] == 1;
    return dense ? x : crank_contiguous(x);
}

crank_tensor *op_heads(crank_tensor *x)
{
    if (!x || x->rank != 3) return x;
    bool dense = (x->dims[2] == 1 || x->strides[2] == 1) && (x->dims[1] == 1 || x->strides[1] == x->dims[2]) &&
                 (x->dims[0] == 1 || x->strides[0] >= x->dims[1] * x->dims[2]);
    return dense ? x : crank_contiguous(x);
}

crank_tensor *op_matrix(crank_tensor *x)
{
    if (!x || op_failed(x) || x->rank == 0) return x;
    int64_t d = x->dims[x->rank - 1], rows = 1;
    for (int i = 0; i < x->rank - 1; i++) rows *= x->dims[i];
    return op_rows(x->rank == 2 ? x : op_reshaped(x, 2, (int64_t[]){rows, d}));
}

crank_tensor *op_unmatrix(crank_tensor *y, const crank_tensor *like)
{
    if (op_failed(y) || like->rank == 2) return y;
    int64_t dims[CRANK_MAX_RANK];
    memcpy(dims, like->dims, sizeof dims);
    dims[like->rank - 1] = y->dims[1];
    return op_reshaped(y, like->rank, dims);
}

/* ---- gradients ---- */

bool op_wants(const crank_tensor *x)
{
    return x && x->needs_gradient;
}

static bool is_view_or_copy(const crank_node *node)
{
    return node->op == &op_copy || node->op == &op_reshape || node->op == &op_slice || node->op == &op_transpose ||
           node->op == &op_broadcast;
}

crank_dtype op_gradient_dtype(const crank_tensor *x)
{
    const crank_tensor *leaf = x;
    while (leaf->node && is_view_or_copy(leaf->node)) leaf = leaf->node->inputs[0];
    return leaf->param ? op_wide(x->dtype) : x->dtype;
}

crank_tensor *op_gradient_for(crank_tensor *gradient, const crank_tensor *x)
{
    if (op_failed(gradient)) return gradient;
    unsigned axes = 0;
    int extra = gradient->rank - x->rank;
    for (int i = 0; i < gradient->rank; i++)
        if (gradient->dims[i] != 1 && (i < extra || x->dims[i - extra] == 1)) axes |= 1u << i;
    if (axes) gradient = crank_reduce(CRANK_SUM, gradient, axes, true);
    gradient = crank_cast(gradient, op_gradient_dtype(x));
    return extra ? op_reshaped(gradient, x->rank, x->dims) : gradient;
}

void op_no_second(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)dy, (void)dx;
    op_refuse(graph,
              "%s has no reverse: a gradient of a gradient through it cannot be recorded; where the first gradient is "
              "meant as a constant, use crank_stop_gradient",
              node->op->name);
}

bool op_is_fill(const crank_tensor *x, double *value)
{
    const crank_tensor *root = tensor_root(x); /* every view of a fill is one number too */
    if (RECORD(root)->home == HOME_CONSTANT) {
        *value = RECORD(root)->constant;
        return true;
    }
    if (!root->node || root->node->op != &op_fill) return false;
    *value = ((const fill_attributes *)root->node->attributes)->fill.value;
    return true;
}

crank_tensor *op_times(crank_tensor *a, crank_tensor *b)
{
    if (op_failed(a)) return a;
    double factor;
    if (op_is_fill(a, &factor)) {
        crank_tensor *swap = a;
        a = b;
        b = swap;
    }
    if (!op_is_fill(b, &factor) || b->rank > a->rank) return crank_mul(a, b);
    for (int i = 1; i <= b->rank; i++)
        if (b->dims[b->rank - i] != 1 && b->dims[b->rank - i] != a->dims[a->rank - i]) return crank_mul(a, b);
    return crank_scale(a, factor);
}
