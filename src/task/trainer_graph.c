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
    if (trainer->types) shape->model.types = vector(graph, "types", CRANK_I32, n);
    shape->scores.segments = shape->model.segments;
    if (fields & CRANK_FIELD_TARGETS) {
        shape->scores.targets = vector(graph, "targets", CRANK_I32, n);
        shape->scores.weights = vector(graph, "weights", crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : CRANK_F32, n);
    }
    if (fields & CRANK_FIELD_LABELS) shape->scores.labels = vector(graph, "labels", CRANK_I32, s);
    if (fields & CRANK_FIELD_VALUES) shape->scores.values = vector(graph, "values", CRANK_F32, s);
    shape->scores.sequence_weights = vector(graph, "sequence weights", CRANK_F32, s);
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
    shape->numerator = crank_keep(objective->record(graph, scores, trainer->recipe->objective_options));
}

/* What is minimised: the numerator, and in the last micro-batch the methods' penalty times the window's denominator. */
static crank_tensor *record_target(const task_trainer *trainer, shaped *shape)
{
    if (shape->kind != VARIANT_ONLY && shape->kind != VARIANT_LAST) return shape->numerator;
    crank_tensor *penalty = crank_linears_penalty(shape->graph, crank_model_linears(trainer->model));
    if (!penalty) return shape->numerator;
    crank_tensor *denominator = crank_cast(crank_step_scalar(shape->graph, CRANK_SCALAR_DENOMINATOR), penalty->dtype);
    return crank_add(shape->numerator, crank_cast(crank_mul(penalty, denominator), shape->numerator->dtype));
}

static void record_updates(const task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    crank_graph   *graph = shape->graph;
    crank_linears *linears = crank_model_linears(trainer->model);
    int            count = 0;
    crank_tensor **arriving = calloc((size_t)trainer->unit_count + 1, sizeof *arriving);
    if (!arriving) {
        crank_graph_error(graph, CRANK_FAILED, "out of memory: recording updates");
        return;
    }
    for (int i = 0; i < trainer->unit_count; i++) {
        if (!gradients[i]) continue;
        if (shape->kind == VARIANT_LAST) gradients[i] = crank_add(crank_use(graph, trainer->buffers[i]), gradients[i]);
        crank_gradient_set(graph, trainer->units[i].param, gradients[i]);
    }
    crank_linears_before_step(graph, linears);
    for (int i = 0; i < trainer->unit_count; i++) {
        if (!gradients[i]) continue;
        gradients[i] = crank_gradient_of(graph, trainer->units[i].param);
        arriving[count++] = gradients[i];
    }
    if (!trainer->recipe->train->inside) shape->norm = crank_keep(crank_clip_scale(arriving, count, trainer->recipe->train->clip, graph));
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i]) trainer->units[i].optimizer->update(graph, &trainer->units[i], gradients[i]);
    crank_linears_after_step(graph, linears);
    free(arriving);
}

static void record_training(const task_trainer *trainer, shaped *shape)
{
    crank_graph   *graph = shape->graph;
    size_t         n = (size_t)trainer->unit_count;
    crank_tensor **leaves = calloc(n + 1, sizeof *leaves), **gradients = calloc(n + 1, sizeof *gradients);
    if (!leaves || !gradients) {
        free(leaves);
        free(gradients);
        crank_graph_error(graph, CRANK_FAILED, "out of memory: recording a step");
        return;
    }
    int *unit_of = calloc(n + 1, sizeof *unit_of), active = 0; /* sleeping units have no gradient */
    for (int i = 0; unit_of && i < trainer->unit_count; i++)
        if (trainer->units[i].active) {
            leaves[active] = crank_use(graph, trainer->units[i].param);
            unit_of[active++] = i;
        }
    crank_check_finite(shape->numerator);
    crank_tensor *target = record_target(trainer, shape);
    crank_tensor **yielded = calloc(n + 1, sizeof *yielded);
    if (unit_of && yielded && crank_gradients(graph, &target, NULL, 1, leaves, active, yielded) == CRANK_OK) {
        for (int i = 0; i < active; i++) gradients[unit_of[i]] = yielded[i];
        if (shape->kind == VARIANT_FIRST || shape->kind == VARIANT_MORE) {
            for (int i = 0; i < trainer->unit_count; i++)
                if (gradients[i]) crank_assign(crank_use(graph, trainer->buffers[i]), gradients[i], shape->kind == VARIANT_MORE);
        } else {
            record_updates(trainer, shape, gradients);
        }
    }
    free(unit_of), free(yielded), free(leaves), free(gradients);
}

static crank_status record(crank_context *context, task_trainer *trainer, shaped *shape, crank_plan_summary *summary)
{
    shape->graph = crank_graph_new(context, crank_model_device(trainer->model));
    if (!shape->graph) return CRANK_FAILED;
    crank_graph_set_compute(shape->graph, crank_model_options_of(trainer->model)->compute);
    crank_graph_set_training(shape->graph, shape->kind != VARIANT_EVALUATE);
    crank_graph_set_seed(shape->graph, (uint64_t)trainer->recipe->train->seed);
    crank_graph_set_pool(shape->graph, trainer->pool);
    record_inputs(trainer, shape);
    record_forward(trainer, shape);
    if (shape->kind != VARIANT_EVALUATE) record_training(trainer, shape);
    crank_plan_options options = {.memory_limit = trainer->limit};
    crank_status       status = crank_plan(shape->graph, &options, summary);
    if (status == CRANK_OK && trainer->profile) crank_graph_profile(shape->graph, true);
    return status;
}

shaped *trainer_graph(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, variant kind, crank_plan_summary *summary)
{
    for (shaped *shape = trainer->graphs; shape; shape = shape->next)
        if (shape->tokens == tokens && shape->sequences == sequences && shape->kind == kind) return shape;
    shaped *shape = crank_alloc(context, 1, sizeof *shape, "a shape's graph");
    if (!shape) return NULL;
    shape->tokens = tokens;
    shape->sequences = sequences;
    shape->kind = kind;
    if (record(context, trainer, shape, summary) != CRANK_OK) {
        crank_graph_free(shape->graph);
        crank_free(shape);
        return NULL;
    }
    shape->next = trainer->graphs;
    trainer->graphs = shape;
    return shape;
}

void trainer_drop_graphs(task_trainer *trainer)
{
    while (trainer->graphs) {
        shaped *next = trainer->graphs->next;
        crank_graph_free(trainer->graphs->graph);
        crank_free(trainer->graphs);
        trainer->graphs = next;
    }
}
