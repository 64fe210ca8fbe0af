/* train.c - steps of a ranker: a graph of two segments. The first gives scores; the second takes the gradient of the scores that the host
 * made, and records the reverse pass, the clip and the optimiser's updates. */
#include <string.h>

#include "rank/net.h"

struct rank_trainer {
    rank_net              *net;
    const crank_optimizer *optimizer;
    const void            *optimizer_options;
    void                  *default_options, *model_state;
    crank_unit            *units;
    void                 **states;
    int                    count;
    int64_t                step;
    rank_graphs            graphs;
    rank_graph            *current;
    rank_batch             batch; /* of the forward pass that backward belongs to */
};

static crank_status add_unit(rank_trainer *t, crank_param *param)
{
    crank_context *context = t->net->context;
    crank_unit    *unit = t->units + t->count;
    t->states[t->count] = crank_alloc(context, 1, t->optimizer->state_size + 1, "an optimiser's unit");
    if (!t->states[t->count]) return CRANK_FAILED;
    *unit = (crank_unit){.optimizer = t->optimizer, .param = param, .rate_factor = 1, .decay = param->no_decay ? 0 : t->net->options->decay,
                         .options = t->optimizer_options, .state = t->states[t->count], .model = t->model_state,
                         .seed = (uint64_t)t->net->options->seed, .index = t->count, .block = -1, .active = true};
    t->count++;
    return t->optimizer->attach ? t->optimizer->attach(context, unit) : CRANK_OK;
}

static crank_status open_units(rank_trainer *t, const char *name)
{
    crank_context *context = t->net->context;
    size_t         count = crank_params_count(t->net->params);
    t->optimizer = crank_optimizer_find(name);
    if (!t->optimizer) return crank_fail(context, CRANK_USAGE, "there is no optimiser `%s` (crank help optimizers)", name);
    if (!t->optimizer->update || t->optimizer->period)
        return crank_fail(context, CRANK_USAGE, "optimiser `%s` changes what is trained between steps; rankers take those that follow the gradient: adamw, sgd, lion, ..", name);
    if (!t->optimizer_options) t->optimizer_options = t->default_options = crank_options_new(context, t->optimizer->options, t->optimizer->options_size);
    t->units = crank_alloc(context, count + 1, sizeof *t->units, "optimiser units");
    t->states = crank_alloc(context, count + 1, sizeof *t->states, "optimiser units");
    t->model_state = crank_alloc(context, 1, t->optimizer->model_state_size + 1, "an optimiser's state");
    if (!t->optimizer_options || !t->units || !t->states || !t->model_state) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < count; i++) {
        crank_param *param = crank_params_at(t->net->params, i);
        if (param->trainable && param->role == CRANK_ROLE_WEIGHT) status = add_unit(t, param);
    }
    return status;
}

rank_trainer *rank_trainer_new(rank_net *net, const char *optimizer, const void *optimizer_options)
{
    rank_trainer *t = crank_alloc(net->context, 1, sizeof *t, "a trainer");
    if (!t) return NULL;
    t->net = net;
    t->optimizer_options = optimizer_options;
    if (open_units(t, optimizer ? optimizer : "adamw") == CRANK_OK) return t;
    rank_trainer_free(t);
    return NULL;
}

void rank_trainer_free(rank_trainer *t)
{
    if (!t) return;
    rank_graphs_free(&t->graphs);
    for (int i = 0; i < t->count; i++) {
        if (t->optimizer->release) t->optimizer->release(t->units + i);
        crank_free(t->states[i]);
    }
    crank_unit all = {.optimizer = t->optimizer, .options = t->optimizer_options, .model = t->model_state};
    if (t->optimizer && t->optimizer->release && t->model_state) t->optimizer->release(&all);
    for (size_t i = crank_params_count(t->net->params); i-- > 0;) { /* moments go with the trainer */
        crank_param *param = crank_params_at(t->net->params, i);
        if (param->role == CRANK_ROLE_STATE && !strstr(param->name, ".running_")) crank_params_remove(t->net->params, param);
    }
    crank_free(t->units), crank_free(t->states), crank_free(t->model_state);
    crank_options_free(t->default_options);
    crank_free(t);
}

static crank_status record_step(void *user, rank_graph *g)
{
    rank_trainer  *t = user;
    crank_context *context = t->net->context;
    crank_tensor **leaves = crank_alloc(context, 2 * (size_t)t->count + 1, sizeof *leaves, "gradients"), **gradients = leaves ? leaves + t->count : NULL;
    if (!leaves) return CRANK_FAILED;
    for (int i = 0; i < t->count; i++) leaves[i] = crank_use(g->graph, t->units[i].param);
    crank_next_segment(g->graph);
    g->d1 = crank_input(g->graph, "d1", CRANK_F32, 1, &g->rows);
    crank_tensor *seed = g->d1, *target = g->scores;
    crank_status  status = crank_gradients(g->graph, &target, &seed, 1, leaves, t->count, gradients);
    int           count = 0;
    for (int i = 0; status == CRANK_OK && i < t->count; i++)
        if (gradients[i]) {
            crank_unit   *unit = t->units + i;
            crank_tensor *kept = t->optimizer->accumulate ? t->optimizer->accumulate(g->graph, unit, gradients[i]) : NULL;
            if (kept) gradients[i] = kept;
            leaves[count++] = gradients[i];
        }
    if (status == CRANK_OK) crank_clip_scale(leaves, count, t->net->options->clip, g->graph);
    for (int i = 0; status == CRANK_OK && i < t->count; i++)
        if (gradients[i]) t->optimizer->update(g->graph, t->units + i, gradients[i]);
    crank_free(leaves);
    return status == CRANK_OK ? crank_graph_status(g->graph) : status;
}

crank_status rank_trainer_forward(rank_trainer *t, const rank_batch *batch, float *scores)
{
    int64_t step = t->step + 1;
    t->batch = *batch;
    t->current = rank_graphs_get(t->net, &t->graphs, batch, true, record_step, t);
    crank_status status = t->current ? rank_graphs_write(t->net, &t->graphs, t->current, batch) : crank_last_status(t->net->context);
    if (status == CRANK_OK) status = crank_write(crank_step_counter(t->current->graph), &step);
    if (status == CRANK_OK) status = crank_run_segment(t->current->graph, 0);
    return status == CRANK_OK ? rank_graphs_read(&t->graphs, t->current, batch, scores) : status;
}

crank_status rank_trainer_backward(rank_trainer *t, const float *d1, double denominator, double rate)
{
    rank_graph *g = t->current;
    if (!(denominator > 0)) return CRANK_OK; /* nothing to learn from */
    memcpy(t->graphs.x, d1, (size_t)t->batch.rows * sizeof *d1);
    memset(t->graphs.x + t->batch.rows, 0, (size_t)(g->rows - t->batch.rows) * sizeof *d1);
    t->step++;
    float scalars[CRANK_SCALARS] = {[CRANK_SCALAR_RATE] = (float)rate, [CRANK_SCALAR_STEP] = (float)t->step, [CRANK_SCALAR_CLIP] = (float)(1 / denominator),
                                    [CRANK_SCALAR_DENOMINATOR] = (float)denominator};
    crank_status status = crank_write(g->d1, t->graphs.x);
    if (status == CRANK_OK) status = crank_write(crank_step_scalars(g->graph), scalars);
    return status == CRANK_OK ? crank_run_segment(g->graph, 1) : status;
}
