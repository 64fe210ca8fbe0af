/* plan_dead.c - removes nodes whose results nobody uses: what is kept and what changes state are the roots. Optional results that
 * nobody uses go from the nodes that stay. */
#include <stdlib.h>

#include "graph/graph.h"

bool plan_remove_dead(crank_graph *graph)
{
    bool *live = calloc((size_t)graph->tensor_count + 1, 1);
    if (!live) {
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    for (int i = 0; i < graph->tensor_count; i++) live[i] = graph->tensors[i]->kept;
    bool *keep = calloc((size_t)graph->node_count + 1, 1);
    if (!keep) {
        free(live);
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    for (int i = graph->node_count - 1; i >= 0; i--) {
        crank_node *node = graph->nodes[i];
        bool        used = node->op->state;
        for (int j = 0; j < node->output_count; j++) used |= node->outputs[j] && live[node->outputs[j]->id];
        keep[i] = used;
        if (!used) continue;
        for (int j = 0; j < node->output_count; j++)
            if (node->outputs[j] && !live[node->outputs[j]->id] && (node->op->optional_outputs >> j & 1)) {
                node->outputs[j]->node = NULL;
                node->outputs[j] = NULL;
            }
        for (int j = 0; j < node->input_count; j++)
            if (node->inputs[j]) live[node->inputs[j]->id] = true;
    }
    int count = 0;
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (keep[i]) {
            graph->nodes[count++] = node;
        } else {
            free(node->attributes);
            for (int j = 0; j < node->output_count; j++)
                if (node->outputs[j]) node->outputs[j]->node = NULL;
            free(node);
            graph->summary.removed++;
        }
    }
    graph->node_count = count;
    free(keep);
    free(live);
    return true;
}
