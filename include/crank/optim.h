/* optim.h - optimisers: what turns gradients into changes of parameters, recorded as operations.
 *
 * An optimiser acts on *units*, one for each trainable parameter: it creates named state for each and records `update`. An update
 * that moves several parameters together records all of them with the first one's unit and reads the others' gradients by
 * crank_gradient_of. A low-rank method may set the rate of its own parameters, or move them itself (crank_map.update). An
 * optimiser without gradients has `propose` and `absorb` instead of `update`. docs/tenants.md shows the hooks in use. */
#ifndef CRANK_OPTIM_H
#define CRANK_OPTIM_H

#include "crank/graph.h"
#include "crank/ops.h"
#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_optimizer crank_optimizer;

/* What the hook `refresh` records follows from this alone, so that a graph of it serves all later refreshes of the same units. A first
 * one has no state to go on from; its graph runs once. */
typedef enum crank_refresh { CRANK_REFRESH_NONE, CRANK_REFRESH_NEXT, CRANK_REFRESH_FIRST } crank_refresh;

typedef struct crank_unit {
    const crank_optimizer *optimizer;
    crank_param *param;
    const char  *name;        /* first part of the names of its state; NULL: the parameter's name */
    double       rate_factor; /* multiplies the rate of the step */
    double       decay;       /* decoupled weight decay of this unit (0 for no_decay parameters) */
    const void  *options;
    void        *state; /* state_size bytes, zeroed */
    void        *model; /* model_state_size bytes, zeroed: one for all units of the optimiser */
    uint64_t     seed;
    int          index; /* among the units of the run */
    int          block; /* transformer layer, -1 outside */
    bool         active; /* false: no gradient is asked for and no update is recorded until the next recording */
    bool         probe;  /* set by `period`: the gradient of the coming step's first micro-batch is handed to `observe` */
    crank_refresh refresh; /* set by `period`: the graph of the coming step's first micro-batch records `refresh` */
    crank_param *clock;  /* NULL: the unit lives by the run's step scalars. Else f32 [3], or [rows, 3] with a row for each row of
                            the parameter: its own step count, a factor of its rate, and not 0 while it sleeps (nothing of it
                            changes, decay and state included). Written by the host in `period`, before the step */
} crank_unit;

struct crank_optimizer {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t options_size, state_size, model_state_size;
    /* Creates state parameters (crank_unit_param), role STATE. Also called with sizes only (deferred parameters). */
    crank_status (*attach)(crank_context *context, crank_unit *unit);
    /* What is kept of a gradient over micro-batches: NULL keeps the gradient itself. Linear in the gradient; called in every
     * training graph, with one micro-batch too. The buffers of a window have the type and shape of what it gives, and the clip's
     * norm is that of what it gives. unit->refresh: in a graph that has refreshed from the same gradient. */
    crank_tensor *(*accumulate)(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
    /* Records the update from the (accumulated, unscaled) gradient; step scalars: crank_unit_scalars(graph, unit). */
    void (*update)(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
    /* Between runs, before each step (1-based): refreshes, choice of active units. *changed: graphs must be recorded again. Step 0
     * comes before memory is planned, and again where that is done again: the heaviest set of units that the run can reach. What it does at a step follows from
     * the step's number and from saved state, since a run may resume anywhere. May be NULL. */
    crank_status (*period)(crank_context *context, crank_unit *units, int count, void *model_state, int64_t step, bool *changed);
    /* Between `period` and the step, for each unit with `probe` set: its gradient over the step's first micro-batch (undivided, f32
     * [elements]); the flag is cleared. Such a step costs one more forward and reverse pass. May be NULL. */
    crank_status (*observe)(crank_context *context, crank_unit *unit, const float *gradient);
    /* Records what changes the state that `accumulate` and `update` read, from the gradient of a step's first micro-batch (undivided), for
     * each unit with `refresh` set; before `accumulate`, in a graph that only steps with the same units at `refresh` run. May be NULL. */
    void (*refresh)(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
    /* Zeroth order (no `update`): a step has rounds of `trials(..)` points each. `propose` writes the parameters of trial j on the
     * host; the forward pass gives its loss; `absorb` gets the losses of the round, divided, leaves the parameters where the step
     * has come to, and sets *more for another round. A non-finite loss is handed on as it is. */
    int (*trials)(const crank_unit *units, int count, void *model_state, int round);
    crank_status (*propose)(crank_context *context, crank_unit *units, int count, void *model_state, int64_t step, int round, int j);
    crank_status (*absorb)(crank_context *context, crank_unit *units, int count, void *model_state, int64_t step, int round,
                           const double *losses, double rate, bool *more);
    /* Frees what the unit's state points to; parameters are not its business. Once more with unit->param NULL for the state of all
     * units (unit->model). May be NULL. */
    void (*release)(crank_unit *unit);
};

/* State of a unit, named "<unit or param>.<optimiser>.<name>", in the param's set. */
CRANK_API crank_param *crank_unit_param(crank_context *context, crank_unit *unit, const char *name, crank_dtype dtype, int rank,
                                        const int64_t *dims);

/* The step scalars that the unit's update reads: crank_step_scalars(graph), or, where the unit has a clock, a copy with its own
 * STEP, RATE and SKIP: f32 [CRANK_SCALARS], or [rows, CRANK_SCALARS] (crank_adamw, crank_sgd and crank_lion take both). */
CRANK_API crank_tensor *crank_unit_scalars(crank_graph *graph, const crank_unit *unit);
/* Element i of them, as it broadcasts over the parameter: [1], or [rows, 1, ..]. */
CRANK_API crank_tensor *crank_unit_scalar(crank_graph *graph, const crank_unit *unit, crank_scalar_index i);

CRANK_API const crank_optimizer *crank_optimizer_find(const char *name);
CRANK_API const crank_optimizer *crank_optimizer_at(size_t i); /* NULL past the end */
CRANK_API crank_status           crank_register_optimizer(crank_context *context, const crank_optimizer *optimizer);

/* Learning-rate schedules: the factor of the peak rate at step (1-based) of `total`. */
typedef enum crank_schedule_kind { CRANK_SCHEDULE_CONSTANT, CRANK_SCHEDULE_LINEAR, CRANK_SCHEDULE_COSINE } crank_schedule_kind;
typedef struct crank_schedule {
    crank_schedule_kind kind;
    int64_t             total, warmup; /* steps; warm-up rises linearly: step / warmup */
    double              floor;         /* share of the peak at the end */
} crank_schedule;
CRANK_API double crank_schedule_factor(const crank_schedule *schedule, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
