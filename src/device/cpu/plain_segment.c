/* plain_segment.c - rows of segments pooled into one, and the reverse. Ends are held inside the rows that exist. */
#include "device/cpu/plain.h"

typedef struct span {
    int64_t first, last;
} span; /* rows first..last-1 of a segment that count; none: first == last */

static span rows_of(const crank_view *segments, int64_t i, int64_t n, crank_segment_kind kind)
{
    int64_t begin = id_at(segments, at1(segments, i)), end = id_at(segments, at1(segments, i + 1));
    if (begin < 0) begin = 0;
    if (end > n) end = n;
    if (begin >= end) return (span){0, 0};
    if (kind == CRANK_SEGMENT_FIRST) end = begin + 1;
    if (kind == CRANK_SEGMENT_LAST) begin = end - 1;
    return (span){begin, end};
}

crank_status plain_segment_pool(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_segment_attributes *attributes = call->attributes;
    const crank_view               *x = &call->in[0], *segments = &call->in[1], *y = &call->out[0];
    for (int64_t i = 0; i < y->dims[0]; i++) {
        span rows = rows_of(segments, i, x->dims[0], attributes->kind);
        for (int64_t k = 0; k < y->dims[1]; k++) {
            double sum = 0;
            for (int64_t j = rows.first; j < rows.last; j++) sum += get(x, at2(x, j, k));
            put(y, at2(y, i, k), rows.last > rows.first ? sum / (double)(rows.last - rows.first) : 0);
        }
    }
    return CRANK_OK;
}

crank_status plain_segment_pool_backward(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_segment_attributes *attributes = call->attributes;
    const crank_view               *dy = &call->in[0], *segments = &call->in[1], *dx = &call->out[0];
    for (int64_t j = 0; j < dx->dims[0]; j++)
        for (int64_t k = 0; k < dx->dims[1]; k++) put(dx, at2(dx, j, k), 0);
    for (int64_t i = 0; i < dy->dims[0]; i++) {
        span   rows = rows_of(segments, i, dx->dims[0], attributes->kind);
        double share = 1 / (double)(rows.last - rows.first);
        for (int64_t j = rows.first; j < rows.last; j++)
            for (int64_t k = 0; k < dx->dims[1]; k++) put(dx, at2(dx, j, k), get(dy, at2(dy, i, k)) * share);
    }
    return CRANK_OK;
}
