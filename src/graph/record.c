/* record.c - making graphs: leaves, nodes, views, names, and the sticky error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

crank_graph *crank_graph_new(crank_context *context, crank_device *device)
{
    crank_graph *graph = crank_alloc(context, 1, sizeof *graph, "a graph");
    if (!graph) return NULL;
    graph->context = context;
    graph->device = device;
    graph->training = true;
    graph->compute = CRANK_F32;
    return graph;
}

void crank_graph_free(crank_graph *graph)
{
    if (!graph) return;
    for (int i = 0; i < graph->program_count; i++)
        if (graph->programs[i].program) graph->device->program_free(graph->device, graph->programs[i].program);
    free(graph->programs);
    for (int i = 0; i < graph->step_count; i++) {
        if (graph->steps[i].slot && graph->steps[i].slot_free) graph->steps[i].slot_free(graph->steps[i].slot);
        free(graph->steps[i].views);
    }
    free(graph->steps);
    for (int i = 0; i < graph->node_count; i++) {
        free(graph->nodes[i]->attributes);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    for (int i = 0; i < graph->tensor_count; i++) {
        if (graph->tensors[i]->memory) graph->device->free(graph->device, graph->tensors[i]->memory);
        free((char *)graph->tensors[i]->public.name);
        free(graph->tensors[i]);
    }
    free(graph->tensors);
    for (int i = 0; i < graph->slot_count; i++) {
        if (graph->slots[i].release) graph->slots[i].release(graph->slots[i].data);
        free(graph->slots[i].data);
    }
    free(graph->slots);
    free(graph->uses);
    if (graph->own_pool) crank_pool_free(graph->pool);
    crank_free(graph->error);
    crank_free(graph);
}

crank_status   crank_graph_status(const crank_graph *graph)
{
    if (graph->status != CRANK_OK && graph->error) crank_fail(graph->context, graph->status, "%s", graph->error);
    return graph->status;
}
crank_context *crank_graph_context(const crank_graph *graph) { return graph->context; }
crank_device  *crank_graph_device(const crank_graph *graph) { return graph->device; }
void           crank_graph_set_training(crank_graph *graph, bool training) { graph->training = training; }
bool           crank_graph_training(const crank_graph *graph) { return graph->training; }
void           crank_graph_set_compute(crank_graph *graph, crank_dtype dtype) { graph->compute = dtype; }
crank_dtype    crank_graph_compute(const crank_graph *graph) { return graph->compute; }
void           crank_graph_set_seed(crank_graph *graph, uint64_t seed) { graph->seed = seed; }
uint64_t       crank_graph_seed(const crank_graph *graph) { return graph->seed; }
uint32_t       crank_graph_next_stream(crank_graph *graph) { return graph->streams++; }

static void out_of_memory(crank_graph *graph)
{
    if (graph->status == CRANK_OK) graph->status = crank_fail(graph->context, CRANK_FAILED, "out of memory: recording a graph");
}

/* Room for one more element of an array that doubles. */
static bool reserve(crank_graph *graph, void *array, int count, int *capacity, size_t size)
{
    if (count < *capacity) return true;
    int   wanted = *capacity ? 2 * *capacity : 256;
    void *bigger = realloc(*(void **)array, (size_t)wanted * size);
    if (!bigger) {
        out_of_memory(graph);
        return false;
    }
    *(void **)array = bigger;
    *capacity = wanted;
    return true;
}

static void set_shape(crank_tensor *tensor, crank_dtype dtype, int rank, const int64_t *dims)
{
    tensor->dtype = dtype;
    tensor->rank = rank;
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        tensor->dims[i] = dims[i];
        tensor->strides[i] = stride;
        stride *= dims[i];
    }
}

/* The tensor that failed functions return: one a graph, a scalar. It is part of the graph, so there is always one. */
static crank_tensor *broken_tensor(crank_graph *graph)
{
    graph->broken.public.graph = graph;
    graph->broken.place = -1;
    return &graph->broken.public;
}

crank_tensor *crank_graph_error(crank_graph *graph, crank_status status, const char *format, ...)
{
    if (graph->status == CRANK_OK) {
        char    text[2048];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        graph->status = crank_fail(graph->context, status, "%s", text);
        graph->error = crank_strdup(graph->context, text);
    }
    return broken_tensor(graph);
}

crank_tensor *graph_tensor(crank_graph *graph, crank_dtype dtype, int rank, const int64_t *dims)
{
    if (!reserve(graph, &graph->tensors, graph->tensor_count, &graph->tensor_capacity, sizeof *graph->tensors)) return NULL;
    tensor_record *record = calloc(1, sizeof *record);
    if (!record) {
        out_of_memory(graph);
        return NULL;
    }
    record->public.graph = graph;
    record->public.id = graph->tensor_count;
    record->place = -1;
    set_shape(&record->public, dtype, rank, dims);
    graph->tensors[graph->tensor_count++] = record;
    return &record->public;
}

int64_t tensor_count(const crank_tensor *tensor)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= tensor->dims[i];
    return count;
}

size_t tensor_bytes(const crank_tensor *tensor)
{
    int64_t count = tensor_count(tensor);
    if (tensor->rank >= 2 && count && tensor->strides[0] > count / tensor->dims[0]) count = tensor->dims[0] * tensor->strides[0]; /* rows with room */
    return ((size_t)count * crank_dtype_bits(tensor->dtype) + 7) / 8;
}

/* ---- leaves ---- */

crank_tensor *crank_input(crank_graph *graph, const char *name, crank_dtype dtype, int rank, const int64_t *dims)
{
    if (graph->status != CRANK_OK) return broken_tensor(graph);
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0) return crank_graph_error(graph, CRANK_USAGE, "input `%s` has a negative size", name);
    crank_tensor *tensor = graph_tensor(graph, dtype, rank, dims);
    if (!tensor) return broken_tensor(graph);
    RECORD(tensor)->home = HOME_INPUT;
    return crank_named(tensor, name);
}

crank_tensor *crank_use(crank_graph *graph, crank_param *param)
{
    if (graph->status != CRANK_OK) return broken_tensor(graph);
    for (int i = 0; i < graph->use_count; i++)
        if (graph->uses[i].param == param) return graph->uses[i].tensor;
    if (!reserve(graph, &graph->uses, graph->use_count, &graph->use_capacity, sizeof *graph->uses)) return broken_tensor(graph);
    crank_tensor *tensor = graph_tensor(graph, param->view.dtype, param->view.rank, param->view.dims);
    if (!tensor) return broken_tensor(graph);
    RECORD(tensor)->home = HOME_PARAM;
    tensor->param = param;
    tensor->needs_gradient = param->trainable;
    memcpy(tensor->strides, param->view.strides, sizeof tensor->strides);
    graph->uses[graph->use_count++] = (graph_use){param, tensor};
    return crank_named(tensor, param->name);
}

crank_tensor *crank_constant(crank_graph *graph, double value)
{
    if (graph->status != CRANK_OK) return broken_tensor(graph);
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->home == HOME_CONSTANT && graph->tensors[i]->constant == value &&
            graph->tensors[i]->public.dtype == graph->compute)
            return &graph->tensors[i]->public;
    crank_tensor *tensor = graph_tensor(graph, graph->compute, 0, NULL);
    if (!tensor) return broken_tensor(graph);
    RECORD(tensor)->home = HOME_CONSTANT;
    RECORD(tensor)->constant = value;
    return tensor;
}

crank_tensor *crank_step_scalars(crank_graph *graph)
{
    if (!graph->scalars) {
        int64_t count = CRANK_SCALARS;
        graph->scalars = crank_input(graph, "step scalars", CRANK_F32, 1, &count);
    }
    return graph->scalars;
}

crank_tensor *crank_step_scalar(crank_graph *graph, crank_scalar_index i)
{
    return crank_view_of(crank_step_scalars(graph), 0, NULL, NULL, i);
}

crank_tensor *crank_step_counter(crank_graph *graph)
{
    if (!graph->counter) {
        int64_t one = 1;
        graph->counter = crank_input(graph, "step counter", CRANK_I64, 1, &one);
    }
    return graph->counter;
}

void crank_mark_gradient(crank_tensor *leaf) { leaf->needs_gradient = true; }

crank_tensor *crank_keep(crank_tensor *tensor)
{
    RECORD(tensor)->kept = true;
    return tensor;
}

crank_tensor *crank_named(crank_tensor *tensor, const char *name)
{
    char *copy = strdup(name);
    if (!copy) {
        out_of_memory(tensor->graph);
        return tensor;
    }
    free((char *)tensor->name);
    tensor->name = copy;
    return tensor;
}

/* ---- nodes ---- */

int crank_next_segment(crank_graph *graph) { return ++graph->segment; }

void crank_block_begin(crank_graph *graph)
{
    graph->in_block = true;
    graph->block = ++graph->blocks;
}

void crank_block_end(crank_graph *graph)
{
    graph->in_block = false;
    graph->block = 0;
}

void crank_set_output(crank_node *node, int i, crank_dtype dtype, int rank, const int64_t *dims)
{
    if (node->outputs[i]) set_shape(node->outputs[i], dtype, rank, dims);
}

/* The outputs of a state operation are its operands after it: the same memory. */
static void alias_state_outputs(crank_node *node)
{
    for (int i = 0; i < node->output_count; i++) {
        crank_tensor *output = node->outputs[i];
        int           from = node->op->inplace[i] - 1;
        if (!output || from < 0 || !node->inputs[from]) continue;
        crank_tensor *input = node->inputs[from];
        output->base = tensor_root(input);
        output->offset = input->offset;
        memcpy(output->strides, input->strides, sizeof output->strides);
    }
}

crank_node *crank_record(crank_graph *graph, const crank_op *op, crank_tensor *const *inputs, int input_count, const void *attributes,
                         int output_count, unsigned wanted)
{
    if (graph->status != CRANK_OK) return NULL;
    for (int i = 0; i < input_count; i++)
        if (inputs[i] && inputs[i]->graph != graph) {
            crank_graph_error(graph, CRANK_USAGE, "%s: operand %d belongs to another graph", op->name, i);
            return NULL;
        }
    if (input_count > CRANK_MAX_INPUTS || output_count > CRANK_MAX_OUTPUTS) {
        crank_graph_error(graph, CRANK_USAGE, "%s: %d operands and %d results are more than a node holds", op->name, input_count,
                          output_count);
        return NULL;
    }
    if (!reserve(graph, &graph->nodes, graph->node_count, &graph->node_capacity, sizeof *graph->nodes)) return NULL;
    crank_node *node = calloc(1, sizeof *node);
    if (!node) {
        out_of_memory(graph);
        return NULL;
    }
    *node = (crank_node){.op = op, .input_count = input_count, .output_count = output_count, .segment = graph->segment,
                         .block = graph->reverse ? 0 : graph->block, .id = graph->node_count,
                         .backward = graph->reverse || graph->differentiated > 0};
    graph->nodes[graph->node_count++] = node;
    if (op->attributes_size > 0 && attributes) {
        node->attributes = malloc((size_t)op->attributes_size);
        if (!node->attributes) {
            out_of_memory(graph);
            return NULL;
        }
        memcpy(node->attributes, attributes, (size_t)op->attributes_size);
    }
    bool needs_gradient = false;
    for (int i = 0; i < input_count; i++) {
        node->inputs[i] = inputs[i];
        needs_gradient |= inputs[i] && inputs[i]->needs_gradient;
    }
    for (int i = 0; i < output_count; i++) {
        if (!(wanted >> i & 1)) continue;
        node->outputs[i] = graph_tensor(graph, graph->compute, 0, NULL);
        if (!node->outputs[i]) return NULL;
        node->outputs[i]->node = node;
        node->outputs[i]->needs_gradient = needs_gradient && op->gradient && !op->state;
    }
    if (op->infer(graph, node) != CRANK_OK) {
        crank_graph_error(graph, crank_last_status(graph->context), "%s: %s", op->name, crank_message(graph->context));
        return NULL;
    }
    if (op->state) alias_state_outputs(node);
    return graph->status == CRANK_OK ? node : NULL;
}

crank_tensor *crank_view_of(crank_tensor *tensor, int rank, const int64_t *dims, const int64_t *strides, int64_t offset)
{
    crank_graph *graph = tensor->graph;
    if (graph->status != CRANK_OK) return broken_tensor(graph);
    crank_tensor *view = graph_tensor(graph, tensor->dtype, rank, dims);
    if (!view) return broken_tensor(graph);
    view->base = tensor_root(tensor);
    view->offset = tensor->offset + offset;
    view->param = tensor->param;
    if (strides) memcpy(view->strides, strides, (size_t)rank * sizeof *strides);
    return view;
}

/* ---- slots ---- */

void *crank_graph_slot(crank_graph *graph, const void *key, size_t size, void (*release)(void *slot))
{
    for (int i = 0; i < graph->slot_count; i++)
        if (graph->slots[i].key == key) return graph->slots[i].data;
    if (!reserve(graph, &graph->slots, graph->slot_count, &graph->slot_capacity, sizeof *graph->slots)) return NULL;
    void *data = calloc(1, size ? size : 1);
    if (!data) {
        out_of_memory(graph);
        return NULL;
    }
    graph->slots[graph->slot_count++] = (graph_slot){key, data, release};
    return data;
}
