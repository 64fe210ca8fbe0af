/* activation_simd.h - vectorised unary functions, gated units, and their reverses on rows of contiguous elements.
 *
 * sin, cos and pow are left to the plain bodies: nothing trains through them at speed. SiLU and the GELUs of bf16 tensors are as
 * exact as their type can show (piecewise_simd.h). */
#include "device/cpu/fast.h"
#include "device/cpu/piecewise_simd.h"

typedef struct activation_job {
    crank_unary_kind kind;
    crank_dtype      type;
    bool             stream;
} activation_job;

static bool fast_kind(crank_unary_kind kind) { return kind != CRANK_SIN && kind != CRANK_COS; }

/* ---- unary ---- */

ALWAYS_INLINE void unary_kinds(crank_dtype t, const activation_job *job, int64_t n, const void *x, void *y)
{
    bool s = job->stream;
    switch (job->kind) {
    case CRANK_NEG: map1(vec_neg, t, t, n, x, y, s); break;
    case CRANK_EXP: map1(vec_exp, t, t, n, x, y, s); break;
    case CRANK_LOG: map1(vec_log, t, t, n, x, y, s); break;
    case CRANK_SQRT: map1(vec_sqrt, t, t, n, x, y, s); break;
    case CRANK_RSQRT: map1(vec_rsqrt, t, t, n, x, y, s); break;
    case CRANK_RECIPROCAL: map1(vec_reciprocal, t, t, n, x, y, s); break;
    case CRANK_SQUARE: map1(vec_square, t, t, n, x, y, s); break;
    case CRANK_ABS: map1(vec_abs, t, t, n, x, y, s); break;
    case CRANK_SIGN: map1(vec_sign, t, t, n, x, y, s); break;
    case CRANK_TANH: map1(vec_tanh, t, t, n, x, y, s); break;
    case CRANK_SIGMOID: map1(vec_sigmoid, t, t, n, x, y, s); break;
    case CRANK_SOFTPLUS: map1(vec_softplus, t, t, n, x, y, s); break;
    case CRANK_RELU: map1(vec_relu, t, t, n, x, y, s); break;
    case CRANK_SILU:
        if (t == CRANK_F32) map1(vec_silu, t, t, n, x, y, s);
        else map1(vec_silu_bf16, t, t, n, x, y, s);
        break;
    case CRANK_GELU:
        if (t == CRANK_F32) map1(vec_gelu, t, t, n, x, y, s);
        else map1(vec_gelu_bf16, t, t, n, x, y, s);
        break;
    case CRANK_GELU_TANH:
        if (t == CRANK_F32) map1(vec_gelu_tanh, t, t, n, x, y, s);
        else map1(vec_gelu_tanh_bf16, t, t, n, x, y, s);
        break;
    case CRANK_SIN:
    case CRANK_COS: break; /* not served */
    }
}

static void unary_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const activation_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) unary_kinds(CRANK_F32, job, n, at[0], at[1]);
    else unary_kinds(CRANK_BF16, job, n, at[0], at[1]);
}

static bool unary_spans(const crank_call *call, spans *s)
{
    return SPANS(s, &call->out[0], &call->in[0], &call->out[0]) && s->inner[0] == 1 && s->inner[1] == 1;
}

static bool unary_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && fast_kind(((const crank_unary_attributes *)call->attributes)->kind) &&
           unary_spans(call, &s);
}

static crank_status unary_run(crank_context *context, const crank_call *call)
{
    spans          s;
    activation_job job = {((const crank_unary_attributes *)call->attributes)->kind, call->out[0].dtype,
                          streams(call, call->out)};
    (void)context;
    unary_spans(call, &s);
    spans_run(&s, cpu_threads(call), unary_span, &job);
    return CRANK_OK;
}

/* ---- unary_backward: dx = slope(x or y) dy ---- */

/* y[i] = f(a[i]) b[i] */
ALWAYS_INLINE void map_product(vec_function *f, crank_dtype t, int64_t n, const void *a, const void *b, void *y,
                               bool stream)
{
    int64_t i = 0;
    stream = stream && aligned_for_stream(y);
    for (; i + LANES <= n; i += LANES) vec_put(y, t, i, vec_mul(f(vec_read(a, t, i)), vec_read(b, t, i)), stream);
    if (i < n) {
        int left = (int)(n - i);
        vec_write_part(y, t, i, vec_mul(f(vec_read_part(a, t, i, left)), vec_read_part(b, t, i, left)), left);
    }
}

/* at: what the slope reads, dy, dx */
ALWAYS_INLINE void slope_kinds(crank_dtype t, const activation_job *job, int64_t n, char *const *at)
{
    bool s = job->stream;
    switch (job->kind) {
    case CRANK_NEG: map_product(slope_minus_one, t, n, at[0], at[1], at[2], s); break;
    case CRANK_EXP: map_product(slope_exp, t, n, at[0], at[1], at[2], s); break;
    case CRANK_LOG: map_product(vec_reciprocal, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SQRT: map_product(slope_sqrt, t, n, at[0], at[1], at[2], s); break;
    case CRANK_RSQRT: map_product(slope_rsqrt, t, n, at[0], at[1], at[2], s); break;
    case CRANK_RECIPROCAL: map_product(slope_reciprocal, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SQUARE: map_product(slope_square, t, n, at[0], at[1], at[2], s); break;
    case CRANK_ABS: map_product(vec_sign, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SIGN: map_product(slope_zero, t, n, at[0], at[1], at[2], s); break;
    case CRANK_TANH: map_product(slope_tanh, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SIGMOID: map_product(slope_sigmoid, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SOFTPLUS: map_product(vec_sigmoid, t, n, at[0], at[1], at[2], s); break;
    case CRANK_RELU: map_product(slope_relu, t, n, at[0], at[1], at[2], s); break;
    case CRANK_SILU:
        if (t == CRANK_F32) map_product(slope_silu, t, n, at[0], at[1], at[2], s);
        else map_product(slope_silu_bf16, t, n, at[0], at[1], at[2], s);
        break;
    case CRANK_GELU:
        if (t == CRANK_F32) map_product(slope_gelu, t, n, at[0], at[1], at[2], s);
        else map_product(slope_gelu_bf16, t, n, at[0], at[1], at[2], s);
        break;
    case CRANK_GELU_TANH:
        if (t == CRANK_F32) map_product(slope_gelu_tanh, t, n, at[0], at[1], at[2], s);
        else map_product(slope_gelu_tanh_bf16, t, n, at[0], at[1], at[2], s);
        break;
    case CRANK_SIN:
    case CRANK_COS: break; /* not served */
    }
}

static void slope_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const activation_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) slope_kinds(CRANK_F32, job, n, at);
    else slope_kinds(CRANK_BF16, job, n, at);
}

static bool slope_spans(const crank_call *call, spans *s)
{
    crank_unary_kind  kind = ((const crank_unary_attributes *)call->attributes)->kind;
    const crank_view *read = &call->in[crank_unary_needs_x(kind) ? 0 : crank_unary_needs_y(kind) ? 1 : 2];
    return SPANS(s, &call->out[0], read, &call->in[2], &call->out[0]) && s->inner[0] == 1 && s->inner[1] == 1 &&
           s->inner[2] == 1;
}

static bool slope_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && fast_kind(((const crank_unary_attributes *)call->attributes)->kind) &&
           slope_spans(call, &s);
}

static crank_status slope_run(crank_context *context, const crank_call *call)
{
    spans          s;
    activation_job job = {((const crank_unary_attributes *)call->attributes)->kind, call->out[0].dtype,
                          streams(call, call->out)};
    (void)context;
    slope_spans(call, &s);
    spans_run(&s, cpu_threads(call), slope_span, &job);
    return CRANK_OK;
}

/* ---- glu: h = act(gate) up;  dgate = dh up act'(gate), dup = dh act(gate) ---- */

ALWAYS_INLINE void glu_f32(const activation_job *job, int64_t n, char *const *at)
{
    if (job->kind == CRANK_SILU) map_product(vec_silu, CRANK_F32, n, at[0], at[1], at[2], job->stream);
    else if (job->kind == CRANK_GELU) map_product(vec_gelu, CRANK_F32, n, at[0], at[1], at[2], job->stream);
    else map_product(vec_gelu_tanh, CRANK_F32, n, at[0], at[1], at[2], job->stream);
}

ALWAYS_INLINE void glu_bf16(const activation_job *job, int64_t n, char *const *at)
{
    if (job->kind == CRANK_SILU) map_product(vec_silu_bf16, CRANK_BF16, n, at[0], at[1], at[2], job->stream);
    else if (job->kind == CRANK_GELU) map_product(vec_gelu_bf16, CRANK_BF16, n, at[0], at[1], at[2], job->stream);
    else map_product(vec_gelu_tanh_bf16, CRANK_BF16, n, at[0], at[1], at[2], job->stream);
}

static void glu_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const activation_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) glu_f32(job, n, at);
    else glu_bf16(job, n, at);
}

/* at: dh, gate, up, dgate, dup */
ALWAYS_INLINE void glu_reverse(vec_function_pair *f, crank_dtype t, int64_t n, char *const *at, bool stream)
{
    int64_t i = 0;
    vec     slope;
    stream = stream && aligned_for_stream(at[3]) && aligned_for_stream(at[4]);
    for (; i + LANES <= n; i += LANES) {
        vec dh = vec_read(at[0], t, i), up = vec_read(at[2], t, i), value = f(vec_read(at[1], t, i), &slope);
        vec_put(at[3], t, i, vec_mul(vec_mul(dh, up), slope), stream);
        vec_put(at[4], t, i, vec_mul(dh, value), stream);
    }
    if (i < n) {
        int left = (int)(n - i);
        vec dh = vec_read_part(at[0], t, i, left), up = vec_read_part(at[2], t, i, left),
            value = f(vec_read_part(at[1], t, i, left), &slope);
        vec_write_part(at[3], t, i, vec_mul(vec_mul(dh, up), slope), left);
        vec_write_part(at[4], t, i, vec_mul(dh, value), left);
    }
}

ALWAYS_INLINE void glu_reverse_f32(const activation_job *job, int64_t n, char *const *at)
{
    if (job->kind == CRANK_SILU) glu_reverse(pair_silu, CRANK_F32, n, at, job->stream);
    else if (job->kind == CRANK_GELU) glu_reverse(pair_gelu, CRANK_F32, n, at, job->stream);
    else glu_reverse(pair_gelu_tanh, CRANK_F32, n, at, job->stream);
}

ALWAYS_INLINE void glu_reverse_bf16(const activation_job *job, int64_t n, char *const *at)
{
    if (job->kind == CRANK_SILU) glu_reverse(pair_silu_bf16, CRANK_BF16, n, at, job->stream);
    else if (job->kind == CRANK_GELU) glu_reverse(pair_gelu_bf16, CRANK_BF16, n, at, job->stream);
    else glu_reverse(pair_gelu_tanh_bf16, CRANK_BF16, n, at, job->stream);
}

static void glu_reverse_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const activation_job *job = data;
    (void)first;
    if (job->type == CRANK_F32) glu_reverse_f32(job, n, at);
    else glu_reverse_bf16(job, n, at);
}

static bool all_contiguous(const spans *s)
{
    for (int k = 0; k < s->views; k++)
        if (s->inner[k] != 1) return false;
    return true;
}

static bool glu_spans(const crank_call *call, spans *s)
{
    return SPANS(s, call->out, &call->in[0], &call->in[1], &call->out[0]) && all_contiguous(s);
}

static bool glu_reverse_spans(const crank_call *call, spans *s)
{
    return SPANS(s, call->out, &call->in[0], &call->in[1], &call->in[2], &call->out[0], &call->out[1]) &&
           all_contiguous(s);
}

static bool glu_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && glu_spans(call, &s);
}

static bool glu_reverse_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->out[0].dtype) && glu_reverse_spans(call, &s);
}

static activation_job glu_job(const crank_call *call)
{
    activation_job job = {((const crank_glu_attributes *)call->attributes)->activation, call->out[0].dtype, true};
    for (int k = 0; k < call->outputs; k++) job.stream = job.stream && streams(call, &call->out[k]);
    return job;
}

static crank_status glu_run(crank_context *context, const crank_call *call)
{
    spans          s;
    activation_job job = glu_job(call);
    (void)context;
    glu_spans(call, &s);
    spans_run(&s, cpu_threads(call), glu_span, &job);
    return CRANK_OK;
}

static crank_status glu_reverse_run(crank_context *context, const crank_call *call)
{
    spans          s;
    activation_job job = glu_job(call);
    (void)context;
    glu_reverse_spans(call, &s);
    spans_run(&s, cpu_threads(call), glu_reverse_span, &job);
    return CRANK_OK;
}

bool FINDER(activation)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"unary", unary_run, unary_serves, NULL},
        {"unary_backward", slope_run, slope_serves, NULL},
        {"glu", glu_run, glu_serves, NULL},
        {"glu_backward", glu_reverse_run, glu_reverse_serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
