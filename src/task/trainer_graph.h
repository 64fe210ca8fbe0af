/* trainer_graph.h - what trainer.c and trainer_graph.c share. */
#ifndef CRANK_TASK_TRAINER_GRAPH_H
#define CRANK_TASK_TRAINER_GRAPH_H

#include "task/trainer.h"

/* What a graph does with its gradients. */
typedef enum variant {
    VARIANT_ONLY,  /* the one micro-batch of a window: updates */
    VARIANT_FIRST, /* stores gradients in the buffers */
    VARIANT_MORE,  /* adds to the buffers */
    VARIANT_LAST,  /* adds the buffers to its own gradients and updates */
    VARIANT_EVALUATE,
    VARIANTS
} variant;

typedef struct shaped {
    int64_t            tokens, sequences;
    variant            kind;
    crank_graph       *graph;
    crank_model_inputs model;
    crank_scores       scores;
    crank_tensor      *numerator, *norm;
    struct shaped     *next;
} shaped;

struct task_trainer {
    crank_context     *context;
    crank_model       *model;
    const task_recipe *recipe;
    crank_schedule     schedule;
    crank_pool        *pool;
    crank_unit        *units;
    char             **unit_state; /* of each unit, state_size bytes */
    crank_param      **buffers;    /* of each unit; NULL without accumulation */
    void              *model_state;
    int                unit_count;
    bool               types; /* batches carry token types */
    size_t             limit; /* bytes an arena may take; 0: none */
    shaped            *graphs;
    bool               profile;
    /* Room for a batch rounded up to its shape. */
    int32_t *ids, *positions, *targets, *token_types, *segments, *labels;
    float   *weights, *values, *sequence_weights;
    int64_t  token_room, sequence_room;
};

/* The graph of a shape and variant, recorded and planned at its first use. NULL: message set. */
shaped *trainer_graph(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, variant kind,
                      crank_plan_summary *summary);
void trainer_drop_graphs(task_trainer *trainer);
#endif
