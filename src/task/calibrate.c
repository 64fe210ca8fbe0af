/* calibrate.c - the calibration pass.
 *
 * Linears that read the same x (crank_linear.reads) form a group. A *round* takes groups in the order of the model: one graph keeps what is
 * observed of them, every batch runs through it and is shown to the method site by site, then the round's sites end and what they gathered
 * is freed. A round takes as many groups as fit in the memory of the training step that follows, which is planned before (without memory),
 * and one at least: so memory is bounded by the step's or by one group's, and a small model takes few passes.
 *
 *     x [n, in], y0 [n, out]   rows of the real tokens, f32; padding is never shown. Where a method reads no gradients and the objective
 *                              has targets, rows without a target are left out as well (lowrank.calibration.of: loss)
 *     dy [n, out]              gradient of numerator / denominator of the batch by the linear's output
 *     g [out, in]              dy^T x, multiplied where the model runs: rows never reach the host
 *     second [in, in]          x^T x over the rows that x would hold, multiplied there too; sum [in]: of these rows
 *
 * Batches are the first ones of the run, without dropout. The pass draws nothing: it gives the same bits for the same threads. */
#include "task/calibrate.h"

#include "base/clock.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"
#include "task/trainer_graph.h"

typedef struct pass {
    crank_context     *context;
    const task_recipe *recipe;
    task_trainer      *trainer;
    data_set          *data;
    crank_attachment  *attachment;
    crank_site        *sites;
    int                count;
    unsigned           observes;
    bool               loss_rows;   /* rows without a target are left out */
    bool              *wanted;      /* [linears]: of this round */
    bool              *done;        /* [sites] */
    float             *rows[5];     /* x, y0, dy, g, second of one linear */
    float             *sum;         /* [in] */
    char              *line;        /* one row in the graph's type */
    size_t             element;     /* bytes of a number in these rooms: the graph's type, f32 at least */
    int64_t            tokens, most; /* of the largest batch, and of its shape */
    size_t             room, budget; /* what the pass may take, and what a round should: about what the step that follows takes beside weights and data */
    size_t             share;       /* what a round may keep and gather, as found so far */
    size_t             retained;    /* what sites hold from their end until the method is attached, about as much as its parameters */
    size_t             need;        /* of the largest round */
    int                rounds, batches;
} pass;

/* ---- the step that follows ---- */

/* A round may take this part of the run's memory more than the step: each round is a pass over the batches, and few are worth that much. */
enum { SLACK = 16 };

/* Plans a training step with the method as it will stand there, on parameters without memory. A step that cannot be planned is told later,
 * by the run's own plan. */
static void plan_step(pass *p, crank_model *model)
{
    const crank_attach_options *given = crank_attachment_where(p->attachment);
    crank_attach_options        where = *given;
    crank_params               *params = crank_model_params(model);
    trainer_memory              m = {0};
    where.name = "plan of a step";
    size_t                      before = crank_params_count(params);
    p->budget = p->room;
    crank_params_defer(params, true);
    crank_attachment *planned = crank_attachment_new(p->context, crank_model_linears(model), crank_attachment_map(p->attachment), crank_attachment_options(p->attachment), &where);
    crank_status      status = planned ? crank_attachment_finish(p->context, planned) : CRANK_FAILED;
    task_trainer     *trainer = status == CRANK_OK ? trainer_new(p->context, model, p->recipe, 1) : NULL;
    crank_params_defer(params, false); /* tables that the model makes at its first recording are its own, and stay */
    if (trainer) {
        trainer->dry = true;
        trainer_set_longest(trainer, dataset_longest(p->data));
        status = trainer_plan(p->context, trainer, p->tokens, dataset_largest_sequences(p->data), dataset_has_types(p->data), p->room == SIZE_MAX ? 0 : p->room, &m);
        size_t step = m.method + m.state + m.buffers + m.arena + m.workspace + m.inputs;
        if (status == CRANK_OK && m.arena) p->budget = step + (step + m.weights) / SLACK;
        p->retained = m.method;
    }
    trainer_free(trainer);
    if (planned) crank_attachment_remove(planned);
    for (size_t i = crank_params_count(params); i-- > before;) /* what an optimiser made outlives its trainer */
        if (crank_params_at(params, i)->role == CRANK_ROLE_STATE) crank_params_remove(params, crank_params_at(params, i));
    if (p->budget > p->room) p->budget = p->room;
}

/* ---- rounds ---- */

typedef struct round_bytes {
    size_t kept, gathered; /* in the graph, and by the sites */
    size_t last;           /* what the call that ends a site takes, at most */
    size_t largest, square; /* elements of the largest product dy^T x and x^T x */
    size_t widest;         /* elements of the widest row */
    int    groups;
} round_bytes;

static bool in_group(const pass *p, int i, int j) { return !p->done[j] && p->sites[j].linear->reads == p->sites[i].linear->reads; }

static round_bytes group_bytes(const pass *p, int i)
{
    const crank_map *map = crank_attachment_map(p->attachment);
    round_bytes      b = {.groups = 1};
    size_t           n = (size_t)p->tokens;
    size_t           width = (size_t)p->sites[i].linear->in;
    if (p->observes & CRANK_OBSERVE_X) b.kept = n * width * sizeof(float);
    if (p->observes & CRANK_OBSERVE_SECOND) b.kept += width * width * sizeof(float);
    for (int j = i; j < p->count; j++) {
        if (!in_group(p, i, j)) continue;
        size_t in = (size_t)p->sites[j].linear->in, out = (size_t)p->sites[j].linear->out, last = 0;
        if (p->observes & CRANK_OBSERVE_Y0) b.kept += n * out * sizeof(float);
        if (p->observes & CRANK_OBSERVE_DY) b.kept += n * out * sizeof(float);
        if (p->observes & CRANK_OBSERVE_GRADIENT) b.kept += in * out * sizeof(float);
        if (map->calibrate_bytes) b.gathered += map->calibrate_bytes(&p->sites[j], &last);
        if (last > b.last) b.last = last;
        if (in * out > b.largest) b.largest = in * out;
        if (in * in > b.square) b.square = in * in;
        if (in > b.widest) b.widest = in;
        if (out > b.widest) b.widest = out;
    }
    return b;
}

/* Marks the linears of the next round in `wanted`; no groups: none are left. */
static round_bytes next_round(pass *p)
{
    round_bytes sum = {0};
    memset(p->wanted, 0, crank_linears_count(crank_model_linears(p->trainer->model)) * sizeof *p->wanted);
    for (int i = 0; i < p->count; i++) {
        if (p->done[i] || p->wanted[p->sites[i].linear->index]) continue;
        round_bytes b = group_bytes(p, i);
        if (sum.groups && sum.kept + sum.gathered + b.kept + b.gathered > p->share) break;
        for (int j = i; j < p->count; j++)
            if (in_group(p, i, j)) p->wanted[p->sites[j].linear->index] = true;
        sum.kept += b.kept;
        sum.gathered += b.gathered;
        sum.groups++;
        if (b.last > sum.last) sum.last = b.last;
        if (b.largest > sum.largest) sum.largest = b.largest;
        if (b.square > sum.square) sum.square = b.square;
        if (b.widest > sum.widest) sum.widest = b.widest;
    }
    return sum;
}

static size_t element(const crank_tensor *tensor) { return crank_dtype_bits(tensor->dtype) / 8; }

/* Bytes of the host's copies of what one linear shows. */
static size_t copies(const pass *p, const round_bytes *b)
{
    size_t rows = (size_t)p->most * b->widest * p->element, bytes = 0;
    for (int i = 0; i < 3; i++)
        if (p->observes & (1u << i)) bytes += rows;
    return bytes + (p->observes & CRANK_OBSERVE_GRADIENT ? b->largest * p->element : 0) + (p->observes & CRANK_OBSERVE_SECOND ? b->square * p->element : 0);
}

/* The largest round that the budget bears, planned and marked; its graph is there. */
static crank_status plan_round(pass *p, round_bytes *b)
{
    bool host = p->trainer->model && crank_model_device(p->trainer->model)->host;
    for (;;) {
        crank_plan_summary summary = {0};
        *b = next_round(p);
        if (!b->groups) return CRANK_OK;
        shaped *shape = trainer_calibration_plan(p->context, p->trainer, p->tokens, dataset_largest_sequences(p->data), &summary);
        if (!shape) return crank_last_status(p->context);
        p->element = sizeof(float);
        p->most = shape->tokens;
        for (size_t i = 0; i < shape->seen_count; i++)
            if (element(shape->seen[i].x) > p->element) p->element = element(shape->seen[i].x);
        size_t graph = summary.arena + summary.workspace + summary.inputs, aside = copies(p, b);
        size_t need = host ? p->retained + b->gathered + (graph + aside > b->last ? graph + aside : b->last) : graph;
        if (need <= p->budget || b->groups == 1) {
            crank_log(p->context, CRANK_DEBUG, "calibration: a round of %d groups takes %.1f MiB (%.1f gathered), the step that follows %.1f", b->groups, (double)need / 1048576.0,
                      (double)b->gathered / 1048576.0, (double)p->budget / 1048576.0);
            if (need > p->need) p->need = need;
            if (need <= p->room) return CRANK_OK;
            return crank_fail(p->context, CRANK_FAILED,
                              "calibration of %s needs %.1f MiB and %.1f MiB are allowed: lower train.batch (now %lld), lower data.context, or raise memory.limit",
                              crank_attachment_map(p->attachment)->name, (double)need / 1048576.0, (double)p->room / 1048576.0, (long long)p->recipe->train->batch);
        }
        trainer_drop_graphs(p->trainer);
        size_t taken = b->kept + b->gathered, over = need - p->budget;
        p->share = taken - taken / 8 < over ? taken / 2 : taken - (over > taken / 8 ? over : taken / 8);
    }
}

/* ---- one batch ---- */

/* Room for `count` elements, read in the tensor's type and turned into f32 where they lie. */
static float *room_for(pass *p, int kind, size_t count)
{
    if (!p->rows[kind]) p->rows[kind] = crank_alloc(p->context, count, p->element, "calibration rows");
    return p->rows[kind];
}

/* Whether token i of the batch is shown. */
static bool counts(const pass *p, const data_batch *batch, int64_t i)
{
    if (!p->loss_rows || !batch->targets) return true;
    return batch->targets[i] >= 0 && !(batch->weights && batch->weights[i] == 0);
}

/* Rows of a kept tensor [shape tokens, width] that count, as f32; *n how many. They are read to the end of the room, so that no row is
 * overwritten before its turn. */
static float *read_rows(pass *p, int kind, const crank_tensor *tensor, const data_batch *batch, size_t widest, int64_t *n)
{
    size_t size = element(tensor), width = (size_t)tensor->dims[1], all = (size_t)tensor->dims[0] * width;
    float *out = room_for(p, kind, (size_t)p->most * widest);
    char  *raw = out ? (char *)out + all * (p->element - size) : NULL;
    *n = 0;
    if (!p->line) p->line = crank_alloc(p->context, widest, p->element, "calibration rows");
    if (out && tensor->dims[0] > p->most) {
        crank_fail(p->context, CRANK_FAILED, "calibration: a batch of %lld tokens, more than the largest that was told", (long long)batch->tokens);
        return NULL;
    }
    if (!out || !p->line || crank_read(tensor, raw) != CRANK_OK) return NULL;
    for (int64_t i = 0; i < batch->tokens; i++) {
        if (!counts(p, batch, i)) continue;
        memcpy(p->line, raw + (size_t)i * width * size, width * size);
        crank_convert(out + (size_t)*n * width, CRANK_F32, p->line, tensor->dtype, width);
        (*n)++;
    }
    return out;
}

/* A kept product of `count` numbers in f32; NULL where the loss does not depend on the linear: zeros. */
static float *read_product(pass *p, int kind, const crank_tensor *tensor, size_t count, size_t largest)
{
    size_t size = tensor ? element(tensor) : 0;
    float *out = room_for(p, kind, largest);
    if (!out) return NULL;
    if (!tensor) memset(out, 0, count * sizeof *out);
    else if (crank_read(tensor, out) != CRANK_OK) return NULL;
    else if (size == sizeof(double))
        for (size_t i = 0; i < count; i++) { /* forward: no value is overwritten before its turn */
            double value;
            memcpy(&value, (const char *)out + i * size, size);
            out[i] = (float)value;
        }
    return out;
}

static bool all_finite(const float *values, int64_t count)
{
    for (int64_t i = 0; values && i < count; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

static crank_status check_finite(pass *p, const crank_linear *linear, const crank_observation *about)
{
    if (!all_finite(about->x, about->n * linear->in) || !all_finite(about->second, linear->in * linear->in))
        return crank_fail(p->context, CRANK_BAD_DATA, "calibration: what %s reads is not finite: check the base model's weights", linear->name);
    if (!all_finite(about->dy, about->n * linear->out) || !all_finite(about->g, linear->out * linear->in))
        return crank_fail(p->context, CRANK_BAD_DATA, "calibration: the gradient at %s is not finite: check the data and the base model", linear->name);
    return CRANK_OK;
}

static void divide(float *values, int64_t count, double by)
{
    for (int64_t i = 0; by != 1 && i < count; i++) values[i] = (float)((double)values[i] / by);
}

static crank_status show(pass *p, const shaped *shape, size_t i, const data_batch *batch, const round_bytes *b, double denominator, const int64_t *counted)
{
    const linear_seen  *seen = &shape->seen[i];
    const crank_linear *linear = seen->linear;
    const crank_tensor *gradient = shape->seen_gradients[i];
    crank_observation   about = {.n = batch->tokens};
    float              *dy = NULL, *g = NULL;
    if (p->observes & CRANK_OBSERVE_X && !(about.x = read_rows(p, 0, seen->x, batch, b->widest, &about.n))) return crank_last_status(p->context);
    if (p->observes & CRANK_OBSERVE_Y0 && !(about.y0 = read_rows(p, 1, seen->y, batch, b->widest, &about.n))) return crank_last_status(p->context);
    if (p->observes & CRANK_OBSERVE_DY) {
        if (gradient) dy = read_rows(p, 2, gradient, batch, b->widest, &about.n);
        else if ((dy = room_for(p, 2, (size_t)p->most * b->widest))) memset(dy, 0, (size_t)(batch->tokens * linear->out) * sizeof *dy);
        if (!dy) return crank_last_status(p->context);
        divide(dy, about.n * linear->out, denominator);
    }
    if (p->observes & CRANK_OBSERVE_GRADIENT) {
        if (!(g = read_product(p, 3, shape->seen_products[i], (size_t)(linear->in * linear->out), b->largest))) return crank_last_status(p->context);
        divide(g, linear->out * linear->in, denominator);
    }
    about.dy = dy, about.g = g;
    if (p->observes & CRANK_OBSERVE_SECOND) {
        if (!p->sum && !(p->sum = crank_alloc(p->context, b->widest, sizeof *p->sum, "sums of rows"))) return CRANK_FAILED;
        if (crank_read(shape->seen_sums[i], p->sum) != CRANK_OK) return crank_last_status(p->context);
        if (!(about.second = read_product(p, 4, shape->seen_second[i], (size_t)(linear->in * linear->in), b->square))) return crank_last_status(p->context);
        about.sum = p->sum;
        about.n = *counted;
    }
    crank_status status = check_finite(p, linear, &about);
    return status || about.n == 0 ? status : crank_attachment_observe(p->context, p->attachment, seen->linear, &about);
}

/* Marks the rows that x^T x is made of. */
static crank_status write_counted(pass *p, const shaped *shape, const data_batch *batch, int64_t *counted)
{
    *counted = 0;
    if (!shape->counted) return CRANK_OK;
    float *marks = crank_alloc(p->context, (size_t)shape->tokens, sizeof *marks, "rows that count");
    if (!marks) return CRANK_FAILED;
    for (int64_t i = 0; i < batch->tokens; i++)
        if (counts(p, batch, i)) marks[i] = 1, (*counted)++;
    crank_status status = crank_write(shape->counted, marks);
    crank_free(marks);
    return status;
}

static crank_status run_batch(pass *p, int64_t k, const round_bytes *b, int64_t *rows)
{
    const data_batch *batch;
    float             scalars[CRANK_SCALARS] = {[CRANK_SCALAR_CLIP] = 1, [CRANK_SCALAR_DENOMINATOR] = 1};
    double            numerator = 0, denominator = 0;
    int64_t           draw = 0, counted = 0;
    crank_status      status = dataset_batch(p->context, p->data, k, 0, &batch);
    if (status != CRANK_OK) return status;
    shaped *shape = trainer_prepared(p->context, p->trainer, batch, VARIANT_CALIBRATE);
    if (!shape) return crank_last_status(p->context);
    status = crank_write(crank_step_counter(shape->graph), &draw);
    if (status == CRANK_OK) status = write_counted(p, shape, batch, &counted);
    if (status == CRANK_OK) status = trainer_run(p->context, p->trainer, shape, batch, scalars, &numerator, &denominator);
    if (p->trainer->recipe->objective->list) denominator = 1; /* its gradients are divided already */
    for (size_t i = 0; status == CRANK_OK && i < shape->seen_count; i++) status = show(p, shape, i, batch, b, denominator > 0 ? denominator : 1, &counted);
    *rows += batch->tokens;
    return status;
}

static void free_rooms(pass *p)
{
    for (int i = 0; i < 5; i++) {
        crank_free(p->rows[i]);
        p->rows[i] = NULL;
    }
    crank_free(p->line), crank_free(p->sum);
    p->line = NULL;
    p->sum = NULL;
}

/* ---- the pass ---- */

static crank_status run_round(pass *p, const round_bytes *b)
{
    int64_t      batches = p->recipe->lowrank->calibration_batches, most = p->recipe->lowrank->calibration_rows, rows = 0;
    crank_status status = CRANK_OK;
    p->batches = 0;
    for (int64_t k = 0; status == CRANK_OK && k < batches && (!most || rows < most); k++, p->batches++) status = run_batch(p, k, b, &rows);
    trainer_drop_graphs(p->trainer);
    trainer_release(p->trainer);
    free_rooms(p);
    for (int i = 0; status == CRANK_OK && i < p->count; i++) {
        if (!p->wanted[p->sites[i].linear->index]) continue;
        p->done[i] = true;
        status = crank_attachment_observe(p->context, p->attachment, p->sites[i].linear, NULL);
    }
    memory_give_back(); /* many small arrays ended: kept by the allocator they would stand beside the next round or the first step */
    p->rounds++;
    return status;
}

static crank_status run_rounds(pass *p)
{
    round_bytes  b;
    double       begun = clock_seconds();
    crank_status status = plan_round(p, &b);
    while (status == CRANK_OK && b.groups) {
        status = run_round(p, &b);
        if (status == CRANK_OK) status = plan_round(p, &b);
    }
    if (status == CRANK_OK)
        crank_log(p->context, CRANK_INFO, "calibrated %s on %d batches, %d linears in %d round%s of at most %.1f MiB, %.1f s", crank_attachment_map(p->attachment)->name, p->batches,
                  p->count, p->rounds, p->rounds > 1 ? "s" : "", (double)p->need / 1048576.0, clock_seconds() - begun);
    return status;
}

crank_status calibrate(crank_context *context, crank_model *model, const task_recipe *recipe, data_set *train, crank_attachment *attachment, size_t room,
                       size_t *need)
{
    const crank_map *map = crank_attachment_map(attachment);
    *need = 0;
    if (!map->observes || !map->calibrate) return CRANK_OK;
    pass p = {.context = context, .recipe = recipe, .data = train, .attachment = attachment, .observes = map->observes, .room = room};
    if (map->observes & CRANK_OBSERVE_X && map->observes & CRANK_OBSERVE_SECOND)
        p.observes &= ~(unsigned)(crank_model_device(model)->host ? CRANK_OBSERVE_SECOND : CRANK_OBSERVE_X);
    p.sites = crank_attachment_sites(attachment, &p.count);
    p.tokens = dataset_largest_tokens(train);
    p.loss_rows = !(map->observes & (CRANK_OBSERVE_DY | CRANK_OBSERVE_GRADIENT)) && !strcmp(recipe->lowrank->calibration_of, "loss");
    plan_step(&p, model);
    p.share = p.budget;
    p.wanted = crank_alloc(context, crank_linears_count(crank_model_linears(model)) + 1, sizeof *p.wanted, "calibration");
    p.done = crank_alloc(context, (size_t)p.count, sizeof *p.done, "calibration");
    p.trainer = p.wanted && p.done ? trainer_new(context, model, recipe, 0) : NULL;
    crank_status status = p.trainer ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        p.trainer->types = dataset_has_types(train);
        trainer_set_longest(p.trainer, dataset_longest(train));
        p.trainer->limit = room == SIZE_MAX ? 0 : room;
        p.trainer->watched = p.wanted;
        p.trainer->watched_for = p.observes;
        status = run_rounds(&p);
    }
    *need = p.need;
    trainer_free(p.trainer);
    free_rooms(&p);
    crank_free(p.wanted), crank_free(p.done);
    return status;
}
