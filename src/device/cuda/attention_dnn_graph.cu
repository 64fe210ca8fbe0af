/* attention_dnn_graph.cu - attention and its reverse as operation graphs of cuDNN's backend interface.
 *
 * forward:  s = scale (q k^T); hide what is beyond the lengths, then what the mask hides; m = max s; e = exp(s - m); z = sum e;
 *           stats = m + log z; p = e / z; o = p v
 * reverse:  D = sum(do o); s as above with stats taken off between the two masks, p = exp(s); dv = p^T do;
 *           ds = scale p (do v^T - D); dk = ds^T q; dq = ds k, summed in f32 first
 * With fewer key heads than query heads dk and dv are made for all query heads and then summed over each group.
 *
 * cuDNN's engines know these graphs by their pattern: the order of the operations, and which tensors are virtual, matter. */
#ifdef CRANK_HAVE_CUDNN
#include <stdlib.h>
#include <string.h>

#include "device/cuda/attention_dnn.h"

enum { DESCRIPTORS_MOST = 192, OPERATIONS_MOST = 48 };

typedef struct tensor {
    cudnnBackendDescriptor_t descriptor;
    int64_t                  dims[4], strides[4];
    cudnnDataType_t          type;
} tensor;

struct dnn_graph {
    dnn_shape                shape;
    cudnnBackendDescriptor_t all[DESCRIPTORS_MOST], operations[OPERATIONS_MOST], graph;
    cudnnBackendDescriptor_t offsets[DNN_OPERANDS]; /* by slot */
    int                      count, operation_count;
    int64_t                  next_virtual;
    bool                     failed;
};

/* ---- descriptors ---- */

static cudnnBackendDescriptor_t make(dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (g->count == DESCRIPTORS_MOST || cudnnBackendCreateDescriptor(type, &d) != CUDNN_STATUS_SUCCESS) g->failed = true;
    else g->all[g->count++] = d;
    return d;
}

static void put(dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (!g->failed && cudnnBackendSetAttribute(d, name, type, count, values) != CUDNN_STATUS_SUCCESS) g->failed = true;
}

static void put_descriptor(dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    put(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finish(dnn_graph *g, cudnnBackendDescriptor_t d)
{
    if (!g->failed && cudnnBackendFinalize(d) != CUDNN_STATUS_SUCCESS) g->failed = true;
}

typedef enum tensor_kind { REAL, VIRTUAL, BY_VALUE } tensor_kind;

static tensor tensor_make(dnn_graph *g, int64_t name, cudnnDataType_t type, const int64_t dims[4], const int64_t strides[4], tensor_kind kind,
                          cudnnBackendDescriptor_t offsets)
{
    tensor  t = {make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR), {}, {}, type};
    int64_t alignment = 16;
    bool    yes = true;
    memcpy(t.dims, dims, sizeof t.dims);
    memcpy(t.strides, strides, sizeof t.strides);
    put(g, t.descriptor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name);
    put(g, t.descriptor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    put(g, t.descriptor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    put(g, t.descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    put(g, t.descriptor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    if (kind == VIRTUAL) put(g, t.descriptor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (kind == BY_VALUE) put(g, t.descriptor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (offsets) put_descriptor(g, t.descriptor, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, offsets);
    finish(g, t.descriptor);
    return t;
}

/* A virtual tensor of an operation's result. */
static tensor between(dnn_graph *g, cudnnDataType_t type, const int64_t dims[4], const int64_t strides[4])
{
    return tensor_make(g, g->next_virtual++, type, dims, strides, VIRTUAL, NULL);
}
static tensor alike(dnn_graph *g, cudnnDataType_t type, const tensor *t) { return between(g, type, t->dims, t->strides); }

static tensor vector_of(dnn_graph *g, int64_t name, cudnnDataType_t type, int64_t count)
{
    const int64_t dims[4] = {count, 1, 1, 1}, strides[4] = {1, 1, 1, 1};
    return tensor_make(g, name, type, dims, strides, REAL, NULL);
}

static tensor number(dnn_graph *g, int64_t name)
{
    const int64_t ones[4] = {1, 1, 1, 1};
    return tensor_make(g, name, CUDNN_DATA_FLOAT, ones, ones, BY_VALUE, NULL);
}

/* ---- operations ---- */

static void add(dnn_graph *g, cudnnBackendDescriptor_t operation)
{
    finish(g, operation);
    if (g->operation_count == OPERATIONS_MOST) g->failed = true;
    else g->operations[g->operation_count++] = operation;
}

/* c [b,h,m,n] = a b, with the true sizes of m, n and k where they are given */
static void matmul(dnn_graph *g, const tensor *a, const tensor *b, const tensor *c, const tensor *m, const tensor *n, const tensor *k)
{
    cudnnBackendDescriptor_t math = make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR), op = make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    cudnnDataType_t          sums = CUDNN_DATA_FLOAT;
    put(g, math, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    finish(g, math);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, math);
    if (m) put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m->descriptor);
    if (n) put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n->descriptor);
    if (k) put_descriptor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k->descriptor);
    add(g, op);
}

/* y = mode(x, b, t); b and t may be NULL; axis of an index, or -1 */
static void pointwise(dnn_graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t precision, int64_t axis, const tensor *x, const tensor *b,
                      const tensor *t, const tensor *y)
{
    cudnnBackendDescriptor_t math = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR), op = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    put(g, math, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    put(g, math, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    if (axis >= 0) put(g, math, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    finish(g, math);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, math);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x->descriptor);
    if (b) put_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b->descriptor);
    if (t) put_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y->descriptor);
    add(g, op);
}

static tensor compute(dnn_graph *g, cudnnPointwiseMode_t mode, const tensor *x, const tensor *b)
{
    tensor y = alike(g, CUDNN_DATA_FLOAT, x);
    pointwise(g, mode, CUDNN_DATA_FLOAT, -1, x, b, NULL, &y);
    return y;
}

static tensor compare(dnn_graph *g, cudnnPointwiseMode_t mode, const tensor *x, const tensor *b)
{
    tensor y = alike(g, CUDNN_DATA_BOOLEAN, x);
    pointwise(g, mode, CUDNN_DATA_BOOLEAN, -1, x, b, NULL, &y);
    return y;
}

static tensor index_of(dnn_graph *g, const tensor *x, int64_t axis)
{
    tensor y = alike(g, CUDNN_DATA_INT32, x);
    pointwise(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, axis, x, NULL, NULL, &y);
    return y;
}

static tensor select_where(dnn_graph *g, const tensor *x, const tensor *otherwise, const tensor *where)
{
    tensor y = alike(g, CUDNN_DATA_FLOAT, x);
    pointwise(g, CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, -1, x, otherwise, where, &y);
    return y;
}

static void reduce(dnn_graph *g, cudnnReduceTensorOp_t operation, const tensor *x, const tensor *y)
{
    cudnnBackendDescriptor_t math = make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR), op = make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    cudnnDataType_t          sums = CUDNN_DATA_FLOAT;
    put(g, math, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    put(g, math, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operation);
    finish(g, math);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, math);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y->descriptor);
    add(g, op);
}

static void reshape(dnn_graph *g, const tensor *x, const tensor *y)
{
    cudnnBackendDescriptor_t op = make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x->descriptor);
    put_descriptor(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y->descriptor);
    add(g, op);
}

/* ---- attention ---- */

int dnn_offset_slot(const dnn_shape *shape, int operand, int64_t *stride)
{
    int slot = -1, used = 0;
    for (int i = 1; i <= operand; i++) {
        if (!shape->token[i]) continue;
        int same = -1, seen = 0; /* an earlier operand of this stride, and how many strides stand before it */
        for (int j = 1; j < i && same < 0; j++) {
            if (!shape->token[j]) continue;
            bool first = true;
            for (int k = 1; k < j; k++) first = first && shape->token[k] != shape->token[j];
            if (shape->token[j] == shape->token[i]) same = seen;
            seen += first;
        }
        slot = same >= 0 ? same : used++;
    }
    *stride = shape->token[operand];
    return shape->token[operand] ? slot : -1;
}

/* Operand `name` [B, heads, tokens, columns] of packed rows; transposed: [B, heads, columns, tokens]. */
static tensor packed(dnn_graph *g, int name, cudnnDataType_t type, int64_t heads, int64_t columns, bool transposed)
{
    const dnn_shape *s = &g->shape;
    int64_t          dims[4] = {s->batch, heads, s->longest, columns}, strides[4] = {s->longest * s->token[name], s->head[name], s->token[name], 1}, stride;
    int              slot = dnn_offset_slot(s, name, &stride);
    if (!g->offsets[slot]) g->offsets[slot] = vector_of(g, DNN_OFFSETS + slot, CUDNN_DATA_INT64, s->batch + 1).descriptor;
    if (transposed) {
        dims[2] = columns, dims[3] = s->longest;
        strides[2] = 1, strides[3] = s->token[name];
    }
    return tensor_make(g, name, type, dims, strides, REAL, g->offsets[slot]);
}

/* Operand `name` [B, hq, tokens, columns] of sequences of equal length: what cuDNN alone reads and writes. */
static tensor padded(dnn_graph *g, int64_t name, cudnnDataType_t type, int64_t columns, tensor_kind kind)
{
    const dnn_shape *s = &g->shape;
    const int64_t    dims[4] = {s->batch, s->hq, s->longest, columns}, strides[4] = {s->hq * s->longest * columns, s->longest * columns, columns, 1};
    return tensor_make(g, name, type, dims, strides, kind, NULL);
}

typedef struct given {
    tensor q, kt, scale, hidden, queries, keys;
} given;

/* scale q k^T without what stands beyond the lengths */
static tensor scores(dnn_graph *g, const given *in)
{
    const dnn_shape *s = &g->shape;
    const int64_t    dims[4] = {s->batch, s->hq, s->longest, s->longest};
    const int64_t    strides[4] = {s->hq * s->longest * s->longest, s->longest * s->longest, s->longest, 1};
    tensor           product = between(g, CUDNN_DATA_FLOAT, dims, strides);
    matmul(g, &in->q, &in->kt, &product, &in->queries, &in->keys, NULL);
    tensor scaled = compute(g, CUDNN_POINTWISE_MUL, &product, &in->scale);
    tensor row = index_of(g, &scaled, 2), column = index_of(g, &scaled, 3);
    tensor row_inside = compare(g, CUDNN_POINTWISE_CMP_LT, &row, &in->queries), column_inside = compare(g, CUDNN_POINTWISE_CMP_LT, &column, &in->keys);
    tensor inside = compare(g, CUDNN_POINTWISE_LOGICAL_AND, &row_inside, &column_inside);
    return select_where(g, &scaled, &in->hidden, &inside);
}

static tensor masked(dnn_graph *g, const given *in, tensor s)
{
    if (!g->shape.causal) return s;
    tensor row = index_of(g, &s, 2), column = index_of(g, &s, 3), seen = compare(g, CUDNN_POINTWISE_CMP_GE, &row, &column);
    return select_where(g, &s, &in->hidden, &seen);
}

static given given_of(dnn_graph *g)
{
    const dnn_shape *s = &g->shape;
    cudnnDataType_t  type = (cudnnDataType_t)s->type;
    given            in;
    in.q = packed(g, DNN_Q, type, s->hq, s->d, false), in.kt = packed(g, DNN_K, type, s->hk, s->d, true);
    in.scale = number(g, DNN_SCALE), in.hidden = number(g, DNN_HIDDEN);
    in.queries = vector_of(g, DNN_QUERIES, CUDNN_DATA_INT32, s->batch), in.keys = vector_of(g, DNN_KEYS, CUDNN_DATA_INT32, s->batch);
    return in;
}

static void forward(dnn_graph *g)
{
    const dnn_shape *s = &g->shape;
    cudnnDataType_t  type = (cudnnDataType_t)s->type;
    const int64_t    dims[4] = {s->batch, s->hq, s->longest, 1}, strides[4] = {s->hq * s->longest, s->longest, 1, 1};
    given            in = given_of(g);
    tensor           v = packed(g, DNN_V, type, s->hk, s->d, false), o = packed(g, DNN_O, type, s->hq, s->d, false);
    tensor           stats = packed(g, DNN_STATS, CUDNN_DATA_FLOAT, s->hq, 1, false);
    tensor           x = masked(g, &in, scores(g, &in));
    tensor           most = between(g, CUDNN_DATA_FLOAT, dims, strides), sum = between(g, CUDNN_DATA_FLOAT, dims, strides);
    reduce(g, CUDNN_REDUCE_TENSOR_MAX, &x, &most);
    tensor shifted = compute(g, CUDNN_POINTWISE_SUB, &x, &most), e = compute(g, CUDNN_POINTWISE_EXP, &shifted, NULL);
    reduce(g, CUDNN_REDUCE_TENSOR_ADD, &e, &sum);
    tensor log_sum = compute(g, CUDNN_POINTWISE_LOG, &sum, NULL);
    pointwise(g, CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, -1, &most, &log_sum, NULL, &stats);
    tensor p = alike(g, type, &x);
    pointwise(g, CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT, -1, &e, &sum, NULL, &p);
    matmul(g, &p, &v, &o, &in.queries, NULL, &in.keys);
}

/* x [B,hq,queries,keys] in the type of q, its last two axes exchanged */
static tensor turned(dnn_graph *g, const tensor *x)
{
    const int64_t dims[4] = {x->dims[0], x->dims[1], x->dims[3], x->dims[2]}, strides[4] = {x->strides[0], x->strides[1], x->strides[3], x->strides[2]};
    tensor        y = between(g, (cudnnDataType_t)g->shape.type, dims, strides);
    reshape(g, x, &y);
    return y;
}

/* Gradient `name` [B,hk,keys,d] = xt [B,hq,keys,queries] y [B,hq,queries,d], summed over each group of query heads. */
static void key_gradient(dnn_graph *g, const given *in, const tensor *xt, const tensor *y, int name)
{
    const dnn_shape *s = &g->shape;
    cudnnDataType_t  type = (cudnnDataType_t)s->type;
    tensor           gradient = packed(g, name, type, s->hk, s->d, false);
    if (s->hq == s->hk) {
        matmul(g, xt, y, &gradient, &in->keys, NULL, &in->queries);
        return;
    }
    tensor all = padded(g, g->next_virtual++, type, s->d, VIRTUAL);
    matmul(g, xt, y, &all, &in->keys, NULL, &in->queries);
    reduce(g, CUDNN_REDUCE_TENSOR_ADD, &all, &gradient);
}

static void backward(dnn_graph *g)
{
    const dnn_shape *s = &g->shape;
    cudnnDataType_t  type = (cudnnDataType_t)s->type;
    const int64_t    rows[4] = {s->batch, s->hq, s->longest, s->d}, row_strides[4] = {s->hq * s->longest * s->d, s->longest * s->d, s->hq * s->d, 1};
    const int64_t    row[4] = {s->batch, s->hq, s->longest, 1}, one_strides[4] = {s->hq * s->longest, s->longest, 1, 1};
    given            in = given_of(g);
    tensor vt = packed(g, DNN_V, type, s->hk, s->d, true), o = packed(g, DNN_O, type, s->hq, s->d, false), dout = packed(g, DNN_DO, type, s->hq, s->d, false);
    tensor stats = packed(g, DNN_STATS, CUDNN_DATA_FLOAT, s->hq, 1, false), delta = padded(g, DNN_DELTA, CUDNN_DATA_FLOAT, 1, REAL);
    tensor one = number(g, DNN_ONE), product = between(g, CUDNN_DATA_FLOAT, rows, row_strides), sum = between(g, CUDNN_DATA_FLOAT, row, one_strides);
    pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, -1, &dout, &o, NULL, &product);
    reduce(g, CUDNN_REDUCE_TENSOR_ADD, &product, &sum);
    pointwise(g, CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, -1, &sum, &one, NULL, &delta);
    tensor x = scores(g, &in), logs = compute(g, CUDNN_POINTWISE_SUB, &x, &stats), seen = masked(g, &in, logs);
    tensor p = compute(g, CUDNN_POINTWISE_EXP, &seen, NULL), pt = turned(g, &p);
    key_gradient(g, &in, &pt, &dout, DNN_DV);
    tensor dp = alike(g, CUDNN_DATA_FLOAT, &p);
    matmul(g, &dout, &vt, &dp, &in.queries, &in.keys, NULL);
    tensor less = compute(g, CUDNN_POINTWISE_SUB, &dp, &delta), times = compute(g, CUDNN_POINTWISE_MUL, &less, &p);
    tensor ds = compute(g, CUDNN_POINTWISE_MUL, &times, &in.scale), dst = turned(g, &ds);
    key_gradient(g, &in, &dst, &in.q, DNN_DK);
    int64_t       stride;
    const int64_t dims[4] = {in.kt.dims[0], in.kt.dims[1], in.kt.dims[3], in.kt.dims[2]};
    const int64_t strides[4] = {in.kt.strides[0], in.kt.strides[1], in.kt.strides[3], in.kt.strides[2]};
    tensor        k = tensor_make(g, g->next_virtual++, type, dims, strides, VIRTUAL, g->offsets[dnn_offset_slot(s, DNN_K, &stride)]);
    reshape(g, &in.kt, &k);
    tensor dq_sum = padded(g, DNN_DQ_SUM, CUDNN_DATA_FLOAT, s->d, REAL), dq = packed(g, DNN_DQ, type, s->hq, s->d, false);
    matmul(g, &ds, &k, &dq_sum, &in.queries, NULL, &in.keys);
    pointwise(g, CUDNN_POINTWISE_IDENTITY, CUDNN_DATA_FLOAT, -1, &dq_sum, NULL, NULL, &dq);
}

dnn_graph *dnn_graph_make(const dnn_shape *shape, cudnnHandle_t handle)
{
    dnn_graph *g = (dnn_graph *)calloc(1, sizeof *g);
    if (!g) return NULL;
    g->shape = *shape;
    g->next_virtual = 1000;
    if (shape->backward) backward(g);
    else forward(g);
    g->graph = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    put(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->operation_count, g->operations);
    if (handle) put(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    finish(g, g->graph);
    if (!g->failed) return g;
    dnn_graph_free(g);
    return NULL;
}

void dnn_graph_free(dnn_graph *graph)
{
    if (!graph) return;
    for (int i = graph->count - 1; i >= 0; i--) cudnnBackendDestroyDescriptor(graph->all[i]);
    free(graph);
}

cudnnBackendDescriptor_t dnn_graph_plan(dnn_graph *g, cudnnHandle_t handle, cudnnBackendDescriptor_t properties, int64_t *workspace)
{
    enum { MOST = 8 };
    cudnnBackendDescriptor_t heuristic = make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), configurations[MOST];
    cudnnBackendHeurMode_t   mode = CUDNN_HEUR_MODE_A;
    int64_t                  found = 0, count = 0;
    put_descriptor(g, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->graph);
    put(g, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (properties) put_descriptor(g, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties);
    finish(g, heuristic);
    for (int i = 0; i < MOST; i++) configurations[i] = make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->failed ||
        cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &found, configurations) != CUDNN_STATUS_SUCCESS)
        return NULL;
    for (int i = 0; i < found && i < MOST; i++) {
        cudnnBackendDescriptor_t plan = make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        if (g->failed) return NULL;
        if (handle) cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
        if (properties) cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
        if (cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &configurations[i]) == CUDNN_STATUS_SUCCESS &&
            cudnnBackendFinalize(plan) == CUDNN_STATUS_SUCCESS &&
            cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, workspace) == CUDNN_STATUS_SUCCESS)
            return plan;
    }
    return NULL;
}
#endif
