/* matmul_onednn.c - matmul through oneDNN: c = alpha op(a) op(b) + bias + c0, in f32, bf16 and f16.
 *
 * Three ways, chosen from types and sizes alone:
 *     direct   oneDNN has the types: f32, and bf16 where the processor multiplies it
 *     widened  16-bit operands are copied to f32 in the workspace, multiplied there, and the result is narrowed
 *     turned   c has few columns and k is long (dy^T t of a low-rank branch): oneDNN fills its registers with columns,
 * so c^T is computed into the workspace and its few rows are written out as columns A prepared product stays in the
 * node's slot; the first call of an alias pattern (c0 is c, or not) makes it. */
#include <string.h>

#include "device/cpu/product.h"
#include "device/operations.h"

enum { TURN_AT_MOST = 32, TURN_AT_MOST_AVX2 = 8, PIECES = 6 };

typedef struct plan {
    product_spec spec;
    bool widened, turned, narrowed; /* narrowed: the product goes to the workspace first */
    product_matrix a, b, c, c0;     /* as the call gives them; c0 with c0.rows > 0 */
    size_t start[PIECES];           /* bytes in the workspace where each piece begins */
    size_t bytes;
} plan;
enum { PIECE_A, PIECE_B, PIECE_BIAS, PIECE_C, PIECE_SCRATCH };

static product_matrix matrix_of(const crank_view *view, bool transposed)
{
    int last = view->rank - 1;
    product_matrix m = {
        .type = view->dtype, .batch = last == 2 ? view->dims[0] : 1, .batch_stride = last == 2 ? view->strides[0] : 0};
    m.rows = view->dims[transposed ? last : last - 1];
    m.columns = view->dims[transposed ? last - 1 : last];
    m.row_stride = transposed ? 1 : view->strides[last - 1];
    m.column_stride = transposed ? view->strides[last - 1] : 1;
    return m;
}

/* [batch, rows, columns] as one tall matrix, where the batches lie one behind the other. */
static bool stacks(const product_matrix *m)
{
    return m->batch == 1 || (m->column_stride == 1 && m->batch_stride == m->rows * m->row_stride);
}
static void stack(product_matrix *m)
{
    m->rows *= m->batch;
    m->batch = 1;
}

static product_matrix turned(product_matrix m)
{
    int64_t rows = m.rows, stride = m.row_stride;
    m.rows = m.columns;
    m.row_stride = m.column_stride;
    m.columns = rows;
    m.column_stride = stride;
    return m;
}

/* The same matrix, dense and of type f32. A transposed one stays transposed: elements keep their order in memory. */
static product_matrix dense(product_matrix m)
{
    bool transposed = m.column_stride != 1;
    m.type = CRANK_F32;
    m.row_stride = transposed ? 1 : m.columns;
    m.column_stride = transposed ? m.rows : 1;
    m.batch_stride = m.rows * m.columns;
    return m;
}

static int64_t elements(const product_matrix *m)
{
    return m->batch * m->rows * m->columns;
}

static void piece(plan *p, int which, size_t bytes)
{
    p->start[which] = p->bytes;
    p->bytes += (bytes + 63) / 64 * 64;
}

/* Scratch for the product as it starts, whichever way c0 lies. */
static bool scratch_for(plan *p, size_t *scratch)
{
    product_spec spec = p->spec;
    size_t other = 0;
    if (!product_serves(&spec, scratch)) return false;
    if (spec.start != PRODUCT_ADD) return true;
    spec.start = PRODUCT_SUM;
    if (!product_serves(&spec, &other)) return false;
    if (other > *scratch) *scratch = other;
    return true;
}

static bool make_plan(const crank_call *call, int threads, plan *p)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *c0 = &call->in[3];
    *p = (plan){.a = matrix_of(&call->in[0], attributes->trans_a),
                .b = matrix_of(&call->in[1], attributes->trans_b),
                .c = matrix_of(&call->out[0], false)};
    if (view_present(c0)) p->c0 = matrix_of(c0, false);
    if (p->a.type == CRANK_F64 || !elements(&p->a) || !elements(&p->b) || !elements(&p->c)) return false;
    if (p->b.batch == 1 && p->a.batch == p->c.batch && stacks(&p->a) && stacks(&p->c) &&
        (!p->c0.rows || (p->c0.batch == p->c.batch && stacks(&p->c0))))
        stack(&p->a), stack(&p->c), stack(&p->c0);

    p->widened = p->a.type == CRANK_F16 || (p->a.type == CRANK_BF16 && !product_has_bf16());
    product_matrix a = p->widened ? dense(p->a) : p->a, b = p->widened ? dense(p->b) : p->b;
    int64_t most = product_has_avx512() ? TURN_AT_MOST : TURN_AT_MOST_AVX2;
    p->turned = p->c.batch == 1 && a.column_stride != 1 && p->c.columns <= most && p->c.rows >= 2 * p->c.columns;
    p->narrowed = p->turned || (p->widened && p->c.type != CRANK_F32);
    p->spec = (product_spec){.a = a,
                             .b = b,
                             .c = p->narrowed ? dense(p->c) : p->c,
                             .c0 = p->c0,
                             .bias = view_present(&call->in[2]),
                             .alpha = attributes->alpha,
                             .threads = threads,
                             .lanes = 1};
    if (p->turned) {
        p->spec.a = turned(b);
        p->spec.b = turned(a);
        p->spec.c = (product_matrix){.type = CRANK_F32,
                                     .batch = 1,
                                     .rows = p->c.columns,
                                     .columns = p->c.rows,
                                     .row_stride = p->c.rows,
                                     .column_stride = 1};
        p->spec.bias = false; /* it and c0 are added on the way back */
    } else if (p->c0.rows)
        p->spec.start = p->narrowed ? PRODUCT_SUM : PRODUCT_ADD;

    size_t scratch = 0;
    if (!scratch_for(p, &scratch)) {
        if (p->spec.start != PRODUCT_ADD) return false;
        p->spec.start = PRODUCT_SUM; /* c0 in a form that oneDNN does not add: it is copied into c first */
        if (!scratch_for(p, &scratch)) return false;
    }
    piece(p, PIECE_A, p->widened ? (size_t)elements(&a) * sizeof(float) : 0);
    piece(p, PIECE_B, p->widened ? (size_t)elements(&b) * sizeof(float) : 0);
    piece(p, PIECE_BIAS, p->narrowed ? (size_t)p->c.columns * sizeof(float) : 0);
    piece(p, PIECE_C, p->narrowed ? (size_t)elements(&p->c) * sizeof(float) : 0);
    piece(p, PIECE_SCRATCH, scratch);
    return true;
}

static size_t type_bytes(crank_dtype type)
{
    return type == CRANK_F32 ? 4 : 2;
}
static char *row_at(void *data, const product_matrix *m, int64_t row)
{
    int64_t offset = (m->batch > 1 ? row / m->rows * m->batch_stride : 0) + row % m->rows * m->row_stride;
    return (char *)data + offset * (int64_t)type_bytes(m->type);
}

/* to = from, row by row: equal types, to f32, or from f32. A single matrix may stand for every one of a batch. */
static void copy_matrix(void *to, const product_matrix *tm, const void *from, const product_matrix *fm, int threads)
{
    int64_t rows = tm->batch * tm->rows, n = tm->columns;
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * n > 20000)
    for (int64_t r = 0; r < rows; r++) {
        char *t = row_at(to, tm, r);
        const char *f = row_at((void *)(uintptr_t)from, fm, r);
        if (tm->type == fm->type)
            memcpy(t, f, (size_t)n * type_bytes(tm->type));
        else
            crank_convert(t, tm->type, f, fm->type, (size_t)n);
    }
}

/* A possibly transposed operand to its dense f32 copy. */
static void widen_operand(float *to, const void *from, product_matrix m, int threads)
{
    if (m.column_stride != 1) m = turned(m);
    product_matrix d = dense(m);
    copy_matrix(to, &d, from, &m, threads);
}

/* c [m, n] = (ct [n, m])^T + bias + c0 */
static void turn_back(const crank_call *call, const plan *p, const float *ct, const float *bias, int threads)
{
    const product_matrix *c = &p->c;
    int64_t m = c->rows, n = c->columns;
    const bool add = p->c0.rows > 0;
#pragma omp parallel for num_threads(threads) schedule(static) if (m * n > 20000)
    for (int64_t i = 0; i < m; i++) {
        float row[TURN_AT_MOST], before[TURN_AT_MOST];
        char *to = row_at(call->out[0].data, c, i);
        float *values = c->type == CRANK_F32 ? (float *)to : row;
        const float *added = before;
        if (add) {
            const char *from = row_at(call->in[3].data, &p->c0, i);
            if (c->type == CRANK_F32)
                added = (const float *)from;
            else
                crank_convert(before, CRANK_F32, from, c->type, (size_t)n);
        }
        for (int64_t j = 0; j < n; j++) values[j] = ct[j * m + i] + (bias ? bias[j] : 0) + (add ? added[j] : 0);
        if (c->type != CRANK_F32) crank_convert(to, c->type, row, CRANK_F32, (size_t)n);
    }
}

/* What a node keeps. */
typedef struct prepared {
    plan plan;
    product *as[PRODUCT_ADD + 1]; /* by how the product starts */
} prepared;

static void free_prepared(void *memory)
{
    prepared *ready = memory;
    for (int i = 0; i <= PRODUCT_ADD; i++) product_free(ready->as[i]);
    crank_free(ready);
}

static crank_status multiply(crank_context *context, const crank_call *call, prepared *ready)
{
    const plan *p = &ready->plan;
    int threads = p->spec.threads;
    char *work = call->workspace;
    const crank_view *c0 = &call->in[3], *c = &call->out[0];
    const void *a = call->in[0].data, *b = call->in[1].data,
               *bias = p->spec.bias || p->turned ? call->in[2].data : NULL;
    float *wide_c = (float *)(void *)(work + p->start[PIECE_C]),
          *wide_bias = (float *)(void *)(work + p->start[PIECE_BIAS]);
    product_spec spec = p->spec;
    bool same = p->c0.rows && c0->data == c->data && p->c0.row_stride == p->c.row_stride && p->c0.batch == p->c.batch;
    if (!view_present(&call->in[2])) bias = NULL;
    if (spec.start == PRODUCT_ADD && same) spec.start = PRODUCT_SUM;
    product **slot = &ready->as[spec.start];
    if (!*slot) *slot = product_new(context, &spec);
    if (!*slot) return CRANK_FAILED;

    if (p->widened) {
        widen_operand((float *)(void *)(work + p->start[PIECE_A]), a, p->a, threads);
        widen_operand((float *)(void *)(work + p->start[PIECE_B]), b, p->b, threads);
        a = work + p->start[PIECE_A];
        b = work + p->start[PIECE_B];
    }
    if (p->narrowed && bias) {
        crank_convert(wide_bias, CRANK_F32, bias, p->c.type, (size_t)p->c.columns);
        bias = wide_bias;
    }
    void *to = p->narrowed ? wide_c : c->data;
    if (spec.start == PRODUCT_SUM && !(same && !p->narrowed)) copy_matrix(to, &spec.c, c0->data, &p->c0, threads);
    const void *first = p->turned ? b : a, *second = p->turned ? a : b;
    if (!product_run(*slot, 0, first, second, p->turned ? NULL : bias, c0->data, to, work + p->start[PIECE_SCRATCH]))
        return crank_fail(context, CRANK_FAILED, "oneDNN failed in a product that it had prepared");
    if (p->turned)
        turn_back(call, p, wide_c, bias, threads);
    else if (p->narrowed)
        copy_matrix(c->data, &p->c, wide_c, &spec.c, threads);
    return CRANK_OK;
}

static crank_status run(crank_context *context, const crank_call *call)
{
    prepared *ready = call->slot ? *call->slot : NULL;
    if (!ready) {
        ready = crank_alloc(context, 1, sizeof *ready, "a matrix product");
        if (!ready) return CRANK_FAILED;
        if (!make_plan(call, cpu_threads(call), &ready->plan)) {
            crank_free(ready);
            return crank_fail(context, CRANK_FAILED, "oneDNN refused a product that it had offered to do");
        }
        if (call->slot) {
            *call->slot = ready;
            *call->slot_free = free_prepared;
        }
    }
    crank_status status = multiply(context, call, ready);
    if (!call->slot) free_prepared(ready);
    return status;
}

bool matmul_onednn_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    plan p;
    if (strcmp(operation, "matmul") != 0 || !make_plan(call, threads, &p)) return false;
    const char *name = p.widened  ? p.turned ? "onednn widened turned" : "onednn widened"
                       : p.turned ? "onednn turned"
                                  : "onednn";
    *body = (crank_body){.name = name, .run = run, .workspace = p.bytes};
    return true;
}
