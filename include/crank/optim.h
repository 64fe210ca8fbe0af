/* optim.h - optimisers: what turns gradients into changes of parameters, recorded as operations.
 *
 * An optimiser acts on *units*: a matrix, a vector, or parameters that move together. It creates named state for each unit and
 * records `update`. Parameters come in groups (pattern -> rate factor, decay); a low-rank method may set the group of its own
 * parameters. */
#ifndef CRANK_OPTIM_H
#define CRANK_OPTIM_H

#include "crank/graph.h"
#include "crank/ops.h"
#include "crank/option.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_optimizer crank_optimizer;

typedef struct crank_unit {
    const crank_optimizer *optimizer;
    crank_param *param;
    double       rate_factor; /* multiplies the rate of the step */
    double       decay;       /* decoupled weight decay of this unit (0 for no_decay parameters) */
    const void  *options;
    void        *state; /* state_size bytes, zeroed */
    uint64_t     seed;
    int          index; /* among the units of the run */
    int          block; /* transformer layer, -1 outside */
    bool         active; /* false: no gradient is asked for and no update is recorded until the next recording */
} crank_unit;

struct crank_optimizer {
    const char *name, *paper, *summary;
    const crank_option *options;
    size_t options_size, state_size, model_state_size;
    /* Creates state parameters (crank_unit_param), role STATE. Also called with sizes only (deferred parameters). */
    crank_status (*attach)(crank_context *context, crank_unit *unit);
    /* What is kept of a gradient over micro-batches: NULL keeps the gradient itself. Linear in the gradient. */
    crank_tensor *(*accumulate)(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
    /* Records the update from the (accumulated, unscaled) gradient; step scalars: crank_step_scalars(graph). */
    void (*update)(crank_graph *graph, crank_unit *unit, crank_tensor *gradient);
    /* Between runs, before each step: refreshes, choice of active units. *changed: graphs must be recorded again. May be NULL. */
    crank_status (*period)(crank_context *context, crank_unit *units, int count, void *model_state, int64_t step, bool *changed);
};

/* State of a unit, named "<param>.<optimiser>.<name>", in the param's set. */
CRANK_API crank_param *crank_unit_param(crank_context *context, crank_unit *unit, const char *name, crank_dtype dtype, int rank,
                                        const int64_t *dims);

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
