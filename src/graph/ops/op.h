/* op.h - what the files of this folder share: refusals with clear messages, the layout of rows, and the rules of
 * gradients.
 *
 * A recording function checks nothing that `infer` of its operation checks; it only brings operands into the layout
 * that the operation table promises (operations.h). On a failed graph every function gives back one of its operands. */
#ifndef CRANK_GRAPH_OPS_OP_H
#define CRANK_GRAPH_OPS_OP_H

#include "crank/graph.h"
#include "crank/ops.h"
#include "graph/ops/views.h"

/* Every operation that the graph knows, by name; NULL: none. op_at walks them; NULL past the end. */
const crank_op *op_find(const char *name);
const crank_op *op_at(int i);

/* ---- attributes that say more than the device's body reads: the device's struct stands first ---- */

typedef struct fill_attributes {
    crank_fill_attributes fill;
    crank_dtype dtype;
    shape_attributes shape;
} fill_attributes;
typedef struct copy_attributes {
    crank_dtype dtype;
} copy_attributes;
typedef struct pad_attributes {
    crank_pad_attributes pad;
    int64_t length; /* of the axis in the result */
} pad_attributes;
typedef struct matmul_attributes {
    crank_matmul_attributes matmul;
    crank_dtype out;
} matmul_attributes;
typedef struct layernorm_attributes {
    crank_norm_attributes norm;
    crank_dtype gain; /* of dw and db: the reverse does not read b */
} layernorm_attributes;
typedef struct extent_attributes {
    int64_t extent;
} extent_attributes; /* scatter_rows: V; unpick: c */

/* The gated linear unit of what was scaled, when `gate` and `up` [n, d] come straight from scale_columns; NULL: they do not. */
crank_tensor *op_glu_of_scaled(crank_tensor *gate, crank_tensor *up, crank_unary_kind activation);

extern const crank_op op_glu, op_glu_backward, op_copy, op_fill, op_concat, op_pad, op_matmul, op_matmul_augmented, op_scatter_rows, op_gather_rows, op_pick,
    op_unpick, op_segment_pool, op_segment_pool_backward, op_sparse_matmul, op_sparse_sample;

/* ---- refusals ---- */

typedef struct shape_text {
    char text[160];
} shape_text;
shape_text op_shape(const crank_tensor *x);                                             /* "f32 [3, 4]", or "nothing" */
crank_status op_refuse(crank_graph *graph, const char *format, ...) CRANK_PRINTF(2, 3); /* sticky; gives CRANK_USAGE */
bool op_failed(const crank_tensor *x);

bool op_same_dims(const crank_tensor *a, const crank_tensor *b);
bool op_is(const crank_tensor *x, crank_dtype dtype, int rank); /* type and rank; false for NULL */
bool op_is_float(const crank_tensor *x);
/* A vector of n elements of one of two types (the same one twice: one type). */
bool op_is_vector(const crank_tensor *x, int64_t n, crank_dtype dtype, crank_dtype other);

int64_t op_count(const crank_tensor *x);
crank_dtype op_wide(crank_dtype dtype); /* f64 for f64, else f32: the type of sums and statistics */

/* ---- recording ---- */

/* Output 0 of a node with this one output; the first operand on a failed graph. */
crank_tensor *op_one(const crank_op *op, crank_tensor *const *inputs, int count, const void *attributes);

/* ---- layout ---- */

bool op_is_contiguous(const crank_tensor *x);
crank_tensor *op_rows(crank_tensor *x); /* x, or a copy of it whose last stride is 1 */
crank_tensor *
op_heads(crank_tensor *x); /* x [n,h,d], or a copy of it whose rows of h*d elements are dense; NULL stays NULL */
/* The dims, as a view where strides allow and else of a copy. */
crank_tensor *op_reshaped(crank_tensor *x, int rank, const int64_t *dims);
/* x [.., d] as dense rows [n, d]; NULL stays NULL. */
crank_tensor *op_matrix(crank_tensor *x);
/* y [n, d] with the leading dims of `like` and its own last one. */
crank_tensor *op_unmatrix(crank_tensor *y, const crank_tensor *like);

/* ---- gradients ---- */

/* The type in which the gradient of x is told: f32 for a 16-bit parameter, also behind casts, copies and views of it.
 */
crank_dtype op_gradient_dtype(const crank_tensor *x);
/* The gradient in the type and dims of x: summed over the axes along which x was broadcast. */
crank_tensor *op_gradient_for(crank_tensor *gradient, const crank_tensor *x);
/* True when x is one number everywhere that is known while recording. */
bool op_is_fill(const crank_tensor *x, double *value);
/* a * b with broadcasting; a known factor is no product. */
crank_tensor *op_times(crank_tensor *a, crank_tensor *b);
/* The `gradient` of an operation that is itself a reverse: refuses, instead of giving a wrong zero. */
void op_no_second(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx);
/* While a reverse pass is recorded: a quantised weight made dense once more, so that it is not kept from the forward pass; x else. */
crank_tensor *op_again(crank_tensor *x);
bool op_wants(const crank_tensor *x); /* x is there and needs a gradient */
#endif
