/* move.c - bodies that move whole elements of any type and compute nothing: concat, pad, rows by index, transposing copies.
 *
 * No vector instructions of their own: memcpy has the machine's best. */
#include "device/cpu/fast_entry.h"
#include "device/cpu/spans.h"

static void move_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    (void)first;
    memcpy(at[1], at[0], (size_t)(n * *(const int64_t *)data));
}

static void zero_span(const void *data, int64_t first, int64_t n, char *const *at)
{
    (void)first;
    memset(at[0], 0, (size_t)(n * *(const int64_t *)data));
}

static int64_t width_of(const crank_view *view) { return (int64_t)crank_dtype_bits(view->dtype) / 8; }

/* `count` indices of an axis from `start` on */
static crank_view slice(const crank_view *y, int axis, int64_t start, int64_t count)
{
    crank_view part = *y;
    part.dims[axis] = count;
    if (part.data) part.data = (char *)y->data + start * y->strides[axis] * width_of(y);
    return part;
}

static bool copy_into(const crank_call *call, const crank_view *x, const crank_view *part, bool run)
{
    spans   s;
    int64_t width = width_of(x);
    if (!SPANS(&s, part, x, part) || s.inner[0] != 1 || s.inner[1] != 1) return false;
    if (run) spans_run(&s, cpu_threads(call), move_span, &width);
    return true;
}

static void zero(const crank_call *call, const crank_view *part)
{
    spans   s;
    int64_t width = width_of(part);
    SPANS(&s, part, part);
    spans_run(&s, cpu_threads(call), zero_span, &width);
}

/* ---- concat, pad ---- */

static bool concat_parts(const crank_call *call, bool run)
{
    int     axis = ((const crank_concat_attributes *)call->attributes)->axis;
    int64_t start = 0;
    for (int k = 0; k < call->inputs; k++) {
        crank_view part = slice(&call->out[0], axis, start, call->in[k].dims[axis]);
        if (!copy_into(call, &call->in[k], &part, run)) return false;
        start += call->in[k].dims[axis];
    }
    return true;
}

static bool concat_serves(const crank_call *call) { return concat_parts(call, false); }

static crank_status concat_run(crank_context *context, const crank_call *call)
{
    (void)context;
    concat_parts(call, true);
    return CRANK_OK;
}

static bool pad_serves(const crank_call *call)
{
    const crank_pad_attributes *a = call->attributes;
    const crank_view           *x = &call->in[0], *y = &call->out[0];
    crank_view                  part = slice(y, a->axis, a->start, x->dims[a->axis]);
    spans                       s;
    return copy_into(call, x, &part, false) && SPANS(&s, y, y) && s.inner[0] == 1;
}

static crank_status pad_run(crank_context *context, const crank_call *call)
{
    const crank_pad_attributes *a = call->attributes;
    const crank_view           *x = &call->in[0], *y = &call->out[0];
    int64_t                     end = a->start + x->dims[a->axis];
    crank_view before = slice(y, a->axis, 0, a->start), part = slice(y, a->axis, a->start, x->dims[a->axis]);
    crank_view behind = slice(y, a->axis, end, y->dims[a->axis] - end);
    (void)context;
    zero(call, &before);
    copy_into(call, x, &part, true);
    zero(call, &behind);
    return CRANK_OK;
}

/* ---- gather_rows of one type, pick ---- */

typedef struct index_job {
    const crank_view *x, *ids, *y;
} index_job;

static int64_t id_of(const crank_view *ids, int64_t offset) { return ((const int32_t *)ids->data)[offset]; }

static void gather_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const index_job *job = data;
    int64_t          width = width_of(job->x), d = job->x->dims[1];
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t id = id_of(job->ids, i * job->ids->strides[0]);
        char   *to = (char *)job->y->data + i * job->y->strides[0] * width;
        if (id < 0 || id >= job->x->dims[0]) memset(to, 0, (size_t)(d * width));
        else memcpy(to, (const char *)job->x->data + id * job->x->strides[0] * width, (size_t)(d * width));
    }
}

static bool same_type(const crank_call *call) { return call->in[0].dtype == call->out[0].dtype; }

static crank_status gather_run(crank_context *context, const crank_call *call)
{
    index_job job = {&call->in[0], &call->in[1], &call->out[0]};
    (void)context;
    rows_run(job.y->dims[0], job.y->dims[1], 1, cpu_threads(call), gather_kernel, &job);
    return CRANK_OK;
}

static void pick_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const index_job *job = data;
    int64_t          width = width_of(job->x);
    (void)worker;
    for (int64_t i = first; i < last; i++)
        for (int64_t j = 0; j < job->y->dims[1]; j++) {
            int64_t id = id_of(job->ids, i * job->ids->strides[0] + j * job->ids->strides[1]);
            char   *to = (char *)job->y->data + (i * job->y->strides[0] + j) * width;
            if (id < 0 || id >= job->x->dims[1]) memset(to, 0, (size_t)width);
            else memcpy(to, (const char *)job->x->data + (i * job->x->strides[0] + id) * width, (size_t)width);
        }
}

static crank_status pick_run(crank_context *context, const crank_call *call)
{
    index_job job = {&call->in[0], &call->in[1], &call->out[0]};
    (void)context;
    rows_run(job.y->dims[0], job.y->dims[1], 1, cpu_threads(call), pick_kernel, &job);
    return CRANK_OK;
}

/* ---- copy of a transposed view: y has stride 1 along its last axis, x along another one ---- */

typedef struct turn_job {
    const crank_view *x, *y;
    int               row, axes, outer[CRANK_MAX_RANK]; /* row: x's axis of stride 1; outer: the axes between */
    int64_t           tiles;                            /* of the row axis */
} turn_job;

enum { TILE = 16 };

static bool turn_make(const crank_call *call, turn_job *job)
{
    const crank_view *x = &call->in[0], *y = &call->out[0];
    int               last = y->rank - 1;
    *job = (turn_job){.x = x, .y = y, .row = -1};
    if (last < 1 || x->dtype != y->dtype || y->strides[last] != 1 || x->strides[last] == 1) return false;
    for (int axis = 0; axis < last; axis++) {
        if (job->row < 0 && x->strides[axis] == 1 && x->dims[axis] > 1) job->row = axis;
        else job->outer[job->axes++] = axis;
    }
    if (job->row < 0) return false;
    job->tiles = (x->dims[job->row] + TILE - 1) / TILE;
    return true;
}

static inline __attribute__((always_inline)) void turn_strip(char *y, const char *x, int64_t rows, int64_t columns,
                                                             int64_t y_row, int64_t x_column, int64_t width)
{
    for (int64_t first = 0; first < columns; first += TILE) {
        int64_t end = first + TILE < columns ? first + TILE : columns;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = first; c < end; c++)
                memcpy(y + (r * y_row + c) * width, x + (r + c * x_column) * width, (size_t)width);
    }
}

static void turn_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const turn_job   *job = data;
    const crank_view *x = job->x, *y = job->y;
    int64_t           width = width_of(x), columns = y->dims[y->rank - 1], step = x->strides[x->rank - 1];
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t start = i % job->tiles * TILE, rest = i / job->tiles, rows = x->dims[job->row] - start;
        int64_t from = start, to = start * y->strides[job->row];
        for (int k = job->axes - 1; k >= 0; k--) {
            int64_t index = rest % y->dims[job->outer[k]];
            rest /= y->dims[job->outer[k]];
            from += index * x->strides[job->outer[k]];
            to += index * y->strides[job->outer[k]];
        }
        const char *source = (const char *)x->data + from * width;
        char       *target = (char *)y->data + to * width;
        if (rows > TILE) rows = TILE;
        if (width == 4) turn_strip(target, source, rows, columns, y->strides[job->row], step, 4);
        else if (width == 2) turn_strip(target, source, rows, columns, y->strides[job->row], step, 2);
        else turn_strip(target, source, rows, columns, y->strides[job->row], step, width);
    }
}

static bool turn_serves(const crank_call *call)
{
    turn_job job;
    return turn_make(call, &job);
}

static crank_status turn_run(crank_context *context, const crank_call *call)
{
    turn_job job;
    (void)context;
    turn_make(call, &job);
    int64_t items = job.tiles, columns = job.y->dims[job.y->rank - 1];
    for (int k = 0; k < job.axes; k++) items *= job.y->dims[job.outer[k]];
    rows_run(items, TILE * columns, 1, cpu_threads(call), turn_kernel, &job);
    return CRANK_OK;
}

bool move_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"concat", concat_run, concat_serves, NULL}, {"pad", pad_run, pad_serves, NULL},
        {"gather_rows", gather_run, same_type, NULL}, {"pick", pick_run, NULL, NULL},
        {"copy", turn_run, turn_serves, NULL},
    };
    return fast_find("move", entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
