/* session.c - from a recipe to a model with a method on it, data sets, a trainer, and the memory plan. */
#include "task/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "data/hub.h"
#include "crank/adapter.h"
#include "task/calibrate.h"
#include "task/checkpoint.h"
#include "task/rules.h"
#include "task/trainer_graph.h"

const char *session_base(const task_recipe *recipe) { return recipe->model->path; }

static crank_status open_model(crank_context *context, const task_recipe *recipe, session *s)
{
    const model_section *section = recipe->model;
    crank_model_options  options = {.labels = section->labels, .seed = (uint64_t)recipe->train->seed, .double_quantized = section->double_quantization,
                                    .pooling = strcmp(section->pooling, "auto") ? section->pooling : NULL};
    crank_status status = task_precision(context, section, s->device, &options.compute, &options.weights);
    if (status != CRANK_OK) return status;
    /* Trained weights are held in f32; bf16 master-free training is said by model.weights. */
    if (!recipe->map && options.weights == CRANK_BF16 && !strcmp(section->weights, "auto")) options.weights = CRANK_F32;
    if (section->path) {
        char *folder = hub_resolve(context, section->path);
        if (folder && recipe->map && !recipe->map->needs_base && !strcmp(section->weights, "auto") && crank_model_quantized(context, folder)) options.weights = CRANK_NF4;
        s->model = folder ? crank_model_load(context, s->device, folder, &options) : NULL;
        crank_free(folder);
    } else {
        char *text = file_read(context, section->config, NULL);
        s->model = text ? crank_model_new(context, s->device, text, &options) : NULL;
        crank_free(text);
    }
    if (!s->model) return crank_last_status(context);
    crank_log(context, CRANK_INFO, "model %s: %s computes in %s, weights in %s", section->path ? section->path : section->config,
              s->device->name, crank_dtype_name(options.compute), crank_dtype_name(options.weights));
    return CRANK_OK;
}

/* ---- the method ---- */

/* Pages of the program and its libraries that a run touches, the tokenizer, code that products are compiled to, graphs: measured as the
 * difference of peak and plan over recipes of every kind (tests/task/test_memory_plan.c). */
static const size_t PROGRAM = (size_t)14 << 20;

/* The modules that are trained in full: the recipe's, and where the objective reads a classification head, that head (lines of names;
 * crank_free). */
static char *full_modules(crank_context *context, const task_recipe *recipe, const session *s)
{
    text_buffer    names = {0};
    crank_linears *linears = crank_model_linears(s->model);
    if (recipe->lowrank->modules) text_puts(&names, recipe->lowrank->modules);
    for (size_t i = 0; (recipe->objective->scores & CRANK_SCORES_OUTPUTS) && i < crank_linears_count(linears); i++)
        if (crank_linears_at(linears, i)->is_head) text_printf(&names, "%s%s", names.length ? "\n" : "", crank_linears_at(linears, i)->name);
    return text_take(context, &names, "names of modules");
}

/* What the run may take in all beyond what it has now. */
static size_t allowed(const task_recipe *recipe)
{
    int64_t available = memory_available();
    size_t  system = available < 0 ? SIZE_MAX : (size_t)available, limit = (size_t)(recipe->memory->limit * 1048576.0);
    return limit && limit < system ? limit : system;
}

/* Bytes that are held before the first step. */
static size_t held(const session *s)
{
    crank_params *params = crank_model_params(s->model);
    size_t        bytes = dataset_bytes(s->train) + (s->eval ? dataset_bytes(s->eval) : 0) + PROGRAM;
    for (size_t i = 0; i < crank_params_count(params); i++)
        if (!crank_params_at(params, i)->away) bytes += crank_param_bytes(crank_params_at(params, i));
    return bytes;
}

/* Bytes of GPU memory in use. */
static size_t card_used(crank_context *context, crank_device *device, size_t *available)
{
    size_t total = 0;
    *available = 0;
    if (!device->memory || device->memory(context, device, available, &total) != CRANK_OK) return 0;
    return total - *available;
}

/* GPU memory that the run may still take, at least 1 byte, under the limit; *taken: what it has. */
static size_t card_room(crank_context *context, const task_recipe *recipe, const session *s, size_t *taken)
{
    size_t available, used = card_used(context, s->device, &available), limit = (size_t)(recipe->memory->limit * 1048576.0);
    *taken = used > s->card_at_start ? used - s->card_at_start : 0; /* other processes may have given memory back */
    if (limit && limit < *taken + available) available = limit > *taken ? limit - *taken : 0;
    return available ? available : 1;
}

/* Start values from training data, or the ranks that an earlier part of this run chose. */
static crank_status calibrate_or_resume(crank_context *context, const task_recipe *recipe, const char *resume, session *s)
{
    if (!recipe->map->observes && !recipe->map->allot) return CRANK_OK;
    if (resume && checkpoint_exists(context, resume)) {
        char        *ranks = NULL;
        crank_status status = checkpoint_ranks(context, resume, &ranks);
        if (status == CRANK_OK && ranks) status = crank_attachment_set_ranks(context, s->attachment, ranks);
        crank_free(ranks);
        return status;
    }
    size_t total = allowed(recipe), taken = held(s), room = recipe->memory->limit > 0 ? (total > taken ? total - taken : 1) : total;
    if (!s->device->host) room = card_room(context, recipe, s, &taken);
    return calibrate(context, s->model, recipe, s->train, s->attachment, room, &s->calibration);
}

static crank_status attach_method(crank_context *context, const task_recipe *recipe, const char *resume, session *s)
{
    const lowrank_section *lowrank = recipe->lowrank;
    crank_params          *params = crank_model_params(s->model);
    if (!recipe->map) { /* full training: every float weight */
        for (size_t i = 0; i < crank_params_count(params); i++) {
            crank_param *param = crank_params_at(params, i);
            if (param->role != CRANK_ROLE_WEIGHT || !crank_dtype_is_float(param->view.dtype)) continue;
            if (crank_param_own(context, param) != CRANK_OK) return crank_last_status(context);
            param->trainable = true;
        }
        return CRANK_OK;
    }
    if (lowrank->adapter) {
        char *folder = hub_resolve(context, lowrank->adapter);
        s->attachment = folder ? crank_adapter_load(context, s->model, folder, "default") : NULL;
        crank_free(folder);
        return s->attachment ? CRANK_OK : crank_last_status(context);
    }
    char *modules = full_modules(context, recipe, s);
    if (!modules) return CRANK_FAILED;
    crank_attach_options where = {.name = "default", .targets = lowrank->targets, .exclude = lowrank->exclude, .layers = lowrank->layers,
                                  .rank_pattern = lowrank->rank_pattern, .alpha_pattern = lowrank->alpha_pattern, .modules = *modules ? modules : NULL};
    s->attachment = crank_attachment_new(context, crank_model_linears(s->model), recipe->map, recipe->map_options, &where);
    crank_free(modules);
    if (!s->attachment) return crank_last_status(context);
    crank_status status = calibrate_or_resume(context, recipe, resume, s);
    return status ? status : crank_attachment_finish(context, s->attachment);
}

/* ---- data ---- */

static crank_status open_data(crank_context *context, const task_recipe *recipe, session *s)
{
    const crank_model_config *config = crank_model_config_of(s->model);
    s->data = crank_options_new(context, dataset_option_table, sizeof *s->data);
    if (!s->data) return CRANK_FAILED;
    crank_status status = crank_recipe_read(context, recipe->file, "data", dataset_option_table, s->data);
    if (status == CRANK_OK) status = crank_recipe_finish(context, recipe->file);
    if (status != CRANK_OK) return status;
    const char *from = s->data->tokenizer ? s->data->tokenizer : recipe->model->path;
    if (!from) return crank_fail(context, CRANK_USAGE, "a new model has no tokenizer: set data.tokenizer to a tokenizer.json or a model folder");
    char *place = hub_resolve(context, from);
    s->tokenizer = place ? crank_tokenizer_load(context, place) : NULL;
    crank_free(place);
    if (!s->tokenizer) return crank_last_status(context);
    if (crank_tokenizer_size(s->tokenizer) > config->vocab)
        return crank_fail(context, CRANK_BAD_DATA, "the tokenizer has %d tokens and the model's vocabulary %lld: they do not belong together",
                          crank_tokenizer_size(s->tokenizer), (long long)config->vocab);
    dataset_request request = {.fields = recipe->objective->fields, .batch = recipe->train->batch, .context = config->context,
                               .seed = (uint64_t)recipe->train->seed, .labels = config->labels,
                               .slots = recipe->train->accumulate};
    s->train = dataset_open(context, s->tokenizer, s->data, &request, DATASET_TRAIN);
    if (!s->train) return crank_last_status(context);
    if (!dataset_has_eval(s->data)) return CRANK_OK;
    s->eval = dataset_open(context, s->tokenizer, s->data, &request, DATASET_EVAL);
    return s->eval ? CRANK_OK : crank_last_status(context);
}

static int64_t steps_of(const task_recipe *recipe, const session *s)
{
    const train_section *train = recipe->train;
    if (train->steps) return train->steps;
    int64_t batches = dataset_batches_per_epoch(s->train) * train->epochs;
    return (batches + train->accumulate - 1) / train->accumulate;
}

/* ---- memory ---- */

static double mib(size_t bytes) { return (double)bytes / 1048576.0; }

/* Of a step, or of the calibration before the first one where that took more. */
static size_t beside_weights(const session *s, const trainer_memory *m)
{
    size_t step = m->method + m->state + m->buffers + m->arena + m->workspace + m->inputs;
    return step > s->calibration ? step : s->calibration;
}

size_t session_measured(crank_context *context, const session *s)
{
    size_t available, used;
    if (s->device->host) return memory_peak() > (int64_t)s->at_start ? (size_t)memory_peak() - s->at_start : 0;
    used = card_used(context, s->device, &available);
    return used > s->card_at_start ? used - s->card_at_start : 0;
}

/* "12.0", or of an optimiser in shares "12.0 (this process's share of 24.0)". */
static const char *state_text(const trainer_memory *m, char *text, size_t size)
{
    if (m->state_all > m->state) snprintf(text, size, "%.1f (this process's share of %.1f)", mib(m->state), mib(m->state_all));
    else snprintf(text, size, "%.1f", mib(m->state));
    return text;
}

static void tell_parked(crank_context *context, const session *s, const trainer_memory *m)
{
    if (m->parked) crank_log(context, CRANK_INFO, "%.1f MiB of state of what sleeps lie %s", mib(m->parked), s->device->host ? "in a file, not in memory" : "in host memory");
}

/* A run on a GPU is held against the card's memory: all of the plan but the data, which stay on the host. */
static crank_status plan_card(crank_context *context, const task_recipe *recipe, session *s, int64_t tokens, int64_t sequences)
{
    char           share[96];
    trainer_memory m = {0};
    size_t         taken, room = card_room(context, recipe, s, &taken), total = taken + room;
    crank_status   status = trainer_plan(context, s->trainer, tokens, sequences, dataset_has_types(s->train), room, &m);
    if (status != CRANK_OK) return status;
    s->planned = m.weights + beside_weights(s, &m);
    tell_parked(context, s, &m);
    crank_log(context, CRANK_INFO,
              "memory plan of %s: weights %.1f MiB, method %.1f, optimiser %s, gradient sums %.1f, activations %.1f (%.1f kept for the reverse pass), "
              "workspace %.1f, inputs %.1f; peak %.1f MiB beside %.1f for CUDA's own context and libraries%s", s->device->name, mib(m.weights), mib(m.method),
              state_text(&m, share, sizeof share), mib(m.buffers), mib(m.arena), mib(m.kept), mib(m.workspace), mib(m.inputs), mib(s->planned), mib(s->card_at_start),
              m.recomputed_blocks ? "; layers are computed again in the reverse pass" : "");
    if (s->planned > total)
        return crank_fail(context, CRANK_FAILED, "the run needs %.1f MiB of GPU memory and %.1f MiB are allowed: lower train.batch (now %lld), lower data.context, or raise memory.limit",
                          mib(s->planned), mib(total), (long long)recipe->train->batch);
    return CRANK_OK;
}

/* On a host. */
static size_t taken_by(const session *s, const trainer_memory *m, size_t data) { return m->weights + m->mapped + beside_weights(s, m) + data + PROGRAM + m->code; }

static crank_status plan_memory(crank_context *context, const task_recipe *recipe, session *s)
{
    char           share[96];
    trainer_memory m = {0};
    size_t         data = dataset_bytes(s->train) + (s->eval ? dataset_bytes(s->eval) : 0);
    size_t         total = allowed(recipe), taken = held(s);
    int64_t tokens = dataset_largest_tokens(s->train), sequences = dataset_largest_sequences(s->train);
    if (s->eval && dataset_largest_tokens(s->eval) > tokens) tokens = dataset_largest_tokens(s->eval);
    if (s->eval && dataset_largest_sequences(s->eval) > sequences) sequences = dataset_largest_sequences(s->eval);
    if (!s->device->host) return plan_card(context, recipe, s, tokens, sequences);
    size_t left = recipe->memory->limit > 0 ? (total > taken ? total - taken : 1) : total; /* what is loaded already counts against a limit only */
    crank_status status = trainer_plan(context, s->trainer, tokens, sequences, dataset_has_types(s->train), left, &m);
    if (status == CRANK_OK && recipe->memory->limit > 0 && taken_by(s, &m, data) > total) { /* again, with room for the graphs themselves */
        size_t code = m.code + m.code / 8;
        trainer_drop_graphs(s->trainer);
        status = trainer_plan(context, s->trainer, tokens, sequences, dataset_has_types(s->train), left > code ? left - code : 1, &m);
    }
    if (status == CRANK_FAILED)
        return crank_fail(context, status, "%s (train.batch is %lld, data.context %lld)", crank_message(context), (long long)recipe->train->batch,
                          (long long)s->data->context);
    if (status != CRANK_OK) return status;
    s->planned = taken_by(s, &m, data);
    tell_parked(context, s, &m);
    int64_t peak = memory_peak(); /* rows and their tokens at once may have taken more */
    if (peak > s->peak_at_start && peak > (int64_t)(s->at_start + s->planned)) s->planned = (size_t)peak - s->at_start;
    crank_log(context, CRANK_INFO,
              "memory plan: weights %.1f MiB (%.1f mapped), method %.1f, optimiser %s, gradient sums %.1f, activations %.1f (%.1f kept for the "
              "reverse pass), workspace %.1f, inputs %.1f, data %.1f, program %.1f; peak %.1f MiB%s",
              mib(m.weights + m.mapped), mib(m.mapped), mib(m.method), state_text(&m, share, sizeof share), mib(m.buffers), mib(m.arena), mib(m.kept), mib(m.workspace),
              mib(m.inputs), mib(data), mib(PROGRAM + m.code), mib(s->planned), m.recomputed_blocks ? "; layers are computed again in the reverse pass" : "");
    if (recipe->memory->limit > 0 ? s->planned > total : m.arena + m.workspace + m.inputs > total)
        return crank_fail(context, CRANK_FAILED,
                          "the run needs %.1f MiB and %.1f MiB are allowed: lower train.batch (now %lld), lower data.context, or raise memory.limit",
                          mib(s->planned), mib(total), (long long)recipe->train->batch);
    return CRANK_OK;
}

/* ---- the device ---- */

/* The cards that CUDA shows to this process; CUDA_VISIBLE_DEVICES hides others. */
static int card_count(void)
{
    char text[512];
    int  count = 0;
    while (crank_device_describe(count, text, sizeof text)) count++;
    return count;
}

/* Of several processes on a host each takes a card of its own: "cuda:K" for the K-th of them, the name as it is elsewhere. */
static crank_status name_card(crank_context *context, const task_recipe *recipe, const char *wanted, char *name, size_t size)
{
    const dist_group *group = &recipe->group;
    snprintf(name, size, "%s", wanted);
    if (group->size < 2 || strcmp(wanted, "cpu") == 0) return CRANK_OK;
    if (strncmp(wanted, "cuda:", 5) == 0 && group->local_size > 1)
        return crank_fail(context, CRANK_USAGE, "model.device: %s is one card, and %d processes of this host would share it: write cuda, and each takes its own", wanted, group->local_size);
    if (strcmp(wanted, "cuda") != 0 && strcmp(wanted, "auto") != 0) return CRANK_OK;
    int cards = card_count();
    if (!cards) return CRANK_OK; /* auto takes the CPU, and cuda tells why there is none */
    if (group->local_size > cards)
        return crank_fail(context, CRANK_USAGE, "%d processes of this host have %d card%s: start one process a card (mpirun -n %d), or set model.device=cpu", group->local_size, cards,
                          cards == 1 ? "" : "s", cards);
    snprintf(name, size, "cuda:%d", group->local_rank);
    return CRANK_OK;
}

/* All processes must have come to the same kind of device before one of them waits for the others in joining. */
static crank_status join_device(crank_context *context, const task_recipe *recipe, session *s)
{
    if (recipe->group.size < 2 || !s->device->join) return CRANK_OK;
    double cards = !s->device->host;
    s->group = dist_device_group(&recipe->group, recipe->train->timeout);
    crank_status status = dist_sum_f64(context, &recipe->group, &cards, 1);
    if (status != CRANK_OK) return status;
    if (cards != 0 && cards != recipe->group.size)
        return crank_fail(context, CRANK_USAGE, "%.0f of %d processes run on GPUs and the others on CPUs: set model.device to cpu or cuda", cards, recipe->group.size);
    return s->device->join(context, s->device, &s->group);
}

static crank_status open_device(crank_context *context, const task_recipe *recipe, session *s)
{
    char         name[64];
    bool         cpu = recipe->model->bodies && !strcmp(recipe->model->device, "auto"); /* who names CPU instructions wants the CPU */
    crank_status status = name_card(context, recipe, cpu ? "cpu" : recipe->model->device, name, sizeof name);
    if (status != CRANK_OK) return status;
    s->device = crank_device_open(context, &(crank_device_options){.name = name, .bodies = recipe->model->bodies, .deterministic = recipe->model->deterministic});
    if (!s->device) return crank_last_status(context);
    if ((status = join_device(context, recipe, s)) != CRANK_OK) return status;
    size_t available;
    if (!s->device->host) s->card_at_start = card_used(context, s->device, &available);
    return CRANK_OK;
}

crank_status session_open(crank_context *context, const task_recipe *recipe, const char *resume, session *s)
{
    *s = (session){.at_start = memory_resident() > 0 ? (size_t)memory_resident() : 0, .peak_at_start = memory_peak()};
    if (recipe->train->threads) crank_set_threads(context, (int)recipe->train->threads);
    crank_status status = open_device(context, recipe, s);
    if (status == CRANK_OK) status = open_model(context, recipe, s);
    if (status == CRANK_OK) status = rules_check(context, &(rule_case){.recipe = recipe, .config = crank_model_config_of(s->model)});
    if (status == CRANK_OK) status = open_data(context, recipe, s);
    if (status == CRANK_OK) status = attach_method(context, recipe, resume, s);
    if (status == CRANK_OK) {
        s->total = steps_of(recipe, s);
        s->trainer = trainer_new(context, s->model, recipe, s->total);
        int64_t longest = dataset_longest(s->train), longest_eval = s->eval ? dataset_longest(s->eval) : 0;
        if (s->trainer) trainer_set_longest(s->trainer, longest > longest_eval ? longest : longest_eval);
        status = s->trainer ? plan_memory(context, recipe, s) : crank_last_status(context);
    }
    if (status != CRANK_OK) session_close(s);
    return status;
}

void session_close(session *s)
{
    trainer_free(s->trainer);
    dataset_close(s->eval);
    dataset_close(s->train);
    crank_options_free(s->data);
    crank_tokenizer_free(s->tokenizer);
    crank_model_free(s->model);
    if (s->device) s->device->close(s->device);
    size_t at_start = s->at_start, planned = s->planned;
    *s = (session){.at_start = at_start, .planned = planned};
}
