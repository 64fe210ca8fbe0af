/* hooks.c - the methods' hooks over all attachments of a model: what a training task records and calls in each step.
 *
 * An attachment that is off takes part in no hook that records; its host code does not run either. */
#include "linear/stack.h"

crank_tensor *crank_linears_penalty(crank_graph *graph, crank_linears *linears)
{
    crank_tensor *sum = NULL;
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *each = linears->attachments[i];
        if (!attachment_acts(each) || !each->map->penalty) continue;
        crank_tensor *penalty = each->map->penalty(graph, each->sites, each->count);
        if (penalty) sum = sum ? crank_add(sum, penalty) : penalty;
    }
    return sum;
}

void crank_linears_before_step(crank_graph *graph, crank_linears *linears)
{
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *each = linears->attachments[i];
        if (!attachment_acts(each) || !each->map->before_step) continue;
        for (int j = 0; j < each->count; j++) each->map->before_step(graph, &each->sites[j]);
    }
}

void crank_linears_update(crank_graph *graph, crank_linears *linears)
{
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *each = linears->attachments[i];
        if (!attachment_acts(each) || !each->map->update) continue;
        for (int j = 0; j < each->count; j++) each->map->update(graph, &each->sites[j]);
    }
}

void crank_linears_after_step(crank_graph *graph, crank_linears *linears)
{
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *each = linears->attachments[i];
        if (!attachment_acts(each) || !each->map->after_step) continue;
        for (int j = 0; j < each->count; j++) each->map->after_step(graph, &each->sites[j]);
    }
}

crank_status crank_linears_period(crank_context *context, crank_linears *linears, int64_t step, bool *changed)
{
    *changed = false;
    for (size_t i = 0; i < linears->attachment_count; i++) {
        crank_attachment *each = linears->attachments[i];
        if (!attachment_acts(each) || !each->map->period) continue;
        bool         here = false;
        crank_status status = each->map->period(context, each->sites, each->count, step, &here);
        if (status) return status;
        *changed = *changed || here;
    }
    return CRANK_OK;
}
