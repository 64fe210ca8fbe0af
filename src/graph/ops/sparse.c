/* sparse.c - products with a sparse matrix whose places are fixed, and samples of a product at such places.
 *
 *     sparse_matmul  y = x S^T (or x S)        reverse: dx = dy S (or dy S^T), dv = (dy^T x) (or (x^T dy)) at the places
 *     sparse_sample  v = (a^T b) at the places  reverse: da = b V^T, db = a V with V sparse with the values dv
 *
 * Neither the dense S nor the dense product exists; a device without a body makes them (scatter, product, gather). */
#include "graph/ops/op.h"

static crank_tensor *sample(crank_tensor *a, crank_tensor *b, crank_tensor *index, crank_dtype dtype);

static crank_tensor *product(crank_tensor *x, crank_tensor *v, crank_tensor *index, const crank_sparse_attributes *attributes, bool transpose)
{
    crank_sparse_attributes turned = *attributes;
    turned.transpose = transpose;
    crank_tensor *inputs[3] = {op_rows(x), op_rows(crank_cast(v, x->dtype)), index};
    return op_one(&op_sparse_matmul, inputs, 3, &turned);
}

static crank_status infer_sparse_matmul(crank_graph *graph, crank_node *node)
{
    const crank_sparse_attributes *a = node->attributes;
    const crank_tensor *x = node->inputs[0], *v = node->inputs[1], *index = node->inputs[2];
    if (a->rows < 1 || a->cols < 1 || a->rows > INT32_MAX / a->cols)
        return op_refuse(graph, "sparse_matmul: a matrix [%lld, %lld] has no places or more than 2^31 - 1", (long long)a->rows, (long long)a->cols);
    if (!op_is_float(x) || x->rank != 2 || x->dims[1] != (a->transpose ? a->rows : a->cols))
        return op_refuse(graph, "sparse_matmul: x %s does not go with a matrix [%lld, %lld]", op_shape(x).text, (long long)a->rows, (long long)a->cols);
    if (!op_is(v, x->dtype, 1) || !op_is(index, CRANK_I32, 1) || v->dims[0] != index->dims[0])
        return op_refuse(graph, "sparse_matmul: values %s and places %s do not go together", op_shape(v).text, op_shape(index).text);
    crank_set_output(node, 0, x->dtype, 2, (int64_t[]){x->dims[0], a->transpose ? a->cols : a->rows});
    return CRANK_OK;
}

static void gradient_sparse_matmul(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const crank_sparse_attributes *a = node->attributes;
    crank_tensor *x = node->inputs[0], *v = node->inputs[1], *index = node->inputs[2];
    if (x->needs_gradient) dx[0] = op_gradient_for(product(dy[0], v, index, a, !a->transpose), x);
    if (v->needs_gradient) dx[1] = op_gradient_for(a->transpose ? sample(x, dy[0], index, op_wide(v->dtype)) : sample(dy[0], x, index, op_wide(v->dtype)), v);
}

static void decompose_sparse_matmul(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    const crank_sparse_attributes *a = node->attributes;
    int64_t       count = node->inputs[1]->dims[0];
    crank_tensor *inputs[2] = {crank_reshape(crank_contiguous(node->inputs[1]), 2, (int64_t[]){count, 1}), node->inputs[2]};
    crank_tensor *S = op_one(&op_scatter_rows, inputs, 2, &(extent_attributes){a->rows * a->cols});
    S = crank_cast(crank_reshape(S, 2, (int64_t[]){a->rows, a->cols}), node->inputs[0]->dtype);
    outputs[0] = crank_matmul(node->inputs[0], false, S, !a->transpose);
}

static double flops_sparse_matmul(const crank_node *node) { return 2.0 * (double)node->inputs[0]->dims[0] * (double)node->inputs[1]->dims[0]; }

const crank_op op_sparse_matmul = {.name = "sparse_matmul",
                                   .infer = infer_sparse_matmul,
                                   .gradient = gradient_sparse_matmul,
                                   .decompose = decompose_sparse_matmul,
                                   .attributes_size = sizeof(crank_sparse_attributes),
                                   .flops = flops_sparse_matmul};

crank_tensor *crank_sparse_matmul(crank_tensor *x, crank_tensor *v, crank_tensor *index, int64_t rows, int64_t cols, bool transpose)
{
    if (op_failed(x)) return x;
    return product(x, v, index, &(crank_sparse_attributes){rows, cols, transpose}, transpose);
}

/* ---- sparse_sample ---- */

static crank_status infer_sparse_sample(crank_graph *graph, crank_node *node)
{
    const crank_tensor *a = node->inputs[0], *b = node->inputs[1], *index = node->inputs[2];
    if (!op_is_float(a) || a->rank != 2 || !op_is(b, a->dtype, 2) || a->dims[0] != b->dims[0] || !op_is(index, CRANK_I32, 1))
        return op_refuse(graph, "sparse_sample: %s, %s and places %s do not go together", op_shape(a).text, op_shape(b).text, op_shape(index).text);
    if (a->dims[1] < 1 || b->dims[1] < 1 || a->dims[1] > INT32_MAX / b->dims[1])
        return op_refuse(graph, "sparse_sample: a product [%lld, %lld] has no places or more than 2^31 - 1", (long long)a->dims[1], (long long)b->dims[1]);
    crank_set_output(node, 0, ((const copy_attributes *)node->attributes)->dtype, 1, index->dims);
    return CRANK_OK;
}

static void gradient_sparse_sample(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    crank_tensor *a = node->inputs[0], *b = node->inputs[1], *index = node->inputs[2];
    crank_sparse_attributes size = {a->dims[1], b->dims[1], false};
    if (a->needs_gradient) dx[0] = op_gradient_for(product(b, dy[0], index, &size, false), a);
    if (b->needs_gradient) dx[1] = op_gradient_for(product(a, dy[0], index, &size, true), b);
}

static void decompose_sparse_sample(crank_graph *graph, crank_node *node, crank_tensor **outputs)
{
    (void)graph;
    crank_tensor *a = node->inputs[0], *b = node->inputs[1];
    crank_dtype   type = node->outputs[0]->dtype;
    crank_tensor *G = crank_matmul_full(a, true, b, false, 1, NULL, NULL, type);
    crank_tensor *picked = crank_gather_rows(crank_reshape(G, 2, (int64_t[]){a->dims[1] * b->dims[1], 1}), node->inputs[2]);
    picked = crank_reshape(picked, 1, node->inputs[2]->dims);
    outputs[0] = op_one(&op_copy, &picked, 1, &(copy_attributes){type}); /* a view cannot take the node's place */
}

static double flops_sparse_sample(const crank_node *node) { return 2.0 * (double)node->inputs[0]->dims[0] * (double)node->inputs[2]->dims[0]; }

const crank_op op_sparse_sample = {.name = "sparse_sample",
                                   .infer = infer_sparse_sample,
                                   .gradient = gradient_sparse_sample,
                                   .decompose = decompose_sparse_sample,
                                   .attributes_size = sizeof(copy_attributes),
                                   .flops = flops_sparse_sample};

static crank_tensor *sample(crank_tensor *a, crank_tensor *b, crank_tensor *index, crank_dtype dtype)
{
    if (op_failed(a)) return a;
    crank_tensor *inputs[3] = {op_rows(a), op_rows(crank_cast(b, a->dtype)), index};
    return op_one(&op_sparse_sample, inputs, 3, &(copy_attributes){dtype});
}
