/* norm.c - root-mean-square norm and layer norm over the last axis, and their reverse.
 *
 *     rmsnorm    y = z rstd w              layernorm   y = (z - mean) rstd w + b           z = x [+ residual]
 *
 * The reverse reads z and the statistics of each row; what comes back to z is the same for x and the residual. A
 * residual and the gradient that arrives at the sum (dres) are recorded by the planner. */
#include "graph/ops/op.h"

static crank_status check_rows(crank_graph *graph, const crank_node *node, const crank_tensor *like)
{
    const crank_tensor *x = node->inputs[0];
    if (!op_is_float(x) || x->rank != 2)
        return op_refuse(graph, "%s: x %s must be float rows [n, d]", node->op->name, op_shape(x).text);
    if (like && (like->dtype != x->dtype || !op_same_dims(like, x)))
        return op_refuse(graph, "%s: %s must have the type and dims of %s", node->op->name, op_shape(like).text,
                         op_shape(x).text);
    return CRANK_OK;
}

static crank_status check_gain(crank_graph *graph, const crank_node *node, const crank_tensor *w, const char *name)
{
    const crank_tensor *x = node->inputs[0];
    if (w && !op_is_vector(w, x->dims[1], x->dtype, op_wide(x->dtype)))
        return op_refuse(graph, "%s: %s %s must be [%lld], of the type of x or f32", node->op->name, name,
                         op_shape(w).text, (long long)x->dims[1]);
    return CRANK_OK;
}

static void set_like(crank_node *node, int i, const crank_tensor *like)
{
    crank_set_output(node, i, like->dtype, like->rank, like->dims);
}

static double norm_flops(const crank_node *node)
{
    return 6.0 * (double)op_count(node->inputs[0]);
}
static double norm_backward_flops(const crank_node *node)
{
    return 10.0 * (double)op_count(node->inputs[0]);
}

/* What the reverse of both norms shares. dy[0] of y and dy[sum] of z; `residual` is the place of that operand. The node
 * gives dx and, where asked for, the gradients of the `gains` operands from 1 on. */
static void gradient_norm(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx,
                          const crank_op *backward, int gains, int residual)
{
    int sum = residual; /* outputs: y, a statistic or two, then the sum */
    crank_tensor *x = node->inputs[0], *r = node->inputs[residual], *dz = r ? dy[sum] : NULL;
    if (dy[0]) {
        crank_tensor *inputs[6] = {op_rows(dy[0]), r ? node->outputs[sum] : x, node->inputs[1]};
        int count = 3;
        unsigned wanted = 1;
        for (int i = 1; i < sum; i++) inputs[count++] = node->outputs[i]; /* the statistics */
        inputs[count++] = dz ? op_rows(dz) : NULL;
        for (int i = 1; i <= gains; i++)
            if (op_wants(node->inputs[i])) wanted |= 1u << i;
        crank_node *reverse = crank_record(graph, backward, inputs, count, node->attributes, 1 + gains, wanted);
        if (!reverse) return;
        dz = reverse->outputs[0];
        for (int i = 1; i <= gains; i++)
            if (reverse->outputs[i]) dx[i] = op_gradient_for(reverse->outputs[i], node->inputs[i]);
    }
    if (!dz) return;
    if (x->needs_gradient) dx[0] = op_gradient_for(dz, x);
    if (op_wants(r)) dx[residual] = op_gradient_for(dz, r);
}

/* ---- rmsnorm: x, w, [residual] -> y, rstd, [sum] ---- */

static crank_status infer_rmsnorm(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0];
    if (check_rows(graph, node, node->inputs[2]) != CRANK_OK) return CRANK_USAGE;
    if (!node->inputs[1]) return op_refuse(graph, "rmsnorm: w is missing");
    if (check_gain(graph, node, node->inputs[1], "w") != CRANK_OK) return CRANK_USAGE;
    set_like(node, 0, x);
    crank_set_output(node, 1, op_wide(x->dtype), 1, x->dims);
    set_like(node, 2, x);
    return CRANK_OK;
}

static crank_status infer_rmsnorm_backward(crank_graph *graph, crank_node *node)
{
    crank_status status = check_rows(graph, node, node->inputs[1]);
    if (status == CRANK_OK) status = check_gain(graph, node, node->inputs[2], "w");
    if (status != CRANK_OK) return status;
    set_like(node, 0, node->inputs[0]);
    set_like(node, 1, node->inputs[2]);
    return CRANK_OK;
}

const crank_op op_rmsnorm_backward = {.name = "rmsnorm_backward",
                                      .infer = infer_rmsnorm_backward,
                                      .gradient = op_no_second,
                                      .attributes_size = sizeof(crank_norm_attributes),
                                      .inplace = {1 + 4},
                                      .optional_outputs = 2,
                                      .flops = norm_backward_flops};

static void gradient_rmsnorm(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    gradient_norm(graph, node, dy, dx, &op_rmsnorm_backward, 1, 2);
}

const crank_op op_rmsnorm = {.name = "rmsnorm",
                             .infer = infer_rmsnorm,
                             .gradient = gradient_rmsnorm,
                             .attributes_size = sizeof(crank_norm_attributes),
                             .cheap = true,
                             .flops = norm_flops};

crank_tensor *crank_rmsnorm(crank_tensor *x, crank_tensor *w, double epsilon)
{
    if (op_failed(x)) return x;
    crank_tensor *inputs[3] = {op_matrix(x), w ? op_rows(w) : NULL};
    crank_node *node = crank_record(x->graph, &op_rmsnorm, inputs, 3, &(crank_norm_attributes){epsilon}, 3, 3);
    if (!node) return x;
    node->outputs[1]->needs_gradient = false;
    return op_unmatrix(node->outputs[0], x);
}

/* ---- layernorm: x, [w], [b], [residual] -> y, mean, rstd, [sum] ---- */

static crank_status infer_layernorm(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *w = node->inputs[1], *b = node->inputs[2];
    crank_status status = check_rows(graph, node, node->inputs[3]);
    if (status == CRANK_OK) status = check_gain(graph, node, w, "w");
    if (status == CRANK_OK) status = check_gain(graph, node, b, "b");
    if (status != CRANK_OK) return status;
    if (w && b && w->dtype != b->dtype)
        return op_refuse(graph, "layernorm: w %s and b %s must have one type", op_shape(w).text, op_shape(b).text);
    set_like(node, 0, x);
    crank_set_output(node, 1, op_wide(x->dtype), 1, x->dims);
    crank_set_output(node, 2, op_wide(x->dtype), 1, x->dims);
    set_like(node, 3, x);
    return CRANK_OK;
}

static crank_status infer_layernorm_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *dy = node->inputs[0];
    crank_dtype gain = ((const layernorm_attributes *)node->attributes)->gain;
    crank_status status = check_rows(graph, node, node->inputs[1]);
    if (status == CRANK_OK) status = check_gain(graph, node, node->inputs[2], "w");
    if (status != CRANK_OK) return status;
    set_like(node, 0, dy);
    crank_set_output(node, 1, gain, 1, dy->dims + 1);
    crank_set_output(node, 2, gain, 1, dy->dims + 1);
    return CRANK_OK;
}

const crank_op op_layernorm_backward = {.name = "layernorm_backward",
                                        .infer = infer_layernorm_backward,
                                        .gradient = op_no_second,
                                        .attributes_size = sizeof(layernorm_attributes),
                                        .inplace = {1 + 5},
                                        .optional_outputs = 2 | 4,
                                        .flops = norm_backward_flops};

static void gradient_layernorm(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    gradient_norm(graph, node, dy, dx, &op_layernorm_backward, 2, 3);
}

const crank_op op_layernorm = {.name = "layernorm",
                               .infer = infer_layernorm,
                               .gradient = gradient_layernorm,
                               .attributes_size = sizeof(layernorm_attributes),
                               .cheap = true,
                               .flops = norm_flops};

crank_tensor *crank_layernorm(crank_tensor *x, crank_tensor *w, crank_tensor *b, double epsilon)
{
    if (op_failed(x)) return x;
    crank_tensor *inputs[4] = {op_matrix(x), w ? op_rows(w) : NULL, b ? op_rows(b) : NULL};
    layernorm_attributes attributes = {{epsilon}, w ? w->dtype : b ? b->dtype : x->dtype};
    crank_node *node = crank_record(x->graph, &op_layernorm, inputs, 4, &attributes, 4, 7);
    if (!node) return x;
    node->outputs[1]->needs_gradient = node->outputs[2]->needs_gradient = false;
    return op_unmatrix(node->outputs[0], x);
}
