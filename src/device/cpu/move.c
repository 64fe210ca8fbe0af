/* move.c - bodies that move whole elements of any type and compute nothing: concat, pad, pick.
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

/* What lies behind the padded axis is contiguous: rows of zeros, x, zeros are written from one end to the other. */
typedef struct pad_job {
    spans   s; /* rows of x, of y */
    int64_t before, middle, behind; /* bytes */
} pad_job;

static void pad_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const pad_job *job = data;
    (void)worker;
    for (int64_t row = first; row < last; row++) {
        char *at[SPAN_VIEWS];
        row_start(&job->s, row, at);
        memset(at[1], 0, (size_t)job->before);
        memcpy(at[1] + job->before, at[0], (size_t)job->middle);
        memset(at[1] + job->before + job->middle, 0, (size_t)job->behind);
    }
}

/* The axes from `axis` on as one, of `count` elements; false when they do not follow each other. */
static bool flatten(crank_view *view, int axis, int64_t *count)
{
    *count = 1;
    for (int k = view->rank - 1; k >= axis; k--) {
        if (view->dims[k] != 1 && view->strides[k] != *count) return false;
        *count *= view->dims[k];
    }
    view->rank = axis + 1;
    view->strides[axis] = 1;
    return true;
}

static bool pad_rows(const crank_call *call)
{
    const crank_pad_attributes *a = call->attributes;
    crank_view                  x = call->in[0], y = call->out[0];
    int64_t                     of_x, of_y, width = width_of(&x);
    pad_job                     job;
    if (!flatten(&x, a->axis, &of_x) || !flatten(&y, a->axis, &of_y) || of_x == 0) return false;
    x.dims[a->axis] = y.dims[a->axis] = of_x; /* the start of a row is all that is asked */
    if (!ROWS(&job.s, &x, &x, &y)) return false;
    job.before = a->start * (of_y / call->out[0].dims[a->axis]) * width;
    job.middle = of_x * width;
    job.behind = of_y * width - job.before - job.middle;
    rows_run(job.s.rows, of_y, 1, cpu_threads(call), pad_kernel, &job);
    return true;
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
    if (pad_rows(call)) return CRANK_OK;
    zero(call, &before);
    copy_into(call, x, &part, true);
    zero(call, &behind);
    return CRANK_OK;
}

/* ---- pick ---- */

typedef struct index_job {
    const crank_view *x, *ids, *y;
} index_job;

static int64_t id_of(const crank_view *ids, int64_t offset) { return ((const int32_t *)ids->data)[offset]; }

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

bool move_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {
        {"concat", concat_run, concat_serves, NULL}, {"pad", pad_run, pad_serves, NULL},
        {"pick", pick_run, NULL, NULL},
    };
    return fast_find("move", entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
