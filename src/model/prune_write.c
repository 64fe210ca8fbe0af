/* prune_write.c - the small model as a folder.
 *
 *   config.json           the large one's; sizes as the family has them where all layers are alike, else
 *                         "crank_layers": {"kv_heads": [..], "intermediate": [..]}
 *   pruned.safetensors    layers.I.heads, layers.I.neurons i32: kept places; metadata: sizes of the large model */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/model.h"
#include "model/prune.h"

/* ---- config ---- */

static bool alike(const prune_plan *plan)
{
    for (int64_t i = 1; i < plan->count; i++)
        if (plan->layers[i].kept_heads != plan->layers[0].kept_heads || plan->layers[i].kept_neurons != plan->layers[0].kept_neurons) return false;
    return true;
}

static json_t *sizes(const prune_plan *plan, bool neurons)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < plan->count; i++) json_array_append_new(list, json_integer((json_int_t)(neurons ? plan->layers[i].kept_neurons : plan->layers[i].kept_heads)));
    return list;
}

/* crank_free */
static char *small_config(crank_context *context, const crank_model *model, const prune_plan *plan)
{
    json_t *config = json_deep_copy(model->json);
    if (!config) {
        crank_fail(context, CRANK_FAILED, "out of memory: a config");
        return NULL;
    }
    const prune_layer *l = &plan->layers[0];
    if (alike(plan) && model->family == &family_llama) {
        json_object_set_new(config, "num_attention_heads", json_integer((json_int_t)(l->kept_heads * (l->heads / l->kv_heads))));
        json_object_set_new(config, "num_key_value_heads", json_integer((json_int_t)l->kept_heads));
        json_object_set_new(config, "head_dim", json_integer((json_int_t)l->head_dim));
        json_object_set_new(config, "intermediate_size", json_integer((json_int_t)l->kept_neurons));
        json_object_del(config, "crank_layers");
    } else
        json_object_set_new(config, "crank_layers", json_pack("{s:o, s:o}", "kv_heads", sizes(plan, false), "intermediate", sizes(plan, true)));
    char *text = json_text(context, config, 0);
    json_decref(config);
    return text;
}

/* ---- values ---- */

/* The linear whose weight or bias the parameter is. */
static const crank_linear *owner_of(const crank_model *model, const crank_param *param)
{
    for (size_t i = 0; i < crank_linears_count(model->linears); i++) {
        const crank_linear *linear = crank_linears_at(model->linears, i);
        if (linear->weight == param || linear->bias == param) return linear;
    }
    return NULL;
}

static crank_status copy_param(crank_context *context, const crank_model *model, const prune_plan *plan, const crank_param *from, crank_param *to)
{
    const crank_linear *linear = owner_of(model, from);
    int64_t             n = crank_view_count(&from->view), m = crank_view_count(&to->view);
    float *whole = crank_alloc(context, (size_t)n, sizeof *whole, from->name), *part = crank_alloc(context, (size_t)m, sizeof *part, from->name);
    crank_status status = whole && part ? crank_param_read(context, from, whole, CRANK_F32) : CRANK_FAILED;
    if (status == CRANK_OK && linear && linear->kind == CRANK_LINEAR_DENSE) {
        subset rows, cols, one = subset_all(1);
        prune_rows_cols(model, plan, linear, &rows, &cols);
        bool bias = linear->bias == from;
        if (rows.count * (bias ? 1 : cols.count) != m) status = crank_fail(context, CRANK_FAILED, "%s: %lld values do not fill %lld", from->name, (long long)(rows.count * cols.count), (long long)m);
        else subset_gather(whole, rows, bias ? one : cols, part);
    } else if (status == CRANK_OK && n != m)
        status = crank_fail(context, CRANK_FAILED, "%s changes its size and is no coupled map", from->name);
    else if (status == CRANK_OK) memcpy(part, whole, (size_t)n * sizeof *part);
    if (status == CRANK_OK) status = crank_param_write(context, to, part, CRANK_F32);
    crank_free(whole), crank_free(part);
    return status;
}

static crank_status copy_all(crank_context *context, const crank_model *model, const prune_plan *plan, crank_model *small)
{
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < crank_params_count(small->params); i++) {
        crank_param       *to = crank_params_at(small->params, i);
        const crank_param *from = to->role == CRANK_ROLE_WEIGHT ? crank_params_find(model->params, to->name) : NULL;
        if (from) status = copy_param(context, model, plan, from, to);
    }
    return status;
}

/* ---- the index ---- */

static crank_status write_index(crank_context *context, const prune_plan *plan, const char *folder)
{
    char             *path = file_join(context, folder, "pruned.safetensors"), sizes_text[96];
    crank_named_view *views = crank_alloc(context, (size_t)(2 * plan->count), sizeof *views, "an index");
    char (*names)[48] = crank_alloc(context, (size_t)(2 * plan->count), sizeof *names, "an index");
    crank_status status = path && views && names ? CRANK_OK : CRANK_FAILED;
    for (int64_t i = 0; status == CRANK_OK && i < 2 * plan->count; i++) {
        const prune_layer *l = &plan->layers[i / 2];
        snprintf(names[i], sizeof names[0], "layers.%lld.%s", (long long)(i / 2), i % 2 ? "neurons" : "heads");
        views[i] = (crank_named_view){names[i], crank_view_make(l->kept[i % 2], CRANK_I32, 1, i % 2 ? &l->kept_neurons : &l->kept_heads)};
    }
    if (status == CRANK_OK) {
        const prune_layer *l = &plan->layers[0];
        snprintf(sizes_text, sizeof sizes_text, "%lld %lld %lld %lld", (long long)plan->count, (long long)l->heads, (long long)l->kv_heads, (long long)l->head_dim);
        const char *metadata[] = {"format", "crank pruned", "layers, heads, kv_heads, head_dim", sizes_text};
        status = crank_safetensors_write(context, path, views, (size_t)(2 * plan->count), metadata, 2);
    }
    crank_free(path), crank_free(views), crank_free(names);
    return status;
}

/* Kept places of one tensor: rising, inside of `whole`. */
static crank_status read_places(crank_context *context, const crank_safetensors *file, const char *path, int64_t layer, const char *what, int64_t whole, int64_t *count,
                                int32_t **out)
{
    char       name[48];
    crank_view view;
    snprintf(name, sizeof name, "layers.%lld.%s", (long long)layer, what);
    if (!crank_safetensors_find(file, name, &view) || view.dtype != CRANK_I32 || view.rank != 1 || view.dims[0] < 1 || view.dims[0] > whole)
        return crank_fail(context, CRANK_BAD_DATA, "%s: %s must hold 1 to %lld places (i32): it is no index of a model pruned from this one", path, name, (long long)whole);
    *count = view.dims[0];
    if (!(*out = crank_alloc(context, (size_t)*count, sizeof **out, name))) return CRANK_FAILED;
    memcpy(*out, view.data, (size_t)*count * sizeof **out);
    for (int64_t i = 0; i < *count; i++)
        if ((*out)[i] < (i ? (*out)[i - 1] + 1 : 0) || (*out)[i] >= whole)
            return crank_fail(context, CRANK_BAD_DATA, "%s: %s is not a rising list of places below %lld (at %lld)", path, name, (long long)whole, (long long)i);
    return CRANK_OK;
}

crank_status prune_read(crank_context *context, const crank_model *model, const char *folder, prune_plan *out)
{
    prune_how          nothing = {0};
    char              *path = file_join(context, folder, "pruned.safetensors");
    crank_safetensors *file = path ? crank_safetensors_open(context, path) : NULL;
    prune_plan         whole = {0};
    *out = (prune_plan){0};
    crank_status status = file ? prune_plan_make(context, (crank_model *)(uintptr_t)model, &nothing, &whole) : crank_last_status(context);
    for (int64_t i = 0; status == CRANK_OK && i < whole.count; i++) {
        prune_layer *l = &whole.layers[i];
        int64_t      inner = l->inner;
        crank_free(l->kept[0]), crank_free(l->kept[1]), crank_free(l->queries), crank_free(l->values), crank_free(l->fused);
        *l = (prune_layer){.heads = l->heads, .kv_heads = l->kv_heads, .head_dim = l->head_dim, .inner = inner};
        status = read_places(context, file, path, i, "heads", l->kv_heads, &l->kept_heads, &l->kept[0]);
        if (status == CRANK_OK) status = read_places(context, file, path, i, "neurons", inner, &l->kept_neurons, &l->kept[1]);
    }
    if (status == CRANK_OK && crank_safetensors_count(file) != (size_t)(2 * whole.count))
        status = crank_fail(context, CRANK_BAD_DATA, "%s: it holds %zu lists and the model has %lld layers: it is no index of a model pruned from this one", path,
                            crank_safetensors_count(file), (long long)whole.count);
    crank_safetensors_close(file);
    crank_free(path);
    if (status == CRANK_OK) status = prune_plan_rows(context, &whole);
    if (status == CRANK_OK) *out = whole;
    else prune_plan_free(&whole);
    return status;
}

crank_status prune_write(crank_context *context, crank_model *model, const prune_plan *plan, const char *folder, crank_dtype dtype)
{
    crank_model_options options = model->options;
    char               *config = small_config(context, model, plan);
    options.dry = false;
    options.weights = CRANK_F32;
    crank_model *small = config ? crank_model_new(context, model->device, config, &options) : NULL;
    crank_status status = small ? copy_all(context, model, plan, small) : crank_last_status(context);
    if (status == CRANK_OK) status = crank_model_save(context, small, folder, dtype);
    if (status == CRANK_OK) status = write_index(context, plan, folder);
    crank_model_free(small);
    crank_free(config);
    return status;
}
