/* spans.h - several views walked together as rows of contiguous elements, cut into equal pieces for threads.
 *
 * Axes that follow each other in memory in all views become one, so contiguous operands are one long row. Within a row
 * each view has stride 1, or 0: one value for the whole row (a broadcast column or scalar). */
#ifndef CRANK_DEVICE_CPU_SPANS_H
#define CRANK_DEVICE_CPU_SPANS_H

#include "device/cpu/bodies.h"

enum { SPAN_VIEWS = 6 };

typedef struct spans {
    int     views, axes; /* axes: of the rows */
    int64_t columns, rows;
    int64_t dims[CRANK_MAX_RANK];
    char   *data[SPAN_VIEWS];
    int64_t width[SPAN_VIEWS]; /* bytes of an element */
    int64_t strides[SPAN_VIEWS][CRANK_MAX_RANK];
    int64_t inner[SPAN_VIEWS]; /* 1 or 0 */
} spans;

/* Views spread over `shape` as in NumPy. False when some view has another stride than 0 or 1 along the rows. */
bool spans_make(spans *s, const crank_view *shape, int views, const crank_view *const *view);
#define SPANS(s, shape, ...)                                                                                           \
    spans_make(s, shape, sizeof((const crank_view *[]){__VA_ARGS__}) / sizeof(crank_view *),                           \
               (const crank_view *[]){__VA_ARGS__})

/* The same with the last axis kept as the row: for operations that treat rows as wholes. False when a row has gaps in
 * it. */
bool rows_make(spans *s, const crank_view *shape, int views, const crank_view *const *view);
#define ROWS(s, shape, ...)                                                                                            \
    rows_make(s, shape, sizeof((const crank_view *[]){__VA_ARGS__}) / sizeof(crank_view *),                            \
              (const crank_view *[]){__VA_ARGS__})

/* Where row `row` starts in each view. */
void row_start(const spans *s, int64_t row, char **at);

/* Rows first..last-1, by worker `worker`. */
typedef void row_kernel(const void *job, int64_t first, int64_t last, int worker);

/* Cuts `rows` rows of `columns` elements into one piece a worker, each in multiples of `grain` rows. */
void rows_run(int64_t rows, int64_t columns, int64_t grain, int threads, row_kernel *kernel, const void *job);

/* `count` elements from at[k] (every at[k] + inner[k] * i); `first` is the index of the first one in row-major order.
 */
typedef void span_kernel(const void *job, int64_t first, int64_t count, char *const *at);

/* Calls the kernel on all elements, by up to `threads` threads where the work is worth them. */
void spans_run(const spans *s, int threads, span_kernel *kernel, const void *job);

/* Elements below which one thread is faster than several. */
enum { WORTH_THREADS = 32768 };
static inline int worth_threads(int64_t elements, int threads) { return elements < WORTH_THREADS ? 1 : threads; }

/* The part of 0..n-1 that worker `me` of `workers` takes, in multiples of `grain`. */
static inline void share_of(int64_t n, int64_t grain, int me, int workers, int64_t *first, int64_t *last)
{
    int64_t grains = (n + grain - 1) / grain;
    *first = grains * me / workers * grain;
    *last = grains * (me + 1) / workers * grain;
    if (*first > n) *first = n;
    if (*last > n) *last = n;
}
#endif
