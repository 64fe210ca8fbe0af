/* segment_simd.h - segment_pool and its reverse in f32 and bf16: sums in f32, whole segments to threads, so the result
 * does not depend on their number. */
#include "device/cpu/fast.h"

enum { SUMS = 4 }; /* vectors of columns that are summed together down the rows */

/* Rows first..last-1 of segment i that count, inside the n rows that exist. */
static void segment_rows(const crank_view *segments, int64_t i, int64_t n, crank_segment_kind kind, int64_t *first,
                         int64_t *last)
{
    const int32_t *bounds = segments->data;
    int64_t begin = bounds[i * segments->strides[0]], end = bounds[(i + 1) * segments->strides[0]];
    if (begin < 0) begin = 0;
    if (end > n) end = n;
    if (begin > end) begin = end;
    if (kind == CRANK_SEGMENT_FIRST && end > begin) end = begin + 1;
    if (kind == CRANK_SEGMENT_LAST && end > begin) begin = end - 1;
    *first = begin;
    *last = end;
}

static const void *row_of(const crank_view *view, int64_t i)
{
    return (const char *)view->data + (size_t)(i * view->strides[0]) * (crank_dtype_bits(view->dtype) / 8);
}

static vec read_some(const void *p, crank_dtype type, int64_t i, int64_t n)
{
    return n - i >= LANES ? vec_read(p, type, i) : vec_read_part(p, type, i, (int)(n - i));
}

static void write_some(void *p, crank_dtype type, int64_t i, int64_t n, vec x)
{
    if (n - i >= LANES)
        vec_write(p, type, i, x);
    else
        vec_write_part(p, type, i, x, (int)(n - i));
}

/* y = mean of rows first..last-1 of x; zeros where there are none */
static void pool_rows(const crank_view *x, int64_t first, int64_t last, int64_t d, void *y)
{
    vec scale = vec_set(last > first ? 1.0f / (float)(last - first) : 0);
    for (int64_t k = 0; k < d; k += SUMS * LANES) {
        vec sum[SUMS];
        for (int s = 0; s < SUMS; s++) sum[s] = vec_zero();
        for (int64_t j = first; j < last; j++)
            for (int s = 0; s < SUMS && k + s * LANES < d; s++)
                sum[s] = vec_add(sum[s], read_some(row_of(x, j), x->dtype, k + s * LANES, d));
        for (int s = 0; s < SUMS && k + s * LANES < d; s++)
            write_some(y, x->dtype, k + s * LANES, d, vec_mul(sum[s], scale));
    }
}

static crank_status pool_run(crank_context *context, const crank_call *call)
{
    const crank_segment_attributes *attributes = call->attributes;
    const crank_view *x = &call->in[0], *segments = &call->in[1], *y = &call->out[0];
    int64_t n = x->dims[0], d = x->dims[1], count = y->dims[0];
    (void)context;
#pragma omp parallel for schedule(static) num_threads(worth_threads(n *d, cpu_threads(call)))
    for (int64_t i = 0; i < count; i++) {
        int64_t first, last;
        segment_rows(segments, i, n, attributes->kind, &first, &last);
        pool_rows(x, first, last, d, (void *)row_of(y, i));
    }
    return CRANK_OK;
}

/* Rows first..last-1 of dx = dy / (last - first) */
static void spread_row(const void *dy, const crank_view *dx, int64_t first, int64_t last, int64_t d)
{
    vec share = vec_set(1.0f / (float)(last - first));
    for (int64_t k = 0; k < d; k += LANES) {
        vec value = vec_mul(read_some(dy, dx->dtype, k, d), share);
        for (int64_t j = first; j < last; j++) write_some((void *)row_of(dx, j), dx->dtype, k, d, value);
    }
}

static crank_status spread_run(crank_context *context, const crank_call *call)
{
    const crank_segment_attributes *attributes = call->attributes;
    const crank_view *dy = &call->in[0], *segments = &call->in[1], *dx = &call->out[0];
    int64_t n = dx->dims[0], d = dx->dims[1], count = dy->dims[0];
    int threads = worth_threads(n * d, cpu_threads(call));
    (void)context;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t j = 0; j < n; j++) memset((void *)row_of(dx, j), 0, (size_t)d * (crank_dtype_bits(dx->dtype) / 8));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            int64_t first, last;
            segment_rows(segments, i, n, attributes->kind, &first, &last);
            if (last > first) spread_row(row_of(dy, i), dx, first, last, d);
        }
    }
    return CRANK_OK;
}

static bool serves(const crank_call *call)
{
    return fast_type(call->in[0].dtype);
}

bool FINDER(segment)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"segment_pool", pool_run, serves, NULL},
        {"segment_pool_backward", spread_run, serves, NULL},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
