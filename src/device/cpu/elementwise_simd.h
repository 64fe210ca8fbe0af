/* elementwise_simd.h - vectorised copy and cast, fill, binary, where, affine, dropout on rows of contiguous elements.
 */
#include "device/cpu/element.h"
#include "device/cpu/fast.h"
#include "device/cpu/philox_simd.h"

/* ---- copy ---- */

typedef struct copy_job {
    crank_dtype from, to;
    bool        stream;
} copy_job;

ALWAYS_INLINE vec same(vec x) { return x; }

static void copy_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const copy_job *job = data;
    (void)first;
    if (job->from == job->to) {
        size_t bytes = (size_t)n * crank_dtype_bits(job->from) / 8, words = job->stream ? bytes / 4 : 0;
        if (words) map1(same, CRANK_F32, CRANK_F32, (int64_t)words, at[0], at[1], true);
        memmove(at[1] + 4 * words, at[0] + 4 * words, bytes - 4 * words);
    } else if (job->from == CRANK_F32 && job->to == CRANK_BF16)
        map1(same, CRANK_F32, CRANK_BF16, n, at[0], at[1], job->stream);
    else if (job->from == CRANK_BF16) map1(same, CRANK_BF16, CRANK_F32, n, at[0], at[1], job->stream);
    else if (job->from == CRANK_F16) map1(same, CRANK_F16, CRANK_F32, n, at[0], at[1], job->stream);
    else map1(same, CRANK_F32, CRANK_F16, n, at[0], at[1], false);
}

static bool copy_spans(const crank_call *call, spans *s)
{
    return SPANS(s, &call->out[0], &call->in[0], &call->out[0]) && s->inner[0] == 1 && s->inner[1] == 1;
}

static bool copy_serves(const crank_call *call)
{
    spans       s;
    crank_dtype from = call->in[0].dtype, to = call->out[0].dtype;
    bool        narrows = from == CRANK_F32 && (to == CRANK_BF16 || to == CRANK_F16);
    bool        widens = to == CRANK_F32 && (from == CRANK_BF16 || from == CRANK_F16);
    return (from == to || narrows || widens) && copy_spans(call, &s);
}

static crank_status copy_run(crank_context *context, const crank_call *call)
{
    spans    s;
    copy_job job = {call->in[0].dtype, call->out[0].dtype, streams(call, &call->out[0])};
    (void)context;
    copy_spans(call, &s);
    spans_run(&s, cpu_threads(call), copy_span, &job);
    return CRANK_OK;
}

/* ---- fill ---- */

typedef struct fill_job {
    uint64_t pattern; /* the value, repeated to 8 bytes */
    int      width;
    bool     stream;
} fill_job;

/* Whole vectors of the pattern; returns the bytes written. */
static size_t fill_vectors(uint64_t pattern, char *y, size_t bytes, bool stream)
{
    uint64_t words[8] = {pattern, pattern, pattern, pattern, pattern, pattern, pattern, pattern};
    vec      x = vec_load((const float *)(const void *)words);
    size_t   done = 0;
    stream = stream && aligned_for_stream(y);
    for (; done + sizeof x <= bytes; done += sizeof x) vec_put(y + done, CRANK_F32, 0, x, stream);
    return done;
}

static void fill_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const fill_job *job = data;
    size_t bytes = (size_t)n * (size_t)job->width, done = fill_vectors(job->pattern, at[0], bytes, job->stream);
    (void)first;
    for (; done + 8 <= bytes; done += 8) memcpy(at[0] + done, &job->pattern, 8);
    memcpy(at[0] + done, &job->pattern, bytes - done);
}

static bool fill_serves(const crank_call *call)
{
    spans s;
    return SPANS(&s, &call->out[0], &call->out[0]) && s.inner[0] == 1;
}

static crank_status fill_run(crank_context *context, const crank_call *call)
{
    const crank_view *y = &call->out[0];
    spans             s;
    fill_job          job = {0, (int)crank_dtype_bits(y->dtype) / 8, streams(call, y)};
    (void)context;
    if (crank_view_count(y) == 0) return CRANK_OK;
    for (int64_t i = 0; i < 8 / job.width; i++)
        element_write(&job.pattern, y->dtype, i, ((const crank_fill_attributes *)call->attributes)->value);
    SPANS(&s, y, y);
    spans_run(&s, cpu_threads(call), fill_span, &job);
    return CRANK_OK;
}

/* ---- binary ---- */

typedef struct binary_job {
    crank_binary_kind kind;
    crank_dtype       type;
    bool              a_spread, b_spread, stream;
} binary_job;

/* Minimum and maximum take their second operand when one is NaN; a NaN in the first must pass too. */
ALWAYS_INLINE vec binary_max(vec a, vec b) { return vec_select(vec_is_nan(a), a, vec_max(a, b)); }
ALWAYS_INLINE vec binary_min(vec a, vec b) { return vec_select(vec_is_nan(a), a, vec_min(a, b)); }
ALWAYS_INLINE vec one_where(vec_mask m) { return vec_select(m, vec_set(1.0f), vec_zero()); }
ALWAYS_INLINE vec binary_gt(vec a, vec b) { return one_where(vec_less(b, a)); }
ALWAYS_INLINE vec binary_ge(vec a, vec b) { return one_where(vec_less_equal(b, a)); }
ALWAYS_INLINE vec binary_eq(vec a, vec b) { return one_where(vec_equal(a, b)); }

ALWAYS_INLINE void binary_row(vec_function2 *f, crank_dtype type, const binary_job *job, int64_t n, char *const *at)
{
    bool stream = job->stream && aligned_for_stream(at[2]);
    vec  a = vec_zero(), b = vec_zero();
    if (!job->a_spread && !job->b_spread) {
        map2(f, type, n, at[0], at[1], at[2], stream);
        return;
    }
    if (job->a_spread) a = vec_spread(at[0], type);
    if (job->b_spread) b = vec_spread(at[1], type);
    for (int64_t i = 0; i < n; i += LANES) {
        int left = n - i < LANES ? (int)(n - i) : LANES;
        if (left == LANES) {
            if (!job->a_spread) a = vec_read(at[0], type, i);
            if (!job->b_spread) b = vec_read(at[1], type, i);
            vec_put(at[2], type, i, f(a, b), stream);
        } else {
            if (!job->a_spread) a = vec_read_part(at[0], type, i, left);
            if (!job->b_spread) b = vec_read_part(at[1], type, i, left);
            vec_write_part(at[2], type, i, f(a, b), left);
        }
    }
}

ALWAYS_INLINE void binary_kinds(crank_dtype type, const binary_job *job, int64_t n, char *const *at)
{
    switch (job->kind) {
    case CRANK_ADD: binary_row(vec_add, type, job, n, at); break;
    case CRANK_SUB: binary_row(vec_sub, type, job, n, at); break;
    case CRANK_MUL: binary_row(vec_mul, type, job, n, at); break;
    case CRANK_DIV: binary_row(vec_div, type, job, n, at); break;
    case CRANK_MAX: binary_row(binary_max, type, job, n, at); break;
    case CRANK_MIN: binary_row(binary_min, type, job, n, at); break;
    case CRANK_GT: binary_row(binary_gt, type, job, n, at); break;
    case CRANK_GE: binary_row(binary_ge, type, job, n, at); break;
    case CRANK_EQ: binary_row(binary_eq, type, job, n, at); break;
    case CRANK_POW: break; /* not served */
    }
}

static void binary_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const binary_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) binary_kinds(CRANK_F32, job, n, at);
    else binary_kinds(CRANK_BF16, job, n, at);
}

static bool binary_spans(const crank_call *call, spans *s)
{
    return SPANS(s, &call->out[0], &call->in[0], &call->in[1], &call->out[0]) && s->inner[2] == 1;
}

static bool binary_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && ((const crank_binary_attributes *)call->attributes)->kind != CRANK_POW &&
           binary_spans(call, &s);
}

static crank_status binary_run(crank_context *context, const crank_call *call)
{
    spans s;
    (void)context;
    binary_spans(call, &s);
    binary_job job = {.kind = ((const crank_binary_attributes *)call->attributes)->kind,
                      .type = call->out[0].dtype,
                      .a_spread = s.inner[0] == 0,
                      .b_spread = s.inner[1] == 0,
                      .stream = streams(call, &call->out[0])};
    spans_run(&s, cpu_threads(call), binary_span, &job);
    return CRANK_OK;
}

/* ---- where ---- */

typedef struct where_job {
    crank_dtype type;
    bool        spread[3];
} where_job;

ALWAYS_INLINE void where_row(crank_dtype type, const where_job *job, int64_t n, char *const *at)
{
    vec x[3] = {vec_zero(), vec_zero(), vec_zero()};
    for (int k = 0; k < 3; k++)
        if (job->spread[k]) x[k] = vec_spread(at[k], type);
    for (int64_t i = 0; i < n; i += LANES) {
        int left = n - i < LANES ? (int)(n - i) : LANES;
        for (int k = 0; k < 3; k++)
            if (!job->spread[k]) x[k] = left == LANES ? vec_read(at[k], type, i) : vec_read_part(at[k], type, i, left);
        vec y = vec_select(vec_equal(x[0], vec_zero()), x[2], x[1]);
        if (left == LANES) vec_write(at[3], type, i, y);
        else vec_write_part(at[3], type, i, y, left);
    }
}

static void where_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const where_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) where_row(CRANK_F32, job, n, at);
    else where_row(CRANK_BF16, job, n, at);
}

static bool where_spans(const crank_call *call, spans *s)
{
    return SPANS(s, &call->out[0], &call->in[0], &call->in[1], &call->in[2], &call->out[0]) && s->inner[3] == 1;
}

static bool where_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && where_spans(call, &s);
}

static crank_status where_run(crank_context *context, const crank_call *call)
{
    spans s;
    (void)context;
    where_spans(call, &s);
    where_job job = {call->out[0].dtype, {s.inner[0] == 0, s.inner[1] == 0, s.inner[2] == 0}};
    spans_run(&s, cpu_threads(call), where_span, &job);
    return CRANK_OK;
}

/* ---- affine ---- */

typedef struct affine_job {
    crank_dtype type;
    float       scale, shift;
    bool        stream;
} affine_job;

ALWAYS_INLINE void affine_row(crank_dtype type, const affine_job *job, int64_t n, char *const *at)
{
    int64_t i = 0;
    bool    stream = job->stream && aligned_for_stream(at[1]);
    vec     scale = vec_set(job->scale), shift = vec_set(job->shift);
    for (; i + LANES <= n; i += LANES) vec_put(at[1], type, i, vec_fma(vec_read(at[0], type, i), scale, shift), stream);
    if (i < n) {
        int left = (int)(n - i);
        vec_write_part(at[1], type, i, vec_fma(vec_read_part(at[0], type, i, left), scale, shift), left);
    }
}

static void affine_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const affine_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) affine_row(CRANK_F32, job, n, at);
    else affine_row(CRANK_BF16, job, n, at);
}

/* x and y alone, rows of both contiguous: affine, dropout */
static bool pair_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && copy_spans(call, &s);
}

static crank_status affine_run(crank_context *context, const crank_call *call)
{
    const crank_affine_attributes *a = call->attributes;
    spans                          s;
    affine_job job = {call->out[0].dtype, (float)a->scale, (float)a->shift, streams(call, &call->out[0])};
    (void)context;
    copy_spans(call, &s);
    spans_run(&s, cpu_threads(call), affine_span, &job);
    return CRANK_OK;
}

/* ---- dropout ---- */

typedef struct dropout_job {
    crank_dtype  type;
    crank_stream stream;
    uint64_t     draw;      /* of element 0 */
    int32_t      threshold; /* the high 24 bits of a word that keeps its element are at least this */
    float        scale;
} dropout_job;

ALWAYS_INLINE void dropout_row(crank_dtype type, const dropout_job *job, int64_t first, int64_t n, char *const *at)
{
    uint32_t words[DRAWS + LANES] = {0}; /* the last load may run over */
    uint64_t draw = job->draw + (uint64_t)first;
    vec      scale = vec_set(job->scale);
    for (int64_t i = 0; i < n;) {
        int64_t skip = (int64_t)(draw % 4), take = DRAWS - skip < n - i ? DRAWS - skip : n - i;
        philox_words(job->stream, draw / 4, words);
        for (int64_t k = 0; k < take; k += LANES) {
            int      left = take - k < LANES ? (int)(take - k) : LANES;
            vec      x = left == LANES ? vec_read(at[0], type, i + k) : vec_read_part(at[0], type, i + k, left);
            vec_bits high = bits_shift_right_logical(bits_load(words + skip + k), 8);
            vec      y = vec_select(bits_less(high, bits_set(job->threshold)), vec_zero(), vec_mul(x, scale));
            if (left == LANES) vec_write(at[1], type, i + k, y);
            else vec_write_part(at[1], type, i + k, y, left);
        }
        i += take;
        draw += (uint64_t)take;
    }
}

static void dropout_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const dropout_job *job = data;
    if (job->type == CRANK_F32) dropout_row(CRANK_F32, job, first, n, at);
    else dropout_row(CRANK_BF16, job, first, n, at);
}

static crank_status dropout_run(crank_context *context, const crank_call *call)
{
    const crank_dropout_attributes *a = call->attributes;
    spans                           s;
    dropout_job                     job = {
                            .type = call->out[0].dtype,
                            .stream = crank_stream_make(a->seed, CRANK_RANDOM_DROPOUT, a->index),
                            .draw = *(const uint64_t *)call->in[1].data << 34,
                            .threshold = (int32_t)ceil(a->p * 0x1p24),
                            .scale = (float)(1 / (1 - a->p)),
    };
    (void)context;
    copy_spans(call, &s);
    spans_run(&s, cpu_threads(call), dropout_span, &job);
    return CRANK_OK;
}

bool FINDER(elementwise)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"copy", copy_run, copy_serves, NULL},       {"fill", fill_run, fill_serves, NULL},
        {"binary", binary_run, binary_serves, NULL}, {"where", where_run, where_serves, NULL},
        {"affine", affine_run, pair_serves, NULL},   {"dropout", dropout_run, pair_serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
