/* trainer_shard.c - the optimiser's state in shares (ZeRO stage 1, Rajbhandari et al. 2019, arXiv:1910.02054).
 *
 * Each trainable parameter has an owner among the processes: the sum of its gradient goes there alone, the owner holds its state and
 * makes its update, and the new values go to all. Whole parameters are owned, the largest first, each by the process that has least so far,
 * so that an update that sees a matrix as one (Muon, Adafactor) is the same. A parameter that its method moves is updated by all.
 * A checkpoint holds the whole state: it is collected by process 0 and read by any number of processes. */
#include "task/trainer_graph.h"

#include <stdlib.h>
#include <string.h>

bool trainer_sharded(const task_trainer *trainer) { return trainer->owners != NULL; }

int trainer_owner(const task_trainer *trainer, int unit) { return trainer->owners ? trainer->owners[unit] : -1; }

bool trainer_owns(const task_trainer *trainer, int unit)
{
    int owner = trainer_owner(trainer, unit);
    return owner < 0 || owner == trainer->recipe->group.rank;
}

typedef struct sized {
    int64_t elements;
    int     unit;
} sized;

static int by_size(const void *a, const void *b)
{
    const sized *x = a, *y = b;
    return x->elements != y->elements ? (x->elements < y->elements ? 1 : -1) : (x->unit > y->unit) - (x->unit < y->unit);
}

crank_status trainer_choose_owners(crank_context *context, task_trainer *trainer, crank_param *const *trained, int count)
{
    const dist_group *group = &trainer->recipe->group;
    if (group->size < 2 || !strcmp(trainer->recipe->train->shard, "none") || count < 1) return CRANK_OK;
    trainer->owners = crank_alloc(context, (size_t)count, sizeof *trainer->owners, "owners of parameters");
    sized   *order = crank_alloc(context, (size_t)count, sizeof *order, "owners of parameters");
    int64_t *loads = crank_alloc(context, (size_t)group->size, sizeof *loads, "owners of parameters");
    if (trainer->owners && order && loads) {
        for (int i = 0; i < count; i++) order[i] = (sized){crank_view_count(&trained[i]->view), i};
        qsort(order, (size_t)count, sizeof *order, by_size);
        for (int i = 0; i < count; i++) {
            int least = 0;
            for (int k = 1; k < group->size; k++)
                if (loads[k] < loads[least]) least = k;
            bool moved = trained[order[i].unit]->moved;
            trainer->owners[order[i].unit] = moved ? -1 : least;
            if (!moved) loads[least] += order[i].elements;
        }
    }
    bool good = trainer->owners && order && loads;
    crank_free(order), crank_free(loads);
    return good ? CRANK_OK : CRANK_FAILED;
}

crank_status trainer_attach_unit(crank_context *context, task_trainer *trainer, crank_unit *unit)
{
    crank_params *params = crank_model_params(trainer->model);
    size_t        before = crank_params_count(params);
    int           owner = trainer_owner(trainer, unit->index);
    bool          away = !trainer_owns(trainer, unit->index), deferred = crank_params_deferred(params);
    if (away) crank_params_defer(params, true);
    crank_status status = unit->optimizer->attach ? unit->optimizer->attach(context, unit) : CRANK_OK;
    crank_params_defer(params, deferred);
    for (size_t i = before; owner >= 0 && status == CRANK_OK && i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_STATE) continue;
        shard_state *shards = realloc(trainer->shards, ((size_t)trainer->shard_count + 1) * sizeof *shards);
        if (!shards) return crank_fail(context, CRANK_FAILED, "out of memory: an optimiser's shares");
        trainer->shards = shards;
        shards[trainer->shard_count++] = (shard_state){param, owner, NULL};
        param->away = away;
    }
    return status;
}

bool trainer_shards(const task_trainer *trainer, const crank_param *param)
{
    for (int i = 0; i < trainer->shard_count; i++)
        if (trainer->shards[i].param == param) return true;
    return false;
}

/* One state from its owner to all; process 0 keeps what it does not own. */
static crank_status collect(crank_context *context, const dist_group *group, shard_state *shard)
{
    size_t       bytes = crank_view_bytes(&shard->param->view);
    void        *values = crank_alloc(context, bytes + 1, 1, shard->param->name);
    crank_status status = values ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && shard->owner == group->rank) status = crank_param_read(context, shard->param, values, shard->param->view.dtype);
    if (status == CRANK_OK) status = dist_broadcast_from(context, group, values, bytes, shard->owner);
    if (status == CRANK_OK && group->rank == 0 && shard->owner != 0) shard->collected = values;
    else crank_free(values);
    return status;
}

crank_status trainer_collect(crank_context *context, task_trainer *trainer)
{
    crank_status status = CRANK_OK;
    trainer_collect_release(trainer);
    for (int i = 0; status == CRANK_OK && i < trainer->shard_count; i++) status = collect(context, &trainer->recipe->group, &trainer->shards[i]);
    return status;
}

const void *trainer_collected(const task_trainer *trainer, const crank_param *param)
{
    for (int i = 0; i < trainer->shard_count; i++)
        if (trainer->shards[i].param == param) return trainer->shards[i].collected;
    return NULL;
}

void trainer_collect_release(task_trainer *trainer)
{
    for (int i = 0; i < trainer->shard_count; i++) {
        crank_free(trainer->shards[i].collected);
        trainer->shards[i].collected = NULL;
    }
}
