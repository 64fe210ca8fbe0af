/* fast_check.h - runs an operation at every level that this machine has and holds it against the plain body. */
#ifndef CRANK_TESTS_DEVICE_FAST_CHECK_H
#define CRANK_TESTS_DEVICE_FAST_CHECK_H

#include "check.h"

enum { LEVELS_MOST = 5, OPERANDS_MOST = 8 };

/* Devices of two threads: [0] is plain, the others the levels from AVX2 on. */
typedef struct levels {
    bench       b; /* memory, and the plain device */
    int         count;
    const char *names[LEVELS_MOST];
    bench       device[LEVELS_MOST];
} levels;

static inline void levels_open(levels *l)
{
    memset(l, 0, sizeof *l);
    l->b = bench_open("plain");
    l->count = crank_cpu_levels(l->names, LEVELS_MOST);
    for (int k = 1; k < l->count; k++) {
        l->device[k].context = crank_context_new();
        crank_set_threads(l->device[k].context, 2);
        l->device[k].device = crank_device_cpu(l->device[k].context, l->names[k]);
        assert_non_null(l->device[k].device);
    }
}

static inline void levels_close(levels *l)
{
    for (int k = 1; k < l->count; k++) bench_close(&l->device[k]);
    bench_close(&l->b);
}

/* Elements from the first to the last of a view. */
static inline int64_t extent(const crank_view *view)
{
    int64_t last = 0;
    for (int axis = 0; axis < view->rank; axis++) {
        if (view->dims[axis] == 0) return 0;
        last += (view->dims[axis] - 1) * view->strides[axis];
    }
    return last + 1;
}

/* The same view on memory of its own, gaps included. */
static inline crank_view cloned(bench *b, const crank_view *view)
{
    crank_view copy = *view;
    if (view->rank < 0) return copy;
    size_t bytes = (size_t)extent(view) * crank_dtype_bits(view->dtype) / 8;
    copy.data = bench_memory(b, bytes);
    memcpy(copy.data, view->data, bytes);
    return copy;
}

/* What lies between the rows of `view` is still the poison of `fresh_rows`. */
static inline void assert_gaps_kept(const crank_view *view, const char *operation)
{
    if (crank_view_is_contiguous(view)) return;
    int64_t        n = extent(view);
    unsigned char *seen = calloc((size_t)n + 1, 1), *bytes = view->data;
    size_t         width = crank_dtype_bits(view->dtype) / 8;
    for (int64_t i = 0; i < crank_view_count(view); i++) seen[offset_of(view, i)] = 1;
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < width && !seen[i]; k++)
            if (bytes[(size_t)i * width + k] != 0xff) fail_msg("%s writes between the rows", operation);
    free(seen);
}

/* Runs `operation` plain and at each level on fresh copies of the outputs (which should be poisoned, unless they are
 * state), and compares within `tolerance` in relative norm. `shared[k]` is 1 + the input whose memory output k takes,
 * or 0; NULL: none. With `fast`, a level that leaves the call to the plain body is a failure. */
static inline void compare_levels(levels *l, const char *operation, const crank_view *in, int inputs,
                                  const crank_view *out, int outputs, const void *attributes, const int *shared,
                                  double tolerance, bool fast)
{
    crank_view expected[OPERANDS_MOST];
    for (int level = 0; level < l->count; level++) {
        crank_view x[OPERANDS_MOST], y[OPERANDS_MOST];
        int        mark = l->b.count;
        for (int k = 0; k < inputs; k++) x[k] = in[k]; /* read only unless shared */
        for (int k = 0; k < outputs; k++) {
            y[k] = cloned(&l->b, shared && shared[k] ? &in[shared[k] - 1] : &out[k]);
            if (shared && shared[k]) x[shared[k] - 1] = y[k];
        }
        crank_device *device = level ? l->device[level].device : l->b.device;
        crank_call    call = {
               .device = device, .in = x, .inputs = inputs, .out = y, .outputs = outputs, .attributes = attributes};
        crank_body body;
        assert_true(device->find(device, operation, &call, &body));
        if (level && fast && strcmp(body.name, "plain") == 0)
            fail_msg("%s at level %s is left to the plain body", operation, l->names[level]);
        crank_context *context = level ? l->device[level].context : l->b.context;
        assert_ok(context, crank_run_once(context, device, operation, x, inputs, y, outputs, attributes));
        for (int k = 0; k < outputs; k++) {
            if (level == 0) expected[k] = y[k];
            if (y[k].rank < 0) continue;
            if (level && !(shared && shared[k])) assert_gaps_kept(&y[k], operation);
            double error = level ? distance(&y[k], &expected[k]) : 0;
            if (!(error <= tolerance))
                fail_msg("%s, output %d of %s [%d x %d]: off by %g at level %s (%s)", operation, k,
                         crank_dtype_name(y[k].dtype), y[k].rank > 0 ? (int)y[k].dims[0] : 1,
                         y[k].rank > 1 ? (int)y[k].dims[1] : 1, error, l->names[level], body.name);
        }
        if (level)
            while (l->b.count > mark) free(l->b.blocks[--l->b.count]);
    }
    for (int k = 0; k < outputs; k++)
        if (expected[k].rank >= 0) free(l->b.blocks[--l->b.count]);
}

static const int64_t sizes[] = {1, 7, 63, 65, 1000};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* 1e-6 for f32, 1e-2 for bf16 */
static inline double tolerance_of(crank_dtype dtype) { return dtype == CRANK_F32 ? 1e-6 : 1e-2; }

#endif
