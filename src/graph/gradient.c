/* gradient.c - the reverse pass: walks the recorded nodes backwards and lets each operation append its own reverse.
 *
 * The gradient of a tensor is the sum of what its uses contribute, added in reverse order of the uses. Contributions of slices that
 * cut one axis into parts without gap or overlap become one concat instead of a sum of padded tensors. */
#include <stdlib.h>
#include <string.h>

#include "crank/ops.h"
#include "graph/graph.h"
#include "graph/ops/op.h"

typedef struct slice_part {
    crank_tensor *gradient;
    int           axis;
    int64_t       start, length;
} slice_part;

typedef struct pending {
    crank_tensor *sum;   /* of ordinary contributions */
    slice_part   *parts; /* of slices, not yet added */
    int           part_count;
} pending;

typedef struct reverse {
    crank_graph *graph;
    pending     *pending; /* by tensor id, of the tensors that existed before the reverse pass */
    int          count;
} reverse;

static void contribute(reverse *pass, crank_tensor *tensor, crank_tensor *gradient)
{
    crank_tensor **sum = &pass->pending[tensor->id].sum;
    if (*sum && (*sum)->dtype != gradient->dtype) gradient = crank_cast(gradient, (*sum)->dtype);
    *sum = *sum ? crank_add(*sum, gradient) : gradient;
}

static void contribute_slice(reverse *pass, crank_tensor *tensor, crank_tensor *gradient, const slice_attributes *slice, int64_t length)
{
    pending    *entry = &pass->pending[tensor->id];
    slice_part *parts = realloc(entry->parts, (size_t)(entry->part_count + 1) * sizeof *parts);
    if (!parts) {
        crank_graph_error(pass->graph, CRANK_FAILED, "out of memory: recording a reverse pass");
        return;
    }
    entry->parts = parts;
    parts[entry->part_count++] = (slice_part){gradient, slice->axis, slice->start, length};
}

static int by_start(const void *a, const void *b)
{
    int64_t x = ((const slice_part *)a)->start, y = ((const slice_part *)b)->start;
    return (x > y) - (x < y);
}

static bool parts_partition(const crank_tensor *tensor, const pending *entry)
{
    int64_t next = 0;
    for (int i = 0; i < entry->part_count; i++) {
        if (entry->parts[i].axis != entry->parts[0].axis || entry->parts[i].start != next) return false;
        next += entry->parts[i].length;
    }
    return next == tensor->dims[entry->parts[0].axis];
}

/* The finished gradient of a tensor, or NULL when nothing arrives. */
static crank_tensor *settle(reverse *pass, crank_tensor *tensor)
{
    if (tensor->id >= pass->count) return NULL;
    pending *entry = &pass->pending[tensor->id];
    if (!entry->part_count) return entry->sum;
    qsort(entry->parts, (size_t)entry->part_count, sizeof *entry->parts, by_start);
    if (parts_partition(tensor, entry) && entry->part_count <= CRANK_MAX_INPUTS) {
        crank_tensor *pieces[CRANK_MAX_INPUTS];
        for (int i = 0; i < entry->part_count; i++) pieces[i] = entry->parts[i].gradient;
        int axis = entry->parts[0].axis, count = entry->part_count;
        entry->part_count = 0;
        contribute(pass, tensor, crank_concat(pieces, count, axis));
    } else {
        for (int i = 0; i < entry->part_count; i++) {
            const slice_part    *part = &entry->parts[i];
            const pad_attributes pad = {{part->axis, part->start}, tensor->dims[part->axis]};
            crank_tensor        *rows = op_rows(part->gradient);
            contribute(pass, tensor, op_one(&op_pad, &rows, 1, &pad));
        }
        entry->part_count = 0;
    }
    return entry->sum;
}

/* Marks every tensor that depends on a wrt tensor; returns the old marks (by id) for restoring. */
static bool *mark_dependents(crank_graph *graph, crank_tensor *const *wrt, int wrt_count)
{
    bool *old = malloc((size_t)graph->tensor_count + 1);
    if (!old) {
        crank_graph_error(graph, CRANK_FAILED, "out of memory: recording a reverse pass");
        return NULL;
    }
    for (int i = 0; i < graph->tensor_count; i++) {
        old[i] = graph->tensors[i]->public.needs_gradient;
        graph->tensors[i]->public.needs_gradient = false;
    }
    for (int i = 0; i < wrt_count; i++) wrt[i]->needs_gradient = true;
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        bool        depends = false;
        for (int j = 0; j < node->input_count; j++) depends |= node->inputs[j] && node->inputs[j]->needs_gradient;
        if (!depends || !node->op->gradient || node->op->state) continue;
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j] && old[node->outputs[j]->id]) node->outputs[j]->needs_gradient = true;
    }
    return old;
}

static void reverse_node(reverse *pass, crank_node *node)
{
    crank_tensor *dy[CRANK_MAX_OUTPUTS] = {0}, *dx[CRANK_MAX_INPUTS] = {0};
    bool          arrives = false, wanted = false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->needs_gradient) {
            dy[i] = settle(pass, node->outputs[i]);
            arrives |= dy[i] != NULL;
        }
    for (int i = 0; i < node->input_count; i++) wanted |= node->inputs[i] && node->inputs[i]->needs_gradient;
    if (!arrives || !wanted) return;
    if (!strcmp(node->op->name, "slice")) {
        const slice_attributes *slice = node->attributes;
        contribute_slice(pass, node->inputs[0], dy[0], slice, node->outputs[0]->dims[slice->axis]);
        return;
    }
    node->op->gradient(pass->graph, node, dy, dx);
    for (int i = 0; i < node->input_count; i++)
        if (dx[i] && node->inputs[i]->needs_gradient) contribute(pass, node->inputs[i], dx[i]);
}

static crank_tensor *seed_of(crank_graph *graph, crank_tensor *target, crank_tensor *seed)
{
    if (seed) return seed;
    if (tensor_count(target) != 1)
        return crank_graph_error(graph, CRANK_USAGE, "a target of %lld elements needs a given gradient", (long long)tensor_count(target));
    return crank_fill(graph, target->dtype, target->rank, target->dims, 1);
}

/* The type in which a parameter's gradient is handed to an optimiser. */
static crank_dtype gradient_type(const crank_tensor *tensor)
{
    return tensor->param ? (tensor->dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32) : tensor->dtype;
}

crank_status crank_gradients(crank_graph *graph, crank_tensor *const *targets, crank_tensor *const *seeds, int count,
                             crank_tensor *const *wrt, int wrt_count, crank_tensor **grads)
{
    for (int i = 0; i < wrt_count; i++) grads[i] = NULL;
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    int     forward_nodes = graph->node_count, forward_tensors = graph->tensor_count;
    bool   *old = mark_dependents(graph, wrt, wrt_count);
    reverse pass = {graph, calloc((size_t)forward_tensors + 1, sizeof *pass.pending), forward_tensors};
    if (!old || !pass.pending) {
        free(old);
        free(pass.pending);
        crank_graph_error(graph, CRANK_FAILED, "out of memory: recording a reverse pass");
        return crank_graph_status(graph);
    }
    graph->reverse = true;
    for (int i = 0; i < count; i++)
        if (targets[i]->needs_gradient) contribute(&pass, targets[i], seed_of(graph, targets[i], seeds ? seeds[i] : NULL));
    for (int i = forward_nodes - 1; i >= 0 && graph->status == CRANK_OK; i--) reverse_node(&pass, graph->nodes[i]);
    for (int i = 0; i < wrt_count && graph->status == CRANK_OK; i++) {
        grads[i] = settle(&pass, wrt[i]);
        if (grads[i]) grads[i] = crank_cast(grads[i], gradient_type(wrt[i]));
    }
    graph->reverse = false;
    graph->differentiated = graph->node_count;
    for (int i = 0; i < forward_tensors; i++) {
        graph->tensors[i]->public.needs_gradient = old[i];
        free(pass.pending[i].parts);
    }
    free(pass.pending);
    free(old);
    return crank_graph_status(graph);
}
