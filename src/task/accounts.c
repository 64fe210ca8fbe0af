/* accounts.c - what an optimiser or a low-rank method holds for a model: a model of shapes alone, the units that a trainer would make
 * for it, their state after the hook that chooses the heaviest step, and the shapes that gradients are kept in. */
#include "task/accounts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "task/trainer_graph.h"

static crank_status set_options(crank_context *context, const crank_option *table, void *options, const char *text)
{
    char        *copy = crank_strdup(context, text ? text : ""), *rest = copy;
    crank_status status = copy ? CRANK_OK : CRANK_FAILED;
    for (char *item; status == CRANK_OK && (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        if (!mark) status = crank_fail(context, CRANK_USAGE, "`%s` is not key=value", item);
        else *mark = 0, status = crank_options_set(context, table, options, item, mark + 1, "accounts");
    }
    crank_free(copy);
    return status;
}

static void *options_of(crank_context *context, const crank_option *table, size_t size, const char *text)
{
    static const crank_option none[] = {CRANK_END};
    void                     *options = crank_options_new(context, table ? table : none, size ? size : 1);
    if (options && set_options(context, table ? table : none, options, text) == CRANK_OK) return options;
    crank_options_free(options);
    return NULL;
}

static crank_status attach(crank_context *context, crank_model *model, const account *way)
{
    const crank_map *map = crank_map_find(way->map);
    if (!map) return crank_fail(context, CRANK_USAGE, "there is no low-rank method `%s`", way->map);
    void *options = options_of(context, map->options, map->options_size, way->map_options);
    crank_attachment *made = options ? crank_attachment_new(context, crank_model_linears(model), map, options, &(crank_attach_options){.targets = "all-linear"}) : NULL;
    crank_options_free(options);
    return made ? crank_attachment_finish(context, made) : crank_last_status(context);
}

static void train_all(crank_params *params)
{
    for (size_t i = 0; i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role == CRANK_ROLE_WEIGHT && crank_dtype_is_float(param->view.dtype)) param->trainable = true;
    }
}

/* Gradients of active units in the shape that they are kept in. */
static crank_status count_gradients(crank_context *context, const task_trainer *trainer, account_bytes *out)
{
    crank_graph *graph = crank_graph_new(context, crank_model_device(trainer->model));
    if (!graph) return CRANK_FAILED;
    for (int i = 0; i < trainer->unit_count && crank_graph_status(graph) == CRANK_OK; i++) {
        crank_unit       *unit = &trainer->units[i];
        const crank_view *view = &unit->param->view;
        if (!unit->active) continue;
        crank_tensor *g = crank_input(graph, unit->param->name, CRANK_F32, view->rank, view->dims), *kept = NULL;
        if (!unit->param->moved && unit->optimizer->accumulate) kept = unit->optimizer->accumulate(graph, unit, g);
        if (!kept) kept = g;
        int64_t bytes = 4;
        for (int k = 0; k < kept->rank; k++) bytes *= kept->dims[k];
        out->gradients += bytes;
        out->trained += crank_view_count(view);
        if (bytes > out->largest) out->largest = bytes;
    }
    crank_status status = crank_graph_status(graph);
    crank_graph_free(graph);
    return status;
}

static void count_params(const crank_params *params, account_bytes *out)
{
    for (size_t i = 0; i < crank_params_count(params); i++) {
        const crank_param *param = crank_params_at(params, i);
        int64_t            bytes = param->parked ? 0 : (int64_t)crank_param_bytes(param);
        int64_t *sum = param->role == CRANK_ROLE_WEIGHT ? &out->weights : param->role == CRANK_ROLE_METHOD ? &out->method : &out->state;
        *sum += bytes;
    }
}

/* A way of training opened on a model of shapes alone. */
typedef struct opened {
    train_section train;
    optim_section optim;
    task_recipe   recipe;
    crank_model  *model;
    task_trainer *trainer;
} opened;

static crank_status open_trainer(crank_context *context, const account *way, bool inside, opened *o)
{
    o->train = (train_section){.accumulate = 1, .lr = 1, .schedule = "constant", .seed = 1, .inside = inside};
    o->optim = (optim_section){.method = way->optimizer};
    o->recipe = (task_recipe){.train = &o->train, .optim = &o->optim, .optimizer = crank_optimizer_find(way->optimizer ? way->optimizer : "adamw"), .objective = crank_objective_find("cross_entropy")};
    if (!o->recipe.optimizer) return crank_fail(context, CRANK_USAGE, "there is no optimiser `%s`", way->optimizer);
    o->recipe.optimizer_options = options_of(context, o->recipe.optimizer->options, o->recipe.optimizer->options_size, way->optimizer_options);
    o->recipe.objective_options = options_of(context, o->recipe.objective->options, o->recipe.objective->options_size, NULL);
    crank_status status = o->recipe.optimizer_options && o->recipe.objective_options ? CRANK_OK : crank_last_status(context);
    if (status == CRANK_OK && way->map) status = attach(context, o->model, way);
    if (status == CRANK_OK && !way->map) train_all(crank_model_params(o->model));
    if (status == CRANK_OK) o->trainer = trainer_new(context, o->model, &o->recipe, 1);
    return status == CRANK_OK && !o->trainer ? crank_last_status(context) : status;
}

static void close_way(opened *o)
{
    trainer_free(o->trainer);
    crank_options_free(o->recipe.optimizer_options);
    crank_options_free(o->recipe.objective_options);
    crank_model_free(o->model);
}

static crank_status open_way(crank_context *context, crank_device *device, const char *config, crank_dtype weights, crank_dtype compute, const account *way, bool inside, opened *o)
{
    crank_model_options options = {.compute = compute, .weights = weights, .double_quantized = true, .dry = true, .seed = 1};
    *o = (opened){.model = crank_model_new(context, device, config, &options)};
    if (!o->model) return crank_last_status(context);
    crank_params_defer(crank_model_params(o->model), true);
    return open_trainer(context, way, inside, o);
}

crank_status accounts_measure(crank_context *context, crank_device *device, const char *config, crank_dtype weights, const account *way, account_bytes *out)
{
    bool         quantized = weights == CRANK_NF4 || weights == CRANK_F8E4M3; /* all but the layers' linears stays in bf16 */
    opened       o;
    crank_status status = open_way(context, device, config, weights, quantized ? CRANK_BF16 : CRANK_F32, way, false, &o);
    *out = (account_bytes){0};
    if (status == CRANK_OK) status = trainer_period(context, o.trainer, 0);
    if (status == CRANK_OK) status = count_gradients(context, o.trainer, out);
    if (status == CRANK_OK) count_params(crank_model_params(o.model), out);
    close_way(&o);
    return status;
}

crank_status accounts_plan(crank_context *context, crank_device *device, const char *config, crank_dtype weights, const account *way, const account_step *step, account_plan *out)
{
    opened         o;
    trainer_memory memory;
    crank_status   status = open_way(context, device, config, weights, device->bf16 ? CRANK_BF16 : CRANK_F32, way, step->inside, &o);
    if (status == CRANK_OK) {
        trainer_set_longest(o.trainer, step->tokens);
        status = trainer_plan(context, o.trainer, step->tokens * step->sequences, step->sequences, false, 0, &memory);
    }
    if (status == CRANK_OK)
        *out = (account_plan){.weights = (int64_t)(memory.weights + memory.method), .state = (int64_t)(memory.state + memory.buffers), .step = (int64_t)(memory.arena + memory.workspace + memory.inputs)};
    if (status == CRANK_OK) out->peak = out->weights + out->state + out->step;
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(crank_model_params(o.model)); i++) {
        const crank_param *param = crank_params_at(crank_model_params(o.model), i);
        if (param->role == CRANK_ROLE_WEIGHT && !param->scales) out->parameters += crank_view_count(&param->view);
    }
    close_way(&o);
    return status;
}

static char *llama(crank_context *context, int64_t hidden, int64_t inner, int64_t layers, int64_t heads)
{
    return crank_format(context,
                        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":%lld,\"num_hidden_layers\":%lld,"
                        "\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,\"intermediate_size\":%lld,\"max_position_embeddings\":1024,\"rms_norm_eps\":1e-6,"
                        "\"initializer_range\":0.02,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false}",
                        (long long)hidden, (long long)layers, (long long)heads, (long long)heads, (long long)inner);
}

char *accounts_config(crank_context *context, const char *size, int64_t *rank)
{
    static const struct {
        const char *name;
        int         hidden, inner, layers, heads, rank;
    } sizes[] = {{"60m", 512, 1376, 8, 8, 128}, {"130m", 768, 2048, 12, 12, 256}, {"350m", 1024, 2736, 24, 16, 256}, {"1b", 2048, 5461, 24, 32, 512}, {"7b", 4096, 11008, 32, 32, 1024}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(sizes[i].name, size) != 0) continue;
        *rank = sizes[i].rank;
        return llama(context, sizes[i].hidden, sizes[i].inner, sizes[i].layers, sizes[i].heads);
    }
    return NULL;
}

/* Width 128 k, k layers, k heads of 128, mlp of 8/3 of the width rounded up to 256: k = 32 is the 7B shape, k = 40 the 13B one. */
char *accounts_llama(crank_context *context, int64_t k) { return llama(context, 128 * k, (1024 * k + 767) / 768 * 256, k, k); }

crank_status accounts_largest(crank_context *context, crank_device *device, crank_dtype weights, const account *way, const account_step *step, int64_t limit, int64_t *k, account_plan *out)
{
    enum { MOST = 256 };
    int64_t      low = 0, high = MOST + 1;
    crank_status status = CRANK_OK;
    while (status == CRANK_OK && high - low > 1) {
        int64_t      middle = low || high <= MOST ? (low + high) / 2 : 16; /* small ones are planned sooner */
        char        *config = accounts_llama(context, middle);
        account_plan plan = {0};
        status = config ? accounts_plan(context, device, config, weights, way, step, &plan) : CRANK_FAILED;
        crank_free(config);
        if (status == CRANK_OK && plan.peak <= limit) low = middle, *out = plan;
        else high = middle;
    }
    *k = low;
    if (status == CRANK_OK && !low) return crank_fail(context, CRANK_USAGE, "no shape fits %.1f GiB: even the smallest, of width 128 with one layer, takes more; allow more memory", (double)limit / 1073741824);
    return status;
}
