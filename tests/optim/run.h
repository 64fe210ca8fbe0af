/* run.h - runs an optimiser on one parameter with given gradients, as a trainer does: for tests of optim/. */
#ifndef CRANK_TESTS_OPTIM_RUN_H
#define CRANK_TESTS_OPTIM_RUN_H

#include "crank/optim.h"
#include "testing.h"
#include "test_device.h"

typedef struct runner {
    crank_context *context;
    crank_device  *device;
    crank_params  *params;
    crank_param   *param;
    crank_unit     unit;
    crank_graph   *graph;
    crank_tensor  *gradient;
    crank_dtype    compute; /* of products; 0: the parameter's */
} runner;

static inline runner runner_open(const char *method, const char *settings, crank_dtype type, int rank, const int64_t *dims,
                                 const float *start, double decay)
{
    runner r = { .context = crank_context_new() };
    r.device = test_device(r.context, NULL);
    if (!r.device) fail_msg("%s", crank_message(r.context));
    r.params = crank_params_new(r.context, r.device);
    r.param = crank_params_add(r.params, "w", CRANK_ROLE_WEIGHT, type, rank, dims);
    r.param->trainable = true;
    assert_ok(r.context, crank_param_write(r.context, r.param, start, CRANK_F32));
    const crank_optimizer *optimizer = crank_optimizer_find(method);
    assert_non_null(optimizer);
    void *options = crank_options_new(r.context, optimizer->options, optimizer->options_size);
    char  text[512];
    snprintf(text, sizeof text, "%s", settings);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        *mark = 0;
        assert_ok(r.context, crank_options_set(r.context, optimizer->options, options, item, mark + 1, "test"));
    }
    r.unit = (crank_unit){ .optimizer = optimizer, .param = r.param, .rate_factor = 1, .decay = decay, .options = options,
                           .state = calloc(1, optimizer->state_size + 1), .model = calloc(1, optimizer->model_state_size + 1), .seed = 3,
                           .active = true };
    if (optimizer->attach) assert_ok(r.context, optimizer->attach(r.context, &r.unit));
    return r;
}

/* Records the update; called by the first step, after the unit's fields are final. */
static inline void runner_record(runner *r)
{
    const crank_view *view = &r->param->view;
    bool              wide = view->dtype == CRANK_F64;
    r->graph = crank_graph_new(r->context, r->device);
    if (wide || r->compute) crank_graph_set_compute(r->graph, wide ? CRANK_F64 : r->compute);
    r->gradient = crank_input(r->graph, "g", wide ? CRANK_F64 : CRANK_F32, view->rank, view->dims);
    if (r->unit.refresh) r->unit.optimizer->refresh(r->graph, &r->unit, r->gradient);
    crank_tensor *kept = r->unit.optimizer->accumulate ? r->unit.optimizer->accumulate(r->graph, &r->unit, r->gradient) : NULL;
    r->unit.optimizer->update(r->graph, &r->unit, kept ? kept : r->gradient);
    assert_ok(r->context, crank_graph_status(r->graph));
    assert_ok(r->context, crank_plan(r->graph, NULL, NULL));
}

/* What happens between steps: the optimiser's hooks, with this gradient where it asks for one. */
static inline void runner_period(runner *r, const void *gradient, int step)
{
    const crank_optimizer *optimizer = r->unit.optimizer;
    bool                   changed = false;
    if (!optimizer->period) return;
    assert_ok(r->context, optimizer->period(r->context, &r->unit, 1, r->unit.model, step, &changed));
    if (changed) {
        crank_graph_free(r->graph);
        r->graph = NULL;
    }
    if (r->unit.probe && optimizer->observe) {
        size_t n = (size_t)crank_view_count(&r->param->view);
        float *seen = calloc(n, sizeof *seen);
        crank_convert(seen, CRANK_F32, gradient, r->param->view.dtype == CRANK_F64 ? CRANK_F64 : CRANK_F32, n);
        assert_ok(r->context, optimizer->observe(r->context, &r->unit, seen));
        free(seen);
    }
    r->unit.probe = false;
}

/* One step: gradient in f32 (f64 for an f64 parameter). */
static inline void runner_step(runner *r, const void *gradient, double rate, int step, double clip, bool skip)
{
    runner_period(r, gradient, step);
    bool refresh = r->unit.refresh;
    if (refresh) crank_graph_free(r->graph), r->graph = NULL;
    if (!r->graph) runner_record(r);
    float scalars[CRANK_SCALARS] = { (float)rate, (float)step, (float)clip, skip, 1 };
    assert_ok(r->context, crank_write(r->gradient, gradient));
    assert_ok(r->context, crank_write(crank_step_scalars(r->graph), scalars));
    assert_ok(r->context, crank_run(r->graph));
    if (refresh) crank_graph_free(r->graph), r->graph = NULL;
    r->unit.refresh = CRANK_REFRESH_NONE;
}

static inline void runner_read(const runner *r, const char *name, void *out, crank_dtype type)
{
    crank_param *param = crank_params_find(r->params, name);
    if (!param) fail_msg("no parameter named %s", name);
    assert_ok(r->context, crank_param_read(r->context, param, out, type));
}

static inline void runner_close(runner *r)
{
    crank_unit all = { .optimizer = r->unit.optimizer, .options = r->unit.options, .model = r->unit.model };
    crank_graph_free(r->graph);
    if (r->unit.optimizer->release) r->unit.optimizer->release(&r->unit), r->unit.optimizer->release(&all);
    crank_options_free((void *)(uintptr_t)r->unit.options);
    free(r->unit.state);
    free(r->unit.model);
    crank_params_free(r->params);
    r->device->close(r->device);
    crank_context_free(r->context);
}
#endif
