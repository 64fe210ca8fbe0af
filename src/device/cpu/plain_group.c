/* plain_group.c - collectives of the operation table over the processes that share a run: the group's own, on host memory.
 *
 * A sum is made where it is begun, so waiting has nothing left to do. */
#include <string.h>

#include "device/cpu/plain.h"

/* y = x where they do not share memory. */
static void take(const crank_view *x, const crank_view *y)
{
    if (x->data != y->data && crank_view_bytes(y)) memcpy(y->data, x->data, crank_view_bytes(y));
}

static const crank_group *group_of(const crank_call *call)
{
    const crank_group *group = call->device->group;
    return group && group->size > 1 ? group : NULL;
}

crank_status plain_group_sum(crank_context *context, const crank_call *call)
{
    const crank_group_attributes *a = call->attributes;
    const crank_group            *group = group_of(call);
    crank_status                  status = CRANK_OK;
    for (int i = 0; i < call->outputs - 1 && status == CRANK_OK; i++) {
        const crank_view *y = view_present(&call->out[i]) ? &call->out[i] : &call->in[i];
        take(&call->in[i], y);
        if (group) status = group->sum(context, group, y->data, (size_t)crank_view_count(y), y->dtype, a->root[i]);
    }
    return status;
}

crank_status plain_group_broadcast(crank_context *context, const crank_call *call)
{
    const crank_group_attributes *a = call->attributes;
    const crank_group            *group = group_of(call);
    crank_status                  status = CRANK_OK;
    for (int i = 0; group && i < call->outputs - 1 && status == CRANK_OK; i++)
        status = group->broadcast(context, group, call->in[i].data, crank_view_bytes(&call->in[i]), a->root[i]);
    return status;
}

crank_status plain_group_wait(crank_context *context, const crank_call *call)
{
    (void)context;
    for (int i = 0; i < call->outputs - 1; i++)
        if (view_present(&call->out[i])) take(&call->in[i], &call->out[i]);
    return CRANK_OK;
}

crank_status plain_group_settle(crank_context *context, const crank_call *call)
{
    (void)context, (void)call;
    return CRANK_OK;
}
