/* plan_recompute.c - computes forward tensors again in the reverse pass instead of keeping them.
 *
 * A forward node is *dropped* when its block is among those to be computed again, or, with `cheap`, when its operation is marked
 * cheap. Before the first reverse node that reads a dropped tensor, copies of the dropped nodes that lead to it are inserted; they
 * read what is kept: tensors of nodes that are not dropped, and those that pass from block to block. State operations, kept tensors and views of parameters are never
 * dropped. Inserted nodes draw the same random numbers, since these are counted, so recomputation changes no bit. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

typedef struct recompute {
    crank_graph   *graph;
    crank_tensor **copy;    /* by id: the tensor's copy in the reverse pass, or NULL */
    bool          *dropped; /* by id: its node may be run again */
    crank_node   **list;    /* the new schedule */
    int            count, capacity;
    bool           failed;
} recompute;

static void append(recompute *pass, crank_node *node)
{
    if (pass->count == pass->capacity) {
        int          capacity = pass->capacity ? 2 * pass->capacity : 1024;
        crank_node **list = realloc(pass->list, (size_t)capacity * sizeof *list);
        if (!list) {
            pass->failed = true;
            return;
        }
        pass->list = list;
        pass->capacity = capacity;
    }
    pass->list[pass->count++] = node;
}

static bool may_drop(const crank_graph *graph, const crank_node *node, int blocks, bool cheap)
{
    if (node->backward || node->op->state || graph->segment > 0) return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && RECORD(node->outputs[i])->kept) return false;
    if (node->block > 0 && node->block <= blocks) return true;
    return (cheap && node->op->cheap) || node_is_view(node);
}

static crank_tensor *available(recompute *pass, crank_tensor *tensor, const crank_node *reader, int depth);

/* A copy of a dropped node with copies of its results. */
static void run_again(recompute *pass, crank_node *node, const crank_node *reader, int depth)
{
    crank_node *again = malloc(sizeof *again);
    if (!again) {
        pass->failed = true;
        return;
    }
    *again = *node;
    again->backward = true;
    again->segment = reader->segment;
    if (node->attributes) {
        again->attributes = malloc((size_t)node->op->attributes_size);
        if (!again->attributes) {
            free(again);
            pass->failed = true;
            return;
        }
        memcpy(again->attributes, node->attributes, (size_t)node->op->attributes_size);
    }
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]) again->inputs[i] = available(pass, node->inputs[i], reader, depth + 1);
    for (int i = 0; i < node->output_count; i++) {
        crank_tensor *old = node->outputs[i];
        if (!old) continue;
        crank_tensor *fresh = graph_tensor(pass->graph, old->dtype, old->rank, old->dims);
        if (!fresh) {
            pass->failed = true;
            return;
        }
        memcpy(fresh->strides, old->strides, sizeof fresh->strides);
        fresh->node = again;
        if (old->base) { /* a view: of the copy of what it looks at */
            fresh->base = tensor_root(again->inputs[0]);
            fresh->offset = old->offset - node->inputs[0]->offset + again->inputs[0]->offset;
        }
        again->outputs[i] = fresh;
        pass->copy[old->id] = fresh;
    }
    append(pass, again);
    pass->graph->summary.recomputed_nodes += !node_is_view(node);
}

/* The tensor as a reverse node reads it: itself, or its copy, made now when it is not there yet. */
static crank_tensor *available(recompute *pass, crank_tensor *tensor, const crank_node *reader, int depth)
{
    if (pass->failed || !pass->dropped[tensor->id]) return tensor;
    if (!pass->copy[tensor->id]) {
        if (depth > 4096) {
            pass->failed = true;
            return tensor;
        }
        run_again(pass, tensor->node, reader, depth);
    }
    return pass->copy[tensor->id] ? pass->copy[tensor->id] : tensor;
}

/* What a block hands to another block, or to the end of the forward pass, is kept: recomputation starts from it. */
static void keep_borders(crank_graph *graph, recompute *pass)
{
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (node->backward || node_is_view(node)) continue;
        for (int j = 0; j < node->input_count; j++) {
            crank_tensor *root = node->inputs[j] ? tensor_root(node->inputs[j]) : NULL;
            if (root && root->node && root->node->block != node->block) pass->dropped[root->id] = false;
        }
    }
}

static size_t result_bytes(const crank_node *node)
{
    size_t bytes = 0;
    for (int j = 0; j < node->output_count; j++)
        if (node->outputs[j]) bytes += tensor_bytes(node->outputs[j]);
    return bytes;
}

/* Dropping a cheap node pays only when what it reads lives anyway until the reverse pass, and when its results are no crumbs beside
 * those of the others (factors of adapters in another type: hundreds of calls for a thousandth of the memory). */
static void keep_cheap_of_dead_operands(crank_graph *graph, recompute *pass, const bool *read_in_reverse, int blocks)
{
    size_t all = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const crank_node *node = graph->nodes[i];
        if (!node->backward && !node_is_view(node) && node->outputs[0] && pass->dropped[node->outputs[0]->id]) all += result_bytes(node);
    }
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (node->backward || node_is_view(node) || (node->block > 0 && node->block <= blocks)) continue;
        bool lives = result_bytes(node) >= all / 2000;
        for (int j = 0; j < node->input_count && lives; j++) {
            crank_tensor *input = node->inputs[j];
            if (!input) continue;
            crank_tensor *root = tensor_root(input);
            lives = RECORD(root)->home != HOME_ARENA || read_in_reverse[root->id] || pass->dropped[root->id];
        }
        for (int j = 0; j < node->output_count && !lives; j++)
            if (node->outputs[j]) pass->dropped[node->outputs[j]->id] = false;
    }
}

bool plan_recompute(crank_graph *graph, int blocks, bool cheap)
{
    if (!graph->differentiated || graph->segment > 0) return true;
    size_t    n = (size_t)graph->tensor_count + 1;
    int       tensors = graph->tensor_count;
    recompute pass = {.graph = graph, .copy = calloc(n, sizeof(void *)), .dropped = calloc(n, 1)};
    bool     *reverse_reads = calloc(n, 1);
    if (!pass.copy || !pass.dropped || !reverse_reads) {
        free(pass.copy), free(pass.dropped), free(reverse_reads);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        for (int j = 0; j < node->input_count; j++)
            if (node->backward && node->inputs[j]) reverse_reads[tensor_root(node->inputs[j])->id] = true;
        if (!may_drop(graph, node, blocks, cheap)) continue;
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j]) pass.dropped[node->outputs[j]->id] = true;
    }
    keep_borders(graph, &pass);
    keep_cheap_of_dead_operands(graph, &pass, reverse_reads, blocks);
    for (int i = 0; i < graph->node_count && !pass.failed; i++) {
        crank_node *node = graph->nodes[i];
        if (node->backward)
            for (int j = 0; j < node->input_count; j++)
                if (node->inputs[j] && node->inputs[j]->id < tensors) node->inputs[j] = available(&pass, node->inputs[j], node, 0);
        append(&pass, node);
    }
    free(pass.dropped), free(pass.copy), free(reverse_reads);
    if (pass.failed) {
        free(pass.list);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning recomputation");
        return false;
    }
    free(graph->nodes);
    graph->nodes = pass.list;
    graph->node_count = graph->node_capacity = pass.count;
    graph->summary.recomputed_blocks = blocks;
    return true;
}
