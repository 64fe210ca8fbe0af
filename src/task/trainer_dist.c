/* trainer_dist.c - a step that several processes share.
 *
 * The window's micro-batch k belongs to process k mod size. Each process sums the gradients of its own into the buffers; the buffers,
 * the loss and its denominator are summed over processes; then every process records the same update from the same sums:
 *
 *     g = sum over processes of (sum over its micro-batches of d numerator)          what the optimiser accumulates
 *     W <- update(W, clip(g / denominator of the whole window))
 *
 * so that size processes with `accumulate` micro-batches each are one process with size * accumulate, but for the order of sums. */
#include "task/trainer_graph.h"

#include <math.h>
#include <string.h>

bool trainer_shared(const task_trainer *trainer) { return trainer->recipe->group.size > 1; }

static crank_status check_shared(crank_context *context, const task_trainer *trainer)
{
    const task_recipe *recipe = trainer->recipe;
    if (recipe->optimizer->propose)
        return crank_fail(context, CRANK_USAGE, "optim.method: %s works without gradients, and %d processes share gradients: start one process",
                          recipe->optimizer->name, recipe->group.size);
    if (recipe->train->inside)
        return crank_fail(context, CRANK_USAGE, "train.inside updates before gradients are complete, and %d processes sum theirs first: leave it out, or start one process",
                          recipe->group.size);
    return CRANK_OK;
}

static crank_status sum_param(crank_context *context, const task_trainer *trainer, crank_param *param)
{
    size_t       n = (size_t)crank_view_count(&param->view);
    bool         wide = param->view.dtype == CRANK_F64;
    crank_dtype  dtype = wide ? CRANK_F64 : CRANK_F32;
    void        *values = crank_alloc(context, n + 1, wide ? sizeof(double) : sizeof(float), "a gradient's sum over processes");
    crank_status status = values ? crank_param_read(context, param, values, dtype) : CRANK_FAILED;
    if (status == CRANK_OK)
        status = wide ? dist_sum_f64(context, &trainer->recipe->group, values, n) : dist_sum_f32(context, &trainer->recipe->group, values, n);
    if (status == CRANK_OK) status = crank_param_write(context, param, values, dtype);
    crank_free(values);
    return status;
}

/* Sums every buffer over the processes, in the order of the units, and what methods count in their forward passes. */
static crank_status sum_buffers(crank_context *context, task_trainer *trainer)
{
    const crank_params *params = crank_model_params(trainer->model);
    crank_status        status = CRANK_OK;
    for (int i = 0; status == CRANK_OK && i < trainer->unit_count; i++)
        if (trainer->buffers[i] && trainer->units[i].active) status = sum_param(context, trainer, trainer->buffers[i]);
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(params); i++)
        if (crank_params_at(params, i)->summed) status = sum_param(context, trainer, crank_params_at(params, i));
    return status;
}

/* The micro-batches of this process. */
static crank_status run_share(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                              float *scalars, double *numerator, double *denominator)
{
    const dist_group *group = &trainer->recipe->group;
    for (int i = group->rank; i < count; i += group->size) {
        shaped *shape = trainer_prepared(context, trainer, window[i], i < group->size ? VARIANT_FIRST : VARIANT_MORE);
        int64_t draw = step * trainer->recipe->train->accumulate + i;
        if (!shape) return crank_last_status(context);
        crank_status status = crank_write(crank_step_counter(shape->graph), &draw);
        if (status == CRANK_OK) status = trainer_run(context, trainer, shape, window[i], scalars, numerator, denominator);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

static crank_status apply(crank_context *context, task_trainer *trainer, int64_t step, float *scalars, trainer_result *result)
{
    int64_t draw = step * trainer->recipe->train->accumulate;
    shaped *shape = trainer_graph(context, trainer, 0, 0, VARIANT_APPLY, NULL);
    if (!shape) return crank_last_status(context);
    crank_status status = crank_write(crank_step_counter(shape->graph), &draw);
    if (status == CRANK_OK) status = crank_write(crank_step_scalars(shape->graph), scalars);
    if (status == CRANK_OK) status = crank_run(shape->graph);
    if (status == CRANK_OK) status = crank_read(crank_step_scalars(shape->graph), scalars);
    if (status == CRANK_OK && shape->norm) result->norm = crank_read_scalar(shape->norm);
    return status;
}

crank_status trainer_shared_step(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                                 trainer_result *result)
{
    float        scalars[CRANK_SCALARS] = {0};
    crank_status status = check_shared(context, trainer);
    if (status != CRANK_OK) return status;
    *result = (trainer_result){.norm = NAN};
    for (int i = 0; i < count; i++) { /* every process holds the whole window's batches, and computes its own */
        result->tokens += window[i]->tokens;
        result->trained += window[i]->trained;
    }
    if (result->trained < 1) return crank_fail(context, CRANK_BAD_DATA, "step %lld has nothing that the loss counts", (long long)step);
    if ((status = trainer_probe(context, trainer, window[0], step * count)) != CRANK_OK) return status;
    result->denominator = (double)result->trained;
    result->rate = trainer->recipe->train->lr * crank_schedule_factor(&trainer->schedule, step);
    scalars[CRANK_SCALAR_RATE] = (float)result->rate;
    scalars[CRANK_SCALAR_STEP] = (float)step;
    scalars[CRANK_SCALAR_CLIP] = (float)(1 / result->denominator);
    scalars[CRANK_SCALAR_DENOMINATOR] = (float)result->denominator;
    scalars[CRANK_SCALAR_PROGRESS] = (float)((double)step / (double)(trainer->schedule.total > 0 ? trainer->schedule.total : 1));
    double sums[3] = {0}; /* numerator, denominator, skips */
    status = run_share(context, trainer, step, window, count, scalars, &sums[0], &sums[1]);
    sums[2] = scalars[CRANK_SCALAR_SKIP];
    if (status == CRANK_OK) status = dist_sum_f64(context, &trainer->recipe->group, sums, 3);
    if (status == CRANK_OK) status = sum_buffers(context, trainer);
    if (status != CRANK_OK) return status;
    if (trainer->recipe->objective->list) result->denominator = sums[1];
    double divisor = result->denominator > 0 ? result->denominator : 1;
    scalars[CRANK_SCALAR_CLIP] = (float)(1 / divisor);
    scalars[CRANK_SCALAR_DENOMINATOR] = (float)divisor;
    scalars[CRANK_SCALAR_SKIP] = sums[2] != 0;
    result->numerator = sums[0];
    result->loss = sums[0] / divisor;
    status = apply(context, trainer, step, scalars, result);
    result->skipped = scalars[CRANK_SCALAR_SKIP] != 0;
    return status;
}

/* FNV-1a */
static uint64_t hash_of(const unsigned char *bytes, size_t count)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

/* The hash of each value that a checkpoint holds, by its place among the parameters. */
static crank_status hash_values(crank_context *context, const task_trainer *trainer, uint64_t *hashes)
{
    const crank_params *params = crank_model_params(trainer->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (!trainer_saves(trainer, param)) continue;
        size_t       bytes = crank_view_bytes(&param->view);
        void        *values = crank_alloc(context, bytes + 1, 1, "a comparison of processes");
        crank_status status = values ? crank_param_read(context, param, values, param->view.dtype) : CRANK_FAILED;
        if (status == CRANK_OK) hashes[i] = hash_of(values, bytes);
        crank_free(values);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

crank_status trainer_check_replicas(crank_context *context, const task_trainer *trainer)
{
    const dist_group   *group = &trainer->recipe->group;
    const crank_params *params = crank_model_params(trainer->model);
    size_t              count = crank_params_count(params), differs = count;
    if (!trainer_shared(trainer)) return CRANK_OK;
    uint64_t    *own = crank_alloc(context, count + 1, sizeof *own, "a comparison of processes");
    uint64_t    *first = crank_alloc(context, count + 1, sizeof *first, "a comparison of processes");
    crank_status status = own && first ? hash_values(context, trainer, own) : CRANK_FAILED;
    if (status == CRANK_OK) memcpy(first, own, count * sizeof *own), status = dist_broadcast(context, group, first, count * sizeof *first);
    for (size_t i = count; status == CRANK_OK && i-- > 0;)
        if (own[i] != first[i]) differs = i;
    crank_free(own), crank_free(first);
    double wrong = differs < count;
    if (status == CRANK_OK) status = dist_sum_f64(context, group, &wrong, 1);
    if (status != CRANK_OK || wrong == 0) return status;
    return crank_fail(context, CRANK_FAILED,
                      "process %d of %d: %s differs from that of process 0. A method that writes state in the forward pass, or processes with other kernels (CRANK_BODIES sets "
                      "them), cannot share a run: start one process",
                      group->rank, group->size, differs < count ? crank_params_at(params, differs)->name : "what another process holds");
}
