/* scaled.c - products of eight-bit rows with an eight-bit weight on the CPU, which has no such instructions: the values, which f32 holds
 * exactly, go through sgemm, and the scales are applied to the sums.
 *
 * Each thread makes rows of q dense and multiplies them with the weight, which is made dense once in the workspace. */
#include <cblas.h>
#include <math.h>
#include <omp.h>

#include "device/cpu/element.h"
#include "device/cpu/fast_entry.h"
#include "device/cpu/spans.h"
#include "tensor/fp8.h"

enum { ROWS = 64 }; /* of q at once */

static size_t product_workspace(const crank_call *call, int threads)
{
    int64_t k = call->in[0].dims[1], m = call->in[2].dims[0];
    return (size_t)(256 + m * k + threads * ROWS * (k + m)) * sizeof(float);
}

static void make_dense(const float *values, const uint8_t *codes, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = values[codes[i]];
}

/* Rows first .. first + count - 1 of y from their sums [count, m]. */
static void finish(const crank_call *call, const float *sums, int64_t first, int64_t count)
{
    const crank_view *bias = &call->in[6], *y = &call->out[0];
    const float      *scale = call->in[1].data, *w_scale = call->in[3].data;
    int64_t           m = y->dims[1];
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < m; j++) {
            double value = (double)sums[i * m + j] * (double)scale[first + i] * (double)w_scale[j];
            if (view_present(bias)) value += element_read(bias->data, bias->dtype, j * bias->strides[0]);
            element_write(y->data, y->dtype, (first + i) * y->strides[0] + j * y->strides[1], value);
        }
}

static crank_status product_run(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *q = &call->in[0], *w = &call->in[2];
    int64_t           n = q->dims[0], k = q->dims[1], m = w->dims[0];
    float            *values = call->workspace, *weight = values + 256, *own = weight + m * k;
    int               threads = worth_threads(n * m, cpu_threads(call));
    for (int i = 0; i < 256; i++) values[i] = fp8_to_float((uint8_t)i);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < m; j++) make_dense(values, (const uint8_t *)w->data + j * k, k, weight + j * k);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < n; first += ROWS) {
        int64_t count = n - first < ROWS ? n - first : ROWS;
        float  *rows = own + omp_get_thread_num() * ROWS * (k + m), *sums = rows + ROWS * k;
        omp_set_num_threads(1); /* of this task alone: a team of one is no parallel region to OpenBLAS */
        make_dense(values, (const uint8_t *)q->data + first * k, count * k, rows);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)count, (blasint)m, (blasint)k, 1, rows, (blasint)k, weight, (blasint)k, 0, sums, (blasint)m);
        finish(call, sums, first, count);
    }
    return CRANK_OK;
}

static bool product_serves(const crank_call *call)
{
    int64_t n = call->in[0].dims[0], k = call->in[0].dims[1], m = call->in[2].dims[0];
    return n > 0 && k > 0 && m > 0 && k <= INT32_MAX && m <= INT32_MAX && call->out[0].dtype != CRANK_F64;
}

static crank_status quantize_run(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0];
    int64_t           n = x->dims[0], k = x->dims[1];
#pragma omp parallel for num_threads(worth_threads(n * k, cpu_threads(call))) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        uint8_t *q = (uint8_t *)call->out[0].data + i * k;
        float    amax = 0;
        for (int64_t j = 0; j < k; j++) amax = fp8_larger(amax, (float)element_read(x->data, x->dtype, i * x->strides[0] + j));
        float scale = ((float *)call->out[1].data)[i] = fp8_scale(amax);
        for (int64_t j = 0; j < k; j++) q[j] = fp8_from_float((float)element_read(x->data, x->dtype, i * x->strides[0] + j) / scale);
    }
    return CRANK_OK;
}

bool scaled_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"quantize_rows", quantize_run, NULL, NULL},
        {"scaled_matmul", product_run, product_serves, product_workspace},
    };
    return fast_find("openblas", entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
