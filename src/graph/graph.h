/* graph.h - what the rooms of the graph share: the graph itself, tensors with their place in memory, the node list. */
#ifndef CRANK_GRAPH_GRAPH_H
#define CRANK_GRAPH_GRAPH_H

#include "crank/graph.h"

/* Where the memory of a root tensor (one without base) comes from. */
typedef enum tensor_home {
    HOME_ARENA,    /* placed by the plan */
    HOME_PARAM,    /* a parameter's own memory */
    HOME_INPUT,    /* written by the host, lives as long as the graph */
    HOME_CONSTANT, /* one value, filled once */
} tensor_home;

/* A tensor as the graph holds it; `public` is first, so a crank_tensor * is one of these. */
typedef struct tensor_record {
    crank_tensor public;
    tensor_home  home;
    bool         kept;
    double       constant;
    void        *memory; /* HOME_INPUT, HOME_CONSTANT: on the device */
    int64_t      place;  /* HOME_ARENA: byte offset in the arena after the plan; -1: not placed */
} tensor_record;

/* What a room above keeps with the graph (crank_graph_slot). */
typedef struct graph_slot {
    const void *key;
    void       *data;
    void      (*release)(void *slot);
} graph_slot;

/* The leaf of a parameter in this graph. */
typedef struct graph_use {
    const crank_param *param;
    crank_tensor      *tensor;
} graph_use;

/* One entry of the schedule: a node with its body and the views that it is called with. */
typedef struct graph_step {
    crank_node  *node;
    crank_body   body;
    crank_view  *views; /* inputs, then outputs */
    void        *slot;
    void       (*slot_free)(void *);
    double       seconds; /* profile */
    int64_t      calls;
    bool         warm; /* the profile has left out the first of several calls, which prepares */
} graph_step;

/* A captured run of all segments (-1) or one. */
typedef struct graph_program {
    int      segment;
    uint64_t memory;  /* of all addresses that it was captured with */
    int      runs;    /* plain runs on this memory */
    void    *program; /* NULL: not captured */
} graph_program;

struct crank_graph {
    crank_context *context;
    crank_device  *device;
    crank_status   status;
    char          *error; /* the sticky message */
    bool           training;
    crank_dtype    compute;
    uint64_t       seed;
    uint32_t       streams;

    crank_node   **nodes;
    int            node_count, node_capacity;
    tensor_record **tensors;
    int            tensor_count, tensor_capacity;
    graph_slot    *slots;
    int            slot_count, slot_capacity;
    graph_use     *uses;
    int            use_count, use_capacity;
    crank_tensor  *scalars, *counter;
    tensor_record  broken; /* what functions return once the graph has failed */

    int  segment, block, blocks;
    bool in_block;
    int  differentiated; /* nodes recorded when the last crank_gradients ended; 0: never */
    bool reverse;        /* crank_gradients is recording */

    bool        planned, dry, profile;
    graph_step *steps;
    int         step_count;
    size_t      arena, workspace;
    crank_pool *pool;
    bool        own_pool;
    graph_program *programs;
    int            program_count;
    crank_plan_summary summary;
};

#define RECORD(tensor) ((tensor_record *)(tensor))

static inline crank_tensor *tensor_root(const crank_tensor *tensor)
{
    return (crank_tensor *)(tensor->base ? tensor->base : tensor);
}

/* A node that only looks at the memory of its input. */
static inline bool node_is_view(const crank_node *node)
{
    return !node->op->state && node->output_count == 1 && node->outputs[0] && node->outputs[0]->base;
}

crank_tensor *graph_tensor(crank_graph *graph, crank_dtype dtype, int rank, const int64_t *dims); /* a new root, contiguous */
int64_t       tensor_count(const crank_tensor *tensor);
size_t        tensor_bytes(const crank_tensor *tensor); /* of a root: what it takes in memory */

/* A body for the node: the device's, or on a host device the operation's own. `views` receives its operands, inputs first. */
bool plan_find_body(crank_graph *graph, const crank_node *node, crank_view *views, crank_body *body);

/* The passes of the plan; each changes the node list in place. They return false when memory is out (message set). */
bool plan_remove_dead(crank_graph *graph);
bool plan_fuse(crank_graph *graph);
bool plan_stack(crank_graph *graph);
bool plan_augment(crank_graph *graph);
bool plan_hoist_updates(crank_graph *graph);
/* Computes blocks 1..blocks again in the reverse pass, and with `cheap` also single operations marked cheap. */
bool plan_recompute(crank_graph *graph, int blocks, bool cheap);
/* Places every arena tensor; sets graph->arena and the summary's sizes. */
bool plan_place(crank_graph *graph);

/* Pools. */
void *pool_arena(const crank_pool *pool);
void *pool_workspace(const crank_pool *pool);
crank_status pool_reserve(crank_context *context, crank_pool *pool, size_t arena, size_t workspace);
void         pool_need(crank_pool *pool, size_t arena, size_t workspace); /* noted, not yet taken */
#endif
