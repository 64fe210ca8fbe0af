/* sparse_simd.h - products with a sparse matrix, and samples of a product, in f32 and bf16: sums in f32.
 *
 * Rows of x are taken LANES at a time and turned, so that each place of the matrix costs one load, one fused multiply-add and one
 * store of whole vectors. In a product each thread has row groups of its own; in a sample each has places of its own and goes
 * through all groups in order, so the result does not depend on the number of threads. */
#include "device/cpu/fast.h"

static const void *sparse_row(const crank_view *view, int64_t i)
{
    return (const char *)view->data + (size_t)(i * view->strides[0]) * (crank_dtype_bits(view->dtype) / 8);
}

static float sparse_read(const void *row, crank_dtype type, int64_t j)
{
    return type == CRANK_F32 ? ((const float *)row)[j] : crank_from_bf16(((const uint16_t *)row)[j]);
}

/* to [width][LANES] = rows first.. of x; lanes past the last row are zero. */
static void turn_in(const crank_view *x, int64_t first, float *to)
{
    int64_t width = x->dims[1], count = x->dims[0] - first < LANES ? x->dims[0] - first : LANES;
    if (count < LANES) memset(to, 0, (size_t)(width * LANES) * sizeof *to);
    for (int64_t l = 0; l < count; l++) {
        const void *row = sparse_row(x, first + l);
        for (int64_t j = 0; j < width; j++) to[j * LANES + l] = sparse_read(row, x->dtype, j);
    }
}

static void turn_out(const float *from, const crank_view *y, int64_t first)
{
    int64_t width = y->dims[1], count = y->dims[0] - first < LANES ? y->dims[0] - first : LANES;
    for (int64_t l = 0; l < count; l++) {
        void *row = (void *)(uintptr_t)sparse_row(y, first + l);
        for (int64_t j = 0; j < width; j++) {
            if (y->dtype == CRANK_F32) ((float *)row)[j] = from[j * LANES + l];
            else ((uint16_t *)row)[j] = crank_to_bf16(from[j * LANES + l]);
        }
    }
}

/* A walk along ascending places without divisions. */
typedef struct place {
    int64_t row, begin, end, cols, all;
} place;

/* Row and column of a place; false outside of the matrix. */
ALWAYS_INLINE bool sparse_seek(place *p, int64_t at, int64_t *row, int64_t *col)
{
    if (at < 0 || at >= p->all) return false;
    if (at < p->begin) *p = (place){0, 0, p->cols, p->cols, p->all};
    if (at >= p->end + 64 * p->cols) { /* far behind */
        p->row = at / p->cols;
        p->begin = p->row * p->cols;
        p->end = p->begin + p->cols;
    }
    while (at >= p->end) p->row++, p->begin = p->end, p->end += p->cols;
    *row = p->row;
    *col = at - p->begin;
    return true;
}

static size_t product_workspace(const crank_call *call, int threads)
{
    return (size_t)(call->in[0].dims[1] + call->out[0].dims[1]) * LANES * sizeof(float) * (size_t)threads;
}

static crank_status product_run(crank_context *context, const crank_call *call)
{
    const crank_sparse_attributes *a = call->attributes;
    const crank_view *x = &call->in[0], *v = &call->in[1], *index = &call->in[2], *y = &call->out[0];
    const int32_t    *places = index->data;
    int64_t           groups = (y->dims[0] + LANES - 1) / LANES, count = v->dims[0], in = x->dims[1], out = y->dims[1];
    int               threads = worth_threads(count * y->dims[0], cpu_threads(call));
    (void)context;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t g = 0; g < groups; g++) {
        float *from = (float *)call->workspace + (size_t)omp_get_thread_num() * (size_t)(in + out) * LANES, *to = from + in * LANES;
        place  p = {0, 0, a->cols, a->cols, a->rows * a->cols};
        turn_in(x, g * LANES, from);
        memset(to, 0, (size_t)(out * LANES) * sizeof *to);
        for (int64_t k = 0; k < count; k++) {
            int64_t row, col;
            if (!sparse_seek(&p, places[k * index->strides[0]], &row, &col)) continue;
            int64_t source = a->transpose ? row : col, target = a->transpose ? col : row;
            vec     value = vec_set(sparse_read(v->data, v->dtype, k * v->strides[0]));
            vec_store(to + target * LANES, vec_fma(value, vec_load(from + source * LANES), vec_load(to + target * LANES)));
        }
        turn_out(to, y, g * LANES);
    }
    return CRANK_OK;
}

enum { GROUPS = 8 }; /* row groups that are turned together */

static size_t sample_workspace(const crank_call *call, int threads)
{
    (void)threads;
    return (size_t)(call->in[0].dims[1] + call->in[1].dims[1]) * LANES * GROUPS * sizeof(float) + (size_t)call->out[0].dims[0] * sizeof(float);
}

static crank_status sample_run(crank_context *context, const crank_call *call)
{
    const crank_view *a = &call->in[0], *b = &call->in[1], *index = &call->in[2], *v = &call->out[0];
    const int32_t    *places = index->data;
    int64_t           rows = a->dims[1], cols = b->dims[1], n = a->dims[0], count = v->dims[0];
    float            *left = call->workspace, *right = left + rows * LANES * GROUPS, *sums = right + cols * LANES * GROUPS;
    int               threads = worth_threads(count * n, cpu_threads(call));
    (void)context;
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t first = 0; first < n; first += LANES * GROUPS) {
        int64_t groups = (n - first + LANES - 1) / LANES < GROUPS ? (n - first + LANES - 1) / LANES : GROUPS;
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(static)
            for (int64_t g = 0; g < groups; g++) {
                turn_in(a, first + g * LANES, left + g * rows * LANES);
                turn_in(b, first + g * LANES, right + g * cols * LANES);
            }
            place p = {0, 0, cols, cols, rows * cols};
#pragma omp for schedule(static)
            for (int64_t k = 0; k < count; k++) {
                int64_t row, col;
                vec     sum = vec_zero();
                if (!sparse_seek(&p, places[k * index->strides[0]], &row, &col)) continue;
                for (int64_t g = 0; g < groups; g++)
                    sum = vec_fma(vec_load(left + (g * rows + row) * LANES), vec_load(right + (g * cols + col) * LANES), sum);
                sums[k] += vec_sum(sum);
            }
        }
    }
    for (int64_t k = 0; k < count; k++) {
        if (v->dtype == CRANK_F32) ((float *)v->data)[k * v->strides[0]] = sums[k];
        else ((uint16_t *)v->data)[k * v->strides[0]] = crank_to_bf16(sums[k]);
    }
    return CRANK_OK;
}

static bool product_serves(const crank_call *call) { return fast_type(call->in[0].dtype); }
static bool sample_serves(const crank_call *call) { return fast_type(call->in[0].dtype) && fast_type(call->out[0].dtype); }

bool FINDER(sparse)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"sparse_matmul", product_run, product_serves, product_workspace},
        {"sparse_sample", sample_run, sample_serves, sample_workspace},
    };
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
