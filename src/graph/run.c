/* run.c - the loop over a planned graph, and host access to inputs and results.
 *
 * On a device that can capture, the first run of a graph is the plain loop (bodies prepare what they need), the second is captured, and
 * from then on the captured program is launched at once, as long as no buffer has moved. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
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

/* Writes the addresses of a step's operands into its views; mixes them into *memory. */
static void place_step(crank_graph *graph, graph_step *step, uint64_t *memory)
{
    crank_node *node = step->node;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const crank_tensor *tensor = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        if (tensor) step->views[i].data = address(graph, tensor);
        *memory = (*memory ^ (uintptr_t)step->views[i].data) * 0x9e3779b97f4a7c15u;
    }
}

static crank_status run_step(crank_graph *graph, graph_step *step)
{
    crank_node *node = step->node;
    crank_call  call = {.device = graph->device, .in = step->views, .inputs = node->input_count,
                        .out = step->views + node->input_count, .outputs = node->output_count, .attributes = node->attributes,
                        .workspace = pool_workspace(graph->pool), .slot = &step->slot, .slot_free = &step->slot_free};
    double       start = graph->profile ? clock_seconds() : 0;
    crank_status status = step->body.run(graph->context, &call);
    if (status != CRANK_OK) return crank_fail_in(graph->context, "operation %s", node->op->name);
    if (graph->profile) {
        if (!graph->device->host) status = graph->device->synchronize(graph->context, graph->device);
        if (step->calls == 1 && !step->warm) step->seconds = 0, step->calls = 0, step->warm = true;
        step->seconds += clock_seconds() - start;
        step->calls++;
    }
    return status;
}

static crank_status run_loop(crank_graph *graph, int segment)
{
    crank_status status = CRANK_OK;
    for (int i = 0; i < graph->step_count && status == CRANK_OK; i++)
        if (segment < 0 || graph->steps[i].node->segment == segment) status = run_step(graph, &graph->steps[i]);
    return status;
}

static graph_program *program_of(crank_graph *graph, int segment)
{
    for (int i = 0; i < graph->program_count; i++)
        if (graph->programs[i].segment == segment) return &graph->programs[i];
    graph_program *programs = realloc(graph->programs, ((size_t)graph->program_count + 1) * sizeof *programs);
    if (!programs) return NULL;
    graph->programs = programs;
    programs[graph->program_count] = (graph_program){.segment = segment};
    return &programs[graph->program_count++];
}

static crank_status capture(crank_graph *graph, graph_program *p)
{
    crank_device *device = graph->device;
    void         *program = NULL;
    crank_status  status = device->capture_begin(graph->context, device);
    if (status != CRANK_OK) return status;
    status = run_loop(graph, p->segment);
    crank_status ended = device->capture_end(graph->context, device, &program);
    if (status == CRANK_OK && ended == CRANK_OK) p->program = program;
    else if (program) device->program_free(device, program);
    return status == CRANK_OK ? ended : status;
}

static crank_status run_range(crank_graph *graph, int segment)
{
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    if (!graph->planned || graph->dry) return crank_fail(graph->context, CRANK_USAGE, "a graph runs after crank_plan, and never after a dry plan");
    crank_device *device = graph->device;
    crank_status  status = take_leaves(graph);
    if (status == CRANK_OK) status = pool_reserve(graph->context, graph->pool, graph->arena, graph->workspace);
    if (status != CRANK_OK) return status;
    uint64_t memory = (uintptr_t)pool_workspace(graph->pool);
    for (int i = 0; i < graph->step_count; i++)
        if (segment < 0 || graph->steps[i].node->segment == segment) place_step(graph, &graph->steps[i], &memory);
    graph_program *p = device->capture_begin && !graph->profile ? program_of(graph, segment) : NULL;
    if (!p) return run_loop(graph, segment);
    if (p->memory != memory) { /* buffers are elsewhere: what was captured would use the old ones */
        if (p->program) device->program_free(device, p->program);
        *p = (graph_program){.segment = segment, .memory = memory};
    }
    if (p->runs == 0) {
        status = run_loop(graph, segment);
        p->runs = status == CRANK_OK;
        return status;
    }
    if (!p->program) status = capture(graph, p);
    return status == CRANK_OK ? device->launch(graph->context, device, p->program) : status;
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
