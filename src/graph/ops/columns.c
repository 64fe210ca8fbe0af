/* columns.c - a factor for each column: y = x diag(k), alone and in front of a gated linear unit.
 *
 *     dx = dy diag(k),  dk_j = sum_i dy_ij x_ij = (sum_i dy_ij y_ij) / k_j
 *
 * The reverse of scale_columns reads y, which whoever reads y keeps anyway. A gated linear unit of two scaled matrices reads them unscaled, so
 * that no scaled copy is written: h = act(g diag(kg)) * (u diag(ku)). */
#include "graph/ops/op.h"

static crank_status check_factor(crank_graph *graph, const char *name, const crank_tensor *x, const crank_tensor *k)
{
    if (op_is_float(x) && x->rank == 2 && op_is_vector(k, x->dims[1], x->dtype, op_wide(x->dtype))) return CRANK_OK;
    return op_refuse(graph, "%s: %s needs factors [%lld], not %s", name, op_shape(x).text, (long long)(x->rank == 2 ? x->dims[1] : 0), op_shape(k).text);
}

static double two_flops(const crank_node *node) { return 2.0 * (double)op_count(node->inputs[0]); }
static double many_flops(const crank_node *node) { return 12.0 * (double)op_count(node->inputs[0]); }

/* x diag(k) by base operations. A 16-bit type keeps k - 1 with more digits than a k near 1. */
static crank_tensor *scaled(crank_tensor *x, crank_tensor *k)
{
    if (x->dtype == op_wide(x->dtype)) return crank_mul(x, crank_cast(k, x->dtype));
    return crank_add(x, crank_mul(x, crank_cast(crank_affine(k, 1, -1), x->dtype)));
}

/* Over the rows, in the type of sums. */
static crank_tensor *column_sums(crank_tensor *x, const crank_tensor *k) { return crank_cast(op_gradient_for(x, k), op_wide(x->dtype)); }

/* ---- scale_columns ---- */

static crank_status infer_scale(crank_graph *graph, crank_node *node)
{
    crank_tensor *x = node->inputs[0];
    if (check_factor(graph, "scale_columns", x, node->inputs[1]) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, x->dtype, 2, x->dims);
    return CRANK_OK;
}

static crank_status infer_scale_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *dy = node->inputs[0];
    if (check_factor(graph, "scale_columns_backward", dy, node->inputs[2]) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, dy->dtype, 2, dy->dims);
    crank_set_output(node, 1, op_wide(dy->dtype), 1, &dy->dims[1]);
    return CRANK_OK;
}

static void decompose_scale(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    outputs[0] = scaled(node->inputs[0], node->inputs[1]);
}

static void decompose_scale_backward(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    crank_tensor *dy = node->inputs[0], *y = node->inputs[1], *k = node->inputs[2];
    outputs[0] = scaled(dy, k);
    if (!node->outputs[1]) return;
    k = crank_cast(k, op_wide(dy->dtype));
    crank_tensor *tiny = crank_fill(graph, k->dtype, 0, NULL, 1e-36); /* k = 0: y = 0 and the quotient is 0 */
    outputs[1] = crank_div(crank_mul(column_sums(crank_mul(dy, y), k), k), crank_binary(CRANK_MAX, crank_mul(k, k), tiny));
}

const crank_op op_scale_columns_backward = {.name = "scale_columns_backward",
                                            .infer = infer_scale_backward,
                                            .gradient = op_no_second,
                                            .decompose = decompose_scale_backward,
                                            .inplace = {1 + 0},
                                            .optional_outputs = 2,
                                            .flops = many_flops};

static void gradient_scale(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *x = node->inputs[0], *k = node->inputs[1], *inputs[3] = {op_rows(dy[0]), node->outputs[0], k};
    crank_node   *backward = crank_record(graph, &op_scale_columns_backward, inputs, 3, NULL, 2, 3);
    if (!backward) return;
    if (op_wants(x)) dx[0] = op_gradient_for(backward->outputs[0], x);
    if (op_wants(k)) dx[1] = op_gradient_for(backward->outputs[1], k);
}

const crank_op op_scale_columns = {.name = "scale_columns",
                                   .infer = infer_scale,
                                   .gradient = gradient_scale,
                                   .decompose = decompose_scale,
                                   .inplace = {1 + 0},
                                   .flops = two_flops};

crank_tensor *crank_scale_columns(crank_tensor *x, crank_tensor *k)
{
    if (op_failed(x)) return x;
    crank_tensor *inputs[2] = {op_matrix(x), op_rows(k->dtype == x->dtype ? k : crank_cast(k, op_wide(x->dtype)))};
    return op_unmatrix(op_one(&op_scale_columns, inputs, 2, NULL), x);
}

/* ---- glu_scaled ---- */

static crank_status check_gates(crank_graph *graph, const char *name, const crank_tensor *gate, const crank_tensor *kg, const crank_tensor *up,
                                const crank_tensor *ku)
{
    if (check_factor(graph, name, gate, kg) || check_factor(graph, name, up, ku)) return CRANK_USAGE;
    if (gate->dtype == up->dtype && op_same_dims(gate, up)) return CRANK_OK;
    return op_refuse(graph, "%s: gate %s and up %s must have one type and the same dims", name, op_shape(gate).text, op_shape(up).text);
}

static crank_status infer_glu_scaled(crank_graph *graph, crank_node *node)
{
    crank_tensor *const *in = node->inputs;
    if (check_gates(graph, "glu_scaled", in[0], in[1], in[2], in[3]) != CRANK_OK) return CRANK_USAGE;
    crank_set_output(node, 0, in[0]->dtype, 2, in[0]->dims);
    return CRANK_OK;
}

static crank_status infer_glu_scaled_backward(crank_graph *graph, crank_node *node)
{
    crank_tensor *const *in = node->inputs;
    if (check_gates(graph, "glu_scaled_backward", in[1], in[2], in[3], in[4]) != CRANK_OK) return CRANK_USAGE;
    for (int i = 0; i < 2; i++) {
        crank_set_output(node, i, in[0]->dtype, 2, in[0]->dims);
        crank_set_output(node, 2 + i, op_wide(in[0]->dtype), 1, &in[0]->dims[1]);
    }
    return CRANK_OK;
}

static crank_unary_kind gate_of(const crank_node *node) { return ((const crank_glu_attributes *)node->attributes)->activation; }

static void decompose_glu_scaled(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    crank_tensor *const *in = node->inputs;
    outputs[0] = op_one(&op_glu, (crank_tensor *[]){scaled(in[0], in[1]), scaled(in[2], in[3])}, 2, node->attributes);
}

static void decompose_glu_scaled_backward(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    crank_tensor *const *in = node->inputs, *inputs[3] = {in[0], scaled(in[1], in[2]), scaled(in[3], in[4])};
    crank_node          *backward = crank_record(graph, &op_glu_backward, inputs, 3, &(crank_glu_attributes){gate_of(node)}, 2, 3);
    for (int i = 0; backward && i < 2; i++) {
        crank_tensor *x = in[1 + 2 * i], *k = in[2 + 2 * i], *d = backward->outputs[i];
        outputs[i] = scaled(d, k);
        if (node->outputs[2 + i]) outputs[2 + i] = column_sums(crank_mul(d, x), k);
    }
}

const crank_op op_glu_scaled_backward = {.name = "glu_scaled_backward",
                                         .infer = infer_glu_scaled_backward,
                                         .gradient = op_no_second,
                                         .decompose = decompose_glu_scaled_backward,
                                         .attributes_size = sizeof(crank_glu_attributes),
                                         .inplace = {1 + 1, 1 + 3},
                                         .optional_outputs = 4 | 8,
                                         .flops = many_flops};

static void gradient_glu_scaled(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *const *in = node->inputs, *inputs[5] = {op_rows(dy[0]), in[0], in[1], in[2], in[3]};
    crank_node          *backward = crank_record(graph, &op_glu_scaled_backward, inputs, 5, node->attributes, 4, 15);
    static const int     place[4] = {0, 2, 1, 3}; /* of the gradients of gate, kg, up, ku among the reverse's results */
    for (int i = 0; backward && i < 4; i++)
        if (op_wants(in[i])) dx[i] = op_gradient_for(backward->outputs[place[i]], in[i]);
}

const crank_op op_glu_scaled = {.name = "glu_scaled",
                                .infer = infer_glu_scaled,
                                .gradient = gradient_glu_scaled,
                                .decompose = decompose_glu_scaled,
                                .attributes_size = sizeof(crank_glu_attributes),
                                .inplace = {1 + 0},
                                .cheap = true,
                                .flops = two_flops};

crank_tensor *op_glu_of_scaled(crank_tensor *gate, crank_tensor *up, crank_unary_kind activation)
{
    const crank_node *g = gate->node, *u = up->node;
    if (!g || !u || g->op != &op_scale_columns || u->op != &op_scale_columns) return NULL;
    crank_tensor *inputs[4] = {g->inputs[0], g->inputs[1], u->inputs[0], u->inputs[1]};
    return op_one(&op_glu_scaled, inputs, 4, &(crank_glu_attributes){activation});
}
