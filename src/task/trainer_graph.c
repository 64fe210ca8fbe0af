/* trainer_graph.c - records the graphs of a trainer: inputs, model, objective, reverse pass, updates. */
#include "task/trainer_graph.h"

#include <stdlib.h>
#include <string.h>

static crank_tensor *vector(crank_graph *graph, const char *name, crank_dtype dtype, int64_t n) { return crank_input(graph, name, dtype, 1, &n); }

static void record_inputs(const task_trainer *trainer, shaped *shape)
{
    crank_graph *graph = shape->graph;
    unsigned     fields = trainer->recipe->objective->fields;
    int64_t      n = shape->tokens, s = shape->sequences;
    shape->model.ids = vector(graph, "ids", CRANK_I32, n);
    shape->model.positions = vector(graph, "positions", CRANK_I32, n);
    shape->model.segments = vector(graph, "segments", CRANK_I32, s + 1);
    shape->model.longest = trainer_longest(trainer, n);
    if (trainer->types) shape->model.types = vector(graph, "types", CRANK_I32, n);
    shape->scores.segments = shape->model.segments;
    if (fields & CRANK_FIELD_TARGETS) {
        shape->scores.targets = vector(graph, "targets", CRANK_I32, n);
        shape->scores.weights = vector(graph, "weights", crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : CRANK_F32, n);
    }
    if (fields & CRANK_FIELD_LABELS) shape->scores.labels = vector(graph, "labels", CRANK_I32, s);
    if (fields & CRANK_FIELD_VALUES) shape->scores.values = vector(graph, "values", CRANK_F32, s);
    if (fields & CRANK_FIELD_REFERENCE && shape->kind != VARIANT_REFERENCE) shape->scores.reference = vector(graph, "reference", CRANK_F32, n);
    shape->scores.sequence_weights = vector(graph, "sequence weights", CRANK_F32, s);
}

/* The model as it was: nothing of a method is recorded. */
static void record_reference(const task_trainer *trainer, shaped *shape)
{
    crank_linears *linears = crank_model_linears(trainer->model);
    crank_linears_bare(linears, true);
    crank_tensor *features = crank_model_features(shape->graph, trainer->model, &shape->model);
    crank_tensor *logp = crank_model_logprob(shape->graph, trainer->model, features, shape->scores.targets, NULL);
    shape->reference = crank_keep(crank_contiguous(crank_cast(logp, CRANK_F32)));
    crank_linears_bare(linears, false);
}

static void record_forward(const task_trainer *trainer, shaped *shape)
{
    crank_graph           *graph = shape->graph;
    const crank_objective *objective = trainer->recipe->objective;
    crank_scores          *scores = &shape->scores;
    crank_tensor          *features = crank_model_features(graph, trainer->model, &shape->model);
    if (objective->scores & CRANK_SCORES_NLL)
        scores->nll = crank_model_cross_entropy(graph, trainer->model, features, scores->targets, scores->weights, NULL);
    if (objective->scores & CRANK_SCORES_LOGPROB)
        scores->logp = crank_model_logprob(graph, trainer->model, features, scores->targets, NULL);
    if (objective->scores & CRANK_SCORES_OUTPUTS)
        scores->outputs = crank_keep(crank_model_classify(graph, trainer->model, features, shape->model.segments));
    if (objective->scores & CRANK_SCORES_POOLED)
        scores->pooled = crank_model_pool(graph, trainer->model, features, shape->model.segments);
    crank_tensor *recorded = crank_keep(objective->record(graph, scores, trainer->recipe->objective_options));
    if (objective->list)
        shape->list_scores = crank_keep(crank_contiguous(crank_cast(recorded, CRANK_F32)));
    else
        shape->numerator = recorded;
}

/* What is minimised: the numerator, or the scores with the gradient that the host gives them in the next segment, and in the last
 * micro-batch the methods' penalty times the window's denominator. Returns how many targets there are. */
static int record_targets(const task_trainer *trainer, shaped *shape, crank_tensor *targets[2], crank_tensor *seeds[2])
{
    crank_graph *graph = shape->graph;
    targets[0] = shape->numerator;
    seeds[0] = seeds[1] = NULL;
    if (shape->list_scores) {
        crank_next_segment(graph);
        targets[0] = shape->list_scores;
        seeds[0] = shape->list_gradient = crank_input(graph, "gradient of the scores", CRANK_F32, targets[0]->rank, targets[0]->dims);
    }
    if (!variant_updates(shape->kind)) return 1;
    crank_tensor *penalty = crank_linears_penalty(graph, crank_model_linears(trainer->model));
    if (!penalty) return 1;
    crank_tensor *denominator = crank_cast(crank_step_scalar(graph, CRANK_SCALAR_DENOMINATOR), penalty->dtype);
    targets[1] = crank_mul(penalty, denominator);
    if (trainer_shared(trainer)) targets[1] = crank_scale(targets[1], 1.0 / trainer->recipe->group.size); /* each adds its part */
    return 2;
}

/* ---- gradients and updates ---- */

/* What is kept of a unit's gradient over a window. */
static crank_tensor *accumulated(const task_trainer *trainer, shaped *shape, int i, crank_tensor *gradient)
{
    crank_unit *unit = &trainer->units[i];
    if (unit->param->moved || !unit->optimizer->accumulate) return gradient;
    crank_refresh asked = unit->refresh;
    if (shape->kind != VARIANT_REFRESH && shape->kind != VARIANT_REFRESH_FIRST) unit->refresh = CRANK_REFRESH_NONE; /* not in this graph */
    crank_tensor *kept = unit->optimizer->accumulate(shape->graph, unit, gradient);
    unit->refresh = asked;
    return kept ? kept : gradient;
}

/* The unit's sum over a window, in the type and shape of what is added to it; made at its first use. */
static crank_tensor *buffer_of(task_trainer *trainer, shaped *shape, int i, const crank_tensor *like)
{
    if (crank_graph_status(shape->graph) != CRANK_OK) return crank_graph_error(shape->graph, CRANK_FAILED, "the graph has failed");
    if (!trainer->buffers[i]) {
        char *name = crank_format(trainer->context, "%s.gradient", trainer->units[i].param->name);
        if (name)
            trainer->buffers[i] = crank_params_add(crank_model_params(trainer->model), name, CRANK_ROLE_CACHE, like->dtype, like->rank, like->dims);
        crank_free(name);
        if (!trainer->buffers[i]) return crank_graph_error(shape->graph, CRANK_FAILED, "a gradient buffer: %s", crank_message(trainer->context));
    }
    return crank_use(shape->graph, trainer->buffers[i]);
}

static bool same_shape(const crank_tensor *tensor, const crank_param *param)
{
    return tensor->rank == param->view.rank && !memcmp(tensor->dims, param->view.dims, (size_t)tensor->rank * sizeof *tensor->dims);
}

/* before_step of the methods sees the gradients of the whole window; what an optimiser keeps in another shape is not theirs. */
static void record_before_step(const task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i] && same_shape(gradients[i], trainer->units[i].param))
            crank_gradient_set(shape->graph, trainer->units[i].param, gradients[i]);
    crank_linears_before_step(shape->graph, crank_model_linears(trainer->model));
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i] && same_shape(gradients[i], trainer->units[i].param))
            gradients[i] = crank_gradient_of(shape->graph, trainer->units[i].param);
}

typedef struct arrival {
    int place, unit;
} arrival;

static int by_place(const void *a, const void *b) { return ((const arrival *)a)->place - ((const arrival *)b)->place; }

/* Updates in the order in which the reverse pass yields gradients, each behind a look at its own gradient: a non-finite one stops this
 * update and all later ones. In any other order an update would wait for gradients that come after its own. What an optimiser keeps of a
 * gradient is recorded behind the reverse pass, so the gradient's own place counts. */
static void record_updates_inside(const task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    int      count = 0;
    arrival *order = calloc((size_t)trainer->unit_count + 1, sizeof *order);
    if (!order) {
        crank_graph_error(shape->graph, CRANK_FAILED, "out of memory: recording updates");
        return;
    }
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i] && !trainer->units[i].param->moved) order[count++] = (arrival){shape->arrived ? shape->arrived[i] : 0, i};
    qsort(order, (size_t)count, sizeof *order, by_place);
    for (int k = 0; k < count; k++) {
        crank_tensor *g = gradients[order[k].unit];
        crank_unit   *unit = &trainer->units[order[k].unit];
        crank_check_finite(crank_reduce(CRANK_SUM_SQUARES, g, (1u << g->rank) - 1, false));
        unit->optimizer->update(shape->graph, unit, g);
    }
    free(order);
}

static void record_updates(task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    crank_graph   *graph = shape->graph;
    int            count = 0;
    crank_tensor **arriving = calloc((size_t)trainer->unit_count + 1, sizeof *arriving);
    if (!arriving) {
        crank_graph_error(graph, CRANK_FAILED, "out of memory: recording updates");
        return;
    }
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i] && shape->kind == VARIANT_LAST) gradients[i] = crank_add(buffer_of(trainer, shape, i, gradients[i]), gradients[i]);
    if (trainer_shared(trainer)) trainer_record_sums(trainer, shape, gradients);
    record_before_step(trainer, shape, gradients);
    for (int i = 0; i < trainer->unit_count; i++) /* of shares, what all hold counts once in the norm */
        if (gradients[i] && (!trainer_sharded(trainer) || trainer_owner(trainer, i) >= 0 || trainer->recipe->group.rank == 0)) arriving[count++] = gradients[i];
    if (trainer->recipe->train->inside)
        record_updates_inside(trainer, shape, gradients);
    else
        shape->norm = crank_keep(trainer_record_clip(trainer, shape, arriving, count));
    for (int i = 0; i < trainer->unit_count && !trainer->recipe->train->inside; i++)
        if (gradients[i] && !trainer->units[i].param->moved)
            trainer->units[i].optimizer->update(graph, &trainer->units[i], gradients[i]);
    trainer_record_spread(trainer, shape);
    crank_linears_update(graph, crank_model_linears(trainer->model));
    crank_linears_after_step(graph, crank_model_linears(trainer->model));
    trainer_record_end(shape);
    free(arriving);
}

/* The units that take part: sleeping ones have no gradient. */
static bool takes_part(const task_trainer *trainer, const crank_unit *unit, variant kind)
{
    return unit->active && (kind != VARIANT_PROBE || unit->probe || (trainer_shared(trainer) && unit->refresh));
}

/* Where in the reverse pass a gradient is made: casts of all gradients stand behind it. */
static int arrival_of(const crank_tensor *gradient)
{
    while (gradient->node && !strcmp(gradient->node->op->name, "copy")) gradient = gradient->node->inputs[0];
    return gradient->id;
}

/* The gradients of the units that take part, by unit; false: message in the graph. */
static bool record_gradients(const task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    size_t         n = (size_t)trainer->unit_count;
    crank_tensor **leaves = calloc(n + 1, sizeof *leaves), **yielded = calloc(n + 1, sizeof *yielded);
    int           *unit_of = calloc(n + 1, sizeof *unit_of), count = 0;
    bool           good = leaves && yielded && unit_of;
    if (!good) crank_graph_error(shape->graph, CRANK_FAILED, "out of memory: recording a step");
    for (int i = 0; good && i < trainer->unit_count; i++)
        if (takes_part(trainer, &trainer->units[i], shape->kind)) {
            leaves[count] = crank_use(shape->graph, trainer->units[i].param);
            unit_of[count++] = i;
        }
    if (good) {
        crank_tensor *targets[2], *seeds[2];
        int           target_count = record_targets(trainer, shape, targets, seeds);
        good = crank_gradients(shape->graph, targets, seeds, target_count, leaves, count, yielded) == CRANK_OK;
    }
    shape->arrived = calloc(n + 1, sizeof *shape->arrived);
    good = good && shape->arrived;
    for (int i = 0; good && i < count; i++) {
        gradients[unit_of[i]] = yielded[i];
        shape->arrived[unit_of[i]] = yielded[i] ? arrival_of(yielded[i]) : 0;
    }
    free(leaves), free(yielded), free(unit_of);
    return good;
}

static void record_training(task_trainer *trainer, shaped *shape)
{
    crank_tensor **gradients = calloc((size_t)trainer->unit_count + 1, sizeof *gradients);
    if (!gradients) {
        crank_graph_error(shape->graph, CRANK_FAILED, "out of memory: recording a step");
        return;
    }
    bool everywhere = trainer_shared(trainer) && variant_updates(shape->kind); /* then the sum over processes is looked at */
    if (shape->kind != VARIANT_PROBE && shape->numerator && !everywhere) crank_check_finite(shape->numerator);
    bool good = record_gradients(trainer, shape, gradients);
    bool refreshes = shape->kind == VARIANT_REFRESH || shape->kind == VARIANT_REFRESH_FIRST || shape->kind == VARIANT_PROBE;
    for (int i = 0; good && refreshes && i < trainer->unit_count; i++)
        if (gradients[i] && trainer->units[i].refresh) trainer->units[i].optimizer->refresh(shape->graph, &trainer->units[i], gradients[i]);
    if (shape->kind == VARIANT_PROBE) {
        shape->probes = gradients;
        for (int i = 0; good && i < trainer->unit_count; i++)
            gradients[i] = gradients[i] && trainer->units[i].probe ? crank_keep(crank_contiguous(gradients[i])) : NULL;
        return;
    }
    for (int i = 0; good && i < trainer->unit_count; i++)
        if (gradients[i]) gradients[i] = accumulated(trainer, shape, i, gradients[i]);
    if (good && (shape->kind == VARIANT_FIRST || shape->kind == VARIANT_MORE || shape->kind == VARIANT_REFRESH_FIRST)) {
        for (int i = 0; i < trainer->unit_count; i++)
            if (gradients[i]) crank_assign(buffer_of(trainer, shape, i, gradients[i]), gradients[i], shape->kind == VARIANT_MORE);
    } else if (good) {
        record_updates(trainer, shape, gradients);
    }
    free(gradients);
}

/* dy^T x of a watched linear [out, in]: f32, or the graph's f64. */
static crank_tensor *record_product(const linear_seen *seen, crank_tensor *gradient)
{
    return crank_matmul_full(gradient, true, seen->x, false, 1, NULL, NULL, gradient->dtype == CRANK_F64 ? CRANK_DTYPES : CRANK_F32);
}

/* x^T x and the sums of x over the rows that count; linears that read the same x share them. */
static void record_second(shaped *shape, size_t i)
{
    const linear_seen *seen = shape->seen;
    for (size_t j = 0; j < i; j++)
        if (seen[j].x == seen[i].x) {
            shape->seen_second[i] = shape->seen_second[j];
            shape->seen_sums[i] = shape->seen_sums[j];
            return;
        }
    if (!shape->counted) shape->counted = vector(shape->graph, "rows that count", CRANK_F32, shape->tokens);
    crank_tensor *mask = crank_reshape(shape->counted, 2, (const int64_t[]){-1, 1}), *x = crank_mul(seen[i].x, crank_cast(mask, seen[i].x->dtype));
    shape->seen_second[i] = crank_keep(crank_matmul_full(x, true, x, false, 1, NULL, NULL, x->dtype == CRANK_F64 ? CRANK_DTYPES : CRANK_F32));
    shape->seen_sums[i] = crank_keep(crank_reduce(CRANK_SUM, crank_cast(x, CRANK_F32), 1u, false));
}

/* What is watched of the linears is kept: rows that go in and come out, the gradient of the loss there, or its product with the rows. */
static void record_calibration(const task_trainer *trainer, shaped *shape)
{
    crank_linears *linears = crank_model_linears(trainer->model);
    linear_watch   watch = {.wanted = trainer->watched};
    unsigned       wanted = trainer->watched_for;
    linears->watch = &watch;
    record_forward(trainer, shape);
    linears->watch = NULL;
    crank_tensor **ys = calloc(watch.count + 1, sizeof *ys);
    shape->seen = watch.items;
    shape->seen_count = watch.count;
    shape->seen_gradients = calloc(watch.count + 1, sizeof *shape->seen_gradients);
    shape->seen_products = calloc(watch.count + 1, sizeof *shape->seen_products);
    shape->seen_second = calloc(watch.count + 1, sizeof *shape->seen_second);
    shape->seen_sums = calloc(watch.count + 1, sizeof *shape->seen_sums);
    if (!ys || !shape->seen_gradients || !shape->seen_products || !shape->seen_second || !shape->seen_sums) crank_graph_error(shape->graph, CRANK_FAILED, "out of memory: recording calibration");
    for (size_t i = 0; i < watch.count && crank_graph_status(shape->graph) == CRANK_OK; i++) {
        ys[i] = watch.items[i].y;
        if (wanted & CRANK_OBSERVE_SECOND) record_second(shape, i);
        if (wanted & CRANK_OBSERVE_X) watch.items[i].x = crank_keep(crank_contiguous(watch.items[i].x));
        if (wanted & CRANK_OBSERVE_Y0) watch.items[i].y = crank_keep(crank_contiguous(watch.items[i].y));
    }
    if (wanted & (CRANK_OBSERVE_DY | CRANK_OBSERVE_GRADIENT) && watch.count && crank_graph_status(shape->graph) == CRANK_OK) {
        crank_tensor *targets[2], *seeds[2];
        int           count = record_targets(trainer, shape, targets, seeds);
        bool          good = crank_gradients(shape->graph, targets, seeds, count, ys, (int)watch.count, shape->seen_gradients) == CRANK_OK;
        for (size_t i = 0; good && i < watch.count; i++) {
            crank_tensor *gradient = shape->seen_gradients[i];
            if (gradient && wanted & CRANK_OBSERVE_GRADIENT) shape->seen_products[i] = crank_keep(record_product(&watch.items[i], gradient));
            if (gradient && wanted & CRANK_OBSERVE_DY) shape->seen_gradients[i] = crank_keep(crank_contiguous(gradient));
        }
    }
    free(ys);
}

/* What the limit leaves for a run beside the buffers, which exist once a graph that adds to them is recorded. */
static size_t run_limit(const task_trainer *trainer)
{
    size_t taken = 0;
    if (!trainer->limit) return 0;
    for (int i = 0; i < trainer->unit_count; i++)
        if (trainer->buffers[i]) taken += crank_view_bytes(&trainer->buffers[i]->view);
    return taken < trainer->limit ? trainer->limit - taken : 1;
}

static crank_status record(crank_context *context, task_trainer *trainer, shaped *shape, crank_plan_summary *summary)
{
    shape->graph = crank_graph_new(context, crank_model_device(trainer->model));
    if (!shape->graph) return CRANK_FAILED;
    crank_graph_set_compute(shape->graph, crank_model_options_of(trainer->model)->compute);
    bool reverse = shape->kind != VARIANT_EVALUATE && shape->kind != VARIANT_REFERENCE && shape->kind != VARIANT_CALIBRATE;
    crank_graph_set_training(shape->graph, reverse);
    crank_graph_set_seed(shape->graph, (uint64_t)trainer->recipe->train->seed);
    crank_graph_set_pool(shape->graph, trainer->pool);
    record_inputs(trainer, shape);
    if (shape->kind == VARIANT_REFERENCE)
        record_reference(trainer, shape);
    else if (shape->kind == VARIANT_CALIBRATE)
        record_calibration(trainer, shape);
    else
        record_forward(trainer, shape);
    if (reverse) record_training(trainer, shape);
    crank_plan_options options = {.memory_all = run_limit(trainer), .dry = trainer->dry};
    crank_status       status = crank_plan(shape->graph, &options, summary);
    if (status == CRANK_OK && trainer->profile) crank_graph_profile(shape->graph, true);
    return status;
}

static void shape_free(shaped *shape)
{
    crank_graph_free(shape->graph);
    free(shape->arrived);
    free(shape->probes);
    free(shape->seen);
    free(shape->seen_gradients);
    free(shape->seen_products);
    free(shape->seen_second);
    free(shape->seen_sums);
    crank_free(shape->asked);
    crank_free(shape);
}

/* ---- graphs of refreshes and probes: one for each set of units that ask ---- */

enum { PASSING = 8 }; /* graphs that are kept: as many as there are waves of refreshes (subspace.h) */

static bool passing(variant kind) { return kind == VARIANT_PROBE || kind == VARIANT_REFRESH || kind == VARIANT_REFRESH_FIRST; }

static unsigned char asks(const crank_unit *unit) { return unit->active ? (unsigned char)(unit->probe + 2 * (int)unit->refresh) : 0; }

static bool answers(const task_trainer *trainer, const shaped *shape)
{
    for (int i = 0; shape->asked && i < trainer->unit_count; i++)
        if (shape->asked[i] != asks(&trainer->units[i])) return false;
    return true;
}

static crank_status remember(crank_context *context, const task_trainer *trainer, shaped *shape)
{
    if (!passing(shape->kind)) return CRANK_OK;
    shape->asked = crank_alloc(context, (size_t)trainer->unit_count + 1, 1, "what units ask for");
    for (int i = 0; shape->asked && i < trainer->unit_count; i++) shape->asked[i] = asks(&trainer->units[i]);
    return shape->asked ? CRANK_OK : CRANK_FAILED;
}

static bool is_first(const task_trainer *trainer, const shaped *shape)
{
    for (int i = 0; shape->asked && i < trainer->unit_count; i++)
        if (shape->asked[i] / 2 == CRANK_REFRESH_FIRST) return true;
    return false;
}

/* The newest stand in front: those behind the last that is kept go, and with `first` those of first refreshes. */
static void drop_passing(task_trainer *trainer, bool first)
{
    int      kept = 0;
    shaped **link = &trainer->graphs;
    while (*link) {
        shaped *shape = *link;
        bool    goes = passing(shape->kind) && (++kept > PASSING || (first && is_first(trainer, shape)));
        if (!goes) {
            link = &shape->next;
            continue;
        }
        *link = shape->next;
        shape_free(shape);
    }
}

static shaped *known(task_trainer *trainer, int64_t tokens, int64_t sequences, variant kind)
{
    for (shaped **link = &trainer->graphs; *link; link = &(*link)->next) {
        shaped *shape = *link;
        if (shape->tokens != tokens || shape->sequences != sequences || shape->kind != kind || !answers(trainer, shape)) continue;
        if (passing(kind)) { /* it is the newest now */
            *link = shape->next;
            shape->next = trainer->graphs;
            trainer->graphs = shape;
        }
        return shape;
    }
    return NULL;
}

shaped *trainer_graph(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, variant kind, crank_plan_summary *summary)
{
    shaped *shape = known(trainer, tokens, sequences, kind);
    if (shape) return shape;
    shape = crank_alloc(context, 1, sizeof *shape, "a shape's graph");
    if (!shape) return NULL;
    shape->tokens = tokens;
    shape->sequences = sequences;
    shape->kind = kind;
    if (remember(context, trainer, shape) != CRANK_OK || record(context, trainer, shape, summary) != CRANK_OK) {
        shape_free(shape);
        return NULL;
    }
    shape->next = trainer->graphs;
    trainer->graphs = shape;
    if (passing(kind)) drop_passing(trainer, false);
    return shape;
}

void trainer_drop_graphs(task_trainer *trainer)
{
    while (trainer->graphs) {
        shaped *next = trainer->graphs->next;
        shape_free(trainer->graphs);
        trainer->graphs = next;
    }
    for (int i = 0; trainer->buffers && i < trainer->unit_count; i++) {
        if (trainer->buffers[i]) crank_params_remove(crank_model_params(trainer->model), trainer->buffers[i]);
        trainer->buffers[i] = NULL;
    }
}

/* ---- probing and refreshing ---- */

bool trainer_refreshes(const task_trainer *trainer)
{
    for (int i = 0; i < trainer->unit_count; i++)
        if (trainer->units[i].refresh && trainer->units[i].active && trainer->units[i].optimizer->refresh) return true;
    return false;
}

void trainer_refreshed(task_trainer *trainer)
{
    for (int i = 0; i < trainer->unit_count; i++) trainer->units[i].refresh = CRANK_REFRESH_NONE;
    drop_passing(trainer, true);
}

/* All processes go on from what the first has seen: two GPUs may differ in the last bits. */
static crank_status hand_over(crank_context *context, const task_trainer *trainer, crank_unit *unit, const crank_tensor *gradient)
{
    size_t elements = (size_t)crank_view_count(&unit->param->view);
    float *values = crank_alloc(context, elements, sizeof *values, "a probed gradient");
    void  *raw = crank_alloc(context, elements, crank_dtype_bits(gradient->dtype) / 8, "a probed gradient");
    crank_status status = values && raw ? crank_read(gradient, raw) : CRANK_FAILED;
    if (status == CRANK_OK) {
        crank_convert(values, CRANK_F32, raw, gradient->dtype, elements);
        status = dist_broadcast(context, &trainer->recipe->group, values, elements * sizeof *values);
    }
    if (status == CRANK_OK) {
        status = unit->optimizer->observe(context, unit, values);
    }
    crank_free(values), crank_free(raw);
    return status;
}

crank_status trainer_probe(crank_context *context, task_trainer *trainer, const data_batch *batch, int64_t draw)
{
    bool shared = trainer_shared(trainer), wanted = shared && trainer_refreshes(trainer);
    for (int i = 0; i < trainer->unit_count; i++) {
        trainer->units[i].probe &= trainer->units[i].active && trainer->units[i].optimizer->observe;
        wanted |= trainer->units[i].probe;
    }
    if (!wanted) return CRANK_OK;
    shaped      *shape = trainer_prepared(context, trainer, batch, VARIANT_PROBE);
    float        scalars[CRANK_SCALARS] = {[CRANK_SCALAR_CLIP] = 1, [CRANK_SCALAR_DENOMINATOR] = 1};
    double       numerator = 0, denominator = 0;
    crank_status status = shape ? crank_write(crank_step_counter(shape->graph), &draw) : crank_last_status(context);
    if (status == CRANK_OK) status = trainer_run(context, trainer, shape, batch, scalars, &numerator, &denominator);
    for (int i = 0; i < trainer->unit_count; i++) {
        if (status == CRANK_OK && shape->probes[i]) status = hand_over(context, trainer, &trainer->units[i], shape->probes[i]);
        trainer->units[i].probe = false;
    }
    if (status == CRANK_OK) status = trainer_share_refresh(context, trainer);
    if (shared) trainer_refreshed(trainer);
    return status;
}
