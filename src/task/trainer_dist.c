/* trainer_dist.c - a step that several processes share: sums of gradients as operations of the step's graph.
 *
 * The window's micro-batch k belongs to process k mod size. Each process adds the gradients of its own; the graph of its last one sums
 * them over processes, and every process makes the same update from the same sums:
 *
 *     g = sum over processes of (sum over its micro-batches of d numerator)          what the optimiser accumulates
 *     W <- update(W, clip(g / denominator of the whole window))
 *
 * so that size processes with `accumulate` micro-batches each are one process with size * accumulate, but for the order of sums.
 *
 * Gradients go in *buckets*, in the order in which the reverse pass yields them: a bucket's sum is begun behind its last gradient, runs
 * beside the rest of the reverse pass, and is waited for behind the last of all (with updates inside the reverse pass: behind the next
 * bucket). All processes run graphs of the same shapes: that of the largest batch of a round, which sets the pace anyway. */
#include "task/trainer_graph.h"

#include <stdlib.h>
#include <string.h>

bool trainer_shared(const task_trainer *trainer) { return trainer->recipe->group.size > 1; }

bool variant_updates(variant kind) { return kind == VARIANT_ONLY || kind == VARIANT_LAST || kind == VARIANT_REFRESH; }

/* A bucket's size is what the links need to reach their rate; a smaller last one ends sooner. */
enum { BUCKET = 25 << 20 };

/* One tensor that is summed: the gradient of a unit, the loss, or a method's counts. */
typedef struct summand {
    crank_tensor *tensor;
    int           arrival; /* rises in the order in which the graph makes them */
    int           unit;    /* or -1 */
    crank_param  *counts;
} summand;

typedef struct bucket {
    int           first, count;
    crank_tensor *order; /* of its beginning */
} bucket;

static int by_arrival(const void *a, const void *b)
{
    const summand *x = a, *y = b;
    return x->arrival != y->arrival ? (x->arrival > y->arrival) - (x->arrival < y->arrival) : (x->unit > y->unit) - (x->unit < y->unit);
}

/* A non-finite loss of any process, or an earlier one of this (SKIP), makes the sum non-finite: numerator / (1 - SKIP). */
static crank_tensor *loss_or_skip(shaped *shape)
{
    crank_tensor *skip = crank_cast(crank_step_scalar(shape->graph, CRANK_SCALAR_SKIP), shape->numerator->dtype);
    return crank_div(shape->numerator, crank_affine(skip, -1, 1));
}

/* What is summed, in the order of its arrival. */
static int list_summands(const task_trainer *trainer, shaped *shape, crank_tensor **gradients, summand *list)
{
    const crank_params *params = crank_model_params(trainer->model);
    int                 count = 0;
    if (shape->numerator) list[count++] = (summand){loss_or_skip(shape), -2, -1, NULL};
    for (size_t i = 0; i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->summed) list[count++] = (summand){crank_use(shape->graph, param), -1, -1, param};
    }
    for (int i = 0; i < trainer->unit_count; i++)
        if (gradients[i]) list[count++] = (summand){gradients[i], shape->arrived[i], i, NULL};
    qsort(list, (size_t)count, sizeof *list, by_arrival);
    return count;
}

static size_t bytes_of(const crank_tensor *tensor)
{
    size_t bytes = crank_dtype_bits(tensor->dtype) / 8;
    for (int i = 0; i < tensor->rank; i++) bytes *= (size_t)tensor->dims[i];
    return bytes;
}

static int fill_buckets(const summand *list, int count, bucket *buckets)
{
    int    made = 0;
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        if (!made || bytes >= BUCKET || buckets[made - 1].count == CRANK_GROUP_MOST) buckets[made++] = (bucket){.first = i}, bytes = 0;
        buckets[made - 1].count++;
        bytes += bytes_of(list[i].tensor);
    }
    return made;
}

/* The process that a summand goes to; -1: all. */
static int root_of(const task_trainer *trainer, const summand *s) { return s->unit >= 0 ? trainer_owner(trainer, s->unit) : -1; }

static void begin(const task_trainer *trainer, shaped *shape, summand *list, int count, bucket *buckets, int made)
{
    crank_tensor *behind = trainer->recipe->train->overlap || !count ? NULL : list[count - 1].tensor;
    for (int b = 0; b < made; b++) {
        crank_tensor *tensors[CRANK_GROUP_MOST];
        int           roots[CRANK_GROUP_MOST];
        for (int k = 0; k < buckets[b].count; k++) {
            tensors[k] = list[buckets[b].first + k].tensor;
            roots[k] = root_of(trainer, &list[buckets[b].first + k]);
        }
        crank_group_sum(tensors, buckets[b].count, roots, shape->collectives++, behind, &shape->begun);
        for (int k = 0; k < buckets[b].count; k++) list[buckets[b].first + k].tensor = tensors[k];
        buckets[b].order = shape->begun;
    }
}

static void await(const task_trainer *trainer, shaped *shape, summand *list, bucket *buckets, int made)
{
    for (int b = 0; b < made; b++) {
        crank_tensor *tensors[CRANK_GROUP_MOST];
        int           behind = trainer->recipe->train->inside && b + 1 < made ? b + 1 : made - 1;
        for (int k = 0; k < buckets[b].count; k++) tensors[k] = list[buckets[b].first + k].tensor;
        crank_group_wait(tensors, buckets[b].count, b, buckets[behind].order, &shape->waited);
        for (int k = 0; k < buckets[b].count; k++) list[buckets[b].first + k].tensor = tensors[k];
    }
}

void trainer_record_sums(task_trainer *trainer, shaped *shape, crank_tensor **gradients)
{
    size_t   most = (size_t)trainer->unit_count + crank_params_count(crank_model_params(trainer->model)) + 2;
    summand *list = calloc(most, sizeof *list);
    bucket  *buckets = calloc(most, sizeof *buckets);
    if (!list || !buckets) {
        crank_graph_error(shape->graph, CRANK_FAILED, "out of memory: recording sums over processes");
        free(list), free(buckets);
        return;
    }
    shape->begun = shape->waited = crank_group_order(shape->graph);
    int count = list_summands(trainer, shape, gradients, list), made = fill_buckets(list, count, buckets);
    begin(trainer, shape, list, count, buckets, made);
    await(trainer, shape, list, buckets, made);
    for (int i = 0; i < count; i++) {
        if (list[i].unit >= 0) gradients[list[i].unit] = trainer_owns(trainer, list[i].unit) ? list[i].tensor : NULL;
        else if (list[i].counts) crank_assign(crank_use(shape->graph, list[i].counts), list[i].tensor, false);
        else crank_check_finite(list[i].tensor);
    }
    free(list), free(buckets);
}

/* With shares of the optimiser's state each process knows the norm of its own gradients alone. */
crank_tensor *trainer_record_clip(const task_trainer *trainer, shaped *shape, crank_tensor *const *gradients, int count)
{
    double clip = trainer->recipe->train->clip;
    if (!trainer_sharded(trainer)) return crank_clip_scale(gradients, count, clip, shape->graph);
    crank_tensor *sum = crank_reshape(crank_reduce(CRANK_SUM, crank_square_sums(gradients, count, shape->graph), 1, false), 1, (const int64_t[]){1});
    int           number = shape->collectives++;
    crank_group_sum(&sum, 1, NULL, number, NULL, &shape->begun);
    crank_group_wait(&sum, 1, number, shape->begun, &shape->waited);
    return crank_clip_squares(sum, clip, shape->graph);
}

void trainer_record_spread(const task_trainer *trainer, shaped *shape)
{
    crank_tensor *targets[CRANK_GROUP_MOST];
    int           roots[CRANK_GROUP_MOST], count = 0, first = shape->collectives;
    size_t        bytes = 0;
    if (!trainer_sharded(trainer)) return;
    for (int pass = 0; pass < 2; pass++) { /* all are begun, then all are waited for */
        int number = first;
        for (int i = 0; i <= trainer->unit_count; i++) {
            bool last = i == trainer->unit_count;
            if (count && (last || bytes >= BUCKET || count == CRANK_GROUP_MOST)) {
                if (pass == 0) crank_group_broadcast(targets, count, roots, shape->collectives++, &shape->begun);
                else crank_group_settle(targets, count, number++, shape->begun, &shape->waited);
                count = 0, bytes = 0;
            }
            if (last || !shape->arrived[i] || trainer_owner(trainer, i) < 0) continue;
            targets[count] = crank_use(shape->graph, trainer->units[i].param);
            roots[count] = trainer_owner(trainer, i);
            bytes += bytes_of(targets[count++]);
        }
    }
}

/* The last node: it stands behind everything that runs beside the graph. */
void trainer_record_end(shaped *shape)
{
    crank_tensor *scalars = crank_step_scalars(shape->graph);
    if (shape->collectives) crank_group_settle(&scalars, 1, shape->collectives - 1, shape->begun, &shape->waited);
}

