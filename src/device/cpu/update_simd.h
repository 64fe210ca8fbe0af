/* update_simd.h - vectorised adamw, sgd, lion (one pass over parameter, gradient and state) and assign. */
#include "device/cpu/rounding_simd.h"

typedef struct update_job {
    update_step step;
    crank_dtype w_type, g_type;
    float       clip, rate, decay, keep;    /* keep: 1 - rate decay */
    float       beta1, beta2, rest1, rest2; /* rest: 1 - beta */
    float       scale1, scale2, epsilon;    /* rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t) */
    float       momentum, undamped;
    bool        l2, nesterov, first;
} update_job;

/* The new parameter; s0 and s1 are its states, read and written. */
typedef vec update_function(const update_job *job, vec w, vec g, vec *s0, vec *s1);

ALWAYS_INLINE vec adam_update(const update_job *job, vec w, vec g, vec *m, vec *v)
{
    g = vec_mul(g, vec_set(job->clip));
    if (job->l2) g = vec_fma(w, vec_set(job->decay), g);
    else w = vec_mul(w, vec_set(job->keep));
    *m = vec_fma(*m, vec_set(job->beta1), vec_mul(g, vec_set(job->rest1)));
    *v = vec_fma(*v, vec_set(job->beta2), vec_mul(vec_mul(g, g), vec_set(job->rest2)));
    vec denominator = vec_fma(vec_sqrt(*v), vec_set(job->scale2), vec_set(job->epsilon));
    return vec_sub(w, vec_div(vec_mul(*m, vec_set(job->scale1)), denominator));
}

ALWAYS_INLINE vec sgd_update(const update_job *job, vec w, vec g, vec *s0, vec *s1)
{
    (void)s0, (void)s1;
    vec move = vec_fma(w, vec_set(job->decay), vec_mul(g, vec_set(job->clip)));
    return vec_fma(move, vec_set(-job->rate), w);
}

ALWAYS_INLINE vec momentum_update(const update_job *job, vec w, vec g, vec *buffer, vec *s1)
{
    (void)s1;
    vec move = vec_fma(w, vec_set(job->decay), vec_mul(g, vec_set(job->clip)));
    *buffer = job->first ? move : vec_fma(*buffer, vec_set(job->momentum), vec_mul(move, vec_set(job->undamped)));
    move = job->nesterov ? vec_fma(*buffer, vec_set(job->momentum), move) : *buffer;
    return vec_fma(move, vec_set(-job->rate), w);
}

ALWAYS_INLINE vec lion_update(const update_job *job, vec w, vec g, vec *m, vec *s1)
{
    (void)s1;
    g = vec_mul(g, vec_set(job->clip));
    vec c = vec_fma(*m, vec_set(job->beta1), vec_mul(g, vec_set(job->rest1)));
    *m = vec_fma(*m, vec_set(job->beta2), vec_mul(g, vec_set(job->rest2)));
    return vec_fma(vec_fma(w, vec_set(job->decay), vec_sign(c)), vec_set(-job->rate), w);
}

/* at: w, g and up to two states in f32 */
ALWAYS_INLINE void update_elements(update_function *f, crank_dtype w_type, crank_dtype g_type, int states,
                                   const update_job *job, const rounding *r, int64_t start, int64_t i, int count,
                                   char *const *at)
{
    vec s0 = states > 0 ? vec_get(at[2], CRANK_F32, i, count) : vec_zero();
    vec s1 = states > 1 ? vec_get(at[3], CRANK_F32, i, count) : vec_zero();
    vec w = f(job, vec_get(at[0], w_type, i, count), vec_get(at[1], g_type, i, count), &s0, &s1);
    if (w_type == CRANK_BF16) w = rounded(r, i - start, w);
    vec_set_at(at[0], w_type, i, w, count);
    if (states > 0) vec_set_at(at[2], CRANK_F32, i, s0, count);
    if (states > 1) vec_set_at(at[3], CRANK_F32, i, s1, count);
}

ALWAYS_INLINE void update_row(update_function *f, crank_dtype w_type, crank_dtype g_type, int states,
                              const update_job *job, int64_t first, int64_t n, char *const *at)
{
    rounding r;
    if (w_type == CRANK_BF16) memset(r.words + DRAWS, 0, sizeof r.words - DRAWS * sizeof *r.words);
    for (int64_t start = 0; start < n;) {
        int64_t i = start,
                end = start + (w_type == CRANK_BF16 ? rounding_make(&r, &job->step, first + start, n - start) : n);
        for (; i + LANES <= end; i += LANES) update_elements(f, w_type, g_type, states, job, &r, start, i, LANES, at);
        if (i < end) update_elements(f, w_type, g_type, states, job, &r, start, i, (int)(end - i), at);
        start = end;
    }
}

ALWAYS_INLINE void update_types(update_function *f, int states, const update_job *job, int64_t first, int64_t n,
                                char *const *at)
{
    if (job->w_type == CRANK_F32) update_row(f, CRANK_F32, CRANK_F32, states, job, first, n, at);
    else if (job->g_type == CRANK_F32) update_row(f, CRANK_BF16, CRANK_F32, states, job, first, n, at);
    else update_row(f, CRANK_BF16, CRANK_BF16, states, job, first, n, at);
}

static void adam_span(const void *job, int64_t first, int64_t n, char *const *at)
{
    update_types(adam_update, 2, job, first, n, at);
}
static void sgd_span(const void *job, int64_t first, int64_t n, char *const *at)
{
    update_types(sgd_update, 0, job, first, n, at);
}
static void lion_span(const void *job, int64_t first, int64_t n, char *const *at)
{
    update_types(lion_update, 1, job, first, n, at);
}
static void momentum_span(const void *job, int64_t first, int64_t n, char *const *at)
{
    update_types(momentum_update, 1, job, first, n, at);
}

/* ---- the calls ---- */

/* w, g and the states that are there, up to `scalars`, the index of the step scalars */
static bool update_spans(const crank_call *call, int scalars, spans *s)
{
    const crank_view *views[SPAN_VIEWS];
    int               count = 0;
    for (int k = 0; k < scalars; k++)
        if (view_present(&call->in[k])) views[count++] = &call->in[k];
    if (!spans_make(s, &call->in[0], count, views)) return false;
    for (int k = 0; k < count; k++)
        if (s->inner[k] != 1) return false;
    return true;
}

static bool update_serves(const crank_call *call, int scalars)
{
    spans s;
    return fast_type(call->in[0].dtype) && fast_type(call->in[1].dtype) && update_spans(call, scalars, &s);
}

static bool adam_serves(const crank_call *call) { return update_serves(call, 4); }
static bool three_serves(const crank_call *call) { return update_serves(call, 3); }

static update_job job_of(const crank_call *call, const update_step *step, double decay)
{
    return (update_job){.step = *step,
                        .w_type = call->in[0].dtype,
                        .g_type = call->in[1].dtype,
                        .clip = (float)step->clip,
                        .rate = (float)step->rate,
                        .decay = (float)decay,
                        .keep = (float)(1 - step->rate * decay)};
}

static void set_betas(update_job *job, double beta1, double beta2)
{
    job->beta1 = (float)beta1, job->rest1 = (float)(1 - beta1);
    job->beta2 = (float)beta2, job->rest2 = (float)(1 - beta2);
}

static crank_status adam_run(crank_context *context, const crank_call *call)
{
    const crank_adam_attributes *a = call->attributes;
    update_step                  step = update_step_of(&call->in[4], a->rate_factor, a->seed, a->index);
    update_job                   job = job_of(call, &step, a->decay);
    spans                        s;
    (void)context;
    if (step.skip) return CRANK_OK;
    set_betas(&job, a->beta1, a->beta2);
    job.scale1 = (float)(step.rate / (1 - pow(a->beta1, step.count)));
    job.scale2 = (float)(1 / sqrt(1 - pow(a->beta2, step.count)));
    job.epsilon = (float)a->epsilon;
    job.l2 = a->l2;
    update_spans(call, 4, &s);
    spans_run(&s, cpu_threads(call), adam_span, &job);
    return CRANK_OK;
}

static crank_status sgd_run(crank_context *context, const crank_call *call)
{
    const crank_sgd_attributes *a = call->attributes;
    update_step                 step = update_step_of(&call->in[3], a->rate_factor, a->seed, a->index);
    update_job                  job = job_of(call, &step, a->decay);
    spans                       s;
    (void)context;
    if (step.skip) return CRANK_OK;
    job.momentum = (float)a->momentum;
    job.undamped = (float)(1 - a->dampening);
    job.nesterov = a->nesterov;
    job.first = step.count <= 1;
    update_spans(call, 3, &s);
    spans_run(&s, cpu_threads(call), view_present(&call->in[2]) ? momentum_span : sgd_span, &job);
    return CRANK_OK;
}

static crank_status lion_run(crank_context *context, const crank_call *call)
{
    const crank_lion_attributes *a = call->attributes;
    update_step                  step = update_step_of(&call->in[3], a->rate_factor, a->seed, a->index);
    update_job                   job = job_of(call, &step, a->decay);
    spans                        s;
    (void)context;
    if (step.skip) return CRANK_OK;
    set_betas(&job, a->beta1, a->beta2);
    update_spans(call, 3, &s);
    spans_run(&s, cpu_threads(call), lion_span, &job);
    return CRANK_OK;
}

/* ---- assign: target = x, or target + x ---- */

typedef struct assign_job {
    crank_dtype from, to;
    bool        add;
} assign_job;

ALWAYS_INLINE void assign_row(crank_dtype from, crank_dtype to, bool add, int64_t n, char *const *at)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int count = n - i < LANES ? (int)(n - i) : LANES;
        vec x = vec_get(at[0], from, i, count);
        vec_set_at(at[2], to, i, add ? vec_add(vec_get(at[1], to, i, count), x) : x, count);
    }
}

static void assign_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    const assign_job *job = data;
    (void)first;
    if (job->from == CRANK_F32 && job->to == CRANK_F32) assign_row(CRANK_F32, CRANK_F32, job->add, n, at);
    else if (job->from == CRANK_F32) assign_row(CRANK_F32, CRANK_BF16, job->add, n, at);
    else if (job->to == CRANK_F32) assign_row(CRANK_BF16, CRANK_F32, job->add, n, at);
    else assign_row(CRANK_BF16, CRANK_BF16, job->add, n, at);
}

static bool assign_spans(const crank_call *call, spans *s)
{
    return SPANS(s, &call->out[0], &call->in[0], &call->in[1], &call->out[0]) && s->inner[0] == 1 && s->inner[1] == 1 &&
           s->inner[2] == 1;
}

static bool assign_serves(const crank_call *call)
{
    spans s;
    return fast_type(call->in[0].dtype) && fast_type(call->out[0].dtype) && assign_spans(call, &s);
}

static crank_status assign_run(crank_context *context, const crank_call *call)
{
    spans      s;
    assign_job job = {call->in[0].dtype, call->out[0].dtype, ((const crank_assign_attributes *)call->attributes)->add};
    (void)context;
    assign_spans(call, &s);
    spans_run(&s, cpu_threads(call), assign_span, &job);
    return CRANK_OK;
}

bool FINDER(update)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"adamw", adam_run, adam_serves, NULL},
        {"sgd", sgd_run, three_serves, NULL},
        {"lion", lion_run, three_serves, NULL},
        {"assign", assign_run, assign_serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
