/* save.c - a model as a Hugging Face folder: config.json with all keys it came with, model.safetensors (sharded above 5
 * GB), and for an encoder whose pooling was chosen the two files by which sentence-transformers knows it.
 *
 * Each file is replaced atomically, weights before config.json. */
#include "model/model.h"

#include <string.h>

#include "base/file.h"

static const uint64_t SHARD_BYTES = 5000000000u;

/* ---- weights ---- */

/* Contiguous host values of a weight in `dtype`, as the file has them. `own` is freed by the caller; NULL: the
 * parameter's own. */
static crank_status host_values(crank_context *context, const crank_model *model, const model_weight *weight,
                                crank_dtype dtype, crank_view *view, void **own)
{
    const crank_linear *linear = weight->linear;
    const crank_param *param = linear ? linear->weight : weight->param;
    int64_t dims[2] = {linear ? linear->out : 0, linear ? linear->in : 0};
    size_t size = crank_dtype_bits(dtype) / 8;
    *own = NULL;
    if (param && model->device->host && param->view.dtype == dtype && !weight->transposed) {
        *view = param->view;
        return CRANK_OK;
    }
    *view = param ? crank_view_make(NULL, dtype, param->view.rank, param->view.dims)
                  : crank_view_make(NULL, dtype, 2, dims);
    if (!(*own = crank_alloc(context, (size_t)crank_view_count(view), size, weight->name))) return CRANK_FAILED;
    view->data = *own;
    if (param) return crank_param_read(context, param, *own, dtype);
    int64_t rows = ((int64_t)1 << 22) / dims[1] + 1; /* about 16 MB at once */
    float *part = crank_alloc(context, (size_t)(rows * dims[1]), sizeof *part, "rows of a weight");
    crank_status status = part ? CRANK_OK : CRANK_FAILED;
    for (int64_t r = 0; r < dims[0] && status == CRANK_OK; r += rows) {
        int64_t count = dims[0] - r < rows ? dims[0] - r : rows;
        status = crank_linear_rows(context, linear, r, count, part);
        if (status == CRANK_OK)
            crank_convert((char *)*own + (size_t)(r * dims[1]) * size, dtype, part, CRANK_F32, (size_t)(count * dims[1]));
    }
    crank_free(part);
    return status;
}

/* view [rows, columns] -> [columns, rows] in memory of its own. */
static crank_status turn(crank_context *context, crank_view *view, void **own)
{
    int64_t rows = view->dims[0], columns = view->dims[1];
    size_t size = crank_dtype_bits(view->dtype) / 8;
    char *turned = crank_alloc(context, (size_t)(rows * columns), size, "a transposed weight");
    if (!turned) return CRANK_FAILED;
    weights_transpose(turned, view->data, columns, rows, size);
    crank_free(*own);
    *own = turned;
    *view = crank_view_make(turned, view->dtype, 2, (int64_t[]){columns, rows});
    return CRANK_OK;
}

/* The values of one weight at a time, as crank_weights_write_from asks for them. */
typedef struct weight_source {
    const crank_model *model;
    crank_dtype        dtype;
    void              *own; /* of the weight asked for last */
} weight_source;

static crank_status fetch_weight(crank_context *context, void *user, size_t i, crank_view *values)
{
    weight_source *source = user;
    crank_free(source->own);
    crank_status status = host_values(context, source->model, &source->model->list[i], source->dtype, values, &source->own);
    return status == CRANK_OK && source->model->list[i].transposed ? turn(context, values, &source->own) : status;
}

/* The shape that a weight has in the file. */
static crank_view file_shape(const model_weight *weight, crank_dtype dtype)
{
    const crank_linear *linear = weight->linear;
    const crank_param *param = linear ? linear->weight : weight->param;
    int64_t dims[2] = {linear ? linear->out : 0, linear ? linear->in : 0};
    crank_view view = param ? crank_view_make(NULL, dtype, param->view.rank, param->view.dims) : crank_view_make(NULL, dtype, 2, dims);
    return weight->transposed ? crank_view_make(NULL, dtype, 2, (int64_t[]){view.dims[1], view.dims[0]}) : view;
}

static crank_status save_weights(crank_context *context, const crank_model *model, const char *folder,
                                 crank_dtype dtype)
{
    weight_source source = {model, dtype, NULL};
    crank_named_view *views = crank_alloc(context, model->count, sizeof *views, "the tensors of a model");
    if (!views) return CRANK_FAILED;
    for (size_t i = 0; i < model->count; i++)
        views[i] = (crank_named_view){model->list[i].name, file_shape(&model->list[i], dtype)};
    crank_status status = crank_weights_write_from(context, folder, views, model->count, SHARD_BYTES, fetch_weight, &source);
    crank_free(source.own);
    crank_free(views);
    return status;
}

/* ---- config.json ---- */

static const char *torch_name(crank_dtype dtype)
{
    return dtype == CRANK_BF16  ? "bfloat16"
           : dtype == CRANK_F16 ? "float16"
           : dtype == CRANK_F64 ? "float64"
                                : "float32";
}

/* Names of labels: those that the config has when their number fits, else LABEL_i. */
static void set_labels(const crank_model *model, json_t *config)
{
    int64_t count = model->config.labels;
    json_t *old = json_object_get(config, "id2label");
    if (!count || (json_is_object(old) && (int64_t)json_object_size(old) == count)) return;
    json_t *names = json_object(), *ids = json_object();
    for (int64_t i = 0; i < count; i++) {
        char id[24], name[32];
        snprintf(id, sizeof id, "%lld", (long long)i);
        snprintf(name, sizeof name, "LABEL_%lld", (long long)i);
        json_object_set_new(names, id, json_string(name));
        json_object_set_new(ids, name, json_integer(i));
    }
    json_object_set_new(config, "id2label", names);
    json_object_set_new(config, "label2id", ids);
    json_object_del(config, "num_labels");
}

static crank_status save_config(crank_context *context, const crank_model *model, const char *path, crank_dtype dtype)
{
    json_t *config = json_deep_copy(model->json);
    if (!config) return crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    json_object_set_new(config, "architectures", json_pack("[s]", model->config.architecture));
    bool old = json_object_get(config, "torch_dtype") != NULL, new = json_object_get(config, "dtype") != NULL;
    if (old || !new) json_object_set_new(config, "torch_dtype", json_string(torch_name(dtype)));
    if (new) json_object_set_new(config, "dtype", json_string(torch_name(dtype)));
    json_object_del(config, "quantization_config"); /* what is written is dense */
    set_labels(model, config);
    crank_status status = json_write(context, path, config);
    json_decref(config);
    return status;
}

/* ---- sentence-transformers ---- */

static crank_status write_json_in(crank_context *context, const char *folder, const char *name, json_t *value)
{
    char *path = file_join(context, folder, name);
    crank_status status = !value ? crank_fail(context, CRANK_FAILED, "out of memory: %s", name)
                          : path ? json_write(context, path, value)
                                 : CRANK_FAILED;
    crank_free(path);
    json_decref(value);
    return status;
}

static crank_status save_pooling(crank_context *context, const crank_model *model, const char *folder)
{
    char *inner = file_join(context, folder, "1_Pooling");
    if (!inner) return CRANK_FAILED;
    crank_status status = file_make_folder(context, inner);
    if (status == CRANK_OK)
        status = write_json_in(
            context, inner, "config.json",
            json_pack("{s:I, s:b, s:b, s:b, s:b, s:b}", "word_embedding_dimension", (json_int_t)model->config.hidden,
                      "pooling_mode_cls_token", model->pooling == POOL_CLS, "pooling_mode_mean_tokens",
                      model->pooling == POOL_MEAN, "pooling_mode_max_tokens", 0, "pooling_mode_mean_sqrt_len_tokens", 0,
                      "pooling_mode_lasttoken", model->pooling == POOL_LAST));
    if (status == CRANK_OK)
        status = write_json_in(context, folder, "modules.json",
                               json_pack("[{s:i, s:s, s:s, s:s}, {s:i, s:s, s:s, s:s}]", "idx", 0, "name", "0", "path",
                                         "", "type", "sentence_transformers.models.Transformer", "idx", 1, "name", "1",
                                         "path", "1_Pooling", "type", "sentence_transformers.models.Pooling"));
    crank_free(inner);
    return status;
}

crank_status crank_model_save(crank_context *context, const crank_model *model, const char *folder, crank_dtype dtype)
{
    if (model->options.dry) return crank_fail(context, CRANK_USAGE, "a model without weights cannot be saved");
    if (dtype != CRANK_F32 && dtype != CRANK_BF16 && dtype != CRANK_F16 && dtype != CRANK_F64)
        return crank_fail(context, CRANK_USAGE, "a model is saved as f32, bf16, f16 or f64, not as %s",
                          crank_dtype_name(dtype));
    crank_status status = file_make_folder(context, folder);
    char *path = status == CRANK_OK ? file_join(context, folder, "config.json") : NULL;
    if (status == CRANK_OK) status = path ? save_weights(context, model, folder, dtype) : CRANK_FAILED;
    if (status == CRANK_OK) status = save_config(context, model, path, dtype);
    if (status == CRANK_OK && model->pooling_stated && model->task == TASK_BODY && model->pooling != POOL_POOLER)
        status = save_pooling(context, model, folder);
    crank_free(path);
    return status;
}
