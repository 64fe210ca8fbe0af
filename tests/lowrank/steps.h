/* steps.h - one recorded step of a method on one linear: gradients of <dy, y>, the hooks around the update, plain SGD for what the method
 * does not move. */
#ifndef CRANK_TESTS_LOWRANK_STEPS_H
#define CRANK_TESTS_LOWRANK_STEPS_H

#include "lowrank/checks.h"

typedef struct step_of {
    double rate, step, progress, skip;
} step_of;

/* `names`: the trainable parameters, NULL-terminated. */
static inline void run_step(world *w, crank_linear *linear, const char *const *names, const step_of *at)
{
    float         scalars[CRANK_SCALARS] = { [CRANK_SCALAR_RATE] = (float)at->rate, [CRANK_SCALAR_STEP] = (float)at->step, [CRANK_SCALAR_CLIP] = 1,
                                             [CRANK_SCALAR_SKIP] = (float)at->skip, [CRANK_SCALAR_DENOMINATOR] = 1, [CRANK_SCALAR_PROGRESS] = (float)at->progress };
    crank_tensor *wrt[8], *grads[8] = { NULL };
    int           count = 0;
    bool          changed;
    crank_graph  *graph = crank_graph_new(w->context, w->device);
    crank_graph_set_compute(graph, w->type);
    assert_ok(w->context, crank_linears_period(w->context, w->linears, (int64_t)at->step, &changed));
    crank_tensor *input = crank_input(graph, "x", w->type, 2, (const int64_t[]){ N, linear->in });
    crank_tensor *y = crank_linear_forward(graph, linear, input), *seed = crank_input(graph, "dy", w->type, 2, (const int64_t[]){ N, linear->out });
    for (; names[count]; count++) wrt[count] = crank_use(graph, world_param(w, names[count]));
    assert_ok(w->context, crank_gradients(graph, &y, &seed, 1, wrt, count, grads));
    for (int i = 0; i < count; i++) crank_gradient_set(graph, world_param(w, names[i]), grads[i]);
    crank_linears_before_step(graph, w->linears);
    for (int i = 0; i < count; i++) {
        crank_param *param = world_param(w, names[i]);
        if (param->trainable && !param->moved)
            crank_sgd(wrt[i], crank_gradient_of(graph, param), NULL, crank_step_scalars(graph), &(crank_sgd_attributes){ .rate_factor = 1 });
    }
    crank_linears_update(graph, w->linears);
    crank_linears_after_step(graph, w->linears);
    assert_ok(w->context, crank_plan(graph, NULL, NULL));
    world_to_input(w->context, input, x, (size_t)(N * linear->in));
    world_to_input(w->context, seed, dy, (size_t)(N * linear->out));
    assert_ok(w->context, crank_write(crank_step_scalars(graph), scalars));
    assert_ok(w->context, crank_run(graph));
    crank_graph_free(graph);
}
#endif
