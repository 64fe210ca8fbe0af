/* plan.c - from a recorded graph to a schedule: the order of the passes, bodies for the nodes, and the memory limit. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

static crank_view view_of(const crank_tensor *tensor)
{
    crank_view view = {.dtype = CRANK_F32, .rank = -1};
    if (!tensor) return view;
    view.dtype = tensor->dtype;
    view.rank = tensor->rank;
    memcpy(view.dims, tensor->dims, sizeof view.dims);
    memcpy(view.strides, tensor->strides, sizeof view.strides);
    return view;
}

bool plan_find_body(crank_graph *graph, const crank_node *node, crank_view *views, crank_body *body)
{
    for (int i = 0; i < node->input_count; i++) views[i] = view_of(node->inputs[i]);
    for (int i = 0; i < node->output_count; i++) views[node->input_count + i] = view_of(node->outputs[i]);
    crank_call call = {.device = graph->device, .in = views, .inputs = node->input_count, .out = views + node->input_count,
                       .outputs = node->output_count, .attributes = node->attributes};
    if (graph->device->find(graph->device, node->op->name, &call, body)) return true;
    if (!node->op->run_cpu || !graph->device->host) return false;
    *body = (crank_body){"own", node->op->run_cpu, 0};
    return true;
}

/* One of the `added` nodes made `fresh`: it makes `old` instead, so that views of the old tensor, and who keeps or names it, hold what
 * they held. False: `fresh` is a view or has one, was there before, or differs in type or shape. */
static bool take_over(crank_graph *graph, crank_tensor *old, crank_tensor *fresh, crank_node *const *added, int count)
{
    crank_node *node = fresh->node;
    bool        own = false;
    for (int k = 0; k < count; k++) own |= added[k] == node;
    if (!own || node_is_view(node) || fresh->dtype != old->dtype || fresh->rank != old->rank ||
        memcmp(fresh->dims, old->dims, (size_t)old->rank * sizeof *old->dims) != 0)
        return false;
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->public.base == fresh) return false;
    for (int j = 0; j < node->output_count; j++)
        if (node->outputs[j] == fresh) node->outputs[j] = old;
    for (int k = 0; k < count; k++)
        for (int j = 0; j < added[k]->input_count; j++)
            if (added[k]->inputs[j] == fresh) added[k]->inputs[j] = old;
    old->node = node;
    fresh->node = NULL;
    return true;
}

/* Readers of the old result read the new one. */
static void redirect(crank_graph *graph, crank_tensor *old, crank_tensor *fresh)
{
    RECORD(fresh)->kept |= RECORD(old)->kept;
    for (int m = 0; m < graph->node_count; m++)
        for (int j = 0; j < graph->nodes[m]->input_count; j++)
            if (graph->nodes[m]->inputs[j] == old) graph->nodes[m]->inputs[j] = fresh;
}

/* Puts base operations in the place of nodes that the device has no body for. */
static bool decompose(crank_graph *graph)
{
    crank_view views[CRANK_MAX_INPUTS + CRANK_MAX_OUTPUTS];
    crank_body body;
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (node_is_view(node) || !node->op->decompose || plan_find_body(graph, node, views, &body)) continue;
        int           before = graph->node_count;
        crank_tensor *outputs[CRANK_MAX_OUTPUTS] = {0};
        bool          reverse = graph->reverse;
        graph->reverse = node->backward;
        node->op->decompose(graph, node, outputs);
        graph->reverse = reverse;
        if (graph->status != CRANK_OK) return false;
        int          added = graph->node_count - before;
        crank_node **moved = malloc(((size_t)added + 1) * sizeof *moved);
        if (!moved) return false;
        memcpy(moved, &graph->nodes[before], (size_t)added * sizeof *moved);
        memmove(&graph->nodes[i + added], &graph->nodes[i + 1], (size_t)(before - i - 1) * sizeof *moved);
        memcpy(&graph->nodes[i], moved, (size_t)added * sizeof *moved);
        graph->node_count--;
        for (int k = 0; k < added; k++) {
            moved[k]->block = node->block;
            moved[k]->segment = node->segment;
            moved[k]->id = node->id;
        }
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k] && outputs[k] && !take_over(graph, node->outputs[k], outputs[k], moved, added)) redirect(graph, node->outputs[k], outputs[k]);
        free(moved);
        free(node->attributes);
        free(node);
        i--;
    }
    return true;
}

static void drop_steps(crank_graph *graph)
{
    for (int i = 0; i < graph->step_count; i++) free(graph->steps[i].views);
    free(graph->steps);
    graph->steps = NULL;
    graph->step_count = 0;
}

static bool choose_bodies(crank_graph *graph)
{
    graph->steps = calloc((size_t)graph->node_count + 1, sizeof *graph->steps);
    if (!graph->steps) {
        crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
        return false;
    }
    graph->workspace = 0;
    graph->summary.flops = 0;
    for (int i = 0; i < graph->node_count; i++) {
        crank_node *node = graph->nodes[i];
        if (node_is_view(node)) continue;
        graph_step *step = &graph->steps[graph->step_count++];
        step->node = node;
        step->views = calloc((size_t)(node->input_count + node->output_count), sizeof *step->views);
        if (!step->views) {
            crank_fail(graph->context, CRANK_FAILED, "out of memory: planning a graph");
            return false;
        }
        if (!plan_find_body(graph, node, step->views, &step->body)) {
            crank_fail(graph->context, CRANK_USAGE, "device %s has no body for operation `%s`", graph->device->name, node->op->name);
            return false;
        }
        if (step->body.workspace > graph->workspace) graph->workspace = step->body.workspace;
        if (node->op->flops) graph->summary.flops += node->op->flops(node);
    }
    graph->summary.workspace = graph->workspace;
    return true;
}

static size_t input_bytes(const crank_graph *graph)
{
    size_t bytes = 0;
    for (int i = 0; i < graph->tensor_count; i++)
        if (graph->tensors[i]->home == HOME_INPUT || graph->tensors[i]->home == HOME_CONSTANT)
            bytes += tensor_bytes(&graph->tensors[i]->public);
    return bytes;
}

static bool schedule(crank_graph *graph, int blocks, bool cheap)
{
    return plan_hoist_updates(graph) && plan_recompute(graph, blocks, cheap) && plan_remove_dead(graph) && plan_hoist_updates(graph) && plan_place(graph);
}

/* A trial: the schedule with `blocks` recomputed, sizes only; the graph is as before afterwards. */
static size_t arena_with(crank_graph *graph, int blocks, bool cheap)
{
    int                count = graph->node_count, tensors = graph->tensor_count;
    crank_plan_summary summary = graph->summary;
    crank_node       **nodes = malloc(((size_t)count + 1) * sizeof *nodes), *contents = malloc(((size_t)count + 1) * sizeof *contents);
    size_t             arena = SIZE_MAX;
    if (nodes && contents) {
        for (int i = 0; i < count; i++) {
            nodes[i] = graph->nodes[i];
            contents[i] = *graph->nodes[i];
        }
        if (plan_hoist_updates(graph) && plan_recompute(graph, blocks, cheap) && plan_hoist_updates(graph) && plan_place(graph)) arena = graph->arena;
        for (int i = 0; i < graph->node_count; i++) { /* the copies that the trial made */
            bool original = false;
            for (int k = 0; k < count && !original; k++) original = graph->nodes[i] == nodes[k];
            if (!original) {
                free(graph->nodes[i]->attributes);
                free(graph->nodes[i]);
            }
        }
        for (int i = 0; i < count; i++) *nodes[i] = contents[i];
        memcpy(graph->nodes, nodes, (size_t)count * sizeof *nodes);
        graph->node_count = count;
        while (graph->tensor_count > tensors) {
            graph->tensor_count--;
            free((char *)graph->tensors[graph->tensor_count]->public.name);
            free(graph->tensors[graph->tensor_count]);
        }
    }
    graph->summary = summary;
    free(nodes);
    free(contents);
    return arena;
}

/* Blocks that must be computed again so that the arena keeps to the limit, searched for by halving: more of them never take
 * more. -1: it fits with no number of them. */
static int blocks_for_limit(crank_graph *graph, const crank_plan_options *options)
{
    int low = 0, high = graph->blocks; /* low does not fit (or is not known to), high fits */
    if (arena_with(graph, high, true) > options->memory_limit) return -1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (arena_with(graph, middle, true) <= options->memory_limit)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

/* Computing cheap operations again costs a few per cent of a step: it is done for a twentieth of the arena. */
static bool saves_enough(size_t kept, size_t again) { return again < kept - kept / 20; }

static crank_status too_large(crank_graph *graph, const crank_plan_options *options)
{
    return crank_fail(graph->context, CRANK_FAILED,
                      "the step needs an arena of %.1f MiB and the limit leaves %.1f MiB: use a smaller micro-batch, shorter "
                      "sequences, or raise memory.limit",
                      (double)graph->arena / 1048576.0, (double)options->memory_limit / 1048576.0);
}

/* What `memory_all` leaves to the arena. Computing blocks again adds nodes of bodies that are there already. False: message set. */
static bool limit_arena(crank_graph *graph, crank_plan_options *options)
{
    if (!options->memory_all) return true;
    if (!choose_bodies(graph)) return false;
    size_t beside = graph->workspace + input_bytes(graph), left = options->memory_all > beside ? options->memory_all - beside : 1;
    if (!options->memory_limit || left < options->memory_limit) options->memory_limit = left;
    drop_steps(graph);
    return true;
}

crank_status crank_plan(crank_graph *graph, const crank_plan_options *wanted, crank_plan_summary *summary)
{
    crank_plan_options  own = wanted ? *wanted : (crank_plan_options){0};
    crank_plan_options *options = &own;
    if (graph->status != CRANK_OK) return crank_graph_status(graph);
    if (graph->planned) return crank_fail(graph->context, CRANK_USAGE, "the graph is planned already");
    memset(&graph->summary, 0, sizeof graph->summary);
    drop_steps(graph);
    graph->dry = options->dry;
    if (!plan_remove_dead(graph) || !decompose(graph) || (!options->no_fusion && (!plan_fuse(graph) || !plan_remove_dead(graph) || !plan_stack(graph) || !plan_augment(graph))) ||
        !plan_remove_dead(graph))
        return graph->status != CRANK_OK ? crank_graph_status(graph) : crank_last_status(graph->context);
    if (!limit_arena(graph, options)) return crank_last_status(graph->context);
    int  blocks = 0;
    bool cheap = !options->no_recompute && graph->differentiated && saves_enough(arena_with(graph, 0, false), arena_with(graph, 0, true));
    if (options->memory_limit && graph->differentiated && arena_with(graph, 0, cheap) > options->memory_limit) {
        blocks = blocks_for_limit(graph, options);
        cheap = true;
        if (blocks < 0) {
            schedule(graph, graph->blocks, true);
            return too_large(graph, options);
        }
    }
    if (!schedule(graph, blocks, cheap) || !choose_bodies(graph)) return crank_last_status(graph->context);
    if (options->memory_limit && graph->arena > options->memory_limit) return too_large(graph, options);
    if (!graph->pool) {
        graph->pool = crank_pool_new(graph->context, graph->device);
        if (!graph->pool) return CRANK_FAILED;
        graph->own_pool = true;
    }
    pool_need(graph->pool, graph->arena, graph->workspace);
    graph->summary.inputs = input_bytes(graph);
    graph->summary.nodes = graph->step_count;
    graph->planned = true;
    if (summary) *summary = graph->summary;
    return CRANK_OK;
}

void crank_graph_set_pool(crank_graph *graph, crank_pool *pool) { graph->pool = pool; }
