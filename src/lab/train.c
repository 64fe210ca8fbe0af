/* train.c - trains a small network: a method on its linears, an optimiser on what is trainable, one graph run once a step.
 *
 * Order of a step: periods of methods and optimiser, [probe], forward pass, loss, penalty, reverse pass, before_step, clip, updates,
 * after_step. Gradients of the batch's sum are divided by its size in the clip, as a training task does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "lab/net.h"

/* ---- attaching ---- */

/* "key=value key=value" into an options struct; values hold no blanks. */
static crank_status set_options(crank_context *context, const crank_option *table, void *options, const char *text)
{
    char *copy = crank_strdup(context, text ? text : ""), *rest = copy;
    if (!copy) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    for (char *item; status == CRANK_OK && (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        if (!mark) {
            status = crank_fail(context, CRANK_USAGE, "`%s` is not key=value", item);
            break;
        }
        *mark = 0;
        status = crank_options_set(context, table, options, item, mark + 1, "experiment");
    }
    crank_free(copy);
    return status;
}

static void train_all(lab_net *net)
{
    for (size_t i = 0; i < crank_params_count(net->params); i++) {
        crank_param *param = crank_params_at(net->params, i);
        if (param->role == CRANK_ROLE_WEIGHT) param->trainable = true;
    }
}

static crank_status attach_map(lab_net *net, const crank_map *map, const void *options, const char *targets, const lab_data *data,
                               crank_attachment **out)
{
    crank_attachment *made = crank_attachment_new(net->context, net->linears, map, options, &(crank_attach_options){.targets = targets});
    if (!made) return crank_last_status(net->context);
    crank_status status = map->observes ? lab_calibrate(net, made, data) : CRANK_OK;
    if (status == CRANK_OK) status = crank_attachment_finish(net->context, made);
    if (status != CRANK_OK) crank_attachment_remove(made);
    else if (out) *out = made;
    return status;
}

crank_status lab_attach(lab_net *net, const lab_method *method, const char *targets, const lab_data *data, crank_attachment **out)
{
    if (!method->map) {
        train_all(net);
        return CRANK_OK;
    }
    const crank_map *map = crank_map_find(method->map);
    if (!map) return crank_fail(net->context, CRANK_USAGE, "there is no low-rank method `%s`", method->map);
    void *options = crank_options_new(net->context, map->options, map->options_size);
    if (!options) return CRANK_FAILED;
    crank_status status = set_options(net->context, map->options, options, method->map_options);
    if (status == CRANK_OK) status = attach_map(net, map, options, method->targets ? method->targets : targets, data, out);
    crank_options_free(options);
    return status == CRANK_OK ? status : crank_fail_in(net->context, "%s", method->name);
}

/* ---- units ---- */

typedef struct trainer {
    lab_net               *net;
    const lab_training    *how;
    const crank_optimizer *optimizer;
    void                  *options, *model_state;
    crank_unit            *units;
    void                 **states;
    int                    count;
    double                 decay;
    lab_batch              batch;
    crank_plan_summary     plan;
    int64_t               *order, epoch;
} trainer;

static crank_status add_unit(trainer *t, crank_param *param)
{
    crank_context *context = t->net->context;
    crank_unit    *unit = &t->units[t->count];
    t->states[t->count] = crank_alloc(context, 1, t->optimizer->state_size + 1, "an optimiser's unit");
    if (!t->states[t->count]) return CRANK_FAILED;
    bool decays = !param->no_decay && param->view.rank >= 2;
    *unit = (crank_unit){.optimizer = t->optimizer, .param = param, .rate_factor = param->rate_factor, .decay = decays ? t->decay : 0,
                         .options = t->options, .state = t->states[t->count], .model = t->model_state, .seed = t->how->seed, .index = t->count,
                         .block = -1, .active = true, .clock = param->clock};
    for (size_t i = 0; i < crank_linears_count(t->net->linears); i++) { /* its weight, or what a method made for it */
        const crank_linear *linear = crank_linears_at(t->net->linears, i);
        size_t              length = strlen(linear->name);
        if (!strncmp(param->name, linear->name, length) && param->name[length] == '.') unit->block = linear->block;
    }
    t->count++;
    return param->moved || !t->optimizer->attach ? CRANK_OK : t->optimizer->attach(context, unit);
}

static crank_status open_units(trainer *t, const lab_method *method)
{
    crank_context *context = t->net->context;
    size_t         count = crank_params_count(t->net->params);
    const char    *name = method->optimizer ? method->optimizer : "adamw";
    t->decay = method->decay;
    t->optimizer = crank_optimizer_find(name);
    if (!t->optimizer || !t->optimizer->update) return crank_fail(context, CRANK_USAGE, "there is no optimiser `%s` that follows gradients", name);
    t->options = crank_options_new(context, t->optimizer->options, t->optimizer->options_size);
    t->units = crank_alloc(context, count + 1, sizeof *t->units, "optimiser units");
    t->states = crank_alloc(context, count + 1, sizeof *t->states, "optimiser units");
    t->model_state = crank_alloc(context, 1, t->optimizer->model_state_size + 1, "an optimiser's state");
    if (!t->options || !t->units || !t->states || !t->model_state) return CRANK_FAILED;
    crank_status status = set_options(context, t->optimizer->options, t->options, method->optimizer_options);
    for (size_t i = 0; status == CRANK_OK && i < count; i++) {
        crank_param *param = crank_params_at(t->net->params, i);
        bool         of_model = param->role == CRANK_ROLE_WEIGHT || param->role == CRANK_ROLE_METHOD;
        if (param->trainable && of_model) status = add_unit(t, param);
    }
    if (status == CRANK_OK && !t->count) status = crank_fail(context, CRANK_USAGE, "%s: nothing is trainable", method->name);
    return status;
}

static void close_trainer(trainer *t)
{
    crank_graph_free(t->batch.graph);
    for (int i = 0; i < t->count; i++) {
        if (t->optimizer->release && !t->units[i].param->moved) t->optimizer->release(&t->units[i]);
        crank_free(t->states[i]);
    }
    crank_unit all = {.optimizer = t->optimizer, .options = t->options, .model = t->model_state};
    if (t->optimizer && t->optimizer->release && t->model_state) t->optimizer->release(&all);
    crank_free(t->units), crank_free(t->states), crank_free(t->model_state), crank_free(t->order);
    crank_options_free(t->options);
}

/* ---- recording a step ---- */

static int record_targets(trainer *t, lab_batch *batch, crank_tensor *targets[2])
{
    targets[0] = batch->numerator;
    crank_tensor *penalty = crank_linears_penalty(batch->graph, t->net->linears);
    if (!penalty) return 1;
    targets[1] = crank_scale(crank_cast(penalty, CRANK_F32), (double)batch->size);
    return 2;
}

/* Gradients of the units that take part; others stay NULL. */
static crank_status record_gradients(trainer *t, lab_batch *batch, bool probe, crank_tensor **gradients)
{
    int            count = 0;
    crank_tensor  *targets[2], **leaves = crank_alloc(t->net->context, 2 * (size_t)t->count, sizeof *leaves, "gradients");
    int           *unit_of = crank_alloc(t->net->context, (size_t)t->count, sizeof *unit_of, "gradients");
    crank_status   status = leaves && unit_of ? CRANK_OK : CRANK_FAILED;
    crank_tensor **yielded = leaves ? leaves + t->count : NULL;
    for (int i = 0; status == CRANK_OK && i < t->count; i++)
        if (t->units[i].active && (!probe || t->units[i].probe)) {
            leaves[count] = crank_use(batch->graph, t->units[i].param);
            unit_of[count++] = i;
        }
    if (status == CRANK_OK) {
        int n = record_targets(t, batch, targets);
        status = crank_gradients(batch->graph, targets, NULL, n, leaves, count, yielded);
    }
    for (int i = 0; status == CRANK_OK && i < count; i++) gradients[unit_of[i]] = yielded[i];
    crank_free(leaves), crank_free(unit_of);
    return status;
}

static bool same_shape(const crank_tensor *tensor, const crank_param *param)
{
    return tensor->rank == param->view.rank && !memcmp(tensor->dims, param->view.dims, (size_t)tensor->rank * sizeof *tensor->dims);
}

static void record_updates(trainer *t, lab_batch *batch, crank_tensor **gradients, crank_tensor **arriving)
{
    crank_graph *graph = batch->graph;
    int          count = 0;
    for (int i = 0; i < t->count; i++) {
        crank_unit *unit = &t->units[i];
        if (!gradients[i]) continue;
        crank_tensor *kept = !unit->param->moved && t->optimizer->accumulate ? t->optimizer->accumulate(graph, unit, gradients[i]) : NULL;
        if (kept) gradients[i] = kept;
        if (same_shape(gradients[i], unit->param)) crank_gradient_set(graph, unit->param, gradients[i]);
    }
    crank_linears_before_step(graph, t->net->linears);
    for (int i = 0; i < t->count; i++) {
        if (gradients[i] && same_shape(gradients[i], t->units[i].param)) gradients[i] = crank_gradient_of(graph, t->units[i].param);
        if (gradients[i]) arriving[count++] = gradients[i];
    }
    crank_clip_scale(arriving, count, t->how->clip, graph);
    for (int i = 0; i < t->count; i++)
        if (gradients[i] && !t->units[i].param->moved) t->optimizer->update(graph, &t->units[i], gradients[i]);
    crank_linears_update(graph, t->net->linears);
    crank_linears_after_step(graph, t->net->linears);
}

static bool refreshes(const trainer *t)
{
    for (int i = 0; i < t->count; i++)
        if (t->units[i].refresh && t->units[i].active && t->optimizer->refresh) return true;
    return false;
}

static crank_status record_step(trainer *t)
{
    crank_tensor **gradients = crank_alloc(t->net->context, 2 * (size_t)t->count, sizeof *gradients, "gradients");
    if (!gradients) return CRANK_FAILED;
    crank_status status = lab_batch_record(t->net, t->how->data, t->how->batch, true, &t->batch);
    if (status == CRANK_OK) crank_check_finite(t->batch.numerator);
    if (status == CRANK_OK) status = record_gradients(t, &t->batch, false, gradients);
    for (int i = 0; status == CRANK_OK && i < t->count; i++)
        if (gradients[i] && t->units[i].refresh && t->optimizer->refresh) t->optimizer->refresh(t->batch.graph, &t->units[i], gradients[i]);
    if (status == CRANK_OK) record_updates(t, &t->batch, gradients, gradients + t->count);
    if (status == CRANK_OK) status = crank_graph_status(t->batch.graph);
    if (status == CRANK_OK) status = crank_plan(t->batch.graph, NULL, &t->plan);
    crank_free(gradients);
    return status;
}

/* ---- probing ---- */

static crank_status hand_over(trainer *t, crank_unit *unit, const crank_tensor *gradient)
{
    float *values = crank_alloc(t->net->context, (size_t)crank_view_count(&unit->param->view), sizeof *values, "a probed gradient");
    crank_status status = values ? crank_read(gradient, values) : CRANK_FAILED;
    if (status == CRANK_OK) status = t->optimizer->observe(t->net->context, unit, values);
    crank_free(values);
    return status;
}

/* Gradients over the coming step's batch for the units that ask. */
static crank_status probe(trainer *t, const int64_t *order)
{
    bool wanted = false;
    for (int i = 0; i < t->count; i++) wanted |= t->units[i].probe = t->units[i].probe && t->units[i].active && t->optimizer->observe;
    if (!wanted) return CRANK_OK;
    lab_batch      batch = {0};
    crank_tensor **gradients = crank_alloc(t->net->context, (size_t)t->count, sizeof *gradients, "gradients");
    crank_status   status = gradients ? lab_batch_record(t->net, t->how->data, t->how->batch, true, &batch) : CRANK_FAILED;
    if (status == CRANK_OK) status = record_gradients(t, &batch, true, gradients);
    for (int i = 0; status == CRANK_OK && i < t->count; i++)
        if (gradients[i]) gradients[i] = crank_keep(crank_contiguous(crank_cast(gradients[i], CRANK_F32)));
    if (status == CRANK_OK) status = crank_plan(batch.graph, NULL, NULL);
    if (status == CRANK_OK) status = lab_batch_write(t->net, &batch, t->how->data, order, 0);
    if (status == CRANK_OK) status = crank_run(batch.graph);
    for (int i = 0; i < t->count; i++) {
        if (status == CRANK_OK && gradients[i]) status = hand_over(t, &t->units[i], gradients[i]);
        t->units[i].probe = false;
    }
    crank_graph_free(batch.graph);
    crank_free(gradients);
    return status;
}

/* ---- steps ---- */

static void drop_graph(trainer *t)
{
    crank_graph_free(t->batch.graph);
    t->batch = (lab_batch){0};
}

static crank_status period(trainer *t, int64_t step)
{
    bool         changed = false, here = false;
    crank_status status = crank_linears_period(t->net->context, t->net->linears, step, &changed);
    if (status == CRANK_OK && t->optimizer->period)
        status = t->optimizer->period(t->net->context, t->units, t->count, t->model_state, step, &here);
    if (status == CRANK_OK && (changed || here)) drop_graph(t);
    return status;
}

/* The samples of a step: batch b of a permutation of the data, a new one each time the data are used up. */
static const int64_t *samples(trainer *t, int64_t step)
{
    const lab_data *data = t->how->data;
    int64_t         batches = data->n / t->how->batch, epoch = (step - 1) / batches;
    if (epoch != t->epoch) crank_permutation(crank_stream_make(t->how->seed, CRANK_RANDOM_SHUFFLE, (uint32_t)epoch), t->order, data->n);
    t->epoch = epoch;
    return t->order + (step - 1) % batches * t->how->batch;
}

static crank_status one_step(trainer *t, const crank_schedule *schedule, int64_t step)
{
    const lab_training *how = t->how;
    const int64_t      *order = samples(t, step);
    crank_status        status = period(t, step);
    if (status == CRANK_OK) status = probe(t, order);
    bool fresh = refreshes(t); /* the graph of a refresh holds for one step */
    if (fresh) drop_graph(t);
    if (status == CRANK_OK && !t->batch.graph) status = record_step(t);
    float scalars[CRANK_SCALARS] = {[CRANK_SCALAR_RATE] = (float)(how->rate * crank_schedule_factor(schedule, step)),
                                    [CRANK_SCALAR_STEP] = (float)step,
                                    [CRANK_SCALAR_CLIP] = (float)(1 / (double)how->batch),
                                    [CRANK_SCALAR_DENOMINATOR] = (float)how->batch,
                                    [CRANK_SCALAR_PROGRESS] = (float)((double)step / (double)(how->total ? how->total : how->steps))};
    if (status == CRANK_OK) status = lab_batch_write(t->net, &t->batch, how->data, order, 0);
    if (status == CRANK_OK) status = crank_write(crank_step_scalars(t->batch.graph), scalars);
    if (status == CRANK_OK) status = crank_write(crank_step_counter(t->batch.graph), &step);
    if (status == CRANK_OK) status = crank_run(t->batch.graph);
    if (status == CRANK_OK && how->curve) how->curve[step - 1] = crank_read_scalar(t->batch.numerator) / (double)how->batch;
    if (fresh) drop_graph(t);
    for (int i = 0; i < t->count; i++) t->units[i].refresh = CRANK_REFRESH_NONE;
    if (status == CRANK_OK && crank_stop_requested(t->net->context)) status = crank_fail(t->net->context, CRANK_STOPPED, "stopped");
    return status;
}

static void count_cost(const trainer *t, double seconds, lab_trial *trial)
{
    int64_t bytes = (int64_t)(t->plan.arena + t->plan.workspace + t->plan.inputs);
    for (size_t i = 0; i < crank_params_count(t->net->params); i++) bytes += (int64_t)crank_view_bytes(&crank_params_at(t->net->params, i)->view);
    trial->seconds += seconds;
    trial->state = 0;
    for (size_t i = 0; i < crank_params_count(t->net->params); i++) {
        const crank_param *param = crank_params_at(t->net->params, i);
        if (param->role == CRANK_ROLE_STATE) trial->state += (int64_t)crank_view_bytes(&param->view);
    }
    if (bytes > trial->bytes) trial->bytes = bytes;
    trial->trained = 0;
    for (int i = 0; i < t->count; i++) trial->trained += crank_view_count(&t->units[i].param->view);
}

/* State that the optimiser made goes, so that the net can be trained again. */
static void remove_state(lab_net *net, size_t before)
{
    while (crank_params_count(net->params) > before) crank_params_remove(net->params, crank_params_at(net->params, crank_params_count(net->params) - 1));
}

crank_status lab_train(lab_net *net, const lab_method *method, const lab_training *how, lab_trial *trial)
{
    trainer        t = {.net = net, .how = how, .epoch = -1};
    crank_schedule schedule = {.kind = how->schedule, .total = how->total ? how->total : how->steps, .warmup = how->warmup, .floor = how->floor};
    size_t         before = crank_params_count(net->params);
    if (how->batch < 1 || how->batch > how->data->n) return crank_fail(net->context, CRANK_USAGE, "a batch of %lld of %lld samples", (long long)how->batch, (long long)how->data->n);
    t.order = crank_alloc(net->context, (size_t)how->data->n, sizeof *t.order, "the order of samples");
    crank_status status = t.order ? open_units(&t, method) : CRANK_FAILED;
    if (status == CRANK_OK) status = period(&t, 0);
    double start = clock_seconds();
    for (int64_t step = 1; status == CRANK_OK && step <= how->steps; step++) status = one_step(&t, &schedule, step);
    if (status == CRANK_OK && trial) count_cost(&t, clock_seconds() - start, trial);
    close_trainer(&t);
    remove_state(net, before);
    return status;
}

crank_status lab_adapt(lab_trial *trial, lab_net *net, const char *targets, const lab_training *how)
{
    if (trial->rate == 0) return CRANK_OK;
    lab_training tuned = *how;
    tuned.rate = trial->rate;
    crank_status status = lab_attach(net, trial->method, targets, how->data, NULL);
    return status == CRANK_OK ? lab_train(net, trial->method, &tuned, trial) : status;
}
