/* trainer_run.c - one run of a trainer's graph: at once, or in two segments with a list objective on the host between them; and
 * before it, for objectives that ask, the log-probabilities of the reference policy.
 *
 *     segment 0   scores [s, outputs] of the sequences, kept
 *     host        list objective: scores, labels, lists -> gradient by the scores, numerator, denominator
 *     segment 1   reverse pass from that gradient, updates
 *
 * Scores of places that the batch leaves empty belong to no list: their gradient is 0. */
#include "task/trainer_graph.h"

#include <math.h>
#include <string.h>

/* Log-probabilities of the model without methods are those before the run only while nothing of the model itself is trained. */
static crank_status check_reference(crank_context *context, const task_trainer *trainer)
{
    for (int i = 0; i < trainer->unit_count; i++)
        if (trainer->units[i].param->role == CRANK_ROLE_WEIGHT)
            return crank_fail(context, CRANK_USAGE,
                              "objective `%s` compares with the model as it was, and %s is trained: train an adapter alone, or store the "
                              "reference's log-probabilities with the data",
                              trainer->recipe->objective->name, trainer->units[i].param->name);
    const crank_params *params = crank_model_params(trainer->model);
    for (size_t i = 0; i < crank_params_count(params); i++)
        if (crank_params_at(params, i)->folded)
            return crank_fail(context, CRANK_USAGE,
                              "objective `%s` compares with the model as it was, and the method folds its updates into %s: choose another method, or "
                              "store the reference's log-probabilities with the data",
                              trainer->recipe->objective->name, crank_params_at(params, i)->name);
    return CRANK_OK;
}

static crank_status write_reference(crank_context *context, task_trainer *trainer, shaped *shape, const data_batch *batch)
{
    if (!shape->scores.reference) return CRANK_OK;
    if (batch->reference) {
        for (int64_t i = 0; i < shape->tokens; i++) trainer->reference[i] = i < batch->tokens ? batch->reference[i] : 0;
        return crank_write(shape->scores.reference, trainer->reference);
    }
    crank_status status = check_reference(context, trainer);
    shaped      *bare = status == CRANK_OK ? trainer_prepared_as(context, trainer, batch, shape->tokens, shape->sequences, VARIANT_REFERENCE) : NULL;
    if (!bare) return crank_last_status(context);
    status = crank_run(bare->graph);
    if (status == CRANK_OK) status = crank_read(bare->reference, trainer->reference);
    return status == CRANK_OK ? crank_write(shape->scores.reference, trainer->reference) : status;
}

static crank_status list_room(crank_context *context, task_trainer *trainer, size_t n)
{
    if (n <= trainer->list_room) return CRANK_OK;
    crank_free(trainer->list_scores), crank_free(trainer->list_d1);
    trainer->list_room = 0;
    trainer->list_scores = crank_alloc(context, n, sizeof *trainer->list_scores, "scores of lists");
    trainer->list_d1 = crank_alloc(context, n, sizeof *trainer->list_d1, "gradients of lists");
    if (!trainer->list_scores || !trainer->list_d1) return CRANK_FAILED;
    trainer->list_room = n;
    return CRANK_OK;
}

static crank_status check_lists(crank_context *context, const data_batch *batch, const crank_lists *lists)
{
    bool good = lists->lists >= 0 && lists->offsets[0] == 0 && lists->offsets[lists->lists] <= batch->sequences;
    for (int64_t l = 0; good && l < lists->lists; l++) good = lists->offsets[l] <= lists->offsets[l + 1];
    return good ? CRANK_OK : crank_fail(context, CRANK_BAD_DATA, "the lists of a batch do not lie in its %lld sequences", (long long)batch->sequences);
}

static crank_status run_lists(crank_context *context, task_trainer *trainer, shaped *shape, const data_batch *batch, double *numerator,
                              double *denominator)
{
    const crank_objective *objective = trainer->recipe->objective;
    const crank_tensor    *scores = shape->list_scores;
    int64_t                outputs = scores->rank > 1 ? scores->dims[1] : 1;
    int32_t                whole[2] = {0, (int32_t)batch->sequences};
    if ((objective->fields & CRANK_FIELD_LISTS) && !batch->lists)
        return crank_fail(context, CRANK_BAD_DATA, "objective `%s` needs lists, and the data have none", objective->name);
    bool         own = objective->fields & CRANK_FIELD_LISTS;
    crank_lists  lists = {.lists = own ? batch->list_count : 1, .outputs = outputs, .offsets = own ? batch->lists : whole, .labels = batch->values};
    crank_status status = check_lists(context, batch, &lists);
    if (status == CRANK_OK) status = list_room(context, trainer, (size_t)(scores->dims[0] * outputs));
    if (status == CRANK_OK) status = crank_read(scores, trainer->list_scores);
    if (status != CRANK_OK) return status;
    lists.scores = trainer->list_scores;
    memset(trainer->list_d1, 0, (size_t)(scores->dims[0] * outputs) * sizeof *trainer->list_d1);
    crank_list_result result = {.d1 = trainer->list_d1};
    status = objective->list->run(context, &lists, trainer->recipe->objective_options, &result);
    if (status == CRANK_OK && shape->list_gradient) status = crank_write(shape->list_gradient, trainer->list_d1);
    *numerator += result.numerator;
    *denominator += result.denominator;
    return status;
}

/* The whole window's terms, before its update. */
static crank_status sum_lists(crank_context *context, const task_trainer *trainer, float *scalars, double *numerator, double *denominator)
{
    double       sums[3] = {*numerator, *denominator, scalars[CRANK_SCALAR_SKIP]};
    crank_status status = dist_sum_f64(context, &trainer->recipe->group, sums, 3);
    if (status != CRANK_OK) return status;
    *numerator = sums[0];
    *denominator = sums[1];
    if (sums[2] != 0) scalars[CRANK_SCALAR_SKIP] = 1;
    return CRANK_OK;
}

static crank_status finish_lists(crank_context *context, task_trainer *trainer, shaped *shape, const data_batch *batch, float *scalars,
                                 double *numerator, double *denominator)
{
    crank_status status = crank_run_segment(shape->graph, 0);
    if (status == CRANK_OK) status = run_lists(context, trainer, shape, batch, numerator, denominator);
    if (status == CRANK_OK && trainer_shared(trainer) && variant_updates(shape->kind)) status = sum_lists(context, trainer, scalars, numerator, denominator);
    if (status != CRANK_OK || !shape->list_gradient) return status;
    if (!isfinite(*numerator)) scalars[CRANK_SCALAR_SKIP] = 1;
    double divisor = *denominator > 0 ? *denominator : 1; /* nothing to learn from: the gradient is 0 */
    scalars[CRANK_SCALAR_CLIP] = (float)(1 / divisor);
    scalars[CRANK_SCALAR_DENOMINATOR] = (float)divisor;
    status = crank_write(crank_step_scalars(shape->graph), scalars);
    return status == CRANK_OK ? crank_run_segment(shape->graph, 1) : status;
}

crank_status trainer_run(crank_context *context, task_trainer *trainer, shaped *shape, const data_batch *batch, float *scalars,
                         double *numerator, double *denominator)
{
    bool         lists = trainer->recipe->objective->list;
    crank_status status = write_reference(context, trainer, shape, batch);
    if (status == CRANK_OK) status = crank_write(crank_step_scalars(shape->graph), scalars);
    if (status == CRANK_OK && lists) status = finish_lists(context, trainer, shape, batch, scalars, numerator, denominator);
    if (status == CRANK_OK && !lists) status = crank_run(shape->graph);
    if (status == CRANK_OK) status = crank_read(crank_step_scalars(shape->graph), scalars); /* SKIP holds for the window */
    if (status != CRANK_OK || lists) return status;
    *numerator += crank_read_scalar(shape->numerator);
    *denominator += (double)batch->trained;
    return CRANK_OK;
}
