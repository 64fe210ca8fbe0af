/* layers.h - training of a few layers at a time: what LISA, BAdam and OwLore share.
 *
 * Time is cut into periods of K steps. In each a few of the model's layers are awake; the others sleep: no gradient is asked for, nothing
 * of them changes, decay included. What stands outside of the layers always trains, or never. A layer counts the steps in which it was
 * awake. State of sleeping layers is kept (`keep`), or there is none (`drop`): then the state of the first layers' units are *slots* that
 * any layer may be bound to, and memory is that of the awake layers at all times. `offload` has slots too, and what a layer leaves in its slot
 * is put away (crank_param.parked) until it wakes: the values of `keep` in the memory of `drop`. */
#ifndef CRANK_OPTIM_LAYERS_H
#define CRANK_OPTIM_LAYERS_H

#include "optim/inner.h"
#include "optim/subspace.h"

/* Options of all three; an optimiser's table shows those that it has. What is left at zero or NULL has the value in brackets. */
typedef struct layers_options {
    int64_t     layers;   /* awake at a time [1] */
    int64_t     interval; /* steps of a period */
    const char *sampling; /* drawn without replacement by weights: uniform, decrease (with depth), increase, scores, reverse;
                             in turn: shuffle (a fresh order each round), ascending, descending [uniform] */
    const char *scores;   /* file of one weight a layer, for scores and reverse */
    const char *state;    /* keep, drop, offload [drop] */
    bool        embeddings; /* what stands outside of the layers trains */
    const char *inner, *inner_options;
    int64_t     rank;     /* of the projection of the layers' matrices [0: none] */
    int64_t     gap;      /* steps of a layer between refreshes */
    double      scale;
    const char *side, *refresh; /* [std], [svd] */
    const char *on_wake;  /* keep, refresh: of the basis [keep] */
} layers_options;

typedef struct layers_unit {
    subspace            space; /* r 0: not projected */
    crank_unit          inner; /* no optimizer: this unit makes no state */
    struct layers_unit *use;   /* whose state the unit uses now; NULL asleep */
} layers_unit;

typedef struct layers_model {
    inner_choice   inner;
    double        *weights; /* [layers] */
    int            layers, slots;
    int           *bound, *recorded; /* [layers]: slot of a layer, -1 asleep: now, and when graphs were recorded */
    bool          *fresh;            /* [slots]: bound anew in this period */
    int64_t       *count;            /* [slots]: steps awake before this period */
    int64_t       *total;            /* [layers]: steps awake when the layer fell asleep; offload */
    int           *held;             /* [slots]: the layer whose state lies there, -1: none; offload */
    crank_param  **clocks;           /* [slots] */
    int64_t        number;           /* of the period that `bound` holds, -1: none */
    int64_t        step;
    subspace_tally tally;
} layers_model;

crank_status  layers_attach(crank_context *context, crank_unit *unit);
crank_tensor *layers_accumulate(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
void          layers_update(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
crank_status  layers_period(crank_context *context, crank_unit *units, int count, void *model, int64_t step, bool *changed);
void          layers_refresh(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
crank_status  layers_observe(crank_context *context, crank_unit *unit, const float *gradient);
void          layers_release(crank_unit *unit);

/* The unit at the same place of another layer: its number among the layer's units. NULL: there is none. */
crank_unit *layers_twin(crank_unit *units, int count, const crank_unit *unit, int layer);

/* layers_parked.c: places for the state of every layer, and moves between a slot and the place of a layer (out: put away). */
crank_status layers_park_make(crank_context *context, crank_unit *units, int count);
crank_status layers_park_move(crank_context *context, crank_unit *units, int count, int slot, int layer, bool out);

/* layers_choice.c: who is awake. Weights [layers] of the draws, crank_free; NULL with *status OK: layers come in turn. */
double *layers_weights(crank_context *context, const layers_options *options, const char *optimizer, int layers, crank_status *status);
/* The layers awake in a period: awake[0..n-1], in the order of the draws; returns n. */
int layers_awake(const layers_options *options, const double *weights, int layers, uint64_t seed, int64_t number, int *awake);

#define LAYERS_OPTIMIZER(label, source, line, table)                                                                                \
    {                                                                                                                               \
        .name = label, .paper = source, .summary = line, .options = table, .options_size = sizeof(layers_options),                 \
        .state_size = sizeof(layers_unit), .model_state_size = sizeof(layers_model), .attach = layers_attach,                       \
        .accumulate = layers_accumulate, .update = layers_update, .period = layers_period, .observe = layers_observe,               \
        .refresh = layers_refresh, .release = layers_release,                                                                       \
    }
#endif
