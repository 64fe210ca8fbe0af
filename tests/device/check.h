/* check.h - what the device tests share: views with owned memory, drawn values, one call of an operation, comparison
 * with values written out, and gradients by central differences in f64. */
#ifndef CRANK_TESTS_DEVICE_CHECK_H
#define CRANK_TESTS_DEVICE_CHECK_H

#include "testing.h"

#include "device/cpu/element.h"
#include "device/operations.h"

enum { BENCH_BLOCKS = 4096 };

/* A context, a device, and the memory of the views made on it. */
typedef struct bench {
    crank_context *context;
    crank_device  *device;
    void          *blocks[BENCH_BLOCKS];
    int            count;
    uint64_t       draw;
} bench;

static inline bench bench_open(const char *bodies)
{
    bench b = {.context = crank_context_new()};
    assert_non_null(b.context);
    b.device = crank_device_cpu(b.context, bodies);
    if (!b.device) fail_msg("%s", crank_message(b.context));
    return b;
}

static inline void bench_close(bench *b)
{
    for (int i = 0; i < b->count; i++) free(b->blocks[i]);
    if (b->device) b->device->close(b->device);
    crank_context_free(b->context);
}

#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }
#define SCALAR 0, NULL
static const crank_view ABSENT = {.rank = -1};

static inline void *bench_memory(bench *b, size_t bytes)
{
    assert_true(b->count < BENCH_BLOCKS);
    void *memory = bytes < 1 << 20 ? malloc(bytes ? bytes : 1) : aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(
        memory); /* small blocks are exact, so that a sanitizer sees what runs over; large ones are aligned */
    memset(memory, 0xff, bytes ? bytes : 1); /* NaN in every float type */
    return b->blocks[b->count++] = memory;
}

/* A view whose rows (of the last axis) stand `gap` elements apart more than needed, all poisoned. */
static inline crank_view fresh_rows(bench *b, crank_dtype dtype, int64_t gap, int rank, const int64_t *dims)
{
    crank_view view = crank_view_make(NULL, dtype, rank, dims);
    if (rank > 1 && gap > 0) {
        int64_t stride = dims[rank - 1] + gap;
        for (int axis = rank - 2; axis >= 0; axis--) {
            view.strides[axis] = stride;
            stride *= dims[axis];
        }
    }
    int64_t count = rank > 1 ? view.strides[0] * dims[0] : crank_view_count(&view);
    view.data = bench_memory(b, (size_t)count * crank_dtype_bits(dtype) / 8);
    return view;
}

static inline crank_view fresh(bench *b, crank_dtype dtype, int rank, const int64_t *dims)
{
    return fresh_rows(b, dtype, 0, rank, dims);
}

/* Offset of the i-th element in row-major order. */
static inline int64_t offset_of(const crank_view *view, int64_t i)
{
    int64_t offset = 0;
    for (int axis = view->rank - 1; axis >= 0; axis--) {
        offset += i % view->dims[axis] * view->strides[axis];
        i /= view->dims[axis];
    }
    return offset;
}

static inline double value(const crank_view *view, int64_t i)
{
    return element_read(view->data, view->dtype, offset_of(view, i));
}
static inline void set(const crank_view *view, int64_t i, double to)
{
    element_write(view->data, view->dtype, offset_of(view, i), to);
}

/* Uniform values in [low, high), other ones at each call. */
static inline crank_view draw_into(bench *b, crank_view view, double low, double high)
{
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 0);
    int64_t columns = view.rank ? view.dims[view.rank - 1] : 1, rows = columns ? crank_view_count(&view) / columns : 0;
    float   row_values[64];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0, at = offset_of(&view, row * columns); i < columns; i++) {
            if (i % 64 == 0) crank_fill_uniform(stream, b->draw += 64, 0, 1, row_values, 64);
            element_write(view.data, view.dtype, at + i * (view.rank ? view.strides[view.rank - 1] : 1),
                          low + (high - low) * (double)row_values[i % 64]);
        }
    return view;
}

static inline crank_view drawn(bench *b, crank_dtype dtype, double low, double high, int rank, const int64_t *dims)
{
    return draw_into(b, fresh(b, dtype, rank, dims), low, high);
}

static inline crank_view given(bench *b, crank_dtype dtype, const double *values, int rank, const int64_t *dims)
{
    crank_view view = fresh(b, dtype, rank, dims);
    for (int64_t i = 0; i < crank_view_count(&view); i++) set(&view, i, values[i]);
    return view;
}
#define GIVEN(b, dtype, dims, ...) given(b, dtype, (const double[]){__VA_ARGS__}, dims)

/* A copy of other memory: for operations that change their operands. */
static inline crank_view copied(bench *b, const crank_view *from, crank_dtype dtype)
{
    crank_view view = fresh(b, dtype, from->rank, from->dims);
    for (int64_t i = 0; i < crank_view_count(&view); i++) set(&view, i, value(from, i));
    return view;
}

#define VIEWS(...) (const crank_view[]){__VA_ARGS__}, (int)(sizeof((crank_view[]){__VA_ARGS__}) / sizeof(crank_view))

static inline void apply(bench *b, const char *operation, const crank_view *in, int inputs, const crank_view *out,
                         int outputs, const void *attributes)
{
    assert_ok(b->context, crank_run_once(b->context, b->device, operation, in, inputs, out, outputs, attributes));
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

static inline void assert_values(const crank_view *view, const double *expected, double tolerance)
{
    for (int64_t i = 0; i < crank_view_count(view); i++) {
        double got = value(view, i), want = expected[i];
        bool   same = got == want || (got != got && want != want);
        if (!same && !(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
            fail_msg("element %d is %.17g, not %.17g", (int)i, got, want);
    }
}
#define ASSERT_VALUES(view, tolerance, ...) assert_values(view, (const double[]){__VA_ARGS__}, tolerance)

/* |a - b| / |b| over all elements; equal infinities and NaNs at one place do not count. */
static inline double distance(const crank_view *a, const crank_view *b)
{
    double  difference = 0, norm = 0;
    int64_t columns = b->rank ? b->dims[b->rank - 1] : 1, rows = columns ? crank_view_count(b) / columns : 0;
    int64_t step_a = b->rank ? a->strides[b->rank - 1] : 1, step_b = b->rank ? b->strides[b->rank - 1] : 1;
    for (int64_t row = 0; row < rows; row++) {
        int64_t at_a = offset_of(a, row * columns), at_b = offset_of(b, row * columns);
        for (int64_t i = 0; i < columns; i++) {
            double x = element_read(a->data, a->dtype, at_a + i * step_a),
                   y = element_read(b->data, b->dtype, at_b + i * step_b);
            if (x == y || (x != x && y != y)) x = y = isfinite(y) ? y : 0;
            difference += (x - y) * (x - y);
            norm += y * y;
        }
    }
    return sqrt(difference) / fmax(sqrt(norm), 1e-30);
}

/* L = sum over outputs k of <seeds[k], out_k>; a seed with rank -1 leaves its output out. */
static inline double weighted_sum(const crank_view *out, const crank_view *seeds, int outputs)
{
    double sum = 0;
    for (int k = 0; k < outputs; k++)
        for (int64_t i = 0; seeds[k].rank >= 0 && i < crank_view_count(&out[k]); i++)
            sum += value(&seeds[k], i) * value(&out[k], i);
    return sum;
}

/* `analytic` is dL/d in[wrt] of the forward operation, by central differences of step 1e-5. All floats are f64. */
static inline void assert_gradient(bench *b, const char *operation, const crank_view *in, int inputs,
                                   const crank_view *out, int outputs, const void *attributes, const crank_view *seeds,
                                   int wrt, const crank_view *analytic)
{
    const double step = 1e-5;
    crank_view   numeric = fresh(b, CRANK_F64, analytic->rank, analytic->dims);
    for (int64_t i = 0; i < crank_view_count(&in[wrt]); i++) {
        double at = value(&in[wrt], i), sides[2];
        for (int side = 0; side < 2; side++) {
            set(&in[wrt], i, side ? at - step : at + step);
            apply(b, operation, in, inputs, out, outputs, attributes);
            sides[side] = weighted_sum(out, seeds, outputs);
        }
        set(&in[wrt], i, at);
        set(&numeric, i, (sides[0] - sides[1]) / (2 * step));
    }
    double error = distance(analytic, &numeric);
    if (!(error < 1e-7)) fail_msg("%s: gradient of input %d is off by %g", operation, wrt, error);
}
#endif
