/* gpu_check.h - runs an operation plain on the CPU and on the GPU from the same memory, gaps between rows included, and compares. */
#ifndef CRANK_TESTS_GPU_CHECK_H
#define CRANK_TESTS_GPU_CHECK_H

#include "device/fast_check.h"

/* A plain CPU bench and a GPU; the test program skips where there is none. */
typedef struct pair {
    bench         b;
    crank_device *gpu;
    int           cases;
    bool          seen[128]; /* operations of the table that were compared */
} pair;

static inline pair pair_open(bool deterministic)
{
    pair p = {.b = bench_open("plain")};
    p.gpu = crank_device_open(p.b.context, &(crank_device_options){.name = "cuda", .deterministic = deterministic});
    if (!p.gpu) {
        printf("skipped: %s\n", crank_message(p.b.context));
        bench_close(&p.b);
        exit(77);
    }
    return p;
}

static inline void pair_close(pair *p)
{
    p->gpu->close(p->gpu);
    bench_close(&p->b);
}

/* Frees what was drawn since `mark` = p->b.count. */
static inline void pair_forget(pair *p, int mark)
{
    while (p->b.count > mark) free(p->b.blocks[--p->b.count]);
}

enum {
    MIRRORS = 2 * OPERANDS_MOST + 16,
    ROOM_BEHIND = 1 << 16 /* bytes behind each operand, where a body that is promised room below a matrix may write */
};
typedef struct mirror {
    const void *host;
    void       *device;
    size_t      bytes;
} mirror;

static inline size_t bytes_of(const crank_view *view) { return (size_t)extent(view) * crank_dtype_bits(view->dtype) / 8; }

/* The view in device memory; views of the same host memory share theirs. */
static inline crank_view mirrored(pair *p, mirror *list, int *count, const crank_view *view)
{
    crank_view there = *view;
    if (view->rank < 0) return there;
    for (int i = 0; i < *count; i++)
        if (list[i].host == view->data && list[i].bytes >= bytes_of(view)) {
            there.data = list[i].device;
            return there;
        }
    mirror m = {view->data, NULL, bytes_of(view)};
    m.device = p->gpu->alloc(p->b.context, p->gpu, m.bytes + ROOM_BEHIND, "a test");
    if (!m.device) fail_msg("%s", crank_message(p->b.context));
    assert_ok(p->b.context, p->gpu->upload(p->b.context, p->gpu, m.device, view->data, m.bytes));
    assert_true(*count < MIRRORS);
    list[(*count)++] = m;
    there.data = m.device;
    return there;
}

/* Both runs; every output within `tolerance` in relative norm. Outputs may be inputs (updates). */
static inline void compare(pair *p, const char *operation, const crank_view *in, int inputs, const crank_view *out, int outputs,
                           const void *attributes, double tolerance)
{
    crank_view x[MIRRORS], y[MIRRORS];
    mirror     list[MIRRORS];
    int        count = 0, mark = p->b.count;
    for (int k = 0; k < inputs; k++) x[k] = mirrored(p, list, &count, &in[k]);
    for (int k = 0; k < outputs; k++) y[k] = mirrored(p, list, &count, &out[k]);
    assert_ok(p->b.context, crank_run_once(p->b.context, p->b.device, operation, in, inputs, out, outputs, attributes));
    crank_call call = {.device = p->gpu, .in = x, .inputs = inputs, .out = y, .outputs = outputs, .attributes = attributes};
    crank_body body = {.name = "none"};
    p->gpu->find(p->gpu, operation, &call, &body);
    if (crank_run_once(p->b.context, p->gpu, operation, x, inputs, y, outputs, attributes) != CRANK_OK)
        fail_msg("%s (%s): %s", operation, body.name, crank_message(p->b.context));
    for (int k = 0; k < outputs; k++) {
        if (y[k].rank < 0) continue;
        crank_view got = y[k];
        got.data = bench_memory(&p->b, bytes_of(&y[k]));
        assert_ok(p->b.context, p->gpu->download(p->b.context, p->gpu, got.data, y[k].data, bytes_of(&y[k])));
        bool state = false;
        for (int j = 0; j < inputs; j++) state |= in[j].rank >= 0 && in[j].data == out[k].data;
        if (!state) assert_gaps_kept(&got, operation);
        double error = distance(&got, &out[k]);
        if (!(error <= tolerance))
            fail_msg("%s (%s), output %d of %s [%d x %d x %d]: off by %g, %g allowed", operation, body.name, k, crank_dtype_name(out[k].dtype),
                     out[k].rank > 0 ? (int)out[k].dims[0] : 1, out[k].rank > 1 ? (int)out[k].dims[1] : 1,
                     out[k].rank > 2 ? (int)out[k].dims[2] : 1, error, tolerance);
    }
    for (int i = 0; i < count; i++) p->gpu->free(p->gpu, list[i].device);
    pair_forget(p, mark);
    p->cases++;
    for (int i = 0; operation_name(i); i++) p->seen[i] |= !strcmp(operation_name(i), operation);
}

static const crank_dtype float_types[] = {CRANK_F32, CRANK_BF16, CRANK_F16, CRANK_F64};
enum { FLOAT_TYPES = 4 };

/* Relative norm that one rounded result of this type may be off, sums in f32 (f64 for f64) included. */
static inline double close_to(crank_dtype dtype)
{
    return dtype == CRANK_F64 ? 1e-12 : dtype == CRANK_F32 ? 3e-6 : dtype == CRANK_F16 ? 1e-3 : 5e-3;
}

/* An integer in [low, high], another one at each call. */
static inline int64_t chosen(pair *p, int64_t low, int64_t high)
{
    return low + (int64_t)crank_draw_below(crank_stream_make(2, CRANK_RANDOM_TEST, 1), p->b.draw += 2, (uint64_t)(high - low + 1));
}

static inline crank_view drawn_ids(pair *p, int64_t low, int64_t high, int rank, const int64_t *dims)
{
    crank_view ids = fresh(&p->b, CRANK_I32, rank, dims);
    for (int64_t i = 0; i < crank_view_count(&ids); i++) ((int32_t *)ids.data)[i] = (int32_t)chosen(p, low, high);
    return ids;
}

/* Values in [low, high) in rows that stand `gap` elements apart. */
static inline crank_view drawn_rows(pair *p, crank_dtype dtype, int64_t gap, double low, double high, int rank, const int64_t *dims)
{
    return draw_into(&p->b, fresh_rows(&p->b, dtype, gap, rank, dims), low, high);
}

#endif
