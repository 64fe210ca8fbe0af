/* matmul.c - the matrix product c = alpha op(a) op(b) + bias + c0 and its reverse.
 *
 *     A = op(a) [m,k], B = op(b) [k,n]:   dA = alpha dc B^T,  dB = alpha A^T dc,  dbias = sum over rows of dc,  dc0 =
 * dc
 *
 * A transposed operand is handed on as it lies in memory, with its flag turned over; leading dimensions become one
 * batch dimension, and rows where b has none. A batch of 1 is broadcast, and its gradient summed. */
#include <string.h>

#include "graph/ops/op.h"

/* Rows, columns and batch of op(x). */
typedef struct extent {
    int64_t batch, rows, columns;
} extent;

static extent extent_of(const crank_tensor *x, bool trans)
{
    int64_t rows = x->dims[x->rank - 2], columns = x->dims[x->rank - 1];
    return (extent){x->rank == 3 ? x->dims[0] : 1, trans ? columns : rows, trans ? rows : columns};
}

static crank_status check_types(crank_graph *graph, const crank_node *node, crank_dtype out)
{
    const crank_tensor *a = node->inputs[0], *b = node->inputs[1], *bias = node->inputs[2], *c0 = node->inputs[3];
    if (!op_is_float(a) || a->dtype != b->dtype)
        return op_refuse(graph, "matmul: %s and %s must have one float type; cast one of them with crank_cast",
                         op_shape(a).text, op_shape(b).text);
    if (out != a->dtype && out != op_wide(a->dtype))
        return op_refuse(graph, "matmul: a product of %s does not come out as %s", crank_dtype_name(a->dtype),
                         crank_dtype_name(out));
    if ((bias && bias->dtype != out) || (c0 && c0->dtype != out))
        return op_refuse(graph, "matmul: bias %s and c0 %s must have the type of the result, %s", op_shape(bias).text,
                         op_shape(c0).text, crank_dtype_name(out));
    return CRANK_OK;
}

static crank_status infer_matmul(crank_graph *graph, crank_node *node)
{
    const matmul_attributes *matmul = node->attributes;
    const crank_tensor *a = node->inputs[0], *b = node->inputs[1], *bias = node->inputs[2], *c0 = node->inputs[3];
    if (a->rank < 2 || a->rank > 3 || b->rank < 2 || b->rank > 3)
        return op_refuse(graph, "matmul: %s and %s must be matrices or batches of matrices", op_shape(a).text,
                         op_shape(b).text);
    if (check_types(graph, node, matmul->out) != CRANK_OK) return CRANK_USAGE;
    extent A = extent_of(a, matmul->matmul.trans_a), B = extent_of(b, matmul->matmul.trans_b);
    if (A.columns != B.rows || (A.batch != B.batch && A.batch != 1 && B.batch != 1))
        return op_refuse(graph, "matmul: %s%s and %s%s do not multiply: %lld columns against %lld rows",
                         op_shape(a).text, matmul->matmul.trans_a ? " transposed" : "", op_shape(b).text,
                         matmul->matmul.trans_b ? " transposed" : "", (long long)A.columns, (long long)B.rows);
    bool batched = a->rank == 3 || b->rank == 3;
    int64_t batch = A.batch > B.batch ? A.batch : B.batch, dims[3] = {batch, A.rows, B.columns};
    crank_set_output(node, 0, matmul->out, batched ? 3 : 2, batched ? dims : dims + 1);
    if (bias && (bias->rank != 1 || bias->dims[0] != B.columns))
        return op_refuse(graph, "matmul: bias %s must be [%lld]", op_shape(bias).text, (long long)B.columns);
    if (c0 && !op_same_dims(c0, node->outputs[0]))
        return op_refuse(graph, "matmul: c0 %s must have the dims of the result %s", op_shape(c0).text,
                         op_shape(node->outputs[0]).text);
    return CRANK_OK;
}

/* alpha op(x) op(y) as a gradient of `of`: summed over its batch where it was broadcast, in its gradient's type. */
static crank_tensor *product_for(crank_tensor *of, crank_tensor *x, bool trans_x, crank_tensor *y, bool trans_y,
                                 double alpha)
{
    return op_gradient_for(crank_matmul_full(x, trans_x, y, trans_y, alpha, NULL, NULL, op_gradient_dtype(of)), of);
}

static void gradient_matmul(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx)
{
    (void)graph;
    const crank_matmul_attributes *matmul = node->attributes;
    crank_tensor *a = node->inputs[0], *b = node->inputs[1], *bias = node->inputs[2], *c0 = node->inputs[3];
    bool ta = matmul->trans_a, tb = matmul->trans_b;
    if (op_wants(bias)) dx[2] = op_gradient_for(dy[0], bias);
    if (op_wants(c0)) dx[3] = op_gradient_for(dy[0], c0);
    if (!op_wants(a) && !op_wants(b)) return;
    crank_tensor *dc = crank_cast(dy[0], a->dtype);
    if (op_wants(a)) /* dA = dc B^T, or its transpose B dc^T */
        dx[0] = ta ? product_for(a, op_again(b), tb, dc, true, matmul->alpha)
                   : product_for(a, dc, false, op_again(b), !tb, matmul->alpha);
    if (op_wants(b)) /* dB = A^T dc, or its transpose dc^T A */
        dx[1] = tb ? product_for(b, dc, true, op_again(a), ta, matmul->alpha)
                   : product_for(b, op_again(a), !ta, dc, false, matmul->alpha);
}

static double matmul_flops(const crank_node *node)
{
    const matmul_attributes *matmul = node->attributes;
    return 2.0 * (double)op_count(node->outputs[0]) *
           (double)extent_of(node->inputs[0], matmul->matmul.trans_a).columns;
}

const crank_op op_matmul = {.name = "matmul",
                            .infer = infer_matmul,
                            .gradient = gradient_matmul,
                            .attributes_size = sizeof(matmul_attributes),
                            .inplace = {1 + 3},
                            .flops = matmul_flops};

/* ---- what plan_augment.c makes of two products ---- */

static crank_status infer_augmented(crank_graph *graph, crank_node *node)
{
    const crank_augmented_attributes *attributes = node->attributes;
    const crank_tensor *a = node->inputs[0], *b = node->inputs[1], *t = node->inputs[2], *s = node->inputs[3];
    bool turned = attributes->trans_b;
    if (a->rank != 2 || b->rank != 2 || t->rank != 2 || s->rank != 2 || b->dims[turned] != a->dims[1] || s->dims[turned] != t->dims[1] ||
        b->dims[!turned] != s->dims[!turned] || a->dims[0] != t->dims[0])
        return op_refuse(graph, "matmul_augmented: %s, %s, %s and %s do not multiply", op_shape(a).text, op_shape(b).text, op_shape(t).text,
                         op_shape(s).text);
    crank_set_output(node, 0, a->dtype, 2, (int64_t[]){a->dims[0], b->dims[!turned]});
    return CRANK_OK;
}

static double augmented_flops(const crank_node *node)
{
    return 2.0 * (double)op_count(node->outputs[0]) * (double)(node->inputs[0]->dims[1] + node->inputs[2]->dims[1]);
}

const crank_op op_matmul_augmented = {.name = "matmul_augmented",
                                      .infer = infer_augmented,
                                      .attributes_size = sizeof(crank_augmented_attributes),
                                      .inplace = {1 + 4},
                                      .flops = augmented_flops};

/* Elements along `inner` stand side by side, and those along `outer` do not overlap. */
static bool lies_along(const crank_tensor *x, int outer, int inner)
{
    return (x->strides[inner] == 1 || x->dims[inner] == 1) &&
           (x->strides[outer] >= x->dims[inner] || x->dims[outer] == 1);
}

/* x with dense rows; a matrix whose columns are dense is taken as its transpose. */
static crank_tensor *as_stored(crank_tensor *x, bool *trans)
{
    int last = x->rank - 1;
    if (lies_along(x, last - 1, last)) return x;
    if (!lies_along(x, last, last - 1)) return crank_contiguous(x);
    *trans = !*trans;
    return crank_transpose(x, last - 1, last);
}

/* x [.., r, c] as one batch of matrices. */
static crank_tensor *as_batch(crank_tensor *x)
{
    if (x->rank <= 3) return x;
    int64_t dims[3] = {1, x->dims[x->rank - 2], x->dims[x->rank - 1]};
    for (int i = 0; i < x->rank - 2; i++) dims[0] *= x->dims[i];
    return op_reshaped(x, 3, dims);
}

/* True when both have the same leading dimensions, or one of them none. */
static bool leading_dims_agree(const crank_tensor *a, const crank_tensor *b)
{
    if (a->rank == 2 || b->rank == 2) return true;
    if (a->rank == 3 && b->rank == 3) return true; /* infer knows batches of 1 */
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)(a->rank - 2) * sizeof a->dims[0]) == 0;
}

crank_tensor *crank_matmul_full(crank_tensor *a, bool trans_a, crank_tensor *b, bool trans_b, double alpha,
                                crank_tensor *bias, crank_tensor *c0, crank_dtype out)
{
    if (op_failed(a)) return a;
    if (a->rank < 2 || b->rank < 2 || !leading_dims_agree(a, b)) {
        op_refuse(a->graph, "matmul: %s and %s must be matrices with the same leading dims, or none", op_shape(a).text,
                  op_shape(b).text);
        return a;
    }
    const crank_tensor *leading = a->rank >= b->rank ? a : b;  /* whose leading dims the result has */
    bool rows = leading->rank > 2 && b->rank == 2 && !trans_a; /* the leading dims of a are further rows */
    int64_t dims[CRANK_MAX_RANK];
    int rank = leading->rank;
    memcpy(dims, leading->dims, sizeof dims);
    if (rank == 3 && b->rank == 3 && a->rank == 3 && dims[0] == 1) dims[0] = b->dims[0];
    dims[rank - 2] = trans_a ? a->dims[a->rank - 1] : a->dims[a->rank - 2];
    dims[rank - 1] = trans_b ? b->dims[b->rank - 2] : b->dims[b->rank - 1];
    if (c0 && (c0->rank != rank || memcmp(c0->dims, dims, (size_t)rank * sizeof *dims) != 0)) {
        op_refuse(a->graph, "matmul: c0 %s must have the dims of the product of %s and %s", op_shape(c0).text,
                  op_shape(a).text, op_shape(b).text);
        return a;
    }
    a = as_stored(rows ? op_matrix(a) : as_batch(a), &trans_a);
    b = as_stored(as_batch(b), &trans_b);
    if (c0) {
        c0 = rows ? op_matrix(c0) : as_batch(c0);
        if (!lies_along(c0, c0->rank - 2, c0->rank - 1)) c0 = crank_contiguous(c0);
    }
    crank_tensor *inputs[4] = {a, b, bias ? op_rows(bias) : NULL, c0};
    matmul_attributes attributes = {{trans_a, trans_b, alpha}, out == CRANK_DTYPES ? a->dtype : out};
    crank_tensor *c = op_one(&op_matmul, inputs, 4, &attributes);
    return rows || rank > 3 ? op_reshaped(c, rank, dims) : c;
}

crank_tensor *crank_matmul(crank_tensor *a, bool trans_a, crank_tensor *b, bool trans_b)
{
    return crank_matmul_full(a, trans_a, b, trans_b, 1, NULL, NULL, CRANK_DTYPES);
}
