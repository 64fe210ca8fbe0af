/* head.c - log-probabilities and cross-entropy of a vocabulary head; logits exist chunk by chunk only.
 *
 *     z_i = w x_i + bias,  logp_i = z_i[target_i] - log sum_v e^(z_iv),  cross-entropy = -sum_i weights_i logp_i
 *
 * log-probabilities, dlogp given later:   w frozen: dx_i = dlogp_i unit_i, with unit made by the forward pass
 *                                         w trained: one node computes the logits again and gives dx, dw, dbias
 * cross-entropy: dx, dw, dbias of the numerator come with the forward pass and are multiplied by the gradient of the
 * numerator, which costs nothing where that is 1. dweights = -logp. Results that nobody reads are not computed. */
#include "graph/ops/op.h"

/* The operands that all heads share, from input `at` on: x [n,d], w [V,d], [bias [V]], targets i32 [n]. */
static crank_status check_head(crank_graph *graph, const crank_node *node, int at)
{
    const crank_tensor *x = node->inputs[at], *w = node->inputs[at + 1], *bias = node->inputs[at + 2];
    const crank_tensor *targets = node->inputs[at + 3];
    const char *name = node->op->name;
    if (!op_is_float(x) || x->rank != 2 || !op_is(w, x->dtype, 2) || w->dims[1] != x->dims[1])
        return op_refuse(graph, "%s: x %s and w %s must be [n, d] and [V, d] of one float type", name, op_shape(x).text,
                         op_shape(w).text);
    if (bias && !op_is_vector(bias, w->dims[0], x->dtype, op_wide(x->dtype)))
        return op_refuse(graph, "%s: bias %s must be [%lld], of the type of x or f32", name, op_shape(bias).text,
                         (long long)w->dims[0]);
    if (!op_is_vector(targets, x->dims[0], CRANK_I32, CRANK_I32))
        return op_refuse(graph, "%s: targets %s must be i32 [%lld]", name, op_shape(targets).text,
                         (long long)x->dims[0]);
    return CRANK_OK;
}

/* dx in the type of x, dw in f32 (f64), dbias in the type of bias, as outputs from `first` on. */
static void set_head_gradients(crank_node *node, int first, int at)
{
    const crank_tensor *x = node->inputs[at], *w = node->inputs[at + 1], *bias = node->inputs[at + 2];
    crank_set_output(node, first, x->dtype, 2, x->dims);
    crank_set_output(node, first + 1, op_wide(w->dtype), 2, w->dims);
    if (bias) crank_set_output(node, first + 2, bias->dtype, 1, bias->dims);
}

/* One product of all rows with the whole vocabulary. */
static double head_product(const crank_node *node, int at)
{
    return 2.0 * (double)op_count(node->inputs[at]) * (double)node->inputs[at + 1]->dims[0];
}

static unsigned wanted_gradients(const crank_tensor *x, const crank_tensor *w, const crank_tensor *bias)
{
    return (op_wants(x) ? 1u : 0) | (op_wants(w) ? 2u : 0) | (op_wants(bias) ? 4u : 0);
}

static crank_tensor *as_ids(crank_tensor *targets)
{
    return op_rows(op_reshaped(targets, 1, (int64_t[]){op_count(targets)}));
}

/* ---- head_logprob: x, w, [bias], targets -> logp, lse, [unit] ---- */

static crank_status infer_head_logprob(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0];
    if (check_head(graph, node, 0) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, op_wide(x->dtype), 1, x->dims);
    crank_set_output(node, 1, op_wide(x->dtype), 1, x->dims);
    crank_set_output(node, 2, x->dtype, 2, x->dims);
    return CRANK_OK;
}

static double head_logprob_flops(const crank_node *node)
{
    return head_product(node, 0) * (node->outputs[2] ? 2 : 1);
}

static crank_status infer_head_logprob_backward(crank_graph *graph, crank_node *node)
{
    const crank_tensor *dlogp = node->inputs[0], *x = node->inputs[1];
    if (check_head(graph, node, 1) != CRANK_OK) return CRANK_USAGE;
    if (!op_is_vector(dlogp, x->dims[0], op_wide(x->dtype), op_wide(x->dtype)))
        return op_refuse(graph, "head_logprob_backward: a gradient %s does not go with x %s", op_shape(dlogp).text,
                         op_shape(x).text);
    set_head_gradients(node, 0, 1);
    return CRANK_OK;
}

static double head_logprob_backward_flops(const crank_node *node)
{
    return head_product(node, 1) * (1 + (node->outputs[0] != NULL) + (node->outputs[1] != NULL));
}

const crank_op op_head_logprob_backward = {.name = "head_logprob_backward",
                                           .infer = infer_head_logprob_backward,
                                           .gradient = op_no_second,
                                           .attributes_size = sizeof(crank_head_attributes),
                                           .optional_outputs = 7,
                                           .flops = head_logprob_backward_flops};

static void gradient_head_logprob(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *const *in = node->inputs;
    crank_tensor *x = in[0], *dlogp = op_rows(dy[0]), *unit = node->outputs[2];
    unsigned wanted = wanted_gradients(in[0], in[1], in[2]);
    if (wanted == 1 && unit) {
        crank_tensor *factor = crank_cast(op_reshaped(dlogp, 2, (int64_t[]){x->dims[0], 1}), x->dtype);
        dx[0] = op_gradient_for(op_times(unit, factor), x);
        return;
    }
    crank_tensor *inputs[6] = {dlogp, in[0], in[1], in[2], in[3], node->outputs[1]};
    crank_node *backward = crank_record(graph, &op_head_logprob_backward, inputs, 6, node->attributes, 3, wanted);
    for (int i = 0; backward && i < 3; i++)
        if (backward->outputs[i]) dx[i] = op_gradient_for(backward->outputs[i], in[i]);
}

const crank_op op_head_logprob = {.name = "head_logprob",
                                  .infer = infer_head_logprob,
                                  .gradient = gradient_head_logprob,
                                  .attributes_size = sizeof(crank_head_attributes),
                                  .optional_outputs = 4,
                                  .flops = head_logprob_flops};

crank_tensor *crank_head_logprob(crank_tensor *x, crank_tensor *w, crank_tensor *bias, crank_tensor *targets,
                                 crank_tensor **lse)
{
    if (lse) *lse = x;
    if (op_failed(x)) return x;
    unsigned unit = wanted_gradients(x, w, bias) == 1 ? 4 : 0;
    crank_tensor *inputs[4] = {op_matrix(x), op_rows(w), bias ? op_rows(bias) : NULL, as_ids(targets)};
    crank_node *node = crank_record(x->graph, &op_head_logprob, inputs, 4, &(crank_head_attributes){0}, 3, 3 | unit);
    if (!node) return x;
    for (int i = 1; i < 3; i++)
        if (node->outputs[i]) node->outputs[i]->needs_gradient = false;
    if (lse) *lse = node->outputs[1];
    return node->outputs[0];
}

/* ---- head_cross_entropy: x, w, [bias], targets, weights -> numerator, logp, [dx], [dw], [dbias] ---- */

static crank_status infer_head_cross_entropy(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *weights = node->inputs[4];
    if (check_head(graph, node, 0) != CRANK_OK) return CRANK_USAGE;
    if (!op_is_vector(weights, x->dims[0], op_wide(x->dtype), op_wide(x->dtype)))
        return op_refuse(graph, "head_cross_entropy: weights %s must be %s [%lld]", op_shape(weights).text,
                         crank_dtype_name(op_wide(x->dtype)), (long long)x->dims[0]);
    crank_set_output(node, 0, op_wide(x->dtype), 0, NULL);
    crank_set_output(node, 1, op_wide(x->dtype), 1, x->dims);
    set_head_gradients(node, 2, 0);
    return CRANK_OK;
}

static void gradient_head_cross_entropy(crank_graph *graph, crank_node *node, crank_tensor *const *dy,
                                        crank_tensor **dx)
{
    crank_tensor *const *in = node->inputs;
    for (int i = 0; i < 3; i++) {
        crank_tensor *part = node->outputs[2 + i];
        if (!op_wants(in[i])) continue;
        if (!part) {
            op_refuse(graph,
                      "head_cross_entropy: the gradient of %s is asked for, but it needed none when the loss was "
                      "recorded; call crank_mark_gradient on the leaf first",
                      i == 0   ? "x"
                      : i == 1 ? "w"
                               : "bias");
            return;
        }
        dx[i] = op_gradient_for(op_times(part, crank_cast(dy[0], part->dtype)), in[i]);
    }
    if (op_wants(in[4])) dx[4] = op_gradient_for(crank_scale(op_times(node->outputs[1], dy[0]), -1), in[4]);
}

static double head_cross_entropy_flops(const crank_node *node)
{
    return head_product(node, 0) * (1 + (node->outputs[2] != NULL) + (node->outputs[3] != NULL));
}

const crank_op op_head_cross_entropy = {.name = "head_cross_entropy",
                                        .infer = infer_head_cross_entropy,
                                        .gradient = gradient_head_cross_entropy,
                                        .attributes_size = sizeof(crank_head_attributes),
                                        .optional_outputs = 4 | 8 | 16,
                                        .flops = head_cross_entropy_flops};

crank_tensor *crank_head_cross_entropy(crank_tensor *x, crank_tensor *w, crank_tensor *bias, crank_tensor *targets,
                                       crank_tensor *weights, crank_tensor **logp)
{
    if (logp) *logp = x;
    if (op_failed(x)) return x;
    crank_dtype wide = op_wide(x->dtype);
    crank_tensor *rows = op_reshaped(weights, 1, (int64_t[]){op_count(weights)});
    crank_tensor *inputs[5] = {op_matrix(x), op_rows(w), bias ? op_rows(bias) : NULL, as_ids(targets),
                               op_rows(crank_cast(rows, wide))};
    unsigned wanted = 3 | wanted_gradients(x, w, bias) << 2;
    crank_node *node =
        crank_record(x->graph, &op_head_cross_entropy, inputs, 5, &(crank_head_attributes){0}, 5, wanted);
    if (!node) return x;
    for (int i = 1; i < 5; i++)
        if (node->outputs[i]) node->outputs[i]->needs_gradient = false;
    if (logp) *logp = node->outputs[1];
    return node->outputs[0];
}
