/* head_run.c - the chunks of the vocabulary head: see head.h. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "device/cpu/head_plan.h"

static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

/* What a node keeps: the plan and the products made so far. */
typedef struct prepared {
    head_plan plan;
    product *products[HEAD_SIZES][2][HEAD_PRODUCTS];
} prepared;

/* One call. */
typedef struct head_state {
    const head_plan *p;
    const head_kernels *kernels;
    prepared *ready;
    char *work;
    int64_t *list; /* rows of x that take part */
    int64_t kept;
    float *bias, *dbias, *dw; /* f32 [V], [V], [V, d] at dw_row */
    int64_t dw_row;
} head_state;

/* One chunk: rows list[first] .. list[first + count - 1]. */
typedef struct head_chunk {
    int64_t first, count, rows; /* rows: of its products */
    int size;
    bool fresh; /* dW has no sum yet */
} head_chunk;

static float *floats(const head_state *s, size_t at)
{
    return (float *)(void *)(s->work + at);
}
static char *mine(const head_state *s, int thread, size_t in)
{
    return s->work + s->p->thread + (size_t)thread * s->p->thread_bytes + in;
}
static float *my_floats(const head_state *s, int thread, size_t in)
{
    return (float *)(void *)mine(s, thread, in);
}
static size_t size_of(crank_dtype type)
{
    return type == CRANK_F32 ? 4 : 2;
}
static char *row_of(const crank_view *view, int64_t i)
{
    return (char *)view->data + (size_t)(i * view->strides[0]) * size_of(view->dtype);
}

/* The target of row i, -1 when it has none. */
static int32_t target_of(const head_plan *p, int64_t i)
{
    int32_t target = ((const int32_t *)p->targets->data)[i * p->targets->strides[0]];
    return target >= 0 && target < p->vocabulary ? target : -1;
}

static float factor_of(const head_plan *p, int64_t i)
{
    if (p->kind == HEAD_LOGPROB) return -1;
    float factor = ((const float *)p->factors->data)[i * p->factors->strides[0]];
    return p->kind == HEAD_BACKWARD ? -factor : factor;
}

/* Rows that have something to give: all of head_logprob, those with a target of the cross-entropy, and of the reverse
 * those whose gradient is not zero besides. */
static int64_t choose_rows(const head_plan *p, int64_t *list)
{
    int64_t count = 0;
    for (int64_t i = 0; i < p->n; i++) {
        bool takes_part =
            p->kind == HEAD_LOGPROB || (target_of(p, i) >= 0 && (p->kind != HEAD_BACKWARD || factor_of(p, i) != 0));
        if (takes_part)
            list[count++] = i;
        else {
            if (p->logp) ((float *)p->logp->data)[i * p->logp->strides[0]] = 0;
            if (p->dx) memset(row_of(p->dx, i), 0, (size_t)p->d * size_of(p->type));
        }
    }
    return count;
}

static head_chunk chunk_at(const head_state *s, int64_t first)
{
    const head_plan *p = s->p;
    head_chunk c = {.first = first, .count = s->kept - first, .fresh = first == 0};
    if (c.count > p->rows[0]) c.count = p->rows[0];
    while (c.size + 1 < p->sizes && p->rows[c.size + 1] >= c.count) c.size++;
    c.rows = p->rows[c.size];
    return c;
}

/* ---- steps of a chunk; each is called by all threads ---- */

static void gather(const head_state *s, const head_chunk *c)
{
    const head_plan *p = s->p;
    size_t row = (size_t)p->d * size_of(p->work);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < c->rows; i++) {
        char *to = s->work + p->at_x + (size_t)i * row;
        if (i >= c->count) {
            memset(to, 0, row);
            if (p->dw && !p->stored) memset(s->work + p->at_scaled + (size_t)i * row, 0, row);
            floats(s, p->at_lse)[i] = floats(s, p->at_factor)[i] = 0;
            ((int32_t *)(void *)(s->work + p->at_target))[i] = -1;
            continue;
        }
        int64_t at = s->list[c->first + i];
        float factor = factor_of(p, at);
        if (p->work == p->type)
            memcpy(to, row_of(p->x, at), row);
        else
            s->kernels->scale_row(to, p->work, row_of(p->x, at), p->type, 1, p->d);
        ((int32_t *)(void *)(s->work + p->at_target))[i] = target_of(p, at);
        floats(s, p->at_factor)[i] = factor;
        if (p->lse_in) floats(s, p->at_lse)[i] = ((const float *)p->lse_in->data)[at * p->lse_in->strides[0]] * LOG2_E;
        if (p->dw && !p->stored)
            s->kernels->scale_row(s->work + p->at_scaled + (size_t)i * row, p->work, to, p->work, factor, p->d);
    }
}

typedef struct head_place {
    int thread;
    int64_t block, first, columns; /* vocabulary entries first .. first + columns - 1 */
    bool last;
} head_place;

static bool multiply(const head_state *s, const head_chunk *c, const head_place *at, head_product kind, const void *a,
                     const void *b, void *to)
{
    product *product_of = s->ready->products[c->size][at->last][kind];
    return product_run(product_of, at->thread, a, b, NULL, NULL, to, mine(s, at->thread, s->p->in_scratch));
}

/* Rows of W of a block, in the type of the products. */
static const void *block_weights(const head_state *s, const head_place *at)
{
    const head_plan *p = s->p;
    if (!p->widened) return row_of(p->w, at->first);
    float *to = my_floats(s, at->thread, p->in_w);
    for (int64_t v = 0; v < at->columns; v++)
        s->kernels->scale_row(to + v * p->d, CRANK_F32, row_of(p->w, at->first + v), p->type, 1, p->d);
    return to;
}

/* dW and dbias of a block from e and rows x scaled by f_i 2^(m - lse). */
static bool block_gradients(const head_state *s, const head_chunk *c, const head_place *at, const void *e,
                            const void *scaled, const float *scale)
{
    const head_plan *p = s->p;
    const int32_t *targets = (const int32_t *)(const void *)(s->work + p->at_target);
    const float *factors = floats(s, p->at_factor);
    size_t size = size_of(p->work);
    if (p->dw) {
        float *dw = s->dw + at->first * s->dw_row;
        if (!multiply(s, c, at, c->fresh ? HEAD_WEIGHT_SET : HEAD_WEIGHT_ADD, e, scaled, dw)) return false;
        for (int64_t i = 0; i < c->count; i++)
            if (targets[i] >= at->first && targets[i] < at->first + at->columns)
                s->kernels->add_row(s->dw + targets[i] * s->dw_row, 1, s->work + p->at_x + (size_t)(i * p->d) * size,
                                    p->work, -factors[i], p->d);
    }
    if (p->dbias) {
        float *dbias = s->dbias + at->first;
        if (c->fresh) memset(dbias, 0, (size_t)at->columns * sizeof *dbias);
        for (int64_t i = 0; i < c->count; i++) {
            s->kernels->add_row(dbias, 1, (const char *)e + (size_t)(i * p->columns) * size, p->work, scale[i],
                                at->columns);
            if (targets[i] >= at->first && targets[i] < at->first + at->columns) s->dbias[targets[i]] -= factors[i];
        }
    }
    return true;
}

/* Logits of a block, their exponentials, and what can be had from them at once. */
static bool block_forward(const head_state *s, const head_chunk *c, const head_place *at)
{
    const head_plan *p = s->p;
    const void *w = block_weights(s, at), *x = s->work + p->at_x;
    float *z = my_floats(s, at->thread, p->in_z), *u = my_floats(s, at->thread, p->in_u), *logp = floats(s, p->at_logp);
    void *e = p->work == CRANK_BF16 ? mine(s, at->thread, p->in_e) : (char *)z;
    const int32_t *targets = (const int32_t *)(const void *)(s->work + p->at_target);
    size_t stored = (size_t)(at->block * p->rows[0] * p->columns) * size_of(p->work);
    if (p->stored) {
        e = s->work + p->at_e + stored;
        if (p->work == CRANK_F32) z = e;
    }
    if (!multiply(s, c, at, HEAD_LOGITS, x, w, z)) return false;
    head_block b = {.z = z,
                    .rows = c->rows,
                    .columns = at->columns,
                    .stride = p->columns,
                    .bias = s->bias ? s->bias + at->first : NULL,
                    .e = p->dx || p->stored || p->dw || p->dbias ? e : NULL,
                    .e_type = p->work,
                    .max = my_floats(s, at->thread, p->in_max),
                    .sum = my_floats(s, at->thread, p->in_sum),
                    .keep = my_floats(s, at->thread, p->in_keep)};
    if (p->kind == HEAD_BACKWARD)
        b.fixed = floats(s, p->at_lse);
    else
        for (int64_t i = 0; i < c->count; i++) { /* the logit of the target, until lse is known */
            int64_t v = targets[i] - at->first;
            if (v >= 0 && v < at->columns) logp[c->first + i] = z[i * p->columns + v] + (b.bias ? b.bias[v] : 0);
        }
    bool shrinks = s->kernels->soften(&b);
    if (p->stored) memcpy(floats(s, p->at_max) + at->block * p->rows[0], b.max, (size_t)c->rows * sizeof(float));
    if (p->dx) {
        for (int64_t i = 0; i < c->count && shrinks; i++)
            if (b.keep[i] != 1) s->kernels->add_row(u + i * p->d, b.keep[i], NULL, CRANK_F32, 0, p->d);
        if (!multiply(s, c, at, HEAD_UNIT, e, w, u)) return false;
    }
    if (p->stored || !(p->dw || p->dbias)) return true;
    return block_gradients(s, c, at, e, s->work + p->at_scaled, floats(s, p->at_factor));
}

/* dW and dbias of a block of which e was kept. */
static bool block_reverse(const head_state *s, const head_chunk *c, const head_place *at)
{
    const head_plan *p = s->p;
    size_t row = (size_t)p->d * size_of(p->work);
    const float *max = floats(s, p->at_max) + at->block * p->rows[0], *lse = floats(s, p->at_lse),
                *factors = floats(s, p->at_factor);
    char *scaled = mine(s, at->thread, p->in_scaled);
    float *scale = my_floats(s, at->thread, p->in_keep);
    const char *e = s->work + p->at_e + (size_t)(at->block * p->rows[0] * p->columns) * size_of(p->work);
    for (int64_t i = 0; i < c->rows; i++) {
        scale[i] = i < c->count ? factors[i] * exp2f(max[i] - lse[i]) : 0;
        if (p->dw)
            s->kernels->scale_row(scaled + (size_t)i * row, p->work, s->work + p->at_x + (size_t)i * row, p->work,
                                  scale[i], p->d);
    }
    return block_gradients(s, c, at, e, scaled, scale);
}

typedef bool head_step(const head_state *s, const head_chunk *c, const head_place *at);

/* This thread's blocks. */
static bool each_block(const head_state *s, const head_chunk *c, head_step *step)
{
    const head_plan *p = s->p;
    int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    int64_t end = p->blocks * (thread + 1) / threads;
    for (int64_t block = p->blocks * thread / threads; block < end; block++) {
        head_place at = {.thread = thread,
                         .block = block,
                         .first = block * p->columns,
                         .columns = p->columns,
                         .last = block == p->blocks - 1};
        if (at.last) at.columns = p->vocabulary - at.first;
        if (!step(s, c, &at)) return false;
    }
    return true;
}

/* The parts of all threads together: lse and logp of a row, and its dx. */
static void merge_row(const head_state *s, const head_chunk *c, int64_t i, int threads)
{
    const head_plan *p = s->p;
    int64_t at = s->list[c->first + i];
    int32_t target = ((const int32_t *)(const void *)(s->work + p->at_target))[i];
    float max = -INFINITY, sum = 0, *logp = floats(s, p->at_logp) + c->first + i, *lse = floats(s, p->at_lse) + i;
    bool known = p->kind == HEAD_BACKWARD;
    for (int t = 0; t < threads && !known; t++) max = fmaxf(max, my_floats(s, t, p->in_max)[i]);
    for (int t = 0; t < threads && !known; t++)
        sum += my_floats(s, t, p->in_sum)[i] * exp2f(my_floats(s, t, p->in_max)[i] - max);
    if (!known) {
        *lse = max + log2f(sum);
        float natural = max * LN_2 + logf(sum);
        *logp = target >= 0 ? *logp - natural : 0;
        if (p->lse) ((float *)p->lse->data)[at * p->lse->strides[0]] = natural;
        ((float *)p->logp->data)[at * p->logp->strides[0]] = *logp;
    }
    if (!p->dx) return;
    if (target < 0) {
        memset(row_of(p->dx, at), 0, (size_t)p->d * size_of(p->type));
        return;
    }
    float *u = my_floats(s, 0, p->in_u) + i * p->d, factor = floats(s, p->at_factor)[i];
    for (int t = 0; t < threads; t++) {
        float share = known ? 1 : exp2f(my_floats(s, t, p->in_max)[i] - max) / sum;
        if (t == 0)
            s->kernels->add_row(u, share, NULL, CRANK_F32, 0, p->d);
        else
            s->kernels->add_row(u, 1, my_floats(s, t, p->in_u) + i * p->d, CRANK_F32, share, p->d);
    }
    s->kernels->add_row(u, 1, row_of(p->w, target), p->type, -1, p->d);
    s->kernels->scale_row(row_of(p->dx, at), p->type, u, CRANK_F32, factor, p->d);
}

/* One chunk, by all threads of the team. Every thread passes every barrier whatever fails. */
static bool run_chunk(const head_state *s, const head_chunk *c)
{
    const head_plan *p = s->p;
    int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    bool good = true;
    gather(s, c);
    for (int64_t i = 0; i < c->rows; i++) {
        my_floats(s, thread, p->in_max)[i] = -INFINITY;
        my_floats(s, thread, p->in_sum)[i] = 0;
    }
    if (p->dx) memset(my_floats(s, thread, p->in_u), 0, (size_t)(c->rows * p->d) * sizeof(float));
    good = each_block(s, c, block_forward);
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t i = 0; i < c->count; i++) merge_row(s, c, i, threads);
    if (p->stored) {
        good &= each_block(s, c, block_reverse);
#pragma omp barrier
    }
    return good;
}

/* ---- the whole call ---- */

static void free_prepared(void *memory)
{
    prepared *ready = memory;
    for (int size = 0; size < HEAD_SIZES; size++)
        for (int last = 0; last < 2; last++)
            for (int kind = 0; kind < HEAD_PRODUCTS; kind++) product_free(ready->products[size][last][kind]);
    crank_free(ready);
}

/* The products that chunks of this size need. */
static bool prepare_size(crank_context *context, prepared *ready, int size)
{
    const head_plan *p = &ready->plan;
    for (int last = 0; last < 2; last++)
        for (int kind = 0; kind < HEAD_PRODUCTS; kind++) {
            product **place = &ready->products[size][last][kind];
            if (*place || (kind == HEAD_UNIT ? !p->dx : kind != HEAD_LOGITS && !p->dw)) continue;
            product_spec spec = head_product_spec(p, (head_product)kind, size, last);
            *place = product_new(context, &spec);
            if (!*place) return false;
        }
    return true;
}

static bool run_chunks(crank_context *context, head_state *s)
{
    const head_plan *p = s->p;
    int failed = 0;
    for (int64_t first = 0; first < s->kept;) {
        head_chunk c = chunk_at(s, first);
        if (!prepare_size(context, s->ready, c.size)) return false;
        first += c.count;
    }
#pragma omp parallel num_threads(p->threads) reduction(| : failed)
    for (int64_t first = 0; first < s->kept;) {
        head_chunk c = chunk_at(s, first);
        if (!run_chunk(s, &c)) failed = 1;
        first += c.count;
    }
    if (failed)
        crank_fail(context, CRANK_FAILED, "oneDNN failed in a product of the vocabulary head that it had prepared");
    return !failed;
}

/* Results of other types than f32, and sums without any row. */
static void write_gradients(const head_state *s)
{
    const head_plan *p = s->p;
    for (int64_t v = 0; p->dw && v < p->vocabulary; v++) {
        if (s->kept == 0)
            memset(row_of(p->dw, v), 0, (size_t)p->d * size_of(p->dw->dtype));
        else if (p->dw->dtype != CRANK_F32)
            s->kernels->scale_row(row_of(p->dw, v), p->dw->dtype, s->dw + v * p->d, CRANK_F32, 1, p->d);
    }
    if (!p->dbias) return;
    if (s->kept == 0) memset(s->dbias, 0, (size_t)p->vocabulary * sizeof(float));
    size_t size = crank_dtype_bits(p->dbias->dtype) / 8;
    if (p->dbias->strides[0] == 1)
        crank_convert(p->dbias->data, p->dbias->dtype, s->dbias, CRANK_F32, (size_t)p->vocabulary);
    else
        for (int64_t v = 0; v < p->vocabulary; v++)
            crank_convert((char *)p->dbias->data + (size_t)(v * p->dbias->strides[0]) * size, p->dbias->dtype,
                          s->dbias + v, CRANK_F32, 1);
}

static crank_status run_prepared(crank_context *context, const crank_call *call, const head_kernels *kernels,
                                 prepared *ready)
{
    const head_plan *p = &ready->plan;
    head_state s = {.p = p, .kernels = kernels, .ready = ready, .work = call->workspace};
    s.list = (int64_t *)(void *)(s.work + p->at_list);
    s.kept = choose_rows(p, s.list);
    s.dbias = floats(&s, p->at_dbias);
    if (p->bias) {
        s.bias = floats(&s, p->at_bias);
        crank_convert(s.bias, CRANK_F32, p->bias->data, p->bias->dtype, (size_t)p->vocabulary);
    }
    if (p->dw) {
        s.dw = p->dw->dtype == CRANK_F32 ? p->dw->data : floats(&s, p->at_dw);
        s.dw_row = p->dw->dtype == CRANK_F32 ? p->dw->strides[0] : p->d;
    }
    if (!run_chunks(context, &s)) return CRANK_FAILED;
    write_gradients(&s);
    double sum = 0;
    for (int64_t i = 0; i < s.kept && p->numerator; i++)
        sum -= (double)factor_of(p, s.list[i]) * floats(&s, p->at_logp)[i];
    if (p->numerator) *(float *)p->numerator->data = (float)sum;
    return CRANK_OK;
}

crank_status head_run(crank_context *context, const crank_call *call, const head_kernels *kernels)
{
    /* the three operations differ in their number of operands */
    const char *operation = call->inputs == 4   ? "head_logprob"
                            : call->inputs == 5 ? "head_cross_entropy"
                                                : "head_logprob_backward";
    prepared *ready = call->slot ? *call->slot : NULL;
    if (!ready) {
        ready = crank_alloc(context, 1, sizeof *ready, "a vocabulary head");
        if (!ready) return CRANK_FAILED;
        if (call->slot) {
            *call->slot = ready;
            *call->slot_free = free_prepared;
        }
    }
    crank_status status = CRANK_OK;
    bool planned = ready->plan.bytes > 0; /* then memory may stand elsewhere than before, sizes do not change */
    if (!(planned ? head_plan_read(operation, call, &ready->plan)
                  : head_plan_make(operation, call, cpu_threads(call), &ready->plan)))
        status = crank_fail(context, CRANK_FAILED, "the vocabulary head refused operands that it had accepted");
    else
        status = run_prepared(context, call, kernels, ready);
    if (!call->slot) free_prepared(ready);
    return status;
}
