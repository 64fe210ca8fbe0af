/* weights.c - tensors of a checkpoint: found by name, mapped or copied, or made; and the table of what does not fit. */
#include "model/model.h"
#include "model/packed.h"
#include "tensor/nf4.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank/random.h"

enum { PROBLEM_LINES = 10 };

/* ---- names of the file ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const file_name *)a)->name, ((const file_name *)b)->name);
}

crank_status weights_open(crank_context *context, crank_model *model, const char *folder)
{
    if (!(model->weights = crank_weights_open(context, folder))) return crank_last_status(context);
    model->name_count = crank_weights_count(model->weights);
    model->names = crank_alloc(context, model->name_count + 1, sizeof *model->names, "the names of a checkpoint");
    if (!model->names) return CRANK_FAILED;
    for (size_t i = 0; i < model->name_count; i++) model->names[i].name = crank_weights_name(model->weights, i);
    qsort(model->names, model->name_count, sizeof *model->names, by_name);
    return CRANK_OK;
}

static const char *take(crank_model *model, const char *name, crank_view *view)
{
    file_name key = {.name = name};
    file_name *found = bsearch(&key, model->names, model->name_count, sizeof *model->names, by_name);
    if (!found || !crank_weights_find(model->weights, name, view)) return NULL;
    found->taken = true;
    return found->name;
}

/* Checkpoints of 2018 call the parameters of norms gamma and beta. */
static const char *take_old(crank_model *model, const char *name, crank_view *view)
{
    char text[600];
    const char *end = strrchr(name, '.'), *found = take(model, name, view);
    if (found || !end || !strstr(name, "LayerNorm.")) return found;
    snprintf(text, sizeof text, "%.*s.%s", (int)(end - name), name, !strcmp(end, ".weight") ? "gamma" : "beta");
    return take(model, text, view);
}

const char *weights_lookup(crank_model *model, const char *name, crank_view *view)
{
    char text[600];
    const char *prefix = model->family->prefix, *found = take_old(model, name, view);
    size_t length = strlen(prefix);
    if (found) return found;
    if (!strncmp(name, prefix, length)) return take_old(model, name + length, view);
    snprintf(text, sizeof text, "%s%s", prefix, name);
    return take_old(model, text, view);
}

/* ---- the table ---- */

void weights_problem(crank_model *model, const char *format, ...)
{
    char text[700];
    va_list arguments;
    if (model->problem_count++ >= PROBLEM_LINES) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text_printf(&model->problems, "\n  %s", text);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* Buffers that older releases saved and that follow from the config. */
static bool is_buffer(const char *name)
{
    static const char *const ends[] = {"rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                       "embeddings.position_ids", "embeddings.token_type_ids"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

static bool is_other_head(const crank_model *model, const char *name)
{
    size_t length = strlen(model->family->prefix);
    if (!strncmp(name, model->family->prefix, length)) name += length;
    for (const char *const *head = model->family->heads; *head; head++)
        if (!strncmp(name, *head, strlen(*head))) return true;
    return false;
}

static crank_status check_names(crank_context *context, crank_model *model)
{
    for (size_t i = 0; i < model->name_count; i++) {
        const char *name = model->names[i].name;
        if (model->names[i].taken || is_buffer(name)) continue;
        if (is_other_head(model, name))
            crank_log(context, CRANK_INFO, "%s: `%s` belongs to another head and is not used", model->where, name);
        else
            weights_problem(model, "unknown  %s", name);
    }
    if (!model->problem_count) return CRANK_OK;
    int more = model->problem_count - PROBLEM_LINES;
    if (more > 0) text_printf(&model->problems, "\n  and %d more", more);
    return crank_fail(context, CRANK_BAD_DATA, "%s: the weights do not fit %s:%s", model->where,
                      model->config.architecture, model->problems.bytes ? model->problems.bytes : "");
}

/* ---- values ---- */

/* A model that is larger than the machine is refused before the system starts to swap or kill. */
static crank_status check_memory(crank_context *context, const crank_model *model)
{
    if (!model->device->host) return CRANK_OK;
    double bytes = 0, machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < model->count; i++)
        if (!model->list[i].param->view.data) bytes += (double)crank_view_bytes(&model->list[i].param->view);
    if (bytes <= machine) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "%s: the weights take %.1f GB in %s and this machine has %.1f GB",
                      model->where, bytes / 1e9, crank_dtype_name(model->options.weights), machine / 1e9);
}

void weights_transpose(void *to, const void *from, int64_t rows, int64_t columns, size_t size)
{
    enum { TILE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < columns; c0 += TILE)
            for (int64_t r = r0; r < rows && r < r0 + TILE; r++)
                for (int64_t c = c0; c < columns && c < c0 + TILE; c++)
                    memcpy((char *)to + (size_t)(r * columns + c) * size,
                           (const char *)from + (size_t)(c * rows + r) * size, size);
}

/* Dense values of a weight, whatever it is held in. */
static crank_status give(crank_context *context, model_weight *weight, const void *values, crank_dtype dtype)
{
    if (!weight->quantized) return crank_param_write(context, weight->param, values, dtype);
    size_t count = (size_t)crank_view_count(&weight->param->view);
    float *wide = dtype == CRANK_F32 && (uintptr_t)values % sizeof(float) == 0 ? NULL : crank_alloc(context, count, sizeof *wide, weight->name);
    if (wide) crank_convert(wide, CRANK_F32, values, dtype, count);
    else if (dtype != CRANK_F32 || (uintptr_t)values % sizeof(float)) return CRANK_FAILED;
    crank_status status = quantized_fill(context, weight->quantized, wide ? wide : values);
    crank_free(wide);
    return status;
}

static crank_status copy_source(crank_context *context, crank_model *model, model_weight *weight)
{
    const crank_view *source = &weight->source;
    crank_status status;
    if (!weight->transposed) {
        status = give(context, weight, source->data, source->dtype);
    } else {
        void *turned = crank_alloc(context, crank_view_bytes(source), 1, weight->name);
        if (!turned) return CRANK_FAILED;
        weights_transpose(turned, source->data, source->dims[1], source->dims[0], crank_dtype_bits(source->dtype) / 8);
        status = give(context, weight, turned, source->dtype);
        crank_free(turned);
    }
    crank_weights_release(model->weights, weight->source_name);
    weight->source.data = NULL;
    return status;
}

/* Codes of the file stay as they are where the weight is held in nf4; else it is made dense. */
static crank_status copy_packed(crank_context *context, crank_model *model, model_weight *weight)
{
    nf4_file     file;
    crank_status status = packed_open(context, weight->packed, &file);
    if (status != CRANK_OK) return status;
    if (weight->quantized && weight->quantized->spec.dtype == CRANK_NF4)
        status = quantized_take(context, weight->quantized, &file);
    else {
        int64_t    n = file.rows * file.columns;
        nf4_scales scales = {file.scales, file.coded_scales, file.map, file.second, file.offset};
        float     *values = crank_alloc(context, (size_t)n, sizeof *values, weight->name);
        status = values ? CRANK_OK : CRANK_FAILED;
        if (values) nf4_dequantize(file.codes, &scales, file.block, 0, n, values);
        if (values) status = give(context, weight, values, CRANK_F32);
        crank_free(values);
    }
    packed_close(&file);
    crank_weights_release(model->weights, weight->source_name);
    return status;
}

static crank_status make_values(crank_context *context, const crank_model *model, model_weight *weight)
{
    size_t count = (size_t)crank_view_count(&weight->param->view);
    if (weight->start == START_ZERO) return CRANK_OK; /* new parameters are zeroed */
    float *values = crank_alloc(context, count, sizeof *values, weight->name);
    if (!values) return CRANK_FAILED;
    if (weight->start == START_ONE)
        for (size_t i = 0; i < count; i++) values[i] = 1;
    else
        crank_fill_normal(crank_stream_make(model->options.seed, CRANK_RANDOM_INIT, crank_hash_name(weight->name)), 0,
                          0, (float)weight->spread, values, count);
    crank_status status = give(context, weight, values, CRANK_F32);
    crank_free(values);
    return status;
}

/* A checkpoint in four bits that is held dense is told: it takes four times the file's memory. */
static void tell_opened(crank_context *context, const crank_model *model)
{
    size_t opened = 0;
    for (size_t i = 0; i < model->count; i++) opened += model->list[i].packed && !model->list[i].quantized;
    if (opened)
        crank_log(context, CRANK_WARNING, "%s: %zu weights that bitsandbytes quantised to nf4 are made dense (%s)", model->where, opened,
                  crank_dtype_name(model->held));
}

crank_status weights_fill(crank_context *context, crank_model *model)
{
    crank_status status = model->weights ? check_names(context, model) : CRANK_OK;
    bool mapped = false;
    if (status != CRANK_OK || model->options.dry) return status;
    status = check_memory(context, model);
    if (status == CRANK_OK) status = crank_params_commit(model->params);
    for (size_t i = 0; i < model->count && status == CRANK_OK; i++) {
        model_weight *weight = &model->list[i];
        mapped |= weight->param->mapped;
        if (weight->fresh)
            status = make_values(context, model, weight);
        else if (weight->packed)
            status = copy_packed(context, model, weight);
        else if (weight->source.data)
            status = copy_source(context, model, weight);
    }
    if (status == CRANK_OK) tell_opened(context, model);
    if (status != CRANK_OK || mapped) return status;
    crank_weights_close(model->weights);
    model->weights = NULL;
    return CRANK_OK;
}
