/* run.c - the loop over a planned graph, and host access to inputs and results. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "graph/graph.h"

/* Inputs and constants take their memory before the first run or write. */
static crank_status take_leaves(crank_graph *graph)
{
    for (int i = 0; i < graph->tensor_count; i++) {
        tensor_record *record = graph->tensors[i];
        if ((record->home != HOME_INPUT && record->home != HOME_CONSTANT) || record->memory) continue;
        size_t bytes = tensor_bytes(&record->public);
        record->memory = graph->device->alloc(graph->context, graph->device, bytes ? bytes : 1,
                                              record->public.name ? record->public.name : "a constant");
        if (!record->memory) return CRANK_FAILED;
        if (record->home == HOME_CONSTANT) {
            double value = record->constant;
            char   bits[8];
            crank_convert(bits, record->public.dtype, &value, CRANK_F64, 1);
            crank_status status = graph->device->upload(graph->context, graph->device, record->memory, bits, bytes);
            if (status != CRANK_OK) return status;
        }
    }
    return CRANK_OK;
}

static void *address(const crank_graph *graph, const crank_tensor *tensor)
{
    const crank_tensor  *root = tensor_root(tensor);
    const tensor_record *record = (const tensor_record *)root;
    char                *start = NULL;
    if (record->home == HOME_ARENA) {
        char *arena = pool_arena(graph->pool);
        start = record->place >= 0 && arena ? arena + record->place : NULL;
    } else if (record->home == HOME_PARAM) {
        start = root->param->view.data;
    } else {
        start = record->memory;
    }
    return start ? start + tensor->offset * (int64_t)(crank_dtype_bits(tensor->dtype) / 8) : NULL;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static crank_status run_step(crank_graph *graph, graph_step *step)
{
    crank_node *node = step->node;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]) step->views[i].data = address(graph, node->inputs[i]);
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) step->views[node->input_count + i].data = address(graph, node->outputs[i]);
    crank_call call = {.device = graph->device, .in = step->views, .inputs = node->input_count,
                       .out = step->views + node->input_count, .outputs = node->output_count, .attributes = node->attributes,
                       .workspace = pool_workspace(graph->pool), .slot = &step->slot, .slot_free = &step->slot_free};
    return step->body.run(graph->context, &call);
}

static crank_status run_range(crank_graph *graph, int segment)
{
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    if (!graph->planned || graph->dry) return crank_fail(graph->context, CRANK_USAGE, "a graph runs after crank_plan, and never after a dry plan");
    crank_status status = take_leaves(graph);
    if (status == CRANK_OK) status = pool_reserve(graph->context, graph->pool, graph->arena, graph->workspace);
    for (int i = 0; i < graph->step_count && status == CRANK_OK; i++) {
        graph_step *step = &graph->steps[i];
        if (segment >= 0 && step->node->segment != segment) continue;
        double start = graph->profile ? seconds_now() : 0;
        status = run_step(graph, step);
        if (status != CRANK_OK) return crank_fail_in(graph->context, "operation %s", step->node->op->name);
        if (graph->profile) {
            if (!graph->device->host) status = graph->device->synchronize(graph->context, graph->device);
            step->seconds += seconds_now() - start;
            step->calls++;
        }
    }
    return status;
}

crank_status crank_run(crank_graph *graph) { return run_range(graph, -1); }
crank_status crank_run_segment(crank_graph *graph, int segment) { return run_range(graph, segment); }

crank_status crank_write(crank_tensor *tensor, const void *host)
{
    crank_graph *graph = tensor->graph;
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    if (RECORD(tensor)->home != HOME_INPUT || tensor->base)
        return crank_fail(graph->context, CRANK_USAGE, "only inputs are written by the host");
    crank_status status = take_leaves(graph);
    if (status != CRANK_OK) return status;
    return graph->device->upload(graph->context, graph->device, RECORD(tensor)->memory, host, tensor_bytes(tensor));
}

crank_status crank_read(const crank_tensor *tensor, void *host)
{
    crank_graph         *graph = tensor->graph;
    const tensor_record *root = RECORD(tensor_root(tensor));
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    if (root->home == HOME_ARENA && !root->kept && !((const tensor_record *)tensor)->kept)
        return crank_fail(graph->context, CRANK_USAGE, "a result that is read must be kept (crank_keep)");
    const void *from = address(graph, tensor);
    if (!from) return crank_fail(graph->context, CRANK_USAGE, "the result does not exist: the graph has not run");
    return graph->device->download(graph->context, graph->device, host, from, tensor_bytes(tensor));
}

double crank_read_scalar(const crank_tensor *tensor)
{
    char   bits[8];
    double value = NAN;
    if (tensor_count(tensor) != 1 || crank_read(tensor, bits) != CRANK_OK) return NAN;
    if (crank_dtype_is_float(tensor->dtype)) {
        crank_convert(&value, CRANK_F64, bits, tensor->dtype, 1);
    } else if (tensor->dtype == CRANK_I32) {
        int32_t integer;
        memcpy(&integer, bits, sizeof integer);
        value = integer;
    }
    return value;
}
