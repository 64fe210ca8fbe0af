/* calibrate.c - the calibration pass.
 *
 * Linears that read the same x (crank_linear.reads) form a group. A *round* takes as many groups as stay small, in the order of the model:
 * one graph keeps their x, y0 and dy, every batch runs through it and is shown to the method site by site, then the round's sites end and
 * what they gathered is freed. So memory is bounded by one group where a model is large, and a small model takes a single pass.
 *
 *     x [n, in], y0 [n, out]   rows of the real tokens, f32; padding is never shown. Where a method reads no gradients and the objective
 *                              has targets, rows without a target are left out as well (lowrank.calibration.of: loss)
 *     dy [n, out]              gradient of numerator / denominator of the batch by the linear's output
 *
 * Batches are the first ones of the run, without dropout. The pass draws nothing: it gives the same bits for the same threads. */
#include "task/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"
#include "task/trainer_graph.h"

/* What the kept rows and the gathered state of a round should stay below; one group is always taken. */
static const size_t ROUND = (size_t)256 << 20;

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
    float             *rows[3];     /* x, y0, dy of one linear */
    size_t             widest, capacity; /* bytes of one of them */
    void              *raw;
    int64_t            tokens;      /* of the largest batch */
    size_t             room;
    int                rounds, batches;
} pass;

/* ---- rounds ---- */

static size_t kept_bytes(const pass *p, const crank_linear *linear)
{
    size_t n = (size_t)p->tokens, per = 0;
    if (p->observes & CRANK_OBSERVE_X) per += (size_t)linear->in;
    if (p->observes & CRANK_OBSERVE_Y0) per += (size_t)linear->out;
    if (p->observes & CRANK_OBSERVE_DY) per += (size_t)linear->out;
    return n * per * sizeof(float);
}

static size_t gathered_bytes(const pass *p, const crank_site *site)
{
    const crank_map *map = crank_attachment_map(p->attachment);
    return map->calibrate_bytes ? map->calibrate_bytes(site) : 0;
}

/* Marks the linears of the next round; their gathered bytes. False: none are left. */
static bool next_round(pass *p, size_t *gathered)
{
    size_t taken = 0;
    bool   any = false;
    memset(p->wanted, 0, crank_linears_count(crank_model_linears(p->trainer->model)) * sizeof *p->wanted);
    *gathered = 0;
    for (int i = 0; i < p->count; i++) {
        if (p->done[i]) continue;
        size_t group = 0, state = 0;
        for (int j = i; j < p->count; j++)
            if (!p->done[j] && p->sites[j].linear->reads == p->sites[i].linear->reads) {
                group += kept_bytes(p, p->sites[j].linear);
                state += gathered_bytes(p, &p->sites[j]);
            }
        if (any && taken + group + state > ROUND) break;
        for (int j = i; j < p->count; j++)
            if (!p->done[j] && p->sites[j].linear->reads == p->sites[i].linear->reads) {
                p->done[j] = true;
                p->wanted[p->sites[j].linear->index] = true;
            }
        any = true;
        taken += group + state;
        *gathered += state;
    }
    return any;
}

/* ---- one batch ---- */

/* Rows of a kept tensor [shape tokens, width] that count, as f32; *n how many. */
static crank_status read_rows(pass *p, const crank_tensor *tensor, const data_batch *batch, float *out, int64_t *n)
{
    size_t       size = crank_dtype_bits(tensor->dtype) / 8, width = (size_t)tensor->dims[1];
    crank_status status = crank_read(tensor, p->raw);
    bool         losses = p->loss_rows && batch->targets;
    *n = 0;
    for (int64_t i = 0; i < batch->tokens && status == CRANK_OK; i++) {
        if (losses && (batch->targets[i] < 0 || (batch->weights && batch->weights[i] == 0))) continue;
        crank_convert(out + (size_t)*n * width, CRANK_F32, (const char *)p->raw + (size_t)i * width * size, tensor->dtype, width);
        (*n)++;
    }
    return status;
}

static crank_status show(pass *p, const linear_seen *seen, const crank_tensor *gradient, const data_batch *batch, double denominator)
{
    crank_observation about = {0};
    crank_status      status = CRANK_OK;
    if (p->observes & CRANK_OBSERVE_X) {
        status = read_rows(p, seen->x, batch, p->rows[0], &about.n);
        about.x = p->rows[0];
    }
    if (status == CRANK_OK && p->observes & CRANK_OBSERVE_Y0) {
        status = read_rows(p, seen->y, batch, p->rows[1], &about.n);
        about.y0 = p->rows[1];
    }
    if (status == CRANK_OK && p->observes & CRANK_OBSERVE_DY) {
        about.n = batch->tokens;
        if (gradient) status = read_rows(p, gradient, batch, p->rows[2], &about.n);
        else memset(p->rows[2], 0, (size_t)(batch->tokens * seen->linear->out) * sizeof(float));
        for (int64_t i = 0; i < about.n * seen->linear->out; i++) p->rows[2][i] = (float)((double)p->rows[2][i] / denominator);
        about.dy = p->rows[2];
    }
    for (const float *x = about.x; status == CRANK_OK && x && x < about.x + about.n * seen->linear->in; x++)
        if (!isfinite(*x)) return crank_fail(p->context, CRANK_BAD_DATA, "calibration: what %s reads is not finite: check the base model's weights", seen->linear->name);
    for (const float *d = about.dy; status == CRANK_OK && d && d < about.dy + about.n * seen->linear->out; d++)
        if (!isfinite(*d)) return crank_fail(p->context, CRANK_BAD_DATA, "calibration: the gradient at %s is not finite: check the data and the base model", seen->linear->name);
    return status || about.n == 0 ? status : crank_attachment_observe(p->context, p->attachment, seen->linear, &about);
}

static crank_status run_batch(pass *p, int64_t k, int64_t *rows)
{
    const data_batch *batch;
    float             scalars[CRANK_SCALARS] = {[CRANK_SCALAR_CLIP] = 1, [CRANK_SCALAR_DENOMINATOR] = 1};
    double            numerator = 0, denominator = 0;
    int64_t           draw = 0;
    crank_status      status = dataset_batch(p->context, p->data, k, 0, &batch);
    if (status != CRANK_OK) return status;
    shaped *shape = trainer_prepared(p->context, p->trainer, batch, VARIANT_CALIBRATE);
    if (!shape) return crank_last_status(p->context);
    status = crank_write(crank_step_counter(shape->graph), &draw);
    if (status == CRANK_OK) status = trainer_run(p->context, p->trainer, shape, batch, scalars, &numerator, &denominator);
    if (p->trainer->recipe->objective->list) denominator = 1; /* its gradients are divided already */
    for (size_t i = 0; status == CRANK_OK && i < shape->seen_count; i++)
        status = show(p, &shape->seen[i], shape->seen_gradients[i], batch, denominator > 0 ? denominator : 1);
    *rows += batch->tokens;
    return status;
}

/* ---- memory ---- */

static crank_status open_rooms(pass *p)
{
    size_t widest = 1;
    for (int i = 0; i < p->count; i++) {
        const crank_linear *linear = p->sites[i].linear;
        size_t              most = (size_t)(linear->in > linear->out ? linear->in : linear->out);
        if (most > widest) widest = most;
    }
    p->capacity = (size_t)(p->tokens + 64) * 2; /* shapes are rounded up */
    for (int i = 0; i < 3; i++)
        if ((p->observes & (1u << i)) && !(p->rows[i] = crank_alloc(p->context, p->capacity * widest, sizeof(float), "calibration rows"))) return CRANK_FAILED;
    p->raw = crank_alloc(p->context, p->capacity * widest, sizeof(double), "calibration rows");
    p->widest = p->capacity * widest * sizeof(float);
    return p->raw ? CRANK_OK : CRANK_FAILED;
}

static crank_status check_memory(pass *p, size_t gathered)
{
    crank_plan_summary summary = {0};
    int64_t            n = p->tokens, s = dataset_largest_sequences(p->data);
    if (!trainer_calibration_plan(p->context, p->trainer, n, s, &summary)) return crank_last_status(p->context);
    size_t need = summary.arena + summary.workspace + summary.inputs + gathered + 5 * p->widest;
    crank_log(p->context, CRANK_DEBUG, "calibration: a round takes %.1f MiB, %.1f gathered", (double)need / 1048576.0, (double)gathered / 1048576.0);
    if (need <= p->room) return CRANK_OK;
    return crank_fail(p->context, CRANK_FAILED,
                      "calibration of %s needs %.1f MiB and %.1f MiB are allowed: lower train.batch (now %lld), lower data.context, or raise memory.limit",
                      crank_attachment_map(p->attachment)->name, (double)need / 1048576.0, (double)p->room / 1048576.0, (long long)p->recipe->train->batch);
}

/* ---- the pass ---- */

static crank_status run_round(pass *p, size_t gathered)
{
    int64_t      batches = p->recipe->lowrank->calibration_batches, most = p->recipe->lowrank->calibration_rows, rows = 0;
    crank_status status = check_memory(p, gathered);
    p->batches = 0;
    for (int64_t k = 0; status == CRANK_OK && k < batches && (!most || rows < most); k++, p->batches++) status = run_batch(p, k, &rows);
    trainer_drop_graphs(p->trainer);
    trainer_release(p->trainer);
    for (int i = 0; status == CRANK_OK && i < p->count; i++)
        if (p->wanted[p->sites[i].linear->index]) status = crank_attachment_observe(p->context, p->attachment, p->sites[i].linear, NULL);
    p->rounds++;
    return status;
}

static crank_status run_rounds(pass *p)
{
    crank_status status = open_rooms(p);
    size_t       gathered;
    while (status == CRANK_OK && next_round(p, &gathered)) status = run_round(p, gathered);
    if (status == CRANK_OK)
        crank_log(p->context, CRANK_INFO, "calibrated %s on %d batches, %d linears in %d round%s", crank_attachment_map(p->attachment)->name, p->batches, p->count,
                  p->rounds, p->rounds > 1 ? "s" : "");
    return status;
}

crank_status calibrate(crank_context *context, crank_model *model, const task_recipe *recipe, data_set *train, crank_attachment *attachment, size_t room)
{
    const crank_map *map = crank_attachment_map(attachment);
    if (!map->observes || !map->calibrate) return CRANK_OK;
    pass p = {.context = context, .recipe = recipe, .data = train, .attachment = attachment, .observes = map->observes, .room = room};
    p.sites = crank_attachment_sites(attachment, &p.count);
    p.tokens = dataset_largest_tokens(train);
    p.loss_rows = !(map->observes & CRANK_OBSERVE_DY) && !strcmp(recipe->lowrank->calibration_of, "loss");
    p.wanted = crank_alloc(context, crank_linears_count(crank_model_linears(model)) + 1, sizeof *p.wanted, "calibration");
    p.done = crank_alloc(context, (size_t)p.count, sizeof *p.done, "calibration");
    p.trainer = p.wanted && p.done ? trainer_new(context, model, recipe, 0) : NULL;
    crank_status status = p.trainer ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        p.trainer->types = dataset_has_types(train);
        trainer_set_longest(p.trainer, dataset_longest(train));
        p.trainer->limit = room == SIZE_MAX ? 0 : room;
        p.trainer->watched = p.wanted;
        p.trainer->watched_gradients = map->observes & CRANK_OBSERVE_DY;
        status = run_rounds(&p);
    }
    trainer_free(p.trainer);
    for (int i = 0; i < 3; i++) crank_free(p.rows[i]);
    crank_free(p.raw), crank_free(p.wanted), crank_free(p.done);
    return status;
}
