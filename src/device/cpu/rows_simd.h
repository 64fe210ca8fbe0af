/* rows_simd.h - vectorised softmax, log-softmax and their reverse, rotary positions.
 *
 * A row is read two or three times: it stands in the caches after the first. */
#include "device/cpu/fast.h"

/* ---- softmax ---- */

typedef struct softmax_job {
    spans       s; /* x, y; or y, dy, dx */
    crank_dtype type;
    bool        log;
} softmax_job;

typedef struct softmax_row {
    crank_dtype type;
    const void *x, *dy;
    void       *y;
    float      *kept; /* e^(x - max) in f32, or NULL: computed again */
    vec         max, factor;
} softmax_row;

enum { KEPT_MOST = 4096 };

ALWAYS_INLINE float row_highest(crank_dtype type, const void *x, int64_t n)
{
    vec     m0 = vec_set(-INFINITY), m1 = m0, m2 = m0, m3 = m0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        m0 = vec_max(m0, vec_read(x, type, i));
        m1 = vec_max(m1, vec_read(x, type, i + LANES));
        m2 = vec_max(m2, vec_read(x, type, i + 2 * LANES));
        m3 = vec_max(m3, vec_read(x, type, i + 3 * LANES));
    }
    for (; i + LANES <= n; i += LANES) m0 = vec_max(m0, vec_read(x, type, i));
    if (i < n) m1 = vec_max(m1, vec_keep(vec_read_part(x, type, i, (int)(n - i)), (int)(n - i), m1));
    return vec_highest(vec_max(vec_max(m0, m1), vec_max(m2, m3)));
}

ALWAYS_INLINE vec exp_term(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    vec                e = vec_exp(vec_sub(vec_get(r->x, r->type, i, count), r->max));
    if (r->kept) vec_set_at(r->kept, CRANK_F32, i, e, count);
    return count == LANES ? e : vec_keep(e, count, vec_zero());
}

ALWAYS_INLINE void softmax_step(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    vec                e =
        r->kept ? vec_get(r->kept, CRANK_F32, i, count) : vec_exp(vec_sub(vec_get(r->x, r->type, i, count), r->max));
    vec_set_at(r->y, r->type, i, vec_mul(e, r->factor), count);
}

ALWAYS_INLINE void log_softmax_step(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    vec                z = vec_sub(vec_get(r->x, r->type, i, count), r->max);
    vec_set_at(r->y, r->type, i, vec_sub(z, r->factor), count);
}

ALWAYS_INLINE void softmax_rows(crank_dtype type, const softmax_job *job, int64_t first, int64_t last)
{
    int64_t n = job->s.columns;
    float   small[KEPT_MOST]; /* of bf16 rows: rounding before the division would round twice */
    for (int64_t row = first; row < last; row++) {
        char *at[SPAN_VIEWS];
        row_start(&job->s, row, at);
        float       max = row_highest(type, at[0], n);
        softmax_row r = {.type = type, .x = at[0], .y = at[1], .max = vec_set(max)};
        if (!job->log) r.kept = type == CRANK_F32 ? (float *)at[1] : n <= KEPT_MOST ? small : NULL;
        float sum = row_sum(exp_term, &r, n);
        r.factor = vec_set(job->log ? logf(sum) : 1 / sum);
        if (job->log) row_each(log_softmax_step, &r, n);
        else row_each(softmax_step, &r, n);
    }
}

static void softmax_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const softmax_job *job = data;
    (void)worker;
    if (job->type == CRANK_F32) softmax_rows(CRANK_F32, job, first, last);
    else softmax_rows(CRANK_BF16, job, first, last);
}

static bool softmax_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && ROWS(&s, call->in, &call->in[0], &call->out[0]);
}

static crank_status softmax_run(crank_context *context, const crank_call *call)
{
    softmax_job job = {.type = call->in[0].dtype, .log = ((const crank_softmax_attributes *)call->attributes)->log};
    (void)context;
    ROWS(&job.s, call->in, &call->in[0], &call->out[0]);
    if (job.s.columns > 0) rows_run(job.s.rows, job.s.columns, 1, cpu_threads(call), softmax_kernel, &job);
    return CRANK_OK;
}

/* ---- softmax_backward: dx = y (dy - sum dy y), or dy - e^y sum dy ---- */

ALWAYS_INLINE vec product_term(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    return vec_mul(vec_get(r->x, r->type, i, count), vec_get(r->dy, r->type, i, count));
}
ALWAYS_INLINE vec dy_term(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    return vec_get(r->dy, r->type, i, count);
}
ALWAYS_INLINE void softmax_reverse_step(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    vec                d = vec_sub(vec_get(r->dy, r->type, i, count), r->factor);
    vec_set_at(r->y, r->type, i, vec_mul(vec_get(r->x, r->type, i, count), d), count);
}
ALWAYS_INLINE void log_softmax_reverse_step(const void *data, int64_t i, int count)
{
    const softmax_row *r = data;
    vec                p = vec_exp(vec_get(r->x, r->type, i, count));
    vec_set_at(r->y, r->type, i, vec_sub(vec_get(r->dy, r->type, i, count), vec_mul(p, r->factor)), count);
}

ALWAYS_INLINE void softmax_reverse_rows(crank_dtype type, const softmax_job *job, int64_t first, int64_t last)
{
    int64_t n = job->s.columns;
    for (int64_t row = first; row < last; row++) {
        char *at[SPAN_VIEWS];
        row_start(&job->s, row, at);
        softmax_row r = {.type = type, .x = at[0], .dy = at[1], .y = at[2]};
        r.factor = vec_set(job->log ? row_sum(dy_term, &r, n) : row_sum(product_term, &r, n));
        if (job->log) row_each(log_softmax_reverse_step, &r, n);
        else row_each(softmax_reverse_step, &r, n);
    }
}

static void softmax_reverse_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const softmax_job *job = data;
    (void)worker;
    if (job->type == CRANK_F32) softmax_reverse_rows(CRANK_F32, job, first, last);
    else softmax_reverse_rows(CRANK_BF16, job, first, last);
}

static bool softmax_reverse_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && ROWS(&s, call->in, &call->in[0], &call->in[1], &call->out[0]);
}

static crank_status softmax_reverse_run(crank_context *context, const crank_call *call)
{
    softmax_job job = {.type = call->in[0].dtype, .log = ((const crank_softmax_attributes *)call->attributes)->log};
    (void)context;
    ROWS(&job.s, call->in, &call->in[0], &call->in[1], &call->out[0]);
    rows_run(job.s.rows, job.s.columns, 1, cpu_threads(call), softmax_reverse_kernel, &job);
    return CRANK_OK;
}

/* ---- rope ---- */

enum { ROPE_MOST = 1024 }; /* rotated elements of a head: cosines and sines of one token stand on the stack */

typedef struct rope_job {
    const crank_view *x, *positions, *table, *y;
    crank_dtype       type;
    bool              interleaved, inverse;
} rope_job;

/* (a, b) -> (a c - b s, b c + a s) for pairs (i, i + half) */
ALWAYS_INLINE void rotate_halves(crank_dtype type, const void *x, void *y, const float *cosine, const float *sine,
                                 int64_t half)
{
    for (int64_t i = 0; i < half; i += LANES) {
        int count = half - i < LANES ? (int)(half - i) : LANES;
        vec a = vec_get(x, type, i, count), b = vec_get(x, type, half + i, count);
        vec c = vec_get(cosine, CRANK_F32, i, count), s = vec_get(sine, CRANK_F32, i, count);
        vec_set_at(y, type, i, vec_sub(vec_mul(a, c), vec_mul(b, s)), count);
        vec_set_at(y, type, half + i, vec_fma(b, c, vec_mul(a, s)), count);
    }
}

/* Pairs (2i, 2i+1): x c + swapped(x) s, with each cosine twice and the sines as -s, s */
ALWAYS_INLINE void rotate_neighbours(crank_dtype type, const void *x, void *y, const float *cosine, const float *sine,
                                     int64_t r)
{
    for (int64_t i = 0; i < r; i += LANES) {
        int count = r - i < LANES ? (int)(r - i) : LANES;
        vec a = vec_get(x, type, i, count), c = vec_get(cosine, CRANK_F32, i, count),
            s = vec_get(sine, CRANK_F32, i, count);
        vec_set_at(y, type, i, vec_fma(a, c, vec_mul(vec_swap_neighbours(a), s)), count);
    }
}

/* The cosines and sines of one position, laid out as the rotation reads them. */
static void rope_angles(const rope_job *job, int64_t position, float *cosine, float *sine)
{
    int64_t      half = job->table->dims[1] / 2;
    const float *row = (const float *)job->table->data + position * job->table->strides[0];
    float        sign = job->inverse ? -1.0f : 1.0f;
    for (int64_t k = 0; k < half; k++) {
        float s = sign * row[half + k];
        if (job->interleaved) {
            cosine[2 * k] = cosine[2 * k + 1] = row[k];
            sine[2 * k] = -s;
            sine[2 * k + 1] = s;
        } else {
            cosine[k] = row[k];
            sine[k] = s;
        }
    }
}

ALWAYS_INLINE void rope_tokens(crank_dtype type, const rope_job *job, int64_t first, int64_t last)
{
    float             cosine[ROPE_MOST], sine[ROPE_MOST];
    const crank_view *x = job->x, *y = job->y;
    int64_t           width = type == CRANK_F32 ? 4 : 2, r = job->table->dims[1], d = x->dims[2];
    for (int64_t i = first; i < last; i++) {
        rope_angles(job, ((const int32_t *)job->positions->data)[i * job->positions->strides[0]], cosine, sine);
        for (int64_t h = 0; h < x->dims[1]; h++) {
            const char *from = (const char *)x->data + (i * x->strides[0] + h * x->strides[1]) * width;
            char       *to = (char *)y->data + (i * y->strides[0] + h * y->strides[1]) * width;
            if (job->interleaved) rotate_neighbours(type, from, to, cosine, sine, r);
            else rotate_halves(type, from, to, cosine, sine, r / 2);
            if (r < d && from != to) memcpy(to + r * width, from + r * width, (size_t)((d - r) * width));
        }
    }
}

static void rope_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const rope_job *job = data;
    (void)worker;
    if (job->type == CRANK_F32) rope_tokens(CRANK_F32, job, first, last);
    else rope_tokens(CRANK_BF16, job, first, last);
}

static bool rope_serves(const crank_call *call)
{
    return fast_type(call->out[0].dtype) && call->in[2].dims[1] <= ROPE_MOST && call->in[2].dims[1] > 0;
}

static crank_status rope_run(crank_context *context, const crank_call *call)
{
    const crank_rope_attributes *a = call->attributes;
    const crank_view            *x = &call->in[0], *positions = &call->in[1], *table = &call->in[2];
    rope_job                     job = {x, positions, table, &call->out[0], x->dtype, a->interleaved, a->inverse};
    for (int64_t i = 0; i < x->dims[0]; i++) {
        int32_t position = ((const int32_t *)positions->data)[i * positions->strides[0]];
        if (position < 0 || position >= table->dims[0])
            return crank_fail(context, CRANK_USAGE, "rope: token %lld has position %d, the table ends at %lld",
                              (long long)i, position, (long long)table->dims[0]);
    }
    rows_run(x->dims[0], x->dims[1] * x->dims[2], 1, cpu_threads(call), rope_kernel, &job);
    return CRANK_OK;
}

bool FINDER(rows)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"softmax", softmax_run, softmax_serves, NULL},
        {"softmax_backward", softmax_reverse_run, softmax_reverse_serves, NULL},
        {"rope", rope_run, rope_serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
