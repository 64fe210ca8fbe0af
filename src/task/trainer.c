/* trainer.c - units of the optimiser, batches rounded up to shapes, and the steps that run on them. */
#include "task/trainer_graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes are rounded up so that at most an eighth of a batch is filler and the number of graphs stays small. */
static int64_t rounding_step(int64_t n)
{
    int64_t step = 16;
    while (n > 16 * step) step *= 2;
    return step;
}

static int64_t round_up(int64_t n)
{
    int64_t step = rounding_step(n);
    return (n + step - 1) / step * step;
}

/* Filler is less than the step. */
int64_t trainer_longest(const task_trainer *trainer, int64_t n)
{
    int64_t step = rounding_step(n), longest = trainer->longest > step ? trainer->longest : step;
    if (!trainer->longest) return 0;
    return longest < n ? longest : n;
}

void trainer_set_longest(task_trainer *trainer, int64_t tokens) { trainer->longest = tokens; }

/* ---- units ---- */

static int64_t element_count(const crank_param *param) { return crank_view_count(&param->view); }

/* The layer that a parameter lies in, by the names of the layers' linears: what stands before and with the layer's number is the same
 * ("model.layers.3." of norms too). -1: outside. */
static int block_of(const crank_model *model, const crank_param *param)
{
    crank_linears *linears = crank_model_linears(model);
    for (size_t i = 0; i < crank_linears_count(linears); i++) {
        const crank_linear *linear = crank_linears_at(linears, i);
        char                number[32];
        snprintf(number, sizeof number, ".%d.", linear->block);
        const char *at = linear->block >= 0 ? strstr(linear->name, number) : NULL;
        if (at && !strncmp(param->name, linear->name, (size_t)(at - linear->name) + strlen(number))) return linear->block;
    }
    return -1;
}

static bool is_trained(const crank_param *param) { return param->trainable && param->role != CRANK_ROLE_STATE && param->role != CRANK_ROLE_CACHE; }

static crank_status choose_owners(crank_context *context, task_trainer *trainer)
{
    crank_params *params = crank_model_params(trainer->model);
    size_t        count = crank_params_count(params);
    int           trained = 0;
    crank_param **list = crank_alloc(context, count + 1, sizeof *list, "owners of parameters");
    if (!list) return CRANK_FAILED;
    for (size_t i = 0; i < count; i++)
        if (is_trained(crank_params_at(params, i))) list[trained++] = crank_params_at(params, i);
    crank_status status = trainer_choose_owners(context, trainer, list, trained);
    crank_free(list);
    return status;
}

static crank_status add_unit(crank_context *context, task_trainer *trainer, crank_param *param)
{
    const task_recipe *recipe = trainer->recipe;
    int                i = trainer->unit_count;
    crank_unit        *unit = &trainer->units[i];
    bool               decays = !param->no_decay && param->view.rank >= 2;
    trainer->unit_state[i] = crank_alloc(context, 1, recipe->optimizer->state_size + 1, "an optimiser's unit");
    if (!trainer->unit_state[i]) return CRANK_FAILED;
    *unit = (crank_unit){.optimizer = recipe->optimizer, .param = param, .rate_factor = param->rate_factor,
                         .decay = decays ? recipe->optim->decay : 0, .options = recipe->optimizer_options,
                         .state = trainer->unit_state[i], .model = trainer->model_state, .seed = (uint64_t)recipe->train->seed, .index = i,
                         .block = block_of(trainer->model, param), .active = true, .clock = param->clock};
    trainer->unit_count++;
    if (param->moved) {
        if (!recipe->optimizer->propose) return CRANK_OK;
        return crank_fail(context, CRANK_USAGE, "%s is moved by its method, along its gradient, and %s works without gradients: choose another optim.method",
                          param->name, recipe->optimizer->name);
    }
    trainer->optimizer_units++;
    return trainer_attach_unit(context, trainer, unit);
}

static crank_status add_units(crank_context *context, task_trainer *trainer)
{
    crank_params *params = crank_model_params(trainer->model);
    size_t        count = crank_params_count(params); /* attaching adds state behind these */
    trainer->units = crank_alloc(context, count + 1, sizeof *trainer->units, "optimiser units");
    trainer->unit_state = crank_alloc(context, count + 1, sizeof *trainer->unit_state, "optimiser units");
    trainer->buffers = crank_alloc(context, count + 1, sizeof *trainer->buffers, "gradient buffers");
    if (!trainer->units || !trainer->unit_state || !trainer->buffers) return CRANK_FAILED;
    if (choose_owners(context, trainer) != CRANK_OK) return CRANK_FAILED;
    for (size_t i = 0; i < count; i++) {
        crank_param *param = crank_params_at(params, i);
        if (!is_trained(param)) continue;
        crank_status status = add_unit(context, trainer, param);
        if (status != CRANK_OK) return status;
    }
    if (!trainer->unit_count) return crank_fail(context, CRANK_USAGE, "nothing is trainable: choose lowrank.targets, or lowrank.method: none");
    const char *named = trainer->recipe->file ? crank_recipe_get(trainer->recipe->file, "optim", "method") : NULL;
    if (named && !trainer->optimizer_units)
        return crank_fail(context, CRANK_USAGE, "optim.method: %s would move nothing: the method %s moves its own parameters; leave it out", named,
                          trainer->recipe->map ? trainer->recipe->map->name : "");
    return CRANK_OK;
}

task_trainer *trainer_new(crank_context *context, crank_model *model, const task_recipe *recipe, int64_t total)
{
    const train_section *train = recipe->train;
    task_trainer        *trainer = crank_alloc(context, 1, sizeof *trainer, "a trainer");
    if (!trainer) return NULL;
    trainer->context = context;
    trainer->model = model;
    trainer->recipe = recipe;
    trainer->schedule = (crank_schedule){.kind = !strcmp(train->schedule, "cosine")   ? CRANK_SCHEDULE_COSINE
                                                 : !strcmp(train->schedule, "linear") ? CRANK_SCHEDULE_LINEAR
                                                                                      : CRANK_SCHEDULE_CONSTANT,
                                         .total = total,
                                         .warmup = train->warmup ? train->warmup : (int64_t)ceil(train->warmup_share * (double)total),
                                         .floor = train->floor};
    trainer->pool = crank_pool_new(context, crank_model_device(model));
    if (recipe->optimizer->model_state_size)
        trainer->model_state = crank_alloc(context, 1, recipe->optimizer->model_state_size, "an optimiser's state");
    bool made = trainer->pool && (!recipe->optimizer->model_state_size || trainer->model_state);
    if (!made || (total > 0 && add_units(context, trainer) != CRANK_OK)) {
        trainer_free(trainer);
        return NULL;
    }
    return trainer;
}

static void release_units(task_trainer *trainer)
{
    const crank_optimizer *optimizer = trainer->recipe->optimizer;
    for (int i = 0; i < trainer->unit_count; i++) {
        if (optimizer->release && !trainer->units[i].param->moved) optimizer->release(&trainer->units[i]);
        crank_free(trainer->unit_state[i]);
    }
    crank_unit all = {.optimizer = optimizer, .options = trainer->recipe->optimizer_options, .model = trainer->model_state};
    if (optimizer->release && trainer->model_state) optimizer->release(&all);
}

void trainer_free(task_trainer *trainer)
{
    if (!trainer) return;
    trainer_drop_graphs(trainer);
    crank_pool_free(trainer->pool);
    release_units(trainer);
    trainer_collect_release(trainer);
    free(trainer->shards);
    void *const rooms[] = {trainer->units, trainer->unit_state, trainer->buffers, trainer->model_state, trainer->ids, trainer->positions,
                           trainer->targets, trainer->token_types, trainer->segments, trainer->labels, trainer->weights, trainer->values,
                           trainer->sequence_weights, trainer->reference, trainer->list_scores, trainer->list_d1, trainer->owners, trainer};
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) crank_free(rooms[i]);
}

size_t trainer_units(const task_trainer *trainer) { return (size_t)trainer->unit_count; }

int64_t trainer_trainable(const task_trainer *trainer)
{
    int64_t count = 0;
    for (int i = 0; i < trainer->unit_count; i++) count += element_count(trainer->units[i].param);
    return count;
}

bool trainer_saves(const task_trainer *trainer, const crank_param *param)
{
    (void)trainer;
    return param->role == CRANK_ROLE_METHOD || param->role == CRANK_ROLE_STATE || (param->role == CRANK_ROLE_WEIGHT && (param->trainable || param->folded));
}

/* ---- batches ---- */

/* Room for one batch of n tokens (weights may be f64) and s sequences. */
static crank_status room(crank_context *context, task_trainer *trainer, int64_t n, int64_t s)
{
    if (n <= trainer->token_room && s <= trainer->sequence_room) return CRANK_OK;
    n = n > trainer->token_room ? n : trainer->token_room;
    s = s > trainer->sequence_room ? s : trainer->sequence_room;
    const struct {
        void  **place;
        int64_t bytes;
    } rooms[] = {{(void **)&trainer->ids, 4 * n},         {(void **)&trainer->positions, 4 * n},
                 {(void **)&trainer->targets, 4 * n},     {(void **)&trainer->token_types, 4 * n},
                 {(void **)&trainer->weights, 8 * n},     {(void **)&trainer->segments, 4 * (s + 1)},
                 {(void **)&trainer->labels, 4 * s},      {(void **)&trainer->values, 4 * s},
                 {(void **)&trainer->sequence_weights, 4 * s}, {(void **)&trainer->reference, 4 * n}};
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        crank_free(*rooms[i].place);
        *rooms[i].place = crank_alloc(context, (size_t)rooms[i].bytes, 1, "a batch");
        if (!*rooms[i].place) return CRANK_FAILED;
    }
    trainer->token_room = n;
    trainer->sequence_room = s;
    return CRANK_OK;
}

/* Copies n values and fills up to `full`. */
static void fill_up(int32_t *to, const int32_t *from, int64_t n, int64_t full, int32_t filler)
{
    for (int64_t i = 0; i < full; i++) to[i] = i < n && from ? from[i] : filler;
}

static crank_status write_tokens(task_trainer *trainer, const shaped *shape, const data_batch *batch)
{
    int64_t n = batch->tokens, full = shape->tokens;
    fill_up(trainer->ids, batch->ids, n, full, 0);
    fill_up(trainer->positions, batch->positions, n, full, 0);
    for (int64_t i = n; i < full; i++) trainer->positions[i] = (int32_t)(i - n);
    crank_status status = crank_write(shape->model.ids, trainer->ids);
    if (status == CRANK_OK) status = crank_write(shape->model.positions, trainer->positions);
    if (status == CRANK_OK && shape->model.types) {
        fill_up(trainer->token_types, batch->types, n, full, 0);
        status = crank_write(shape->model.types, trainer->token_types);
    }
    if (status == CRANK_OK && shape->scores.targets) {
        fill_up(trainer->targets, batch->targets, n, full, -1);
        status = crank_write(shape->scores.targets, trainer->targets);
    }
    if (status != CRANK_OK || !shape->scores.weights) return status;
    bool    wide = shape->scores.weights->dtype == CRANK_F64;
    double *weights64 = (double *)trainer->weights;
    for (int64_t i = 0; i < full; i++) {
        float weight = i < n && batch->weights ? batch->weights[i] : 0;
        if (wide)
            weights64[i] = weight;
        else
            trainer->weights[i] = weight;
    }
    return crank_write(shape->scores.weights, trainer->weights);
}

/* The sequence behind the last real one holds the filler tokens; those behind it are empty. */
static crank_status write_sequences(task_trainer *trainer, const shaped *shape, const data_batch *batch)
{
    int64_t s = batch->sequences, full = shape->sequences;
    for (int64_t i = 0; i <= full; i++) trainer->segments[i] = i <= s ? batch->segments[i] : (int32_t)shape->tokens;
    crank_status status = crank_write(shape->model.segments, trainer->segments);
    if (status == CRANK_OK && shape->scores.labels) {
        fill_up(trainer->labels, batch->labels, s, full, -1);
        status = crank_write(shape->scores.labels, trainer->labels);
    }
    if (status == CRANK_OK && shape->scores.values) {
        for (int64_t i = 0; i < full; i++) trainer->values[i] = i < s && batch->values ? batch->values[i] : 0;
        status = crank_write(shape->scores.values, trainer->values);
    }
    for (int64_t i = 0; i < full; i++) {
        bool labelled = i < s && (batch->labels ? batch->labels[i] >= 0 : true);
        trainer->sequence_weights[i] = labelled ? 1 : 0;
    }
    return status == CRANK_OK ? crank_write(shape->scores.sequence_weights, trainer->sequence_weights) : status;
}

/* For methods that count rows: tokens, or sequences, behind the real ones. */
static crank_status write_filler(crank_context *context, const shaped *shape, const data_batch *batch)
{
    crank_tensor *filler = linear_filler_input(shape->graph);
    if (!filler) return CRANK_OK;
    int64_t n = filler->dims[0], real = n == shape->tokens ? batch->tokens : n == shape->sequences ? batch->sequences : n;
    float  *values = crank_alloc(context, (size_t)n, sizeof *values, "filler rows");
    if (!values) return CRANK_FAILED;
    for (int64_t i = real; i < n; i++) values[i] = 1;
    crank_status status = crank_write(filler, values);
    crank_free(values);
    return status;
}

/* The shape that holds a batch: filler tokens need a sequence of their own. */
static void shape_of(int64_t tokens, int64_t sequences, int64_t *n, int64_t *s)
{
    *n = round_up(tokens);
    *s = round_up(sequences + (*n > tokens));
}

shaped *trainer_calibration_plan(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, crank_plan_summary *summary)
{
    int64_t n, s;
    shape_of(tokens, sequences, &n, &s);
    return trainer_graph(context, trainer, n, s, VARIANT_CALIBRATE, summary);
}

shaped *trainer_prepared(crank_context *context, task_trainer *trainer, const data_batch *batch, variant kind)
{
    int64_t n, s;
    shape_of(batch->tokens, batch->sequences, &n, &s);
    return trainer_prepared_as(context, trainer, batch, n, s, kind);
}

shaped *trainer_prepared_as(crank_context *context, task_trainer *trainer, const data_batch *batch, int64_t n, int64_t s, variant kind)
{
    shaped *shape = trainer_graph(context, trainer, n, s, kind, NULL);
    if (!shape || room(context, trainer, n, s) != CRANK_OK) return NULL;
    if (write_tokens(trainer, shape, batch) != CRANK_OK || write_sequences(trainer, shape, batch) != CRANK_OK) return NULL;
    return write_filler(context, shape, batch) == CRANK_OK ? shape : NULL;
}

/* ---- steps ---- */

/* The shape that holds each of `count` batches. */
static void shape_of_round(const data_batch *const *batches, int count, int64_t *n, int64_t *s)
{
    *n = *s = 0;
    for (int i = 0; i < count; i++)
        if (round_up(batches[i]->tokens) > *n) *n = round_up(batches[i]->tokens);
    for (int i = 0; i < count; i++) {
        int64_t sequences = round_up(batches[i]->sequences + (*n > batches[i]->tokens));
        if (sequences > *s) *s = sequences;
    }
}

static void start_scalars(const task_trainer *trainer, int64_t step, const trainer_result *result, float *scalars)
{
    scalars[CRANK_SCALAR_RATE] = (float)result->rate;
    scalars[CRANK_SCALAR_STEP] = (float)step;
    scalars[CRANK_SCALAR_CLIP] = (float)(1 / result->denominator);
    scalars[CRANK_SCALAR_DENOMINATOR] = (float)result->denominator;
    scalars[CRANK_SCALAR_PROGRESS] = (float)((double)step / (double)(trainer->schedule.total > 0 ? trainer->schedule.total : 1));
}

/* This process's micro-batches k, k + size, .. of the window; adds to the numerator and the denominator. */
static crank_status run_window(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                               float *scalars, double *denominator, trainer_result *result)
{
    bool refreshes = trainer_refreshes(trainer);
    int  size = trainer_shared(trainer) ? trainer->recipe->group.size : 1, rounds = count / size;
    for (int k = 0; k < rounds; k++) {
        variant kind = rounds == 1 ? VARIANT_ONLY : k == 0 ? VARIANT_FIRST : k < rounds - 1 ? VARIANT_MORE : VARIANT_LAST;
        int     i = k * size + (size > 1 ? trainer->recipe->group.rank : 0);
        int64_t n, s, draw = step * trainer->recipe->train->accumulate + i; /* every micro-batch has dropout masks of its own */
        if (refreshes && k == 0) kind = rounds == 1 ? VARIANT_REFRESH : VARIANT_REFRESH_FIRST;
        shape_of_round(window + k * size, size, &n, &s);
        shaped *shape = trainer_prepared_as(context, trainer, window[i], n, s, kind);
        if (!shape) return crank_last_status(context);
        crank_status status = crank_write(crank_step_counter(shape->graph), &draw);
        if (status == CRANK_OK) status = trainer_run(context, trainer, shape, window[i], scalars, &result->numerator, denominator);
        if (status != CRANK_OK) return status;
        if (shape->norm) result->norm = crank_read_scalar(shape->norm);
        if (refreshes && k == 0) trainer_refreshed(trainer);
    }
    return CRANK_OK;
}

crank_status trainer_step(crank_context *context, task_trainer *trainer, int64_t step, const data_batch *const *window, int count,
                          trainer_result *result)
{
    const dist_group *group = &trainer->recipe->group;
    float             scalars[CRANK_SCALARS] = {0};
    bool              lists = trainer->recipe->objective->list != NULL;
    memset(result, 0, sizeof *result);
    for (int i = 0; i < count; i++) { /* each of several processes knows the whole window */
        result->tokens += window[i]->tokens;
        result->trained += window[i]->trained;
    }
    result->denominator = (double)result->trained;
    if (result->trained < 1) return crank_fail(context, CRANK_BAD_DATA, "step %lld has nothing that the loss counts", (long long)step);
    result->rate = trainer->recipe->train->lr * crank_schedule_factor(&trainer->schedule, step);
    result->norm = NAN;
    if (trainer->recipe->optimizer->propose) return trainer_zeroth_step(context, trainer, step, window, count, result);
    crank_status status = trainer_probe(context, trainer, window[0], step * trainer->recipe->train->accumulate);
    if (status != CRANK_OK) return status;
    start_scalars(trainer, step, result, scalars);
    double denominator = 0; /* of the micro-batches so far */
    status = run_window(context, trainer, step, window, count, scalars, &denominator, result);
    double sums[2] = {lists ? 0 : result->numerator, scalars[CRANK_SCALAR_SKIP]}; /* lists are summed before their reverse pass */
    if (status == CRANK_OK) status = dist_sum_f64(context, group, sums, 2);
    if (status != CRANK_OK) return status;
    if (!lists) result->numerator = sums[0];
    if (lists) result->denominator = denominator;
    result->loss = result->denominator > 0 ? result->numerator / result->denominator : 0;
    result->skipped = sums[1] != 0;
    return CRANK_OK;
}

crank_status trainer_evaluate(crank_context *context, task_trainer *trainer, const data_batch *batch, double *numerator, double *denominator,
                              float *outputs)
{
    float   scalars[CRANK_SCALARS] = {0};
    shaped *shape = trainer_prepared(context, trainer, batch, VARIANT_EVALUATE);
    if (!shape) return crank_last_status(context);
    *numerator = *denominator = 0;
    crank_status status = trainer_run(context, trainer, shape, batch, scalars, numerator, denominator);
    if (status != CRANK_OK) return status;
    if (!outputs || !shape->scores.outputs) return CRANK_OK;
    const crank_tensor *tensor = shape->scores.outputs;
    size_t              all = (size_t)(tensor->dims[0] * tensor->dims[1]), wanted = (size_t)(batch->sequences * tensor->dims[1]);
    void               *raw = crank_alloc(context, all, crank_dtype_bits(tensor->dtype) / 8, "outputs");
    if (!raw) return CRANK_FAILED;
    status = crank_read(tensor, raw);
    if (status == CRANK_OK) crank_convert(outputs, CRANK_F32, raw, tensor->dtype, wanted);
    crank_free(raw);
    return status;
}

crank_status trainer_period(crank_context *context, task_trainer *trainer, int64_t step)
{
    bool                   changed = false;
    const crank_optimizer *optimizer = trainer->recipe->optimizer;
    crank_status           status = crank_linears_period(context, crank_model_linears(trainer->model), step, &changed);
    if (status == CRANK_OK && optimizer->period)
        status = optimizer->period(context, trainer->units, trainer->unit_count, trainer->model_state, step, &changed);
    if (status == CRANK_OK && changed) trainer_drop_graphs(trainer);
    return status;
}

/* ---- planning and profile ---- */

static void count_params(const task_trainer *trainer, trainer_memory *memory)
{
    crank_params *params = crank_model_params(trainer->model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        size_t             bytes = crank_param_bytes(param), grain = crank_params_device(params)->grain;
        if (grain && bytes > grain / 2) bytes = (bytes + grain - 1) / grain * grain;
        if (param->role == CRANK_ROLE_STATE && !param->parked) memory->state_all += bytes;
        if (param->away) continue;
        size_t            *sum = param->parked ? &memory->parked
                                 : param->mapped ? &memory->mapped
                                 : param->role == CRANK_ROLE_METHOD ? &memory->method
                                 : param->role == CRANK_ROLE_STATE  ? &memory->state
                                 : param->role == CRANK_ROLE_CACHE  ? &memory->buffers
                                                                    : &memory->weights;
        *sum += bytes;
    }
}

/* A graph of this kind is among those that the run needs. */
static bool variant_used(const task_trainer *trainer, variant kind)
{
    bool    shared = trainer_shared(trainer);
    int64_t rounds = trainer->recipe->train->accumulate / (shared ? trainer->recipe->group.size : 1);
    if (kind == VARIANT_EVALUATE) return true;
    if (kind == VARIANT_CALIBRATE) return false; /* before the run */
    if (kind == VARIANT_REFERENCE) return trainer->recipe->objective->fields & CRANK_FIELD_REFERENCE;
    if (!trainer->unit_count || trainer->recipe->optimizer->propose) return false;
    for (int i = 0; kind == VARIANT_PROBE && i < trainer->unit_count; i++)
        if (trainer->units[i].probe || (shared && trainer->units[i].refresh)) return true;
    if (kind == VARIANT_REFRESH || kind == VARIANT_REFRESH_FIRST)
        return !shared && trainer_refreshes(trainer) && (rounds > 1) == (kind == VARIANT_REFRESH_FIRST);
    if (kind == VARIANT_PROBE || (kind == VARIANT_MORE && rounds < 3)) return false;
    return rounds > 1 ? kind != VARIANT_ONLY : kind == VARIANT_ONLY;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* The graphs of a kind, and the most that one of them takes: a run's arena serves them all. */
static crank_status plan_kind(crank_context *context, task_trainer *trainer, int64_t n, int64_t s, variant kind, trainer_memory *memory)
{
    crank_plan_summary summary = {0};
    if (!trainer_graph(context, trainer, n, s, kind, &summary)) return crank_last_status(context);
    memory->arena = larger(memory->arena, summary.arena);
    memory->workspace = larger(memory->workspace, summary.workspace);
    memory->inputs = larger(memory->inputs, summary.inputs);
    memory->kept = larger(memory->kept, summary.kept);
    if (summary.flops > memory->flops) memory->flops = summary.flops;
    if (summary.recomputed_blocks > memory->recomputed_blocks) memory->recomputed_blocks = summary.recomputed_blocks;
    return CRANK_OK;
}

/* Units that asked for their first refresh ask for a later one. */
static bool ask_again(task_trainer *trainer)
{
    bool any = false;
    for (int i = 0; i < trainer->unit_count; i++)
        if (trainer->units[i].refresh == CRANK_REFRESH_FIRST) trainer->units[i].refresh = CRANK_REFRESH_NEXT, any = true;
    return any;
}

crank_status trainer_plan(crank_context *context, task_trainer *trainer, int64_t tokens, int64_t sequences, bool types, size_t limit,
                          trainer_memory *memory)
{
    int64_t n, s;
    memset(memory, 0, sizeof *memory);
    trainer->types = types;
    trainer->limit = limit;
    shape_of(tokens, sequences, &n, &s);
    crank_status status = trainer->unit_count ? trainer_period(context, trainer, 0) : CRANK_OK;
    for (variant kind = VARIANT_ONLY; kind < VARIANTS && status == CRANK_OK; kind++)
        if (variant_used(trainer, kind)) status = plan_kind(context, trainer, n, s, kind, memory);
    bool again = status == CRANK_OK && ask_again(trainer);
    for (variant kind = VARIANT_ONLY; kind < VARIANTS && status == CRANK_OK && again; kind++)
        if ((kind == VARIANT_REFRESH || kind == VARIANT_REFRESH_FIRST || kind == VARIANT_PROBE) && variant_used(trainer, kind))
            status = plan_kind(context, trainer, n, s, kind, memory);
    if (status == CRANK_OK) count_params(trainer, memory);
    memory->code = status == CRANK_OK ? trainer_code(trainer) + trainer_observed(trainer) : 0;
    return status;
}

void trainer_release(task_trainer *trainer) { crank_pool_release(trainer->pool); }

void trainer_profile(task_trainer *trainer, bool on)
{
    trainer->profile = on;
    for (shaped *shape = trainer->graphs; shape; shape = shape->next) crank_graph_profile(shape->graph, on);
}

char *trainer_table(task_trainer *trainer, double flop_rate, double byte_rate)
{
    for (shaped *shape = trainer->graphs; shape; shape = shape->next)
        if (shape->kind == VARIANT_ONLY || shape->kind == VARIANT_LAST || shape->kind == VARIANT_FIRST) return crank_graph_table(shape->graph, flop_rate, byte_rate);
    return crank_strdup(trainer->context, "no training step has run yet\n");
}
