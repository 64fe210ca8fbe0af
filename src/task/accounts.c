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
        int64_t            bytes = (int64_t)crank_view_bytes(&param->view);
        int64_t *sum = param->role == CRANK_ROLE_WEIGHT ? &out->weights : param->role == CRANK_ROLE_METHOD ? &out->method : &out->state;
        *sum += bytes;
    }
}

static crank_status measure(crank_context *context, crank_model *model, const account *way, account_bytes *out)
{
    train_section train = {.accumulate = 1, .lr = 1, .schedule = "constant", .seed = 1};
    optim_section optim = {.method = way->optimizer};
    task_recipe   recipe = {.train = &train, .optim = &optim, .optimizer = crank_optimizer_find(way->optimizer ? way->optimizer : "adamw"),
                            .objective = crank_objective_find("cross_entropy")};
    if (!recipe.optimizer) return crank_fail(context, CRANK_USAGE, "there is no optimiser `%s`", way->optimizer);
    recipe.optimizer_options = options_of(context, recipe.optimizer->options, recipe.optimizer->options_size, way->optimizer_options);
    crank_status status = recipe.optimizer_options ? CRANK_OK : crank_last_status(context);
    if (status == CRANK_OK && way->map) status = attach(context, model, way);
    if (status == CRANK_OK && !way->map) train_all(crank_model_params(model));
    task_trainer *trainer = status == CRANK_OK ? trainer_new(context, model, &recipe, 1) : NULL;
    if (status == CRANK_OK) status = trainer ? trainer_period(context, trainer, 0) : crank_last_status(context);
    if (status == CRANK_OK) status = count_gradients(context, trainer, out);
    if (status == CRANK_OK) count_params(crank_model_params(model), out);
    trainer_free(trainer);
    crank_options_free(recipe.optimizer_options);
    return status;
}

crank_status accounts_measure(crank_context *context, crank_device *device, const char *config, crank_dtype weights, const account *way, account_bytes *out)
{
    bool                quantized = weights == CRANK_NF4 || weights == CRANK_F8E4M3; /* all but the layers' linears stays in bf16 */
    crank_model_options options = {.compute = quantized ? CRANK_BF16 : CRANK_F32, .weights = weights, .double_quantized = true, .dry = true, .seed = 1};
    crank_model        *model = crank_model_new(context, device, config, &options);
    *out = (account_bytes){0};
    if (!model) return crank_last_status(context);
    crank_params_defer(crank_model_params(model), true);
    crank_status status = measure(context, model, way, out);
    crank_model_free(model);
    return status;
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
        return crank_format(context,
                            "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":32000,\"hidden_size\":%d,\"num_hidden_layers\":%d,"
                            "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"intermediate_size\":%d,\"max_position_embeddings\":1024,\"rms_norm_eps\":1e-6,"
                            "\"initializer_range\":0.02,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false}",
                            sizes[i].hidden, sizes[i].layers, sizes[i].heads, sizes[i].heads, sizes[i].inner);
    }
    return NULL;
}
