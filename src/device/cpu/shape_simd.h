/* shape_simd.h - vectorised sums over axes, gather with a cast, scatter of rows, unpick.
 *
 * Sums are cut into parts of a fixed size, whatever the number of threads; a part is summed in f32 vectors, the parts
 * in f64 in their order. So the bits depend on the level alone, and long sums lose little. */
#include "device/cpu/fast.h"

/* ---- reduce ---- */

/* x with axes merged, as outputs x sums; the last merged axis is contiguous and either summed (rows) or kept (columns).
 */
typedef struct reduce_job {
    const void       *x;
    crank_dtype       type, to;
    crank_reduce_kind kind;
    void             *y;
    double           *rows_part;    /* [outputs, parts] */
    float            *columns_part; /* [outputs, parts, columns] */
    bool              by_row;
    int64_t           columns;
    int               kept_axes, summed_axes; /* without the contiguous one */
    int64_t           kept_dims[CRANK_MAX_RANK], kept_strides[CRANK_MAX_RANK];
    int64_t           summed_dims[CRANK_MAX_RANK], summed_strides[CRANK_MAX_RANK];
    int64_t           outputs, sums; /* products of kept_dims, of summed_dims */
    int64_t           pieces, parts; /* by row: pieces of a row; parts of an output */
    int64_t           rows_of_part;
} reduce_job;

enum {
    PART = 8192,
    GROUP = 256,
    STRIP = 512
}; /* elements of a part by row; rows of a part by column; columns of a task */

static int64_t offset_in(int64_t index, int axes, const int64_t *dims, const int64_t *strides)
{
    int64_t offset = 0;
    if (axes == 1) return index * strides[0];
    for (int axis = axes - 1; axis >= 0; axis--) {
        offset += index % dims[axis] * strides[axis];
        index /= dims[axis];
    }
    return offset;
}

static bool reduce_make(const crank_call *call, reduce_job *job)
{
    const crank_reduce_attributes *a = call->attributes;
    const crank_view              *x = &call->in[0], *y = &call->out[0];
    int64_t                        dims[CRANK_MAX_RANK] = {0}, strides[CRANK_MAX_RANK] = {0};
    bool                           summed[CRANK_MAX_RANK] = {0};
    int                            axes = 0; /* merged axes, innermost first */
    *job = (reduce_job){.x = x->data, .type = x->dtype, .to = y->dtype, .kind = a->kind, .y = y->data};
    if (!fast_type(x->dtype) || !fast_type(y->dtype) || !crank_view_is_contiguous(y) || crank_view_count(x) == 0)
        return false;
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        bool sum = a->axes >> axis & 1;
        if (x->dims[axis] == 1) continue;
        if (axes && summed[axes - 1] == sum && x->strides[axis] == strides[axes - 1] * dims[axes - 1]) {
            dims[axes - 1] *= x->dims[axis];
            continue;
        }
        dims[axes] = x->dims[axis], strides[axes] = x->strides[axis], summed[axes++] = sum;
    }
    if (axes == 0 || (strides[0] != 1 && x->dims[x->rank - 1] == 1)) { /* a scalar, or a column: rows of one element */
        for (int axis = axes++; axis > 0; axis--)
            dims[axis] = dims[axis - 1], strides[axis] = strides[axis - 1], summed[axis] = summed[axis - 1];
        dims[0] = strides[0] = 1, summed[0] = true;
    }
    if (strides[0] != 1) return false;
    job->by_row = summed[0];
    job->columns = dims[0];
    job->outputs = job->sums = 1;
    for (int axis = axes - 1; axis > 0; axis--) { /* outermost first again */
        int     *count = summed[axis] ? &job->summed_axes : &job->kept_axes;
        int64_t *to_dims = summed[axis] ? job->summed_dims : job->kept_dims;
        int64_t *to_strides = summed[axis] ? job->summed_strides : job->kept_strides;
        to_dims[*count] = dims[axis];
        to_strides[(*count)++] = strides[axis];
        *(summed[axis] ? &job->sums : &job->outputs) *= dims[axis];
    }
    job->pieces = job->by_row ? (job->columns + PART - 1) / PART : 1;
    job->rows_of_part = !job->by_row ? GROUP : job->pieces > 1 ? 1 : PART / job->columns;
    job->parts = (job->sums + job->rows_of_part - 1) / job->rows_of_part * job->pieces;
    return true;
}

static bool reduce_serves(const crank_call *call)
{
    reduce_job job;
    return reduce_make(call, &job);
}

static size_t reduce_workspace(const crank_call *call, int threads)
{
    reduce_job job;
    (void)threads;
    reduce_make(call, &job);
    size_t parts = (size_t)(job.outputs * job.parts);
    return job.by_row ? parts * sizeof(double) : parts * (size_t)job.columns * sizeof(float);
}

typedef struct reduce_row {
    crank_dtype type;
    const void *x;
} reduce_row;

ALWAYS_INLINE vec plain_term(const void *data, int64_t i, int count)
{
    const reduce_row *r = data;
    return vec_get(r->x, r->type, i, count);
}
ALWAYS_INLINE vec squared_term(const void *data, int64_t i, int count)
{
    return vec_square(plain_term(data, i, count));
}

/* NaN passes, whichever side it stands on. */
ALWAYS_INLINE vec highest(vec a, vec b) { return vec_select(vec_is_nan(a), a, vec_max(a, b)); }

ALWAYS_INLINE float highest_of_row(crank_dtype type, const void *x, int64_t n)
{
    vec     m = vec_set(-INFINITY);
    float   lanes[LANES], most = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) m = highest(m, vec_read(x, type, i));
    if (i < n) m = highest(m, vec_keep(vec_read_part(x, type, i, (int)(n - i)), (int)(n - i), vec_set(-INFINITY)));
    vec_store(lanes, m);
    for (int k = 0; k < LANES; k++) most = most != most || most > lanes[k] ? most : lanes[k];
    return most;
}

static double combine(crank_reduce_kind kind, double a, double b)
{
    if (kind != CRANK_AMAX) return a + b;
    return a != a || a > b ? a : b;
}

ALWAYS_INLINE double part_by_row(crank_dtype type, const reduce_job *job, int64_t output, int64_t part)
{
    int64_t first = part / job->pieces * job->rows_of_part, start = part % job->pieces * PART;
    int64_t last = first + job->rows_of_part < job->sums ? first + job->rows_of_part : job->sums;
    int64_t n = job->columns - start < PART ? job->columns - start : PART, width = type == CRANK_F32 ? 4 : 2;
    int64_t base = offset_in(output, job->kept_axes, job->kept_dims, job->kept_strides) + start;
    double  sum = job->kind == CRANK_AMAX ? -INFINITY : 0;
    for (int64_t row = first; row < last; row++) {
        int64_t    at = base + offset_in(row, job->summed_axes, job->summed_dims, job->summed_strides);
        reduce_row r = {type, (const char *)job->x + at * width};
        float      value = job->kind == CRANK_AMAX          ? highest_of_row(type, r.x, n)
                           : job->kind == CRANK_SUM_SQUARES ? row_sum(squared_term, &r, n)
                                                            : row_sum(plain_term, &r, n);
        sum = combine(job->kind, sum, (double)value);
    }
    return sum;
}

static void rows_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const reduce_job *job = data;
    (void)worker;
    for (int64_t i = first; i < last; i++)
        job->rows_part[i] = job->type == CRANK_F32 ? part_by_row(CRANK_F32, job, i / job->parts, i % job->parts)
                                                   : part_by_row(CRANK_BF16, job, i / job->parts, i % job->parts);
}

enum { ROWS_AT_ONCE = 8 };

/* to[c..] = or += the sum of a few rows */
ALWAYS_INLINE void add_rows(crank_dtype type, crank_reduce_kind kind, const char *const *x, int rows, bool begin,
                            float *to, int64_t c, int count)
{
    vec sum = begin ? kind == CRANK_AMAX ? vec_set(-INFINITY) : vec_zero() : vec_get(to, CRANK_F32, c, count);
    vec part = kind == CRANK_AMAX ? sum : vec_zero();
    for (int row = 0; row < rows; row++) {
        vec value = vec_get(x[row], type, c, count);
        part = kind == CRANK_AMAX ? highest(part, value)
                                  : vec_add(part, kind == CRANK_SUM_SQUARES ? vec_square(value) : value);
    }
    vec_set_at(to, CRANK_F32, c, kind == CRANK_AMAX ? part : vec_add(sum, part), count);
}

/* Columns start..end-1 of the rows of a part -> to[start..] */
ALWAYS_INLINE void add_columns(crank_dtype type, crank_reduce_kind kind, const reduce_job *job, int64_t base,
                               int64_t first, int64_t last, int64_t start, int64_t end, float *to)
{
    for (int64_t row = first; row < last; row += ROWS_AT_ONCE) {
        const char *x[ROWS_AT_ONCE];
        int         rows = last - row < ROWS_AT_ONCE ? (int)(last - row) : ROWS_AT_ONCE;
        int64_t     c = start;
        for (int k = 0; k < rows; k++) {
            int64_t at = base + offset_in(row + k, job->summed_axes, job->summed_dims, job->summed_strides);
            x[k] = (const char *)job->x + at * (type == CRANK_F32 ? 4 : 2);
        }
        for (; c + LANES <= end; c += LANES) {
            if (rows == ROWS_AT_ONCE) add_rows(type, kind, x, ROWS_AT_ONCE, row == first, to, c, LANES);
            else add_rows(type, kind, x, rows, row == first, to, c, LANES);
        }
        if (c < end) add_rows(type, kind, x, rows, row == first, to, c, (int)(end - c));
    }
}

/* Task: one strip of columns of one part of one output. */
static int64_t strips_of(const reduce_job *job) { return (job->columns + STRIP - 1) / STRIP; }

ALWAYS_INLINE void part_by_column(crank_dtype type, const reduce_job *job, int64_t task)
{
    int64_t strip = task % strips_of(job), part = task / strips_of(job) % job->parts,
            output = task / strips_of(job) / job->parts;
    int64_t first = part * GROUP, last = first + GROUP < job->sums ? first + GROUP : job->sums;
    int64_t start = strip * STRIP, end = start + STRIP < job->columns ? start + STRIP : job->columns;
    int64_t base = offset_in(output, job->kept_axes, job->kept_dims, job->kept_strides);
    float  *to = job->columns_part + (output * job->parts + part) * job->columns;
    if (job->kind == CRANK_AMAX) add_columns(type, CRANK_AMAX, job, base, first, last, start, end, to);
    else if (job->kind == CRANK_SUM_SQUARES)
        add_columns(type, CRANK_SUM_SQUARES, job, base, first, last, start, end, to);
    else add_columns(type, CRANK_SUM, job, base, first, last, start, end, to);
}

static void columns_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const reduce_job *job = data;
    (void)worker;
    for (int64_t task = first; task < last; task++) {
        if (job->type == CRANK_F32) part_by_column(CRANK_F32, job, task);
        else part_by_column(CRANK_BF16, job, task);
    }
}

static void put_result(const reduce_job *job, int64_t i, double sum)
{
    int64_t summed = job->sums * (job->by_row ? job->columns : 1);
    float   value = (float)(job->kind == CRANK_MEAN ? sum / (double)summed : sum);
    if (job->to == CRANK_F32) ((float *)job->y)[i] = value;
    else ((uint16_t *)job->y)[i] = crank_to_bf16(value);
}

/* Output elements first..last-1 from their parts. */
static void finish_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const reduce_job *job = data;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t output = job->by_row ? i : i / job->columns, column = job->by_row ? 0 : i % job->columns;
        double  sum = job->kind == CRANK_AMAX ? -INFINITY : 0;
        for (int64_t part = 0; part < job->parts; part++) {
            int64_t at = output * job->parts + part;
            double  value = job->by_row ? job->rows_part[at] : (double)job->columns_part[at * job->columns + column];
            sum = combine(job->kind, sum, value);
        }
        put_result(job, i, sum);
    }
}

static crank_status reduce_run(crank_context *context, const crank_call *call)
{
    reduce_job job;
    int        threads = cpu_threads(call);
    (void)context;
    reduce_make(call, &job);
    int64_t work = job.outputs * job.sums * job.columns;
    job.rows_part = call->workspace;
    job.columns_part = call->workspace;
    int64_t tasks = job.outputs * job.parts * (job.by_row ? 1 : strips_of(&job));
    rows_run(tasks, work / tasks, 1, threads, job.by_row ? rows_kernel : columns_kernel, &job);
    int64_t results = job.outputs * (job.by_row ? 1 : job.columns);
    rows_run(results, job.parts, 64, threads, finish_kernel, &job);
    return CRANK_OK;
}

/* ---- gather_rows ---- */

typedef struct rows_job {
    const crank_view *x, *ids, *y;
    int32_t          *first, *next; /* of scatter: lists of rows by id */
    bool              stream;
} rows_job;

ALWAYS_INLINE vec unchanged(vec x) { return x; }

static inline int64_t row_id(const rows_job *job, int64_t i)
{
    return ((const int32_t *)job->ids->data)[i * job->ids->strides[0]];
}

/* The rows that are read next are unforeseeable to the processor: they are named while this one is copied. */
static inline void prefetch_row(const void *row, int64_t bytes)
{
    for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch((const char *)row + k);
}

static inline const char *table_row(const rows_job *job, int64_t i, int64_t width)
{
    int64_t id = row_id(job, i);
    return id < 0 || id >= job->x->dims[0] ? NULL : (const char *)job->x->data + id * job->x->strides[0] * width;
}

static void gather_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const rows_job *job = data;
    crank_dtype     from = job->x->dtype, to = job->y->dtype;
    int64_t         d = job->y->dims[1], x_width = (int64_t)crank_dtype_bits(from) / 8,
            y_width = (int64_t)crank_dtype_bits(to) / 8;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        char       *y = (char *)job->y->data + i * job->y->strides[0] * y_width;
        const char *x = table_row(job, i, x_width), *next = i + 1 < last ? table_row(job, i + 1, x_width) : NULL;
        if (next) prefetch_row(next, d * x_width);
        if (!x) memset(y, 0, (size_t)(d * y_width));
        else if (from == to) { /* pairs of 16-bit elements move as one word */ int64_t words = d * x_width / 4;
            map1(unchanged, CRANK_F32, CRANK_F32, words, x, y, job->stream);
            memcpy(y + 4 * words, x + 4 * words, (size_t)(d * x_width - 4 * words));
        } else if (from == CRANK_F32) map1(unchanged, CRANK_F32, CRANK_BF16, d, x, y, job->stream);
        else map1(unchanged, CRANK_BF16, CRANK_F32, d, x, y, job->stream);
    }
}

static bool gather_serves(const crank_call *call)
{
    return call->in[0].dtype == call->out[0].dtype || (fast_type(call->in[0].dtype) && fast_type(call->out[0].dtype));
}

static crank_status gather_run(crank_context *context, const crank_call *call)
{
    rows_job job = {.x = &call->in[0], .ids = &call->in[1], .y = &call->out[0], .stream = streams(call, &call->out[0])};
    (void)context;
    rows_run(job.y->dims[0], job.y->dims[1], 1, cpu_threads(call), gather_kernel, &job);
    return CRANK_OK;
}

/* ---- scatter_rows: each row of the table is the sum of its list, written once ---- */

ALWAYS_INLINE void scatter_row(crank_dtype from, crank_dtype to, const rows_job *job, int64_t v)
{
    int64_t d = job->y->dims[1], width = from == CRANK_F32 ? 4 : 2;
    char   *y = (char *)job->y->data + v * job->y->strides[0] * (to == CRANK_F32 ? 4 : 2);
    if (job->first[v] < 0) {
        memset(y, 0, (size_t)d * (to == CRANK_F32 ? 4 : 2));
        return;
    }
    for (int64_t c = 0; c < d; c += 2 * LANES) {
        int one = d - c < LANES ? (int)(d - c) : LANES;
        int two = d - c - LANES < 0 ? 0 : d - c - LANES < LANES ? (int)(d - c - LANES) : LANES;
        vec s0 = vec_zero(), s1 = vec_zero();
        for (int32_t i = job->first[v]; i >= 0; i = job->next[i]) {
            const char *x = (const char *)job->x->data + (i * job->x->strides[0] + c) * width;
            s0 = vec_add(s0, vec_get(x, from, 0, one));
            if (two) s1 = vec_add(s1, vec_get(x, from, LANES, two));
        }
        vec_set_at(y, to, c, s0, one);
        if (two) vec_set_at(y, to, c + LANES, s1, two);
    }
}

static inline const char *row_of_dy(const rows_job *job, int64_t i)
{
    return (const char *)job->x->data + i * job->x->strides[0] * (job->x->dtype == CRANK_F32 ? 4 : 2);
}

static void scatter_any(const rows_job *job, int64_t v)
{
    if (job->x->dtype == CRANK_F32) scatter_row(CRANK_F32, CRANK_F32, job, v);
    else if (job->y->dtype == CRANK_F32) scatter_row(CRANK_BF16, CRANK_F32, job, v);
    else scatter_row(CRANK_BF16, CRANK_BF16, job, v);
}

static bool scatter_serves(const crank_call *call)
{
    return fast_type(call->in[0].dtype) && fast_type(call->out[0].dtype) && call->in[1].dims[0] < INT32_MAX;
}

/* first [V], next [n] */
static size_t scatter_workspace(const crank_call *call, int threads)
{
    (void)threads;
    return (size_t)(call->out[0].dims[0] + call->in[1].dims[0]) * sizeof(int32_t);
}

static crank_status scatter_run(crank_context *context, const crank_call *call)
{
    rows_job job = {.x = &call->in[0], .ids = &call->in[1], .y = &call->out[0], .first = call->workspace};
    int64_t  V = job.y->dims[0], n = job.x->dims[0];
    (void)context;
    job.next = job.first + V;
    for (int64_t v = 0; v < V; v++) job.first[v] = -1;
    for (int64_t i = n - 1; i >= 0; i--) {
        int64_t id = row_id(&job, i);
        if (id < 0 || id >= V) continue;
        job.next[i] = job.first[id];
        job.first[id] = (int32_t)i;
    }
    int64_t width = job.x->dtype == CRANK_F32 ? 4 : 2;
    int     threads = worth_threads((V + n) * job.y->dims[1], cpu_threads(call));
    /* Frequent ids stand together, so equal pieces would be unequal work; who takes a row does not change its sum. */
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
    for (int64_t v = 0; v < V; v++) {
        if (v + 1 < V && job.first[v + 1] >= 0) prefetch_row(row_of_dy(&job, job.first[v + 1]), job.x->dims[1] * width);
        scatter_any(&job, v);
    }
    return CRANK_OK;
}

/* ---- unpick: a row of zeros, then additions in their order ---- */

static void unpick_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const rows_job *job = data;
    int64_t         c = job->y->dims[1], k = job->x->dims[1];
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        float       *y = (float *)job->y->data + i * job->y->strides[0];
        const float *dy = (const float *)job->x->data + i * job->x->strides[0];
        memset(y, 0, (size_t)c * sizeof *y);
        for (int64_t j = 0; j < k; j++) {
            int64_t id = ((const int32_t *)job->ids->data)[i * job->ids->strides[0] + j * job->ids->strides[1]];
            if (id >= 0 && id < c) y[id] += dy[j];
        }
    }
}

static void unpick_bf16_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const rows_job *job = data;
    int64_t         c = job->y->dims[1], k = job->x->dims[1];
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        uint16_t       *y = (uint16_t *)job->y->data + i * job->y->strides[0];
        const uint16_t *dy = (const uint16_t *)job->x->data + i * job->x->strides[0];
        memset(y, 0, (size_t)c * sizeof *y);
        for (int64_t j = 0; j < k; j++) {
            int64_t id = ((const int32_t *)job->ids->data)[i * job->ids->strides[0] + j * job->ids->strides[1]];
            if (id >= 0 && id < c)
                y[id] = y[id] ? crank_to_bf16(crank_from_bf16(y[id]) + crank_from_bf16(dy[j])) : dy[j];
        }
    }
}

static bool unpick_serves(const crank_call *call) { return fast_type(call->out[0].dtype); }

static crank_status unpick_run(crank_context *context, const crank_call *call)
{
    rows_job job = {.x = &call->in[0], .ids = &call->in[1], .y = &call->out[0]};
    (void)context;
    rows_run(job.y->dims[0], job.y->dims[1], 1, cpu_threads(call),
             job.y->dtype == CRANK_F32 ? unpick_kernel : unpick_bf16_kernel, &job);
    return CRANK_OK;
}

bool FINDER(shape)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"reduce", reduce_run, reduce_serves, reduce_workspace},
        {"gather_rows", gather_run, gather_serves, NULL},
        {"scatter_rows", scatter_run, scatter_serves, scatter_workspace},
        {"unpick", unpick_run, unpick_serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
