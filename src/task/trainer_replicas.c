/* trainer_replicas.c - processes that share a run hold the same values.
 *
 * They make the same updates from the same sums, so on CPUs with the same kernels every bit agrees, and one that does not is an error: a
 * method has written state from what it saw in its own batches. GPUs choose their products by measuring, each for itself: two may differ in the
 * last bits. There process 0's values are taken, and a difference that is larger than rounding can make it is an error as well. */
#include "task/trainer_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a over words of eight bytes: each step is one to one, so a single word that differs is always seen. */
static uint64_t hash_of(const unsigned char *bytes, size_t count)
{
    uint64_t hash = 14695981039346656037u, word;
    size_t   i = 0;
    for (; i + sizeof word <= count; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * 1099511628211u;
    }
    for (; i < count; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

/* Not of those that have each its own share. */
static bool replicated(const task_trainer *trainer, const crank_param *param) { return trainer_saves(trainer, param) && !trainer_shards(trainer, param); }

/* The hash of each value that a checkpoint holds, by its place among the parameters. */
static crank_status hash_values(crank_context *context, const task_trainer *trainer, uint64_t *hashes)
{
    const crank_params *params = crank_model_params(trainer->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        if (!replicated(trainer, param)) continue;
        size_t       bytes = crank_view_bytes(&param->view);
        void        *values = crank_alloc(context, bytes + 1, 1, "a comparison of processes");
        crank_status status = values ? crank_param_read(context, param, values, param->view.dtype) : CRANK_FAILED;
        if (status == CRANK_OK) hashes[i] = hash_of(values, bytes);
        crank_free(values);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

static crank_status differs(crank_context *context, const task_trainer *trainer, const char *name)
{
    const dist_group *group = &trainer->recipe->group;
    return crank_fail(context, CRANK_FAILED,
                      "process %d of %d: %s differs from that of process 0. A method that writes state in the forward pass, or processes with other kernels (CRANK_BODIES sets "
                      "them), cannot share a run: start one process", group->rank, group->size, name);
}

/* What rounding may do between two looks, relative to the largest element. */
static const double ROUNDING = 0.01;

static bool near(const crank_param *param, const void *own, const void *first)
{
    size_t n = (size_t)crank_view_count(&param->view), bytes = crank_view_bytes(&param->view);
    double most = 0, apart = 0;
    if (!crank_dtype_is_float(param->view.dtype) || crank_dtype_bits(param->view.dtype) < 16) return !memcmp(own, first, bytes);
    for (size_t i = 0, size = bytes / (n ? n : 1); i < n; i++) {
        double a, b;
        crank_convert(&a, CRANK_F64, (const char *)own + i * size, param->view.dtype, 1);
        crank_convert(&b, CRANK_F64, (const char *)first + i * size, param->view.dtype, 1);
        if (!(fabs(b) <= most)) most = fabs(b);
        if (!(fabs(a - b) <= apart)) apart = fabs(a - b);
    }
    return apart <= ROUNDING * most;
}

/* All processes: `param` becomes what process 0 holds. `check`: unless it is too far from that, which *wrong tells. */
static crank_status take_first(crank_context *context, const task_trainer *trainer, crank_param *param, bool check, double *wrong)
{
    size_t       bytes = crank_view_bytes(&param->view);
    void        *own = crank_alloc(context, bytes + 1, 1, "a comparison of processes"), *first = crank_alloc(context, bytes + 1, 1, "a comparison of processes");
    crank_status status = own && first ? crank_param_read(context, param, own, param->view.dtype) : CRANK_FAILED;
    if (status == CRANK_OK) memcpy(first, own, bytes), status = dist_broadcast(context, &trainer->recipe->group, first, bytes);
    if (status == CRANK_OK && check && !near(param, own, first)) *wrong = 1;
    else if (status == CRANK_OK && memcmp(own, first, bytes) != 0) status = crank_param_write(context, param, first, param->view.dtype);
    crank_free(own), crank_free(first);
    return status;
}

/* counts[i]: in how many processes value i differs. */
static crank_status compare(crank_context *context, const task_trainer *trainer, uint64_t *own, uint64_t *first, double *counts, size_t count)
{
    crank_status status = hash_values(context, trainer, own);
    if (status != CRANK_OK) return status;
    memcpy(first, own, count * sizeof *own);
    status = dist_broadcast(context, &trainer->recipe->group, first, count * sizeof *first);
    for (size_t i = 0; i < count; i++) counts[i] = own[i] != first[i];
    return status == CRANK_OK ? dist_sum_f64(context, &trainer->recipe->group, counts, count) : status;
}

crank_status trainer_check_replicas(crank_context *context, task_trainer *trainer)
{
    const crank_params *params = crank_model_params(trainer->model);
    size_t              count = crank_params_count(params);
    bool                host = crank_model_device(trainer->model)->host;
    if (!trainer_shared(trainer)) return CRANK_OK;
    uint64_t    *own = crank_alloc(context, count + 1, sizeof *own, "a comparison of processes");
    uint64_t    *first = crank_alloc(context, count + 1, sizeof *first, "a comparison of processes");
    double      *counts = crank_alloc(context, count + 1, sizeof *counts, "a comparison of processes");
    crank_status status = own && first && counts ? compare(context, trainer, own, first, counts, count) : CRANK_FAILED;
    for (size_t i = 0; i < count && status == CRANK_OK; i++) {
        double wrong = host;
        if (counts[i] == 0) continue;
        if (!host) status = take_first(context, trainer, crank_params_at(params, i), true, &wrong);
        if (status == CRANK_OK) status = dist_sum_f64(context, &trainer->recipe->group, &wrong, 1);
        if (status == CRANK_OK && wrong > 0) status = differs(context, trainer, crank_params_at(params, i)->name);
    }
    crank_free(own), crank_free(first), crank_free(counts);
    return status;
}

/* "<param>.<optimiser>.<name>" is state of the parameter. */
static bool state_of(const crank_param *state, const crank_param *param)
{
    size_t length = strlen(param->name);
    return state->role == CRANK_ROLE_STATE && !strncmp(state->name, param->name, length) && state->name[length] == '.';
}

crank_status trainer_share_refresh(crank_context *context, task_trainer *trainer)
{
    const crank_params *params = crank_model_params(trainer->model);
    crank_status        status = CRANK_OK;
    if (!trainer_shared(trainer) || crank_model_device(trainer->model)->host) return CRANK_OK;
    for (int u = 0; u < trainer->unit_count; u++)
        for (size_t i = 0; trainer->units[u].refresh && i < crank_params_count(params) && status == CRANK_OK; i++)
            if (state_of(crank_params_at(params, i), trainer->units[u].param)) status = take_first(context, trainer, crank_params_at(params, i), false, NULL);
    return status;
}
