/* glu.c - gated linear unit h = act(gate) * up (Shazeer 2020, arXiv:2002.05202).
 *
 *     dgate = dh up act'(gate),  dup = dh act(gate): one pass over both operands */
#include "graph/ops/op.h"

static crank_status check_gate(crank_graph *graph, const char *name, const crank_tensor *gate, const crank_tensor *up)
{
    if (op_is_float(gate) && gate->rank == 2 && gate->dtype == up->dtype && op_same_dims(gate, up)) return CRANK_OK;
    return op_refuse(graph, "%s: gate %s and up %s must have one float type and the same dims", name,
                     op_shape(gate).text, op_shape(up).text);
}

static crank_status infer_glu(crank_graph *graph, crank_node *node)
{
    crank_tensor *gate = node->inputs[0];
    crank_unary_kind kind = ((const crank_glu_attributes *)node->attributes)->activation;
    if (kind != CRANK_SILU && kind != CRANK_GELU && kind != CRANK_GELU_TANH)
        return op_refuse(graph, "glu: the activation is silu, gelu or gelu_tanh");
    if (check_gate(graph, "glu", gate, node->inputs[1]) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, gate->dtype, 2, gate->dims);
    return CRANK_OK;
}

static crank_status infer_glu_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *dh = node->inputs[0];
    if (check_gate(graph, "glu_backward", dh, node->inputs[1]) != CRANK_OK) return CRANK_USAGE;
    for (int i = 0; i < 2; i++) crank_set_output(node, i, dh->dtype, 2, dh->dims);
    return CRANK_OK;
}

static double glu_flops(const crank_node *node)
{
    return 5.0 * (double)op_count(node->inputs[0]);
}
static double glu_backward_flops(const crank_node *node)
{
    return 10.0 * (double)op_count(node->inputs[0]);
}

const crank_op op_glu_backward = {.name = "glu_backward",
                                  .infer = infer_glu_backward,
                                  .gradient = op_no_second,
                                  .attributes_size = sizeof(crank_glu_attributes),
                                  .inplace = {1 + 1, 1 + 2},
                                  .cheap = true,
                                  .flops = glu_backward_flops};

static void gradient_glu(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *const *in = node->inputs;
    crank_tensor *inputs[3] = {op_rows(dy[0]), in[0], in[1]};
    crank_node *backward = crank_record(graph, &op_glu_backward, inputs, 3, node->attributes, 2, 3);
    for (int i = 0; backward && i < 2; i++)
        if (in[i]->needs_gradient) dx[i] = op_gradient_for(backward->outputs[i], in[i]);
}

const crank_op op_glu = {.name = "glu",
                         .infer = infer_glu,
                         .gradient = gradient_glu,
                         .attributes_size = sizeof(crank_glu_attributes),
                         .inplace = {1 + 0},
                         .cheap = true,
                         .flops = glu_flops};

crank_tensor *crank_glu(crank_tensor *gate, crank_tensor *up, crank_unary_kind activation)
{
    if (op_failed(gate)) return gate;
    if (gate->rank != up->rank || !op_same_dims(gate, up)) {
        check_gate(gate->graph, "glu", gate, up);
        return gate;
    }
    crank_tensor *inputs[2] = {op_matrix(gate), op_matrix(up)}, *h = op_glu_of_scaled(inputs[0], inputs[1], activation);
    return op_unmatrix(h ? h : op_one(&op_glu, inputs, 2, &(crank_glu_attributes){activation}), gate);
}
