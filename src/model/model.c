/* model.c - the life of a model: load a folder or make one from a config, look at it, free it. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static crank_status check_options(crank_context *context, const crank_model_options *options)
{
    crank_dtype types[] = {options->compute, options->weights};
    for (int i = 0; i < 2; i++)
        if (i && (types[i] == CRANK_NF4 || types[i] == CRANK_F8E4M3)) continue;
        else if (types[i] != CRANK_F32 && types[i] != CRANK_BF16 && types[i] != CRANK_F64)
            return crank_fail(context, CRANK_USAGE, "a model's %s type must be f32, bf16 or f64%s",
                              i ? "weight" : "compute", i ? ", nf4 or f8e4m3" : "");
    return CRANK_OK;
}

/* A model without tensors yet; takes the reference to `json` (NULL: message set already). */
static crank_model *start(crank_context *context, crank_device *device, const crank_model_options *options,
                          json_t *json, char *where)
{
    crank_model *model = json && where ? crank_alloc(context, 1, sizeof *model, "a model") : NULL;
    if (!model) {
        json_decref(json);
        crank_free(where);
        return NULL;
    }
    model->context = context;
    model->device = device;
    if (options) model->options = *options;
    bool quantized = model->options.weights == CRANK_NF4 || model->options.weights == CRANK_F8E4M3;
    model->held = quantized ? model->options.compute : model->options.weights;
    model->json = json;
    model->where = where;
    model->status = check_options(context, &model->options);
    return model;
}

/* Shapes first, then memory: nothing large is taken for a folder that does not fit together. */
static crank_status assemble(crank_context *context, crank_model *model)
{
    if (!(model->params = crank_params_new(context, model->device))) return CRANK_FAILED;
    if (!(model->linears = crank_linears_new(context, model->params, model->options.seed))) return CRANK_FAILED;
    crank_params_defer(model->params, true);
    model->family->build(model);
    return model->status == CRANK_OK ? weights_fill(context, model) : model->status;
}

static crank_model *finish(crank_model *model, crank_status status)
{
    if (status == CRANK_OK) return model;
    crank_model_free(model);
    return NULL;
}

static bool folder_has_weights(crank_context *context, const char *folder)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        char *path = file_join(context, folder, names[i]);
        found = path && file_exists(path);
        crank_free(path);
    }
    return found;
}

crank_model *crank_model_load(crank_context *context, crank_device *device, const char *folder,
                              const crank_model_options *options)
{
    char *where = file_join(context, folder, "config.json");
    crank_model *model = start(context, device, options, where ? json_read(context, where) : NULL, where);
    if (!model) return NULL;
    crank_status status = model->status;
    if (status == CRANK_OK) status = model_configure(context, model, folder);
    if (status == CRANK_OK && (!model->options.dry || folder_has_weights(context, folder)))
        status = weights_open(context, model, folder);
    if (status == CRANK_OK) status = assemble(context, model);
    return finish(model, status);
}

bool crank_model_quantized(crank_context *context, const char *folder)
{
    char   *where = file_join(context, folder, "config.json");
    json_t *json = where && file_exists(where) ? json_read(context, where) : NULL, *how = json_object_get(json, "quantization_config");
    const char *method = json_string_value(json_object_get(how, "quant_method"));
    bool quantized = method && !strcmp(method, "bitsandbytes") && json_is_true(json_object_get(how, "load_in_4bit"));
    json_decref(json);
    crank_free(where);
    return quantized;
}

crank_model *crank_model_new(crank_context *context, crank_device *device, const char *config_json,
                             const crank_model_options *options)
{
    char *where = crank_strdup(context, "config");
    crank_model *model = start(context, device, options,
                               where ? json_parse(context, config_json, strlen(config_json), where) : NULL, where);
    if (!model) return NULL;
    crank_status status = model->status;
    if (status == CRANK_OK) status = model_configure(context, model, NULL);
    if (status == CRANK_OK) status = assemble(context, model);
    return finish(model, status);
}

void crank_model_free(crank_model *model)
{
    if (!model) return;
    crank_linears_free(model->linears);
    crank_params_free(model->params);
    crank_weights_close(model->weights);
    for (size_t i = 0; i < model->count; i++) crank_free(model->list[i].packed);
    for (size_t i = 0; i < model->text_count; i++) crank_free(model->texts[i]);
    free(model->texts);
    free(model->list);
    crank_free(model->names);
    text_clear(&model->problems);
    crank_free(model->body.blocks);
    crank_free(model->where);
    json_decref(model->json);
    crank_free(model);
}

const crank_model_config *crank_model_config_of(const crank_model *model)
{
    return &model->config;
}
const crank_model_options *crank_model_options_of(const crank_model *model)
{
    return &model->options;
}
const char *crank_model_pooling(const crank_model *model)
{
    return model_pooling_label(model);
}
crank_linears *crank_model_linears(const crank_model *model)
{
    return model->linears;
}
crank_params *crank_model_params(const crank_model *model)
{
    return model->params;
}
crank_device *crank_model_device(const crank_model *model)
{
    return model->device;
}
