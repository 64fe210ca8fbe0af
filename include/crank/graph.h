/* graph.h - record a step once, differentiate it, plan its memory, run it many times.
 *
 *   1. record     functions of ops.h append nodes; nothing is computed. Errors are sticky: on a failed graph every function
 *                 does nothing and gives a tensor that may be passed on; the caller checks crank_graph_status once.
 *   2. gradient   crank_gradients walks the nodes in reverse; each operation appends its own reverse as further nodes.
 *                 What nobody asks for is never recorded: a frozen weight costs nothing.
 *   3. plan       dead nodes go, patterns fuse, tensors of cheap operations are made again instead of kept where that saves
 *                 memory, every buffer gets its place in one arena. The size is known before anything is allocated.
 *   4. run        a plain loop over the nodes. Nothing is allocated after the first run.
 *
 * Parameters live outside of graphs (crank_params) and serve many graphs. What changes between runs is an input. */
#ifndef CRANK_GRAPH_H
#define CRANK_GRAPH_H

#include "crank/device.h"
#include "crank/operations.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- parameters: named persistent tensors ---- */

typedef enum crank_role {
    CRANK_ROLE_WEIGHT, /* part of the model */
    CRANK_ROLE_METHOD, /* made by a low-rank method: part of the adapter */
    CRANK_ROLE_STATE,  /* optimiser state, running averages: in checkpoints only */
    CRANK_ROLE_CACHE   /* can be made again (KV cache, tables, gradient buffers): never saved */
} crank_role;

typedef struct crank_params crank_params; /* a set of parameters on one device */

typedef struct crank_param crank_param;
struct crank_param {
    const char   *name;
    crank_role    role;
    bool          trainable;
    bool          scales;    /* of a quantised weight: memory, but none of the model's parameters */
    bool          no_decay;  /* biases, norms, gates: the decay group leaves them out */
    crank_view    view;      /* data on the device */
    int64_t       room;      /* of a matrix: unused elements behind each row (strides[0] = columns + room) and unused rows behind the last, where
                                bodies may put what extends the matrix for one product; 0: none */
    crank_params *owner;
    uint64_t      version;   /* counts host-side changes: derived caches compare it */
    void         *user;      /* of the room that made it (linear, optimiser unit) */
    bool          mapped;    /* data points into a mapped file: read only */
    bool          parked; /* no graph uses it: it lies in host memory, on a host device in a temporary file; crank_param_read and _write reach it */
    bool          moved;  /* its method's `update` moves it (crank_map): the run's optimiser leaves it alone */
    bool          folded; /* a method writes into it between runs (ReLoRA): checkpoints hold it although it is not trained */
    bool          away;   /* state that another of the processes holds for all: it has no memory here */
    bool          summed; /* counts of a method's forward passes: processes that share a step add theirs before `after_step` */
    double        rate_factor; /* of its optimiser unit: multiplies the rate of the step. 1 unless its method says so (LoRA+) */
    crank_param  *clock;       /* of its optimiser unit (crank_unit.clock), written by its method's `period`; NULL: the run's own */
};

CRANK_API crank_params *crank_params_new(crank_context *context, crank_device *device);
CRANK_API void          crank_params_free(crank_params *params);
CRANK_API crank_device *crank_params_device(const crank_params *params);
/* A zeroed parameter; the name must be new. The memory is taken at once, or, while crank_params_defer(params, true) holds, only
 * when crank_params_commit is called: planning without memory. NULL: message set. */
CRANK_API crank_param *crank_params_add(crank_params *params, const char *name, crank_role role, crank_dtype dtype, int rank,
                                        const int64_t *dims);
/* A zeroed parameter that takes no memory of the device (crank_param.parked). */
CRANK_API crank_param *crank_params_add_parked(crank_params *params, const char *name, crank_role role, crank_dtype dtype, int rank, const int64_t *dims);
/* A parameter whose data belongs to somebody else and outlives the set (a mapped file). */
CRANK_API crank_param *crank_params_add_view(crank_params *params, const char *name, crank_role role, crank_view view);
/* Gives a mapped parameter memory of its own with the same contents, so that it may be written or trained; others stay as they
 * are. Before graphs are recorded that use it. */
CRANK_API crank_status crank_param_own(crank_context *context, crank_param *param);
/* Moves a matrix to where it has room; before graphs are recorded that use it. */
CRANK_API crank_status crank_param_make_room(crank_context *context, crank_param *param, int64_t room);
CRANK_API size_t       crank_param_bytes(const crank_param *param); /* of memory, room included */
CRANK_API void         crank_params_remove(crank_params *params, crank_param *param);
CRANK_API crank_param *crank_params_find(const crank_params *params, const char *name);
CRANK_API size_t       crank_params_count(const crank_params *params);
CRANK_API crank_param *crank_params_at(const crank_params *params, size_t i); /* in the order they were added */
CRANK_API void         crank_params_defer(crank_params *params, bool defer);
CRANK_API bool         crank_params_deferred(const crank_params *params);
CRANK_API crank_status crank_params_commit(crank_params *params);
/* Host access: whole contiguous contents, converted from/to `dtype` (float types; integers only as themselves). Marks changed. */
CRANK_API crank_status crank_param_write(crank_context *context, crank_param *param, const void *host, crank_dtype dtype);
CRANK_API crank_status crank_param_read(crank_context *context, const crank_param *param, void *host, crank_dtype dtype);

/* ---- graphs ---- */

typedef struct crank_graph crank_graph;
typedef struct crank_node  crank_node;

/* A value of a graph. Fields are for reading. */
typedef struct crank_tensor {
    crank_graph         *graph;
    crank_dtype          dtype;
    int                  rank;
    int64_t              dims[CRANK_MAX_RANK];
    int64_t              strides[CRANK_MAX_RANK];
    crank_node          *node;   /* that makes it; NULL for leaves */
    struct crank_tensor *base;   /* a view of another tensor's memory, or NULL */
    int64_t              offset; /* of a view: elements from the base's start */
    crank_param         *param;  /* a leaf that is a parameter, or NULL */
    const char          *name;   /* of inputs and named tensors, or NULL */
    bool                 needs_gradient; /* a trainable parameter or an input marked so stands below it */
    int                  id;
} crank_tensor;

CRANK_API crank_graph  *crank_graph_new(crank_context *context, crank_device *device);
CRANK_API void          crank_graph_free(crank_graph *graph);
CRANK_API crank_status  crank_graph_status(const crank_graph *graph);
CRANK_API crank_context *crank_graph_context(const crank_graph *graph);
CRANK_API crank_device *crank_graph_device(const crank_graph *graph);
/* Records an error (sticky) with the message and returns a tensor that may be passed on. */
CRANK_API crank_tensor *crank_graph_error(crank_graph *graph, crank_status status, const char *format, ...) CRANK_PRINTF(3, 4);

/* True while the graph is recorded for training: dropout acts, state operations are recorded. Default true. */
CRANK_API void crank_graph_set_training(crank_graph *graph, bool training);
CRANK_API bool crank_graph_training(const crank_graph *graph);
/* The type in which activations and products are computed (f32 by default; bf16, f64). */
CRANK_API void        crank_graph_set_compute(crank_graph *graph, crank_dtype dtype);
CRANK_API crank_dtype crank_graph_compute(const crank_graph *graph);
/* Seed of dropout streams; every recorded draw takes the next index, so the order of recording is part of the run. */
CRANK_API void     crank_graph_set_seed(crank_graph *graph, uint64_t seed);
CRANK_API uint64_t crank_graph_seed(const crank_graph *graph);
CRANK_API uint32_t crank_graph_next_stream(crank_graph *graph);
/* What a room above knows about a graph: `size` zeroed bytes under a key (an address that the room owns), made at the first
 * call and the same at every later one. crank_graph_free calls `release` (may be NULL) with them, then frees them. NULL: out of
 * memory (the graph has failed). */
CRANK_API void *crank_graph_slot(crank_graph *graph, const void *key, size_t size, void (*release)(void *slot));

/* Leaves. An input is written by the host before each run (crank_write) and keeps its value between runs. */
CRANK_API crank_tensor *crank_input(crank_graph *graph, const char *name, crank_dtype dtype, int rank, const int64_t *dims);
CRANK_API crank_tensor *crank_use(crank_graph *graph, crank_param *param);
/* A scalar of the compute type. */
CRANK_API crank_tensor *crank_constant(crank_graph *graph, double value);
/* The step scalars (f32 [CRANK_SCALARS]) as one input shared by the graph, and element i of them as a view. */
CRANK_API crank_tensor *crank_step_scalars(crank_graph *graph);
CRANK_API crank_tensor *crank_step_scalar(crank_graph *graph, crank_scalar_index i);
/* The step counter (i64 [1]) that dropout reads; an input shared by the graph. */
CRANK_API crank_tensor *crank_step_counter(crank_graph *graph);

/* An input or parameter whose gradient may be asked for although it is not trainable. */
CRANK_API void crank_mark_gradient(crank_tensor *leaf);
/* A result that is read by the host after the run, or by a later segment: its memory is not reused. */
CRANK_API crank_tensor *crank_keep(crank_tensor *tensor);
CRANK_API crank_tensor *crank_named(crank_tensor *tensor, const char *name); /* for tables and messages; copied */
/* What is recorded from here on belongs to the next segment; runs may stop between segments. Returns its number. */
CRANK_API int crank_next_segment(crank_graph *graph);
/* Nodes recorded between begin and end form a block that the planner may compute again in the reverse pass instead of keeping
 * its tensors (one transformer layer). Blocks do not nest. */
CRANK_API void crank_block_begin(crank_graph *graph);
CRANK_API void crank_block_end(crank_graph *graph);

/* Appends the reverse pass of `count` targets with given gradients (seeds[i] NULL: 1 for a scalar target) and yields the
 * gradients of `wrt` leaves (or tensors) in grads[] (NULL where the targets do not depend on it). Gradients of parameters are
 * f32 (f64 in an f64 graph); others have the tensor's type. */
CRANK_API crank_status crank_gradients(crank_graph *graph, crank_tensor *const *targets, crank_tensor *const *seeds, int count,
                                       crank_tensor *const *wrt, int wrt_count, crank_tensor **grads);

/* ---- operations ---- */

#define CRANK_MAX_INPUTS 12
#define CRANK_MAX_OUTPUTS 8

typedef struct crank_op crank_op;
struct crank_op {
    const char *name; /* as in operations.h; the device is asked for a body under this name */
    /* Checks the operands and sets dtype, rank and dims of each output (already created, contiguous). */
    crank_status (*infer)(crank_graph *graph, crank_node *node);
    /* Records the reverse: given dy[i] for output i (NULL: no gradient arrives), sets dx[j] for each input whose
     * node->inputs[j]->needs_gradient (others may stay NULL). NULL: no input has a gradient (integers, updates). */
    void (*gradient)(crank_graph *graph, crank_node *node, crank_tensor *const *dy, crank_tensor **dx);
    /* Records base operations that do the same, used where the device has no body for it; may be NULL. */
    void (*decompose)(crank_graph *graph, crank_node *node, crank_tensor **outputs);
    /* A body for the CPU when the operation is not one of operations.h (operations added from outside the tree). */
    crank_kernel *run_cpu;
    int  attributes_size;
    int  inplace[CRANK_MAX_OUTPUTS]; /* for each output: 1 + index of the input whose memory it may take over; 0: none */
    unsigned optional_outputs; /* bit i: output i is left out by the plan when nobody reads it (the body is told so) */
    bool state;       /* writes into inputs that are parameters (in-place outputs are the same memory): runs once, is never
                         removed, moved or repeated, and is left out of graphs that are not for training */
    bool cheap;       /* the planner may run it again instead of keeping its outputs */
    double (*flops)(const crank_node *node); /* NULL: elements of the outputs */
};

struct crank_node {
    const crank_op *op;
    crank_tensor   *inputs[CRANK_MAX_INPUTS]; /* NULL: absent optional operand */
    int             input_count;
    crank_tensor   *outputs[CRANK_MAX_OUTPUTS]; /* NULL: absent optional output */
    int             output_count;
    void           *attributes;
    int             segment, block; /* block 0: none */
    bool            backward;       /* recorded by crank_gradients or after it */
    int             id;
};

/* Appends a node. Outputs are created by `infer`; `wanted` has bit i set for each output that exists. Returns the node, or
 * NULL on a failed graph (message kept). The attributes are copied. */
CRANK_API crank_node *crank_record(crank_graph *graph, const crank_op *op, crank_tensor *const *inputs, int input_count,
                                   const void *attributes, int output_count, unsigned wanted);
/* For infer: shapes of output i. */
CRANK_API void crank_set_output(crank_node *node, int i, crank_dtype dtype, int rank, const int64_t *dims);
/* A view of a tensor's memory: same or smaller extent. */
CRANK_API crank_tensor *crank_view_of(crank_tensor *tensor, int rank, const int64_t *dims, const int64_t *strides, int64_t offset);

/* ---- plan ---- */

typedef struct crank_plan_options {
    size_t memory_limit;     /* bytes that this graph's arena may take; 0: no limit */
    size_t memory_all;       /* bytes that arena, workspace and inputs may take together; 0: no limit */
    bool   no_fusion;        /* tests: planner on and off give the same numbers */
    bool   no_recompute;     /* never compute cheap operations again */
    bool   dry;              /* sizes only: nothing is allocated, the graph cannot run */
} crank_plan_options;

typedef struct crank_plan_summary {
    size_t arena;      /* bytes of the step arena: activations, gradients, temporaries */
    size_t inputs;     /* bytes of inputs and constants */
    size_t workspace;  /* bytes of the largest body workspace */
    size_t kept;       /* bytes that live from the forward to the reverse pass at its start */
    size_t unshared;   /* bytes that the arena would take if nothing were reused */
    int    nodes, fused, removed, recomputed_nodes, recomputed_blocks;
    double flops;      /* of one run */
} crank_plan_summary;

CRANK_API crank_status crank_plan(crank_graph *graph, const crank_plan_options *options, crank_plan_summary *summary);

/* Graphs that never run at the same time can share one arena and one workspace: the pool is as large as the largest. Set before
 * crank_plan; the pool is allocated by the first run. */
typedef struct crank_pool crank_pool;
CRANK_API crank_pool *crank_pool_new(crank_context *context, crank_device *device);
CRANK_API void        crank_pool_free(crank_pool *pool);
CRANK_API size_t      crank_pool_bytes(const crank_pool *pool);
CRANK_API void        crank_pool_release(crank_pool *pool); /* gives the memory back until the next run; results in it are gone */
CRANK_API void        crank_graph_set_pool(crank_graph *graph, crank_pool *pool);

/* ---- run ---- */

/* Runs all segments, or one. */
CRANK_API crank_status crank_run(crank_graph *graph);
CRANK_API crank_status crank_run_segment(crank_graph *graph, int segment);
/* Host access to inputs (write) and kept results (read), contiguous, in the tensor's own type. */
CRANK_API crank_status crank_write(crank_tensor *tensor, const void *host);
CRANK_API crank_status crank_read(const crank_tensor *tensor, void *host);
CRANK_API double       crank_read_scalar(const crank_tensor *tensor);

/* Profile: times every node from the next run on. The table has a line per operation: calls, GFLOP, GB, seconds, rates and share
 * of the machine's measured rates (flop_rate FLOP/s and byte_rate B/s; 0: columns left out). malloc'd; crank_free. */
CRANK_API void  crank_graph_profile(crank_graph *graph, bool on);
CRANK_API char *crank_graph_table(crank_graph *graph, double flop_rate, double byte_rate);
/* One line per node: name, operands, place in the arena, body. malloc'd; crank_free. */
CRANK_API char *crank_graph_listing(crank_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
