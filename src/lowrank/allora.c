/* allora.c - LoRA whose gradients are scaled row by row (Huang and Balestriero 2024, arXiv:2410.09692).
 *
 *     y = y0 + (x A^T) B^T                    A [r, in], B [out, r]: no alpha, no dropout
 *     c_i = 1 / sqrt(|(B A)_i| + 1 / eta^2)   the norm itself is inside the root: c is eta while the row is zero and falls as it grows
 *
 * With G the gradient by W, the factors learn from diag(c) G, while x receives the true gradient:
 *
 *     gB = diag(c) G A^T,   gA = B^T diag(c) G,   dx = dy (W + B A)
 *
 * c is made once a step from the factors as they are and is never differentiated. Row norms come without the product B A:
 * |(B A)_i|^2 = b_i (A A^T) b_i^T. dy is not scaled: dy [B | c B] gives what x and what A need in one product.
 *
 * variant `output`: c depends on each output, c_ti = 1 / sqrt(|f_ti| + 1 / eta^2) with f = (x A^T) B^T. The method `asf-lora` scales the
 * forward pass itself, y = y0 + f / sqrt(|f| + 1 / eta^2), and is differentiated as it stands: it is not affine in x. */
#include <string.h>

#include "graph/ops/op.h"
#include "lowrank/pair.h"

typedef struct {
    int64_t     rank;
    double      eta, dropout;
    const char *init, *variant;
} options;

typedef struct {
    pair factors;
} state;

#define COMMON_OPTIONS                                                                                                              \
    CRANK_INT(options, rank, 16, 1, 65536, "rank r of the update"),                                                                 \
    CRANK_FLOAT(options, eta, 2, 1e-6, 1e6, "largest gain of a row: that of a row that is still zero"),                             \
    CRANK_FLOAT(options, dropout, 0, 0, 0.999, "share of the inputs of the update's branch that is dropped (the method wants none)"), \
    CRANK_CHOICE(options, init, "kaiming", "kaiming|gaussian", "how A starts: uniform in 1/sqrt(in), or normal with deviation 1/rank")

static const crank_option option_table[] = {
    COMMON_OPTIONS,
    CRANK_CHOICE(options, variant, "row", "row|output", "gains by the norm of a row of B A, or by the size of each output"),
    CRANK_END
};
static const crank_option forward_table[] = { COMMON_OPTIONS, CRANK_END };

static crank_status attach(crank_context *context, crank_site *site)
{
    const options *o = site->options;
    state         *st = site->state;
    pair_options   plain = { .rank = o->rank, .alpha = (double)o->rank, .dropout = o->dropout, .init = o->init, .lora_plus = 1, .bias = "none" };
    return pair_attach(context, site, &plain, &st->factors);
}

/* ---- the two products with their own reverse ---- */

/* x [n, in], A [r, in] -> P = x A^T [n, r], twice: what x learns through, and what A learns through. */
static crank_status infer_down(crank_graph *graph, crank_node *node)
{
    const crank_tensor *x = node->inputs[0], *A = node->inputs[1];
    if (x->rank != 2 || A->rank != 2 || x->dims[1] != A->dims[1] || x->dtype != A->dtype)
        return op_refuse(graph, "allora_down: x %s and A %s do not fit", op_shape(x).text, op_shape(A).text);
    for (int i = 0; i < 2; i++) crank_set_output(node, i, x->dtype, 2, (const int64_t[]){ x->dims[0], A->dims[0] });
    return CRANK_OK;
}

static void gradient_down(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    crank_tensor *x = node->inputs[0], *A = node->inputs[1];
    (void)graph;
    if (op_wants(x) && dy[0]) dx[0] = op_gradient_for(crank_matmul(dy[0], false, A, false), x);
    if (op_wants(A) && dy[1])
        dx[1] = op_gradient_for(crank_matmul_full(dy[1], true, x, false, 1, NULL, NULL, op_wide(x->dtype)), A);
}

static void decompose_down(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    outputs[0] = outputs[1] = crank_matmul(node->inputs[0], false, node->inputs[1], true);
}

static const crank_op op_down = { .name = "allora_down", .infer = infer_down, .gradient = gradient_down, .decompose = decompose_down };

/* P [n, r] for x, P' [n, r] for A (the same values), B [out, r], [c [out]] -> f = P B^T [n, out].
 * Without c the gains are those of each output, of the attribute's eta. */
typedef struct {
    double eta;
} up_attributes;

static crank_status infer_up(crank_graph *graph, crank_node *node)
{
    const crank_tensor *P = node->inputs[0], *B = node->inputs[2];
    if (P->rank != 2 || B->rank != 2 || P->dims[1] != B->dims[1] || P->dtype != B->dtype || !op_same_dims(P, node->inputs[1]))
        return op_refuse(graph, "allora_up: x A^T %s and B %s do not fit", op_shape(P).text, op_shape(B).text);
    crank_set_output(node, 0, P->dtype, 2, (const int64_t[]){ P->dims[0], B->dims[0] });
    return CRANK_OK;
}

/* 1 / sqrt(|size| + 1 / eta^2) */
static crank_tensor *gain(crank_tensor *size, double eta) { return crank_unary(CRANK_RSQRT, crank_affine(size, 1, 1 / (eta * eta))); }

static void gradient_rows(crank_node *node, crank_tensor *dy, crank_tensor **dx)
{
    crank_tensor *P = node->inputs[0], *Pa = node->inputs[1], *B = node->inputs[2], *c = node->inputs[3];
    int64_t       r = B->dims[1];
    crank_dtype   wide = op_wide(P->dtype);
    crank_tensor *column = crank_reshape(c, 2, (const int64_t[]){ -1, 1 }); /* [out, 1] */
    crank_tensor *both[2] = { B, crank_mul(B, crank_cast(column, B->dtype)) };
    crank_tensor *Q = crank_matmul(dy, false, op_wants(P) ? crank_concat(both, 2, 1) : both[1], false); /* [n, 2r] or [n, r] */
    if (op_wants(P)) dx[0] = crank_slice(Q, 1, 0, r);
    if (op_wants(Pa)) dx[1] = op_wants(P) ? crank_slice(Q, 1, r, r) : Q;
    crank_tensor *gB = crank_matmul_full(dy, true, P, false, 1, NULL, NULL, wide);
    if (op_wants(B)) dx[2] = op_gradient_for(crank_mul(gB, crank_cast(column, wide)), B);
}

static void gradient_outputs(crank_node *node, crank_tensor *dy, crank_tensor **dx)
{
    const up_attributes *a = node->attributes;
    crank_tensor        *P = node->inputs[0], *Pa = node->inputs[1], *B = node->inputs[2];
    crank_tensor        *scaled = crank_mul(dy, gain(crank_unary(CRANK_ABS, node->outputs[0]), a->eta));
    if (op_wants(P)) dx[0] = crank_matmul(dy, false, B, false);
    if (op_wants(Pa)) dx[1] = crank_matmul(scaled, false, B, false);
    if (op_wants(B)) dx[2] = op_gradient_for(crank_matmul_full(scaled, true, P, false, 1, NULL, NULL, op_wide(P->dtype)), B);
}

static void gradient_up(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    if (node->inputs[3]) gradient_rows(node, dy[0], dx);
    else gradient_outputs(node, dy[0], dx);
}

static void decompose_up(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    outputs[0] = crank_matmul(node->inputs[0], false, node->inputs[2], true);
}

static const crank_op op_up = {
    .name = "allora_up", .infer = infer_up, .gradient = gradient_up, .decompose = decompose_up, .attributes_size = sizeof(up_attributes)
};

/* ---- recording ---- */

static bool by_output(const options *o) { return strcmp(o->variant, "output") == 0; }

/* c [out] in the type of the factors. */
static void derive(crank_graph *graph, crank_site *site)
{
    const options *o = site->options;
    const state   *st = site->state;
    if (by_output(o) || !crank_graph_training(graph)) return;
    crank_tensor *A = crank_stop_gradient(crank_use(graph, st->factors.A)), *B = crank_stop_gradient(crank_use(graph, st->factors.B));
    crank_tensor *BH = crank_matmul(B, false, crank_matmul(A, false, A, true), false); /* [out, r] */
    crank_tensor *square = crank_reduce(CRANK_SUM, crank_mul(BH, B), 2u, false), *zero = crank_fill(graph, B->dtype, 0, NULL, 0);
    crank_tensor *norm = crank_unary(CRANK_SQRT, crank_binary(CRANK_MAX, square, zero)); /* rounding may leave a negative square */
    crank_site_put(graph, site, "gain", gain(norm, o->eta));
}

static crank_tensor *drop(crank_graph *graph, const crank_site *site, crank_tensor *x)
{
    const options *o = site->options;
    pair_options   plain = { .dropout = o->dropout };
    return pair_drop(graph, site, &plain, x);
}

/* x [n, in], y0 [n, out] from what stands below -> y [n, out] */
static crank_tensor *forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_dtype    compute = crank_graph_compute(graph);
    x = drop(graph, site, x);
    if (!crank_graph_training(graph)) return crank_add(y0, pair_delta(graph, site, &st->factors, x));
    crank_tensor *A = crank_cast(crank_use(graph, st->factors.A), compute), *B = crank_cast(crank_use(graph, st->factors.B), compute);
    crank_tensor *P, *Pa;
    if (site->linear->kind == CRANK_LINEAR_EMBEDDING) { /* ids have no gradient */
        Pa = crank_linear_down(graph, site->linear, x, A);
        P = crank_stop_gradient(Pa);
    } else {
        crank_node *node = crank_record(graph, &op_down, (crank_tensor *const[]){ x, A }, 2, NULL, 2, 3);
        if (!node) return y0;
        P = node->outputs[0];
        Pa = node->outputs[1];
    }
    crank_tensor *c = by_output(o) ? NULL : crank_site_get(graph, site, "gain");
    crank_node   *up = crank_record(graph, &op_up, (crank_tensor *const[]){ P, Pa, B, c }, 4, &(up_attributes){ o->eta }, 1, 1);
    return up ? crank_add(y0, up->outputs[0]) : y0;
}

static crank_tensor *forward_scaled(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    const options *o = site->options;
    const state   *st = site->state;
    crank_tensor  *f = pair_delta(graph, site, &st->factors, drop(graph, site, x));
    return crank_add(y0, crank_mul(f, gain(crank_unary(CRANK_ABS, f), o->eta)));
}

static crank_status as_lora(crank_context *context, crank_site *site, int64_t *rank, double *scale, float **A, float **B)
{
    const state *st = site->state;
    return pair_read(context, &st->factors, rank, scale, A, B);
}

const crank_map crank_map_allora = {
    .name         = "allora",
    .paper        = "arXiv:2410.09692",
    .summary      = "LoRA without alpha and dropout; each row's gradient is scaled by how far the row has come",
    .options      = option_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .affine       = true,
    .embeddings   = true,
    .attach       = attach,
    .derive       = derive,
    .forward      = forward,
    .as_lora      = as_lora,
    .peft_type    = "LORA",
};

const crank_map crank_map_asf_lora = {
    .name         = "asf-lora",
    .paper        = "arXiv:2410.09692",
    .summary      = "LoRA whose output is scaled down as it grows (the paper's ASF variant; not mergeable)",
    .options      = forward_table,
    .options_size = sizeof(options),
    .state_size   = sizeof(state),
    .embeddings   = true,
    .attach       = attach,
    .forward      = forward_scaled,
};
