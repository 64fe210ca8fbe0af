/* inner.c - an optimiser that works for another one. */
#include "optim/inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static crank_status set_all(crank_context *context, const crank_optimizer *optimizer, void *options, const char *settings, const char *where)
{
    static const crank_option none[] = { CRANK_END };
    char                      key[64], value[256];
    crank_status              status = CRANK_OK;
    for (const char *cursor = settings; status == CRANK_OK && cursor && crank_list_next(&cursor, key, sizeof key, value, sizeof value);)
        status = crank_options_set(context, optimizer->options ? optimizer->options : none, options, key, value, where);
    return status;
}

crank_status inner_choose(crank_context *context, const char *outer, const char *name, const char *settings, const char *preset,
                          inner_choice *choice)
{
    static const crank_option none[] = { CRANK_END };
    if (choice->optimizer) return CRANK_OK;
    const crank_optimizer *found = crank_optimizer_find(name);
    if (!found) return crank_fail(context, CRANK_USAGE, "optimiser `%s`: inner: `%s` does not exist; `crank help optimizers` lists them", outer, name);
    if (!found->update || found->period || found->accumulate)
        return crank_fail(context, CRANK_USAGE, "optimiser `%s`: inner: `%s` acts between runs, or has no update of its own: choose one such as adamw",
                          outer, name);
    void *options = crank_options_new(context, found->options ? found->options : none, found->options_size);
    if (!options) return CRANK_FAILED;
    char where[128];
    snprintf(where, sizeof where, "optimiser `%s`: inner_options of %s", outer, name);
    crank_status status = set_all(context, found, options, preset, where);
    if (status == CRANK_OK) status = set_all(context, found, options, settings, where);
    if (status != CRANK_OK) {
        crank_options_free(options);
        return status;
    }
    *choice = (inner_choice){ found, options };
    return CRANK_OK;
}

void inner_forget(inner_choice *choice)
{
    crank_options_free(choice->options);
    *choice = (inner_choice){ 0 };
}

crank_status inner_attach(crank_context *context, const inner_choice *choice, const crank_unit *unit, crank_param *delta, crank_unit *inner)
{
    const crank_optimizer *optimizer = choice->optimizer;
    *inner = *unit;
    inner->optimizer = optimizer;
    inner->options = choice->options;
    inner->model = NULL;
    inner->name = NULL;
    if (delta) {
        inner->param = delta;
        inner->decay = 0;
        inner->name = crank_format(context, "%s.%s", unit->param->name, unit->optimizer->name);
    }
    inner->state = crank_alloc(context, 1, optimizer->state_size + 1, "an inner optimiser's state");
    if (!inner->state || (delta && !inner->name)) return CRANK_FAILED;
    return optimizer->attach ? optimizer->attach(context, inner) : CRANK_OK;
}

void inner_release(crank_unit *inner)
{
    if (!inner->optimizer) return;
    if (inner->optimizer->release && inner->state) inner->optimizer->release(inner);
    crank_free(inner->state);
    crank_free((void *)(uintptr_t)inner->name);
    *inner = (crank_unit){ 0 };
}

crank_param *inner_delta(crank_context *context, const crank_unit *unit, int rank, const int64_t *dims)
{
    char        *name = crank_format(context, "optim.delta.%s.%" PRId64 "x%" PRId64, crank_dtype_name(optim_wide(unit)), dims[0], rank > 1 ? dims[1] : 1);
    crank_param *delta = name ? crank_params_find(unit->param->owner, name) : NULL;
    if (name && !delta) delta = crank_params_add(unit->param->owner, name, CRANK_ROLE_CACHE, optim_wide(unit), rank, dims);
    crank_free(name);
    return delta;
}

/* What may have changed since the unit was attached. */
static void follow(const crank_unit *unit, crank_unit *inner)
{
    inner->rate_factor = unit->rate_factor;
    inner->clock = unit->clock;
    if (inner->param == unit->param) inner->decay = unit->decay;
}

void inner_update(crank_graph *graph, const crank_unit *unit, crank_unit *inner, crank_tensor *gradient)
{
    follow(unit, inner);
    inner->optimizer->update(graph, inner, gradient);
}

crank_tensor *inner_step(crank_graph *graph, const crank_unit *unit, crank_unit *inner, crank_tensor *gradient)
{
    const crank_view *view = &inner->param->view;
    crank_tensor     *delta = crank_use(graph, inner->param);
    crank_assign(delta, crank_fill(graph, view->dtype, view->rank, view->dims, 0), false);
    inner_update(graph, unit, inner, gradient);
    return delta;
}

crank_param *inner_state(const crank_unit *inner, const char *name)
{
    char   full[1024];
    size_t n = (size_t)snprintf(full, sizeof full, "%s.%s.%s", inner->name ? inner->name : inner->param->name, inner->optimizer->name, name);
    return n < sizeof full ? crank_params_find(inner->param->owner, full) : NULL;
}

crank_status inner_reset(crank_context *context, const crank_unit *inner)
{
    const crank_params *params = inner->param->owner;
    crank_status        status = CRANK_OK;
    char                prefix[1024];
    size_t              n = (size_t)snprintf(prefix, sizeof prefix, "%s.%s.", inner->name ? inner->name : inner->param->name, inner->optimizer->name);
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_STATE || n >= sizeof prefix || strncmp(param->name, prefix, n) != 0) continue;
        status = optim_zero(context, param, 0, -1);
    }
    return status;
}
