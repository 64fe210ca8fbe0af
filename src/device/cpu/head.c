/* head.c - head_logprob, head_logprob_backward and head_cross_entropy over chunks of rows.
 *
 * The three differ in the factor of a row (with L = onehot - softmax = d logp / d z):
 *     cross-entropy     numerator = -sum w_i logp_i:  d/dz = w_i (softmax - onehot), factor  w_i
 *     unit of logprob   d logp / d z:                                                factor -1
 *     backward          dlogp_i d logp / d z:                                        factor -dlogp_i
 */
#include "device/cpu/head.h"

#include <stdlib.h>
#include <string.h>

#include "device/cpu/product.h"
#include "device/operations.h"

typedef enum head_kind { HEAD_LOGPROB, HEAD_BACKWARD, HEAD_CROSS_ENTROPY } head_kind;

/* Bytes that a chunk of logits may take. With a trained W, each chunk also reads and writes all of dW, so chunks are larger. */
enum { CHUNK_BYTES = 8 << 20, CHUNK_BYTES_TRAINED = 32 << 20, LEAST_ROWS = 16, MOST_ROWS = 1024 };

typedef struct plan {
    head_kind         kind;
    const crank_view *x, *w, *bias, *targets, *weights; /* weights: of cross-entropy, or dlogp */
    crank_view       *dx, *dw, *dbias, *logp, *lse, *numerator; /* NULL: not asked for */
    int64_t           n, d, vocab, rows; /* rows of a chunk */
    bool              bf16, skip;        /* skip: rows without a target are left out */
    product_spec      logits, back, weight;
    size_t            z, xk, dxk, list, bias32, per_row, scratch, bytes; /* places in the workspace */
} plan;

static crank_view *wanted(const crank_call *call, int i)
{
    return i < call->outputs && view_present(&call->out[i]) ? (crank_view *)&call->out[i] : NULL;
}
static const crank_view *given(const crank_call *call, int i) { return i < call->inputs && view_present(&call->in[i]) ? &call->in[i] : NULL; }

/* Which operand stands where. */
static bool read_operands(const char *operation, const crank_call *call, plan *p)
{
    memset(p, 0, sizeof *p);
    if (!strcmp(operation, "head_cross_entropy")) {
        p->kind = HEAD_CROSS_ENTROPY;
        p->x = given(call, 0), p->w = given(call, 1), p->bias = given(call, 2), p->targets = given(call, 3), p->weights = given(call, 4);
        p->numerator = wanted(call, 0), p->logp = wanted(call, 1), p->dx = wanted(call, 2), p->dw = wanted(call, 3), p->dbias = wanted(call, 4);
    } else if (!strcmp(operation, "head_logprob")) {
        p->kind = HEAD_LOGPROB;
        p->x = given(call, 0), p->w = given(call, 1), p->bias = given(call, 2), p->targets = given(call, 3);
        p->logp = wanted(call, 0), p->lse = wanted(call, 1), p->dx = wanted(call, 2);
    } else if (!strcmp(operation, "head_logprob_backward")) {
        p->kind = HEAD_BACKWARD;
        p->weights = given(call, 0), p->x = given(call, 1), p->w = given(call, 2), p->bias = given(call, 3), p->targets = given(call, 4);
        p->dx = wanted(call, 0), p->dw = wanted(call, 1), p->dbias = wanted(call, 2);
    } else {
        return false;
    }
    return p->x && p->w && p->targets;
}

static bool dense_rows(const crank_view *v) { return v->strides[1] == 1 && v->strides[0] == v->dims[1]; }

static product_matrix matrix(crank_dtype type, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride)
{
    return (product_matrix){.type = type, .batch = 1, .rows = rows, .columns = columns, .row_stride = row_stride, .column_stride = column_stride};
}

static size_t place(plan *p, size_t bytes)
{
    size_t at = p->bytes;
    p->bytes += (bytes + 63) & ~(size_t)63;
    return at;
}

static bool make_plan(const char *operation, const crank_call *call, int threads, plan *p)
{
    if (!read_operands(operation, call, p)) return false;
    crank_dtype type = p->x->dtype;
    p->bf16 = type == CRANK_BF16;
    if ((type != CRANK_F32 && !p->bf16) || p->w->dtype != type || (p->bf16 && !product_has_bf16())) return false;
    if (!dense_rows(p->w) || p->x->strides[1] != 1) return false;
    if ((p->dw && (p->dw->dtype != CRANK_F32 || !dense_rows(p->dw))) || (p->dx && (p->dx->dtype != type || !dense_rows(p->dx)))) return false;
    if (p->dbias && p->dbias->dtype != CRANK_F32) return false;
    if (p->bias && p->bias->strides[0] != 1) return false;
    p->n = p->x->dims[0], p->d = p->x->dims[1], p->vocab = p->w->dims[0];
    if (p->n < 1 || p->d < 1 || p->vocab < 1) return false;
    p->skip = p->kind != HEAD_LOGPROB;
    int64_t chunk = call->attributes ? ((const crank_head_attributes *)call->attributes)->chunk : 0;
    int64_t rows = chunk > 0 ? chunk : (int64_t)((p->dw ? CHUNK_BYTES_TRAINED : CHUNK_BYTES) / (4 * p->vocab));
    if (chunk <= 0) rows = rows < LEAST_ROWS ? LEAST_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows / 16 * 16;
    p->rows = rows < p->n ? rows : p->n;

    size_t         scratch = 0, need = 0, element = p->bf16 ? 2 : 4;
    product_matrix x = matrix(type, p->rows, p->d, p->d, 1), z = matrix(CRANK_F32, p->rows, p->vocab, p->vocab, 1);
    product_matrix dz = matrix(type, p->rows, p->vocab, p->bf16 ? 2 * p->vocab : p->vocab, 1);
    p->logits = (product_spec){.a = x, .b = matrix(type, p->d, p->vocab, 1, p->d), .c = z, .bias = p->bias != NULL, .alpha = 1, .threads = threads, .lanes = 1};
    if (!product_serves(&p->logits, &scratch)) return false;
    p->back = (product_spec){.a = dz, .b = matrix(type, p->vocab, p->d, p->d, 1), .c = x, .alpha = 1, .threads = threads, .lanes = 1};
    if (p->dx && !product_serves(&p->back, &need)) return false;
    scratch = need > scratch ? need : scratch;
    p->weight = (product_spec){.a = matrix(type, p->vocab, p->rows, 1, dz.row_stride), .b = x, .c = matrix(CRANK_F32, p->vocab, p->d, p->d, 1),
                               .start = PRODUCT_SUM, .alpha = 1, .threads = threads, .lanes = 1};
    if (p->dw && !product_serves(&p->weight, &need)) return false;
    scratch = need > scratch ? need : scratch;

    p->z = place(p, (size_t)(p->rows * p->vocab) * 4);
    p->xk = place(p, (size_t)(p->rows * p->d) * element);
    p->dxk = place(p, (size_t)(p->rows * p->d) * element);
    p->list = place(p, (size_t)p->rows * 8);
    p->per_row = place(p, (size_t)p->rows * 8);
    p->bias32 = place(p, p->bias && p->bf16 ? (size_t)p->vocab * 4 : 0);
    p->scratch = place(p, scratch);
    return true;
}

bool head_find(const char *operation, const crank_call *call, int threads, crank_kernel *run, const char *level, crank_body *body)
{
    plan p;
    if (strncmp(operation, "head_", 5) || !make_plan(operation, call, threads, &p)) return false;
    *body = (crank_body){level, run, p.bytes};
    return true;
}

/* ---- running ---- */

typedef struct prepared {
    product *logits, *back, *weight;
} prepared;

static void free_prepared(void *slot)
{
    prepared *r = slot;
    product_free(r->logits), product_free(r->back), product_free(r->weight);
    free(r);
}

static prepared *prepare(crank_context *context, const plan *p)
{
    prepared *r = calloc(1, sizeof *r);
    if (!r) {
        crank_fail(context, CRANK_FAILED, "out of memory: preparing a head");
        return NULL;
    }
    bool good = (r->logits = product_new(context, &p->logits)) != NULL;
    if (good && p->dx) good = (r->back = product_new(context, &p->back)) != NULL;
    if (good && p->dw) good = (r->weight = product_new(context, &p->weight)) != NULL;
    if (good) return r;
    free_prepared(r);
    return NULL;
}

typedef struct chunk {
    const plan *p;
    char       *work;
    int64_t    *list; /* rows of x in this chunk */
    float      *logp, *lse;
    int64_t     count;
    const void *x;    /* [rows, d] dense */
    bool        direct; /* the chunk is whole and its rows follow each other in x and dx */
} chunk;

static int32_t target_of(const plan *p, int64_t row)
{
    int32_t target = ((const int32_t *)p->targets->data)[row * p->targets->strides[0]];
    return target >= 0 && target < p->vocab ? target : -1;
}

static float factor_of(const plan *p, int64_t row)
{
    if (p->kind == HEAD_LOGPROB) return -1;
    float weight = ((const float *)p->weights->data)[row * p->weights->strides[0]];
    return p->kind == HEAD_BACKWARD ? -weight : weight;
}

/* Fills the list from row `next` on; returns the row behind the last one looked at. */
static int64_t choose_rows(chunk *c, int64_t next)
{
    const plan *p = c->p;
    c->count = 0;
    for (; next < p->n && c->count < p->rows; next++)
        if (!p->skip || target_of(p, next) >= 0) c->list[c->count++] = next;
    return next;
}

static void gather_rows(chunk *c)
{
    const plan *p = c->p;
    size_t      bytes = (size_t)p->d * (p->bf16 ? 2 : 4), stride = (size_t)p->x->strides[0] * (p->bf16 ? 2 : 4);
    const char *x = p->x->data;
    bool        follow = c->count == p->rows && c->list[c->count - 1] - c->list[0] == c->count - 1;
    c->direct = follow && stride == bytes;
    c->x = x + (size_t)c->list[0] * stride;
    if (c->direct) return;
    char *to = c->work + p->xk;
    for (int64_t i = 0; i < p->rows; i++) {
        if (i < c->count) memcpy(to + (size_t)i * bytes, x + (size_t)c->list[i] * stride, bytes);
        else memset(to + (size_t)i * bytes, 0, bytes);
    }
    c->x = to;
}

static void run_rows(const chunk *c, head_row *row, int threads)
{
    const plan *p = c->p;
    float      *z = (float *)(void *)(c->work + p->z);
    bool        gradient = p->dx || p->dw || p->dbias;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < p->rows; i++) {
        float *mine = z + i * p->vocab;
        if (i < c->count)
            row(mine, p->vocab, target_of(p, c->list[i]), gradient ? factor_of(p, c->list[i]) : 0, gradient ? mine : NULL, p->bf16, &c->logp[i], &c->lse[i]);
        else if (gradient)
            memset(mine, 0, (size_t)p->vocab * (p->bf16 ? 2 : 4));
    }
}

static void put_scalar(const crank_view *view, int64_t row, float value)
{
    if (view) ((float *)view->data)[row * view->strides[0]] = value;
}

/* dx of the chunk's rows; rows that were left out are zero already. */
static bool run_back(const chunk *c, prepared *ready)
{
    const plan *p = c->p;
    size_t      bytes = (size_t)p->d * (p->bf16 ? 2 : 4);
    char       *dx = p->dx->data, *to = c->direct ? dx + (size_t)c->list[0] * bytes : c->work + p->dxk;
    if (!product_run(ready->back, 0, c->work + p->z, p->w->data, NULL, NULL, to, c->work + p->scratch)) return false;
    for (int64_t i = 0; !c->direct && i < c->count; i++) memcpy(dx + (size_t)c->list[i] * bytes, to + (size_t)i * bytes, bytes);
    return true;
}

static void add_bias_gradient(const chunk *c, int threads)
{
    const plan *p = c->p;
    float      *out = p->dbias->data;
    const char *z = c->work + p->z;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t v = 0; v < p->vocab; v++) {
        float sum = 0;
        for (int64_t i = 0; i < c->count; i++)
            sum += p->bf16 ? crank_from_bf16(((const uint16_t *)(const void *)(z + (size_t)(i * p->vocab) * 4))[v]) : ((const float *)(const void *)z)[i * p->vocab + v];
        out[v] += sum;
    }
}

static const void *bias_of(const plan *p, char *work)
{
    if (!p->bias || !p->bf16) return p->bias ? p->bias->data : NULL;
    crank_convert(work + p->bias32, CRANK_F32, p->bias->data, CRANK_BF16, (size_t)p->vocab);
    return work + p->bias32;
}

static bool run_chunks(const plan *p, char *work, prepared *ready, head_row *row, int threads)
{
    chunk       c = {.p = p, .work = work, .list = (int64_t *)(void *)(work + p->list), .logp = (float *)(void *)(work + p->per_row)};
    const void *bias = bias_of(p, work);
    double      numerator = 0;
    c.lse = c.logp + p->rows;
    if (p->dx) memset(p->dx->data, 0, (size_t)(p->n * p->d) * (p->bf16 ? 2 : 4));
    if (p->dw) memset(p->dw->data, 0, (size_t)(p->vocab * p->d) * 4);
    if (p->dbias) memset(p->dbias->data, 0, (size_t)p->vocab * 4);
    for (int64_t i = 0; i < p->n; i++) put_scalar(p->logp, i, 0), put_scalar(p->lse, i, 0);
    for (int64_t next = 0; next < p->n;) {
        next = choose_rows(&c, next);
        if (!c.count) break;
        gather_rows(&c);
        if (!product_run(ready->logits, 0, c.x, p->w->data, bias, NULL, work + p->z, work + p->scratch)) return false;
        run_rows(&c, row, threads);
        for (int64_t i = 0; i < c.count; i++) {
            put_scalar(p->logp, c.list[i], c.logp[i]);
            put_scalar(p->lse, c.list[i], c.lse[i]);
            if (p->kind == HEAD_CROSS_ENTROPY) numerator -= (double)factor_of(p, c.list[i]) * (double)c.logp[i];
        }
        if (p->dx && !run_back(&c, ready)) return false;
        if (p->dw && !product_run(ready->weight, 0, work + p->z, c.x, NULL, p->dw->data, p->dw->data, work + p->scratch)) return false;
        if (p->dbias) add_bias_gradient(&c, threads);
    }
    if (p->numerator) *(float *)p->numerator->data = (float)numerator;
    return true;
}

crank_status head_run(crank_context *context, const crank_call *call, head_row *row)
{
    static const char *const operations[] = {"head_logprob", "head_logprob_backward", "head_cross_entropy"};
    int  which = call->inputs == 5 ? 2 : call->inputs == 6 ? 1 : 0; /* their numbers of operands differ */
    plan p;
    if (!make_plan(operations[which], call, cpu_threads(call), &p)) return crank_fail(context, CRANK_FAILED, "the head's operands changed since it was planned");
    prepared *ready = call->slot ? *call->slot : NULL;
    if (!ready) {
        if (!(ready = prepare(context, &p))) return CRANK_FAILED;
        if (call->slot) {
            *call->slot = ready;
            *call->slot_free = free_prepared;
        }
    }
    bool good = run_chunks(&p, call->workspace, ready, row, cpu_threads(call));
    if (!call->slot) free_prepared(ready);
    return good ? CRANK_OK : crank_fail(context, CRANK_FAILED, "oneDNN refused a product of the vocabulary head");
}
