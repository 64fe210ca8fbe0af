/* plan_hoist.c - moves what was recorded after the reverse pass (updates and what prepares them) as far up as its operands allow.
 *
 * An update then stands right behind the last contribution to its gradient, and the gradient's memory is free again inside the
 * reverse pass. A node may pass another only when neither writes what the other reads or writes: an update never overtakes the
 * last reader of its parameter (tied weights, recomputation), and a clip by this step's norm holds back every update, since all
 * of them read the scalars that it writes.
 *
 * What waits for nothing (a basis in 16 bits, a constant) would rise to the start and lie there: it stands right before its first reader
 * instead, or before who writes what it reads. */
#include <stdlib.h>

#include "graph/graph.h"

typedef struct entry {
    crank_node *node;
    int         slot, order, start; /* start: the first slot of its segment */
} entry;

static int by_slot(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->slot != y->slot ? (x->slot > y->slot) - (x->slot < y->slot) : (x->order > y->order) - (x->order < y->order);
}

static int max(int a, int b) { return a > b ? a : b; }
static int min(int a, int b) { return a < b ? a : b; }

static bool is_kept(const crank_node *node)
{
    for (int j = 0; j < node->output_count; j++)
        if (node->outputs[j] && RECORD(node->outputs[j])->kept) return true;
    return false;
}

/* Nodes at the start of their segment sink; entries in the order of recording. written, read: room by root tensor. */
static void sink(crank_graph *graph, entry *entries, int *written, int *read)
{
    int none = graph->node_count + 1;
    for (int i = 0; i <= graph->tensor_count; i++) written[i] = read[i] = none; /* the first slot of those that come later */
    for (int i = graph->node_count - 1; i >= 0; i--) {
        crank_node *node = entries[i].node;
        int         slot = none;
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j]) slot = min(slot, read[tensor_root(node->outputs[j])->id]);
        for (int j = 0; j < node->input_count; j++)
            if (node->inputs[j]) slot = min(slot, written[tensor_root(node->inputs[j])->id]);
        bool floats = node->id >= graph->differentiated && !node->op->state && !is_kept(node) && slot < none && entries[i].slot < slot;
        if (floats && entries[i].slot == entries[i].start) entries[i].slot = slot;
        for (int j = 0; j < node->input_count; j++)
            if (node->inputs[j]) read[tensor_root(node->inputs[j])->id] = min(read[tensor_root(node->inputs[j])->id], entries[i].slot);
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j]) written[tensor_root(node->outputs[j])->id] = min(written[tensor_root(node->outputs[j])->id], entries[i].slot);
    }
}

bool plan_hoist_updates(crank_graph *graph)
{
    if (!graph->differentiated) return true;
    size_t n = (size_t)graph->tensor_count + 1;
    int   *written = malloc(n * sizeof *written), *read = malloc(n * sizeof *read); /* by root tensor: last slot that writes, reads */
    entry *entries = malloc(((size_t)graph->node_count + 1) * sizeof *entries);
    if (!written || !read || !entries) {
        free(written), free(read), free(entries);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    for (size_t i = 0; i < n; i++) written[i] = read[i] = -1;
    for (int i = 0, start = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        int         slot = i;
        if (i && node->segment > graph->nodes[i - 1]->segment) start = i;
        if (node->id >= graph->differentiated) { /* recorded after the reverse pass: free to move up */
            slot = start; /* never out of its segment */
            for (int j = 0; j < node->input_count; j++)
                if (node->inputs[j]) slot = max(slot, written[tensor_root(node->inputs[j])->id]);
            for (int j = 0; node->op->state && j < node->output_count; j++)
                if (node->outputs[j]) slot = max(slot, max(read[tensor_root(node->outputs[j])->id], written[tensor_root(node->outputs[j])->id]));
        }
        entries[i] = (entry){node, slot, i, start};
        for (int j = 0; j < node->input_count; j++)
            if (node->inputs[j]) {
                int *last = &read[tensor_root(node->inputs[j])->id];
                *last = max(*last, slot);
            }
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j]) {
                int *last = &written[tensor_root(node->outputs[j])->id];
                *last = max(*last, slot);
            }
    }
    sink(graph, entries, written, read);
    qsort(entries, (size_t)graph->node_count, sizeof *entries, by_slot);
    for (int i = 0; i < graph->node_count; i++) graph->nodes[i] = entries[i].node;
    free(written), free(read), free(entries);
    return true;
}
