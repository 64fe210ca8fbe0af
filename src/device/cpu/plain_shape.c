/* plain_shape.c - plain bodies that sum over axes or move elements: reduce, concat, pad, gather and scatter of rows,
 * pick. */
#include "device/cpu/plain.h"

/* The elements of x that fall together at `start`: `inner` has the dims of the summed axes, 1 elsewhere. */
static double reduce_one(const crank_view *x, const crank_view *inner, int64_t start, crank_reduce_kind kind)
{
    double sum = kind == CRANK_AMAX ? -INFINITY : 0;
    WALK (w, inner, inner->rank, inner) {
        double value = get(x, start + w.offset[0]);
        if (kind == CRANK_AMAX) sum = value > sum || value != value ? value : sum;
        else sum += kind == CRANK_SUM_SQUARES ? value * value : value;
    }
    return kind == CRANK_MEAN ? sum / (double)crank_view_count(inner) : sum;
}

crank_status plain_reduce(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_reduce_attributes *a = call->attributes;
    const crank_view              *x = &call->in[0], *y = &call->out[0];
    crank_view                     outer = *x, inner = *x;
    for (int axis = 0; axis < x->rank; axis++) (a->axes >> axis & 1 ? &outer : &inner)->dims[axis] = 1;
    WALK (w, y, y->rank, &outer, y) put(y, w.offset[1], reduce_one(x, &inner, w.offset[0], a->kind));
    return CRANK_OK;
}

/* y[.., start + i, ..] = x[.., i, ..] along an axis */
static void place(const crank_view *x, const crank_view *y, int axis, int64_t start)
{
    WALK (w, x, x->rank, x, y) put(y, w.offset[1] + start * y->strides[axis], get(x, w.offset[0]));
}

crank_status plain_concat(crank_context *context, const crank_call *call)
{
    (void)context;
    int     axis = ((const crank_concat_attributes *)call->attributes)->axis;
    int64_t start = 0;
    for (int k = 0; k < call->inputs; k++) {
        crank_view part = call->out[0];
        part.dims[axis] = call->in[k].dims[axis];
        place(&call->in[k], &part, axis, start);
        start += part.dims[axis];
    }
    return CRANK_OK;
}

crank_status plain_pad(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_pad_attributes *a = call->attributes;
    const crank_view           *x = &call->in[0], *y = &call->out[0];
    crank_view                  part = *y;
    part.dims[a->axis] = x->dims[a->axis];
    WALK (w, y, y->rank, y) put(y, w.offset[0], 0);
    place(x, &part, a->axis, a->start);
    return CRANK_OK;
}

crank_status plain_gather_rows(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *table = &call->in[0], *ids = &call->in[1], *y = &call->out[0]; /* [V,d], [n], [n,d] */
    for (int64_t i = 0; i < y->dims[0]; i++) {
        int64_t id = id_at(ids, at1(ids, i));
        bool    inside = id >= 0 && id < table->dims[0];
        for (int64_t j = 0; j < y->dims[1]; j++) put(y, at2(y, i, j), inside ? get(table, at2(table, id, j)) : 0);
    }
    return CRANK_OK;
}

/* Rows of one id form a list in ascending order: first [V], next [n]. */
size_t plain_scatter_rows_workspace(const crank_call *call)
{
    return (size_t)(call->out[0].dims[0] + call->in[1].dims[0]) * sizeof(int64_t);
}

crank_status plain_scatter_rows(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dy = &call->in[0], *ids = &call->in[1], *dtable = &call->out[0]; /* [n,d], [n], [V,d] */
    int64_t           V = dtable->dims[0], n = dy->dims[0], *first = call->workspace, *next = first + V;
    for (int64_t v = 0; v < V; v++) first[v] = -1;
    for (int64_t i = n - 1; i >= 0; i--) {
        int64_t id = id_at(ids, at1(ids, i));
        if (id < 0 || id >= V) continue;
        next[i] = first[id];
        first[id] = i;
    }
    for (int64_t v = 0; v < V; v++)
        for (int64_t j = 0; j < dtable->dims[1]; j++) {
            double sum = 0;
            for (int64_t i = first[v]; i >= 0; i = next[i]) sum += get(dy, at2(dy, i, j));
            put(dtable, at2(dtable, v, j), sum);
        }
    return CRANK_OK;
}

crank_status plain_pick(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *x = &call->in[0], *ids = &call->in[1], *y = &call->out[0]; /* [n,c], [n,k], [n,k] */
    for (int64_t i = 0; i < y->dims[0]; i++)
        for (int64_t j = 0; j < y->dims[1]; j++) {
            int64_t id = id_at(ids, at2(ids, i, j));
            put(y, at2(y, i, j), id >= 0 && id < x->dims[1] ? get(x, at2(x, i, id)) : 0);
        }
    return CRANK_OK;
}

/* The sum of dy over all places of row i that pick the same element as place j, or 0 places before j already did. */
static bool picked_before(const crank_view *ids, int64_t i, int64_t j, int64_t id)
{
    for (int64_t k = 0; k < j; k++)
        if (id_at(ids, at2(ids, i, k)) == id) return true;
    return false;
}

crank_status plain_unpick(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_view *dy = &call->in[0], *ids = &call->in[1], *dx = &call->out[0]; /* [n,k], [n,k], [n,c] */
    WALK (w, dx, dx->rank, dx) put(dx, w.offset[0], 0);
    for (int64_t i = 0; i < dy->dims[0]; i++)
        for (int64_t j = 0; j < dy->dims[1]; j++) {
            int64_t id = id_at(ids, at2(ids, i, j));
            double  sum = 0;
            if (id < 0 || id >= dx->dims[1] || picked_before(ids, i, j, id)) continue;
            for (int64_t k = j; k < dy->dims[1]; k++)
                if (id_at(ids, at2(ids, i, k)) == id) sum += get(dy, at2(dy, i, k));
            put(dx, at2(dx, i, id), sum);
        }
    return CRANK_OK;
}
