/* norm_simd.h - vectorised RMS norm, layer norm and their reverses, with the residual sum fused.
 *
 * Gradients of weights: every worker adds its rows into sums of its own, eight rows at a time, those into sums over 256
 * rows, those into totals; the totals are added in the order of workers. So a sum over many rows loses little in f32,
 * and has the same bits for a fixed number of threads. */
#include "device/cpu/fast.h"

enum { BLOCK_ROWS = 8, GROUP_ROWS = 256 };

typedef struct norm_job {
    const crank_view *x, *w, *b, *residual, *y, *mean, *rstd, *sum; /* forward */
    const crank_view *dy, *z, *dres, *dx;                           /* reverse */
    crank_dtype       type, w_type;
    bool              centred; /* layer norm */
    bool              stream;  /* y past the caches */
    float             epsilon;
    float            *partial; /* reverse: [workers][group, total][dw, db][d], or NULL */
} norm_job;

typedef struct norm_row {
    crank_dtype type, w_type;
    const void *x, *residual, *w, *b, *dy, *z, *dres;
    void       *y, *sum;
    bool        stream;
    vec         mean, rstd, c0, c1; /* c0, c1: constants of the reverse */
} norm_row;

static inline void *row_at(const crank_view *view, int64_t i)
{
    return (char *)view->data + i * view->strides[0] * (int64_t)(crank_dtype_bits(view->dtype) / 8);
}
static inline void  *row_if(const crank_view *view, int64_t i) { return view_present(view) ? row_at(view, i) : NULL; }
static inline float *statistic(const crank_view *view, int64_t i) { return (float *)view->data + i * view->strides[0]; }

/* ---- forward ---- */

/* z as it is stored: the reverse pass reads the rounded sum */
ALWAYS_INLINE vec norm_z(const norm_row *r, int64_t i, int count)
{
    vec z = vec_get(r->x, r->type, i, count);
    if (!r->residual) return z;
    z = vec_add(z, vec_get(r->residual, r->type, i, count));
    return r->type == CRANK_F32 ? z : vec_widen_bf16(vec_to_bf16(z));
}
ALWAYS_INLINE vec z_term(const void *data, int64_t i, int count)
{
    const norm_row *r = data;
    vec             z = norm_z(r, i, count);
    if (r->sum) vec_set_at(r->sum, r->type, i, z, count);
    return z;
}
ALWAYS_INLINE vec square_term(const void *data, int64_t i, int count) { return vec_square(z_term(data, i, count)); }
ALWAYS_INLINE vec centred_term(const void *data, int64_t i, int count)
{
    const norm_row *r = data;
    vec             c = vec_sub(norm_z(r, i, count), r->mean);
    if (count != LANES) c = vec_keep(c, count, vec_zero());
    return vec_mul(c, c);
}
ALWAYS_INLINE void norm_put(const norm_row *r, int64_t i, vec y, int count)
{
    if (count == LANES) vec_put(r->y, r->type, i, y, r->stream);
    else vec_write_part(r->y, r->type, i, y, count);
}
ALWAYS_INLINE void rms_step(const void *data, int64_t i, int count)
{
    const norm_row *r = data;
    vec             y = vec_mul(norm_z(r, i, count), r->rstd);
    norm_put(r, i, vec_mul(y, vec_get(r->w, r->w_type, i, count)), count);
}
ALWAYS_INLINE void layer_step(const void *data, int64_t i, int count)
{
    const norm_row *r = data;
    vec             y = vec_mul(vec_sub(norm_z(r, i, count), r->mean), r->rstd);
    if (r->w) y = vec_mul(y, vec_get(r->w, r->w_type, i, count));
    if (r->b) y = vec_add(y, vec_get(r->b, r->w_type, i, count));
    norm_put(r, i, y, count);
}

ALWAYS_INLINE void norm_rows(crank_dtype type, crank_dtype w_type, const norm_job *job, int64_t first, int64_t last)
{
    int64_t d = job->x->dims[1];
    for (int64_t i = first; i < last; i++) {
        norm_row r = {.type = type,
                      .w_type = w_type,
                      .x = row_at(job->x, i),
                      .residual = row_if(job->residual, i),
                      .w = row_if(job->w, 0),
                      .y = row_at(job->y, i),
                      .sum = row_if(job->sum, i)};
        r.stream = job->stream && aligned_for_stream(r.y);
        float sum = job->centred ? row_sum(z_term, &r, d) : row_sum(square_term, &r, d), squares = sum;
        if (r.sum) r.x = r.sum, r.residual = r.sum = NULL; /* z stands there now */
        if (job->centred) {
            r.b = row_if(job->b, 0);
            r.mean = vec_set(*statistic(job->mean, i) = sum / (float)d);
            squares = row_sum(centred_term, &r, d);
        }
        float rstd = 1.0f / sqrtf(squares / (float)d + job->epsilon);
        r.rstd = vec_set(*statistic(job->rstd, i) = rstd);
        if (job->centred) row_each(layer_step, &r, d);
        else row_each(rms_step, &r, d);
    }
}

static void norm_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const norm_job *job = data;
    (void)worker;
    if (job->type == CRANK_F32) norm_rows(CRANK_F32, CRANK_F32, job, first, last);
    else if (job->w_type == CRANK_F32) norm_rows(CRANK_BF16, CRANK_F32, job, first, last);
    else norm_rows(CRANK_BF16, CRANK_BF16, job, first, last);
}

static bool norm_serves(const crank_call *call) { return fast_type(call->out[0].dtype); }

static crank_status rmsnorm_run(crank_context *context, const crank_call *call)
{
    const crank_view       *in = call->in, *out = call->out;
    static const crank_view absent = {.rank = -1};
    norm_job                job = {.x = &in[0],
                                   .w = &in[1],
                                   .b = &absent,
                                   .residual = &in[2],
                                   .y = &out[0],
                                   .rstd = &out[1],
                                   .sum = &out[2],
                                   .type = in[0].dtype,
                                   .w_type = in[1].dtype,
                                   .stream = streams(call, &out[0]),
                                   .epsilon = (float)((const crank_norm_attributes *)call->attributes)->epsilon};
    (void)context;
    rows_run(in[0].dims[0], in[0].dims[1], 1, cpu_threads(call), norm_kernel, &job);
    return CRANK_OK;
}

static crank_status layernorm_run(crank_context *context, const crank_call *call)
{
    const crank_view *in = call->in, *out = call->out;
    norm_job          job = {.x = &in[0],
                             .w = &in[1],
                             .b = &in[2],
                             .residual = &in[3],
                             .y = &out[0],
                             .mean = &out[1],
                             .rstd = &out[2],
                             .sum = &out[3],
                             .type = in[0].dtype,
                             .w_type = view_present(&in[1]) ? in[1].dtype : in[2].dtype,
                             .centred = true,
                             .stream = streams(call, &out[0]),
                             .epsilon = (float)((const crank_norm_attributes *)call->attributes)->epsilon};
    (void)context;
    rows_run(in[0].dims[0], in[0].dims[1], 1, cpu_threads(call), norm_kernel, &job);
    return CRANK_OK;
}

/* ---- reverse ---- */

/* h = (z - mean) rstd, or z rstd */
ALWAYS_INLINE vec norm_h(const norm_row *r, bool centred, int64_t i, int count)
{
    vec z = vec_get(r->z, r->type, i, count);
    return vec_mul(centred ? vec_sub(z, r->mean) : z, r->rstd);
}
ALWAYS_INLINE vec norm_g(const norm_row *r, int64_t i, int count)
{
    vec g = vec_get(r->dy, r->type, i, count);
    return r->w ? vec_mul(g, vec_get(r->w, r->w_type, i, count)) : g;
}
ALWAYS_INLINE vec g_term(const void *data, int64_t i, int count) { return norm_g(data, i, count); }
ALWAYS_INLINE vec rms_gh_term(const void *data, int64_t i, int count)
{
    return vec_mul(norm_g(data, i, count), norm_h(data, false, i, count));
}
ALWAYS_INLINE vec layer_gh_term(const void *data, int64_t i, int count)
{
    return vec_mul(norm_g(data, i, count), norm_h(data, true, i, count)); /* g is zero behind `count` */
}
/* dx = dres + rstd (g - mean(g) - h mean(g h)); c0, c1 are the means times rstd. RMS norm has no mean(g). */
ALWAYS_INLINE void norm_reverse_step(const norm_row *r, bool centred, int64_t i, int count)
{
    vec g = norm_g(r, i, count), h = norm_h(r, centred, i, count);
    vec dx = vec_sub(vec_mul(g, r->rstd), vec_mul(h, r->c1));
    if (centred) dx = vec_sub(dx, r->c0);
    if (r->dres) dx = vec_add(dx, vec_get(r->dres, r->type, i, count));
    norm_put(r, i, dx, count);
}
ALWAYS_INLINE void rms_reverse_step(const void *data, int64_t i, int count)
{
    norm_reverse_step(data, false, i, count);
}
ALWAYS_INLINE void layer_reverse_step(const void *data, int64_t i, int count)
{
    norm_reverse_step(data, true, i, count);
}

ALWAYS_INLINE void norm_reverse_row(const norm_job *job, norm_row *r, int64_t i)
{
    int64_t d = job->z->dims[1];
    float   rstd = *statistic(job->rstd, i);
    r->dy = row_at(job->dy, i);
    r->z = row_at(job->z, i);
    r->dres = row_if(job->dres, i);
    r->y = row_at(job->dx, i);
    r->rstd = vec_set(rstd);
    r->stream = job->stream && aligned_for_stream(r->y);
    if (job->centred) {
        r->mean = vec_set(*statistic(job->mean, i));
        r->c0 = vec_set(rstd * row_sum(g_term, r, d) / (float)d);
        r->c1 = vec_set(rstd * row_sum(layer_gh_term, r, d) / (float)d);
        row_each(layer_reverse_step, r, d);
    } else {
        r->c1 = vec_set(rstd * row_sum(rms_gh_term, r, d) / (float)d);
        row_each(rms_reverse_step, r, d);
    }
}

/* Where the rows of a block stand. */
typedef struct block_rows {
    int         count;
    const void *dy[BLOCK_ROWS], *z[BLOCK_ROWS];
    float       mean[BLOCK_ROWS], rstd[BLOCK_ROWS];
} block_rows;

static block_rows rows_of_block(const norm_job *job, int64_t first, int64_t last)
{
    block_rows b = {.count = (int)(last - first)};
    for (int k = 0; k < b.count; k++) {
        b.dy[k] = row_at(job->dy, first + k);
        b.z[k] = row_at(job->z, first + k);
        b.rstd[k] = *statistic(job->rstd, first + k);
        b.mean[k] = job->centred ? *statistic(job->mean, first + k) : 0;
    }
    return b;
}

/* dw[i..] += sum over a block of rows of dy h; db[i..] += sum of dy */
ALWAYS_INLINE void weight_gradient_strip(crank_dtype type, bool centred, const block_rows *b, float *dw, float *db,
                                         int64_t i, int count)
{
    vec sum_w = vec_zero(), sum_b = vec_zero();
    for (int k = 0; k < b->count; k++) {
        vec dy = vec_get(b->dy[k], type, i, count), z = vec_get(b->z[k], type, i, count);
        if (centred) z = vec_sub(z, vec_set(b->mean[k]));
        sum_w = vec_fma(dy, vec_mul(z, vec_set(b->rstd[k])), sum_w);
        if (centred) sum_b = vec_add(sum_b, dy);
    }
    vec_set_at(dw, CRANK_F32, i, vec_add(vec_get(dw, CRANK_F32, i, count), sum_w), count);
    if (centred) vec_set_at(db, CRANK_F32, i, vec_add(vec_get(db, CRANK_F32, i, count), sum_b), count);
}

ALWAYS_INLINE void weight_gradients(crank_dtype type, bool centred, const norm_job *job, int64_t first, int64_t last,
                                    float *dw)
{
    block_rows b = rows_of_block(job, first, last);
    int64_t    d = job->z->dims[1], i = 0;
    for (; i + LANES <= d; i += LANES) weight_gradient_strip(type, centred, &b, dw, dw + d, i, LANES);
    if (i < d) weight_gradient_strip(type, centred, &b, dw, dw + d, i, (int)(d - i));
}

static void add_and_clear(float *total, float *part, int64_t n)
{
    for (int64_t i = 0; i < n; i++) total[i] += part[i], part[i] = 0;
}

ALWAYS_INLINE void norm_reverse_rows(crank_dtype type, crank_dtype w_type, const norm_job *job, int64_t first,
                                     int64_t last, int worker)
{
    int64_t d = job->z->dims[1];
    float  *group = job->partial ? job->partial + (int64_t)worker * 4 * d : NULL, *total = group ? group + 2 * d : NULL;
    norm_row r = {.type = type, .w_type = w_type, .w = row_if(job->w, 0)};
    for (int64_t row = first; row < last; row += BLOCK_ROWS) {
        int64_t end = row + BLOCK_ROWS < last ? row + BLOCK_ROWS : last;
        for (int64_t k = row; k < end; k++) norm_reverse_row(job, &r, k);
        if (!group) continue;
        if (job->centred) weight_gradients(type, true, job, row, end, group);
        else weight_gradients(type, false, job, row, end, group);
        if ((end - first) % GROUP_ROWS == 0 || end == last) add_and_clear(total, group, 2 * d);
    }
}

static void norm_reverse_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const norm_job *job = data;
    if (job->type == CRANK_F32) norm_reverse_rows(CRANK_F32, CRANK_F32, job, first, last, worker);
    else if (job->w_type == CRANK_F32) norm_reverse_rows(CRANK_BF16, CRANK_F32, job, first, last, worker);
    else norm_reverse_rows(CRANK_BF16, CRANK_BF16, job, first, last, worker);
}

/* The workers' totals, in their order. `which` is 0 for dw, 1 for db. */
static void finish_gradient(const norm_job *job, const crank_view *out, int workers, int which)
{
    int64_t d = job->z->dims[1];
    for (int64_t i = 0; i < d && view_present(out); i++) {
        float sum = 0;
        for (int k = 0; k < workers; k++) sum += job->partial[((int64_t)k * 4 + 2 + which) * d + i];
        if (out->dtype == CRANK_F32) ((float *)out->data)[i * out->strides[0]] = sum;
        else ((uint16_t *)out->data)[i * out->strides[0]] = crank_to_bf16(sum);
    }
}

static size_t norm_reverse_workspace(const crank_call *call, int threads)
{
    bool wanted = view_present(&call->out[1]) || (call->outputs > 2 && view_present(&call->out[2]));
    return wanted ? (size_t)threads * 4 * (size_t)call->out[0].dims[1] * sizeof(float) : 0;
}

static crank_status norm_reverse(const crank_call *call, norm_job *job)
{
    int     threads = cpu_threads(call);
    int64_t n = job->z->dims[0], d = job->z->dims[1];
    job->type = job->z->dtype;
    job->stream = streams(call, &call->out[0]);
    job->partial = norm_reverse_workspace(call, threads) ? call->workspace : NULL;
    int workers = worth_threads(n * d, threads);
    if (job->partial) memset(job->partial, 0, (size_t)workers * 4 * (size_t)d * sizeof(float));
    rows_run(n, d, BLOCK_ROWS, threads, norm_reverse_kernel, job);
    if (job->partial) finish_gradient(job, &call->out[1], workers, 0);
    if (job->partial && job->centred) finish_gradient(job, &call->out[2], workers, 1);
    return CRANK_OK;
}

static crank_status rmsnorm_reverse_run(crank_context *context, const crank_call *call)
{
    const crank_view *in = call->in;
    norm_job          job = {.dy = &in[0],
                             .z = &in[1],
                             .w = &in[2],
                             .rstd = &in[3],
                             .dres = &in[4],
                             .dx = &call->out[0],
                             .w_type = in[2].dtype};
    (void)context;
    return norm_reverse(call, &job);
}

static crank_status layernorm_reverse_run(crank_context *context, const crank_call *call)
{
    const crank_view *in = call->in;
    norm_job          job = {.dy = &in[0],
                             .z = &in[1],
                             .w = &in[2],
                             .mean = &in[3],
                             .rstd = &in[4],
                             .dres = &in[5],
                             .dx = &call->out[0],
                             .w_type = view_present(&in[2]) ? in[2].dtype : CRANK_F32,
                             .centred = true};
    (void)context;
    return norm_reverse(call, &job);
}

bool FINDER(norm)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"rmsnorm", rmsnorm_run, norm_serves, NULL},
        {"rmsnorm_backward", rmsnorm_reverse_run, norm_serves, norm_reverse_workspace},
        {"layernorm", layernorm_run, norm_serves, NULL},
        {"layernorm_backward", layernorm_reverse_run, norm_serves, norm_reverse_workspace},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
