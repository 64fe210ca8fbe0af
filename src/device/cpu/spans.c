/* spans.c - merges the axes of views and hands rows to threads. */
#include "device/cpu/spans.h"

#include <omp.h>
#include <xmmintrin.h>

/* keep_row: the last axis stays by itself */
static bool make(spans *s, const crank_view *shape, int views, const crank_view *const *view, bool keep_row)
{
    int64_t strides[SPAN_VIEWS][CRANK_MAX_RANK] = {{0}};
    *s = (spans){.views = views, .columns = 1, .rows = 1};
    for (int k = 0; k < views; k++) {
        int shift = shape->rank - view[k]->rank;
        s->data[k] = view[k]->data;
        s->width[k] = (int64_t)crank_dtype_bits(view[k]->dtype) / 8;
        for (int axis = 0; axis < view[k]->rank; axis++)
            if (view[k]->dims[axis] != 1) strides[k][axis + shift] = view[k]->strides[axis];
    }
    int  axes = 0; /* merged axes, innermost first: dims[0] and strides[k][0] are the row */
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        bool row = keep_row && axis == shape->rank - 1;
        if (shape->dims[axis] == 1 && !row) continue;
        bool merges = axes > (keep_row ? 1 : 0);
        for (int k = 0; k < views && merges; k++)
            merges = strides[k][axis] == s->strides[k][axes - 1] * s->dims[axes - 1];
        if (merges) {
            s->dims[axes - 1] *= shape->dims[axis];
            continue;
        }
        s->dims[axes] = shape->dims[axis];
        for (int k = 0; k < views; k++) s->strides[k][axes] = strides[k][axis];
        axes++;
    }
    bool rows = true; /* the innermost axis serves as the row */
    for (int k = 0; k < views; k++) {
        s->inner[k] = axes && s->dims[0] != 1 ? s->strides[k][0] : 1;
        rows = rows && (s->inner[k] == 0 || s->inner[k] == 1);
    }
    if (!rows) {
        if (shape->dims[shape->rank - 1] != 1) return false;
        for (int axis = axes++; axis > 0; axis--) { /* a column of a wider array: rows of one element */
            s->dims[axis] = s->dims[axis - 1];
            for (int k = 0; k < views; k++) s->strides[k][axis] = s->strides[k][axis - 1];
        }
        s->dims[0] = 1;
        for (int k = 0; k < views; k++) s->inner[k] = 1;
    }
    if (axes) s->columns = s->dims[0];
    for (s->axes = 0; s->axes + 1 < axes; s->axes++) { /* the row leaves the list */
        s->rows *= s->dims[s->axes] = s->dims[s->axes + 1];
        for (int k = 0; k < views; k++) s->strides[k][s->axes] = s->strides[k][s->axes + 1];
    }
    return true;
}

bool spans_make(spans *s, const crank_view *shape, int views, const crank_view *const *view)
{
    return make(s, shape, views, view, false);
}

bool rows_make(spans *s, const crank_view *shape, int views, const crank_view *const *view)
{
    if (!make(s, shape, views, view, true)) return false;
    for (int k = 0; k < views; k++)
        if (s->inner[k] != 1) return false;
    return true;
}

void row_start(const spans *s, int64_t row, char **at)
{
    for (int k = 0; k < s->views; k++) at[k] = s->data[k];
    for (int axis = 0; axis < s->axes; axis++) {
        int64_t index = row % s->dims[axis];
        row /= s->dims[axis];
        for (int k = 0; k < s->views; k++) at[k] += index * s->strides[k][axis] * s->width[k];
    }
}

static void run_range(const spans *s, int64_t first, int64_t last, span_kernel *kernel, const void *job)
{
    while (first < last) {
        int64_t column = first % s->columns, count = s->columns - column;
        char   *at[SPAN_VIEWS];
        if (count > last - first) count = last - first;
        row_start(s, first / s->columns, at);
        for (int k = 0; k < s->views; k++) at[k] += column * s->inner[k] * s->width[k];
        kernel(job, first, count, at);
        first += count;
    }
}

void spans_run(const spans *s, int threads, span_kernel *kernel, const void *job)
{
    int64_t total = s->rows * s->columns;
    threads = worth_threads(total, threads);
    if (threads == 1) {
        run_range(s, 0, total, kernel, job);
        _mm_sfence();
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t first, last;
        share_of(total, 64, omp_get_thread_num(), omp_get_num_threads(), &first, &last);
        run_range(s, first, last, kernel, job);
        _mm_sfence(); /* what was written past the caches is there before the team goes on */
    }
}

void rows_run(int64_t rows, int64_t columns, int64_t grain, int threads, row_kernel *kernel, const void *job)
{
    threads = worth_threads(rows * columns, threads);
    if (threads == 1) {
        kernel(job, 0, rows, 0);
        _mm_sfence();
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t first, last;
        share_of(rows, grain, omp_get_thread_num(), omp_get_num_threads(), &first, &last);
        kernel(job, first, last, omp_get_thread_num());
        _mm_sfence();
    }
}
