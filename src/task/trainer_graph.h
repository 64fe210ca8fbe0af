/* trainer_graph.h - what trainer.c and trainer_graph.c share. */
#ifndef CRANK_TASK_TRAINER_GRAPH_H
#define CRANK_TASK_TRAINER_GRAPH_H

#include "linear/stack.h"
#include "task/trainer.h"

/* What a graph does with its gradients. */
typedef enum variant {
    VARIANT_ONLY,  /* the one micro-batch of a window: updates */
    VARIANT_FIRST, /* stores gradients in the buffers */
    VARIANT_MORE,  /* adds to the buffers */
    VARIANT_LAST,  /* adds the buffers to its own gradients and updates */
    VARIANT_REFRESH,       /* as ONLY and FIRST, with `refresh` of the units that ask for it: */
    VARIANT_REFRESH_FIRST, /* kept for the next time that the same units ask for the same */
    VARIANT_EVALUATE,
    VARIANT_REFERENCE, /* log-probabilities of the targets with all methods off */
    VARIANT_PROBE, /* keeps the gradients of units that are probed; with several processes it refreshes, in all of them from one batch */
    VARIANT_CALIBRATE, /* keeps what is watched of the linears: what they read and give, and gradients there; changes nothing */
    VARIANTS
} variant;

typedef struct shaped {
    int64_t            tokens, sequences;
    variant            kind;
    crank_graph       *graph;
    crank_model_inputs model;
    crank_scores       scores;
    crank_tensor      *numerator, *norm;
    crank_tensor      *reference; /* VARIANT_REFERENCE: f32 [tokens], kept */
    crank_tensor      *list_scores, *list_gradient; /* with a list objective: kept, and the input that starts the reverse pass */
    int               *arrived; /* of each unit, the place of its gradient in the reverse pass; NULL: no reverse pass */
    crank_tensor     **probes; /* VARIANT_PROBE: of each unit, its kept gradient or NULL */
    unsigned char     *asked;  /* VARIANT_REFRESH, _REFRESH_FIRST, _PROBE: what each unit asked for when the graph was recorded */
    linear_seen       *seen;   /* VARIANT_CALIBRATE: the watched linears with kept x and y, and the gradients by y (NULL: none arrives) */
    crank_tensor     **seen_gradients;
    crank_tensor     **seen_products; /* dy^T x [out, in] of each */
    crank_tensor     **seen_second, **seen_sums; /* x^T x [in, in] and sums of x [in], over the rows that `counted` (f32 [tokens], an input) marks */
    crank_tensor      *counted;
    size_t             seen_count;
    /* Several processes: collectives recorded so far, the order of the last that was begun and of the last wait. */
    int                collectives;
    crank_tensor      *begun, *waited;
    struct shaped     *next;
} shaped;

/* One state tensor of an optimiser that is held in shares. */
typedef struct shard_state {
    crank_param *param;
    int          owner;
    void        *collected; /* process 0, while it writes a checkpoint: the owner's values */
} shard_state;

struct task_trainer {
    crank_context     *context;
    crank_model       *model;
    const task_recipe *recipe;
    crank_schedule     schedule;
    crank_pool        *pool;
    crank_unit        *units;
    char             **unit_state; /* of each unit, state_size bytes */
    crank_param      **buffers;    /* of each active unit: sums over a window's micro-batches, made when they are first recorded */
    int               *owners;     /* of each unit the process that holds its state, -1: all; NULL: no shares */
    shard_state       *shards;
    int                shard_count;
    void              *model_state;
    int                unit_count, optimizer_units; /* those that the run's optimiser moves */
    bool               types; /* batches carry token types */
    size_t             limit; /* bytes an arena may take; 0: none */
    int64_t            longest; /* tokens of a sequence; 0: not known */
    shaped            *graphs;
    bool               profile;
    const bool        *watched; /* VARIANT_CALIBRATE: by index of the linear */
    unsigned           watched_for; /* CRANK_OBSERVE_* */
    bool               dry; /* graphs are planned and never run: parameters may lack memory */
    /* Room for a batch rounded up to its shape. */
    int32_t *ids, *positions, *targets, *token_types, *segments, *labels;
    float   *weights, *values, *sequence_weights, *reference;
    float   *list_scores, *list_d1; /* [room of them] */
    size_t   list_room;
    int64_t  token_room, sequence_room;
};

/* The graph of a shape and variant, recorded and planned at its first use. NULL: message set. */
shaped *trainer_graph(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, variant kind,
                      crank_plan_summary *summary);
/* No sequence of a shape of n tokens is longer, the filler behind a batch included; 0: not known. */
int64_t trainer_longest(const task_trainer *trainer, int64_t n);
/* The graph of VARIANT_CALIBRATE for the largest batch. */
shaped *trainer_calibration_plan(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, crank_plan_summary *summary);
/* Bytes of the host that the recorded graphs take beside their values; and those that `observe` works in, for the units that ask. */
size_t trainer_code(const task_trainer *trainer);
size_t trainer_observed(const task_trainer *trainer);
/* With their buffers: between windows only. */
void trainer_drop_graphs(task_trainer *trainer);
/* Runs a prepared graph over the batch, with the host's list objective between its segments; adds to the numerator and the denominator
 * and returns the scalars as they are afterwards. */
crank_status trainer_run(crank_context *context, task_trainer *trainer, shaped *shape, const data_batch *batch, float *scalars,
                         double *numerator, double *denominator);
/* Some unit records `refresh` in the coming step. */
bool trainer_refreshes(const task_trainer *trainer);
/* After a step that refreshed: nobody asks any more, and graphs of first refreshes go. */
void trainer_refreshed(task_trainer *trainer);
/* Gradients over one batch for the units whose `probe` is set, handed to the optimiser's `observe`, and the refreshes of a shared step;
 * draw: as of the batch's step. */
crank_status trainer_probe(crank_context *context, task_trainer *trainer, const data_batch *batch, int64_t draw);
/* A step of an optimiser without gradients: rounds of trial points, each with one forward pass over the window. */
crank_status trainer_zeroth_step(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                                 trainer_result *result);
/* ---- several processes (trainer_dist.c, trainer_shard.c) ---- */

bool trainer_shared(const task_trainer *trainer);
bool variant_updates(variant kind);
/* Sums the gradients, the loss and the counts of methods over processes; of shares, gradients of other owners become NULL. */
void trainer_record_sums(task_trainer *trainer, shaped *shape, crank_tensor **gradients);
/* CLIP and SKIP from the norm over all processes' gradients; returns it. */
crank_tensor *trainer_record_clip(const task_trainer *trainer, shaped *shape, crank_tensor *const *gradients, int count);
/* Behind the updates: of shares, the new values go from their owners to all. */
void trainer_record_spread(const task_trainer *trainer, shaped *shape);
void trainer_record_end(shaped *shape);
/* After a refresh on GPUs: all go on from what process 0 has made. */
crank_status trainer_share_refresh(crank_context *context, task_trainer *trainer);

bool trainer_sharded(const task_trainer *trainer);
int  trainer_owner(const task_trainer *trainer, int unit); /* -1: all */
bool trainer_owns(const task_trainer *trainer, int unit);
/* Before units are made; trained: their parameters. */
crank_status trainer_choose_owners(crank_context *context, task_trainer *trainer, crank_param *const *trained, int count);
/* The optimiser's `attach`; what another process owns takes no memory. */
crank_status trainer_attach_unit(crank_context *context, task_trainer *trainer, crank_unit *unit);
bool         trainer_shards(const task_trainer *trainer, const crank_param *param);

/* The batch in a graph of its shape, ready to run. NULL: message set. */
shaped *trainer_prepared(crank_context *context, task_trainer *trainer, const data_batch *batch, variant kind);
/* The same in a graph of a given shape that holds it. */
shaped *trainer_prepared_as(crank_context *context, task_trainer *trainer, const data_batch *batch, int64_t tokens, int64_t sequences, variant kind);
#endif
