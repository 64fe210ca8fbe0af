/* elementwise.c - binary, where, affine, unary: NumPy broadcasting; the reverse sums over broadcast axes.
 *
 *     add  da = dy, db = dy              mul  da = dy b, db = dy a
 *     sub  da = dy, db = -dy             div  da = dy / b, db = -sum(dy y) / b
 *     max  da = dy [a >= b], db = dy [b > a]       (min: mirrored; a tie goes to a)
 *     pow  da = dy b a^(b-1), db = dy y log a      (0 where the factor b or a is 0)
 *     where  da = dy where c, db = dy elsewhere    unary  dx = dy f'(x), told from x or y by the device */
#include <string.h>

#include "graph/ops/op.h"

/* ---- binary ---- */

static const char *const binary_names[] = {"add", "sub", "mul",     "div",           "max",
                                           "min", "pow", "greater", "greater_equal", "equal"};

/* The dims of a result of operands that are broadcast together; false: they do not fit. */
static bool broadcast_dims(crank_tensor *const *x, int count, int *rank, int64_t *dims)
{
    *rank = 0;
    for (int j = 0; j < count; j++)
        if (x[j]->rank > *rank) *rank = x[j]->rank;
    for (int i = 1; i <= *rank; i++) {
        int64_t extent = 1;
        for (int j = 0; j < count; j++) {
            int64_t own = i <= x[j]->rank ? x[j]->dims[x[j]->rank - i] : 1;
            if (own != 1 && extent != 1 && own != extent) return false;
            if (own != 1) extent = own;
        }
        dims[*rank - i] = extent;
    }
    return true;
}

/* Operands of elementwise operations may be broadcast along their last axis, else their rows are dense. */
static crank_tensor *rows_or_repeated(crank_tensor *x)
{
    return x->rank && x->strides[x->rank - 1] == 0 ? x : op_rows(x);
}

static crank_status infer_binary(crank_graph *graph, crank_node *node)
{
    crank_binary_kind kind = ((const crank_binary_attributes *)node->attributes)->kind;
    crank_tensor *a = node->inputs[0], *b = node->inputs[1];
    int64_t dims[CRANK_MAX_RANK];
    int rank;
    if (!op_is_float(a) || a->dtype != b->dtype)
        return op_refuse(graph, "%s: %s and %s must have one float type; cast one of them with crank_cast",
                         binary_names[kind], op_shape(a).text, op_shape(b).text);
    if (!broadcast_dims(node->inputs, 2, &rank, dims))
        return op_refuse(graph,
                         "%s: %s and %s do not broadcast (dims are compared from the last one; each is equal or 1)",
                         binary_names[kind], op_shape(a).text, op_shape(b).text);
    crank_set_output(node, 0, a->dtype, rank, dims);
    return CRANK_OK;
}

static crank_tensor *scalar_like(const crank_tensor *x, double value)
{
    return crank_fill(x->graph, x->dtype, 0, NULL, value);
}

static void gradient_pow(crank_node *node, crank_tensor *dy, crank_tensor **dx)
{
    crank_tensor *a = node->inputs[0], *b = node->inputs[1], *y = node->outputs[0];
    if (a->needs_gradient) {
        crank_tensor *slope = crank_mul(b, crank_binary(CRANK_POW, a, crank_affine(b, 1, -1)));
        double power;
        if (!op_is_fill(b, &power) || power == 0) {
            crank_tensor *zero = scalar_like(b, 0);
            slope = crank_where(crank_binary(CRANK_EQ, b, zero), zero, slope); /* 0 * 0^-1 is no number */
        }
        dx[0] = op_gradient_for(op_times(slope, dy), a);
    }
    if (b->needs_gradient) {
        crank_tensor *zero = scalar_like(a, 0);
        crank_tensor *slope = crank_mul(y, crank_unary(CRANK_LOG, a));
        slope = crank_where(crank_binary(CRANK_EQ, a, zero), zero, slope); /* 0^b log 0 */
        dx[1] = op_gradient_for(op_times(slope, dy), b);
    }
}

static void gradient_binary(crank_graph *graph, crank_node *node, crank_tensor *const *dys, crank_tensor **dx)
{
    (void)graph;
    crank_binary_kind kind = ((const crank_binary_attributes *)node->attributes)->kind;
    crank_tensor *a = node->inputs[0], *b = node->inputs[1], *y = node->outputs[0], *dy = dys[0];
    bool da = a->needs_gradient, db = b->needs_gradient;
    switch (kind) {
    case CRANK_ADD:
        if (da) dx[0] = op_gradient_for(dy, a);
        if (db) dx[1] = op_gradient_for(dy, b);
        break;
    case CRANK_SUB:
        if (da) dx[0] = op_gradient_for(dy, a);
        if (db) dx[1] = crank_scale(op_gradient_for(dy, b), -1);
        break;
    case CRANK_MUL:
        if (da) dx[0] = op_gradient_for(op_times(b, dy), a);
        if (db) dx[1] = op_gradient_for(op_times(a, dy), b);
        break;
    case CRANK_DIV: /* b is constant along the axes over which its gradient is summed: it divides the sum */
        if (da) dx[0] = op_gradient_for(crank_div(dy, b), a);
        if (db) {
            crank_tensor *sum = op_gradient_for(op_times(y, dy), b);
            dx[1] = crank_scale(crank_div(sum, crank_cast(b, sum->dtype)), -1);
        }
        break;
    case CRANK_MAX:
    case CRANK_MIN: {
        crank_tensor *more = kind == CRANK_MAX ? a : b, *less = kind == CRANK_MAX ? b : a;
        if (da) dx[0] = op_gradient_for(op_times(crank_binary(CRANK_GE, more, less), dy), a);
        if (db) dx[1] = op_gradient_for(op_times(crank_binary(CRANK_GT, less, more), dy), b);
        break;
    }
    case CRANK_POW:
        gradient_pow(node, dy, dx);
        break;
    case CRANK_GT:
    case CRANK_GE:
    case CRANK_EQ:
        break; /* steps: flat where they have a derivative */
    }
}

const crank_op op_binary = {.name = "binary",
                            .infer = infer_binary,
                            .gradient = gradient_binary,
                            .attributes_size = sizeof(crank_binary_attributes),
                            .inplace = {1 + 0},
                            .cheap = true};

crank_tensor *crank_binary(crank_binary_kind kind, crank_tensor *a, crank_tensor *b)
{
    if (op_failed(a)) return a;
    if (kind < CRANK_ADD || kind > CRANK_EQ) {
        op_refuse(a->graph, "binary: %d is no kind", (int)kind);
        return a;
    }
    crank_tensor *inputs[2] = {rows_or_repeated(a), rows_or_repeated(b)};
    crank_tensor *y = op_one(&op_binary, inputs, 2, &(crank_binary_attributes){kind});
    if (kind >= CRANK_GT && y != inputs[0]) y->needs_gradient = false;
    return y;
}

crank_tensor *crank_add(crank_tensor *a, crank_tensor *b)
{
    return crank_binary(CRANK_ADD, a, b);
}
crank_tensor *crank_sub(crank_tensor *a, crank_tensor *b)
{
    return crank_binary(CRANK_SUB, a, b);
}
crank_tensor *crank_mul(crank_tensor *a, crank_tensor *b)
{
    return crank_binary(CRANK_MUL, a, b);
}
crank_tensor *crank_div(crank_tensor *a, crank_tensor *b)
{
    return crank_binary(CRANK_DIV, a, b);
}

/* ---- where ---- */

static crank_status infer_where(crank_graph *graph, crank_node *node)
{
    crank_tensor *c = node->inputs[0], *a = node->inputs[1], *b = node->inputs[2];
    int64_t dims[CRANK_MAX_RANK];
    int rank;
    if (!op_is_float(c) || a->dtype != c->dtype || b->dtype != c->dtype)
        return op_refuse(graph, "where: condition %s, %s and %s must have one float type", op_shape(c).text,
                         op_shape(a).text, op_shape(b).text);
    if (!broadcast_dims(node->inputs, 3, &rank, dims))
        return op_refuse(graph, "where: condition %s, %s and %s do not broadcast", op_shape(c).text, op_shape(a).text,
                         op_shape(b).text);
    crank_set_output(node, 0, a->dtype, rank, dims);
    return CRANK_OK;
}

static void gradient_where(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *c = node->inputs[0], *a = node->inputs[1], *b = node->inputs[2], *zero = scalar_like(dy[0], 0);
    if (a->needs_gradient) dx[1] = op_gradient_for(crank_where(c, dy[0], zero), a);
    if (b->needs_gradient) dx[2] = op_gradient_for(crank_where(c, zero, dy[0]), b);
}

const crank_op op_where = {.name = "where", .infer = infer_where, .gradient = gradient_where, .cheap = true};

crank_tensor *crank_where(crank_tensor *condition, crank_tensor *a, crank_tensor *b)
{
    if (op_failed(a)) return a;
    crank_tensor *inputs[3] = {rows_or_repeated(condition), rows_or_repeated(a), rows_or_repeated(b)};
    crank_node *node = crank_record(a->graph, &op_where, inputs, 3, NULL, 1, 1);
    if (!node) return a;
    node->outputs[0]->needs_gradient = a->needs_gradient || b->needs_gradient;
    return node->outputs[0];
}

/* ---- affine ---- */

static crank_status infer_elementwise(crank_graph *graph, crank_node *node)
{
    crank_tensor *x = node->inputs[0];
    if (!op_is_float(x)) return op_refuse(graph, "%s: %s is not of a float type", node->op->name, op_shape(x).text);
    crank_set_output(node, 0, x->dtype, x->rank, x->dims);
    return CRANK_OK;
}

static void gradient_affine(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    double scale = ((const crank_affine_attributes *)node->attributes)->scale;
    dx[0] = op_gradient_for(crank_scale(dy[0], scale), node->inputs[0]);
}

const crank_op op_affine = {.name = "affine",
                            .infer = infer_elementwise,
                            .gradient = gradient_affine,
                            .attributes_size = sizeof(crank_affine_attributes),
                            .inplace = {1 + 0},
                            .cheap = true};

crank_tensor *crank_affine(crank_tensor *x, double scale, double shift)
{
    double value;
    if (op_failed(x) || (scale == 1 && shift == 0)) return x;
    if (op_is_fill(x, &value)) return crank_broadcast(scalar_like(x, scale * value + shift), x->rank, x->dims);
    x = op_rows(x);
    return op_one(&op_affine, &x, 1, &(crank_affine_attributes){scale, shift});
}

crank_tensor *crank_scale(crank_tensor *x, double scale)
{
    return crank_affine(x, scale, 0);
}

/* ---- unary ---- */

static crank_status infer_unary_backward(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *y = node->inputs[1], *dy = node->inputs[2];
    const crank_tensor *f = x ? x : y;
    if (!op_is_float(dy) || (f && (f->dtype != dy->dtype || !op_same_dims(f, dy))))
        return op_refuse(graph, "unary_backward: %s does not go with a gradient %s", op_shape(f).text,
                         op_shape(dy).text);
    crank_set_output(node, 0, dy->dtype, dy->rank, dy->dims);
    return CRANK_OK;
}

const crank_op op_unary_backward = {.name = "unary_backward",
                                    .infer = infer_unary_backward,
                                    .gradient = op_no_second,
                                    .attributes_size = sizeof(crank_unary_attributes),
                                    .inplace = {1 + 2},
                                    .cheap = true};

static void gradient_unary(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_unary_kind kind = ((const crank_unary_attributes *)node->attributes)->kind;
    crank_tensor *x = node->inputs[0], *y = node->outputs[0];
    if (kind == CRANK_SIGN) return;
    if (kind == CRANK_NEG) {
        dx[0] = op_gradient_for(crank_scale(dy[0], -1), x);
        return;
    }
    crank_tensor *inputs[3] = {crank_unary_needs_x(kind) ? x : NULL, crank_unary_needs_y(kind) ? y : NULL,
                               op_rows(dy[0])};
    crank_node *backward = crank_record(graph, &op_unary_backward, inputs, 3, node->attributes, 1, 1);
    if (backward) dx[0] = op_gradient_for(backward->outputs[0], x);
}

const crank_op op_unary = {.name = "unary",
                           .infer = infer_elementwise,
                           .gradient = gradient_unary,
                           .attributes_size = sizeof(crank_unary_attributes),
                           .inplace = {1 + 0},
                           .cheap = true};

crank_tensor *crank_unary(crank_unary_kind kind, crank_tensor *x)
{
    if (op_failed(x)) return x;
    if (kind < CRANK_NEG || kind > CRANK_COS) {
        op_refuse(x->graph, "unary: %d is no kind", (int)kind);
        return x;
    }
    x = op_rows(x);
    crank_tensor *y = op_one(&op_unary, &x, 1, &(crank_unary_attributes){kind});
    if (kind == CRANK_SIGN && y != x) y->needs_gradient = false;
    return y;
}
