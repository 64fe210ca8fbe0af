/* build.c - declarations: a family names its tensors here, and each becomes a parameter with a source in the file, a
 * start value, or a line in the table of problems. No memory is taken before all names and shapes are known. */
#include "model/model.h"
#include "model/packed.h"
#include "tensor/nf4.h"

#include <stdlib.h>
#include <string.h>

static void fail(crank_model *model)
{
    if (model->status == CRANK_OK) model->status = crank_last_status(model->context);
    if (model->status == CRANK_OK) model->status = CRANK_FAILED;
}

/* Room for one more element of an array that doubles. */
static bool reserve(crank_model *model, void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return true;
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *bigger = realloc(*(void **)array, wanted * size);
    if (!bigger) {
        model->status = crank_fail(model->context, CRANK_FAILED, "out of memory: the tensors of a model");
        return false;
    }
    *(void **)array = bigger;
    *capacity = wanted;
    return true;
}

/* ---- names ---- */

static const char *keep_name(crank_model *model, const char *prefix, const char *format, va_list arguments)
{
    char text[512];
    if (model->status != CRANK_OK) return "";
    vsnprintf(text, sizeof text, format, arguments);
    if (!reserve(model, &model->texts, model->text_count, &model->text_capacity, sizeof *model->texts)) return "";
    char *name = crank_format(model->context, "%s%s", prefix, text);
    if (!name) {
        fail(model);
        return "";
    }
    return model->texts[model->text_count++] = name;
}

const char *model_name(crank_model *model, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *name = keep_name(model, "", format, arguments);
    va_end(arguments);
    return name;
}

const char *model_body_name(crank_model *model, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *name = keep_name(model, model->task == TASK_BODY ? "" : model->family->prefix, format, arguments);
    va_end(arguments);
    return name;
}

/* ---- parameters ---- */

static void shape_text(char *out, size_t size, int rank, const int64_t *dims)
{
    size_t length = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && length < size; i++)
        length += (size_t)snprintf(out + length, size - length, "%s%lld", i ? ", " : "", (long long)dims[i]);
    if (length < size) snprintf(out + length, size - length, "]");
}

/* True when the view of the file serves `weight` of these dims (as it stands in memory). */
static bool source_fits(crank_model *model, const model_weight *weight, int rank, const int64_t *dims,
                        const crank_view *view, unsigned flags)
{
    int64_t stored[CRANK_MAX_RANK];
    for (int i = 0; i < rank; i++) stored[i] = weight->transposed ? dims[rank - 1 - i] : dims[i];
    bool same = view->rank == rank && !memcmp(view->dims, stored, (size_t)rank * sizeof *stored);
    if (same && crank_dtype_is_float(view->dtype) && view->dtype != CRANK_F8E4M3 && view->dtype != CRANK_NF4)
        return true;
    if (same) {
        weights_problem(model, "type     %s is %s; crank reads f32, bf16, f16 and f64", weight->name,
                        crank_dtype_name(view->dtype));
        return false;
    }
    if (!(flags & WEIGHT_FRESH)) {
        char has[128], wants[128];
        shape_text(has, sizeof has, view->rank, view->dims);
        shape_text(wants, sizeof wants, rank, stored);
        weights_problem(model, "shape    %s is %s; the config says %s", weight->name, has, wants);
    }
    return false;
}

/* The page of the file can serve as the parameter itself. */
static bool can_map(const crank_model *model, const model_weight *weight, const crank_view *view)
{
    return model->device->host && !model->options.dry && view->dtype == model->held && !weight->transposed && !weight->quantized &&
           (uintptr_t)view->data % (crank_dtype_bits(view->dtype) / 8) == 0;
}

/* The weight is quantised in the file: its parts are checked and kept. */
static bool take_packed(crank_model *model, model_weight *weight, const crank_view *codes, const int64_t *dims)
{
    if (!(weight->packed = crank_alloc(model->context, 1, sizeof *weight->packed, weight->name))) {
        fail(model);
        return false;
    }
    return packed_read(model, weight->name, codes, dims[0], dims[1], weight->packed);
}

/* Where the values come from: a view of the file, one that can be mapped, a quantised weight, or none (fresh). */
static bool find_source(crank_model *model, model_weight *weight, int rank, const int64_t *dims, unsigned flags, crank_view *view)
{
    if (!model->weights || !(weight->source_name = weights_lookup(model, weight->name, view))) {
        if (model->weights && !(flags & WEIGHT_FRESH)) weights_problem(model, "missing  %s", weight->name);
        return false;
    }
    if (rank == 2 && packed_there(model, weight->name)) return take_packed(model, weight, view, dims);
    return source_fits(model, weight, rank, dims, view, flags);
}

/* A parameter of the dense type, or with `spec` one in four or eight bits. */
static model_weight *declare(crank_model *model, const char *name, int rank, const int64_t *dims, weight_start start, unsigned flags,
                             const quantized_spec *spec)
{
    if (model->status != CRANK_OK || !reserve(model, &model->list, model->count, &model->capacity, sizeof *model->list))
        return NULL;
    model_weight *weight = &model->list[model->count];
    *weight = (model_weight){.name = (char *)name,
                             .start = start,
                             .transposed = flags & WEIGHT_TRANSPOSED,
                             .spread = flags & WEIGHT_FRESH ? 0.02 : model->spread,
                             .fresh = true};
    crank_view view = {0};
    model->count++; /* what it owns is freed with the model */
    weight->fresh = !find_source(model, weight, rank, dims, flags, &view);
    bool mapped = !weight->fresh && !spec && !weight->packed && can_map(model, weight, &view);
    if (!weight->fresh && !mapped && !weight->packed) weight->source = view;
    if (model->weights && weight->fresh && (flags & WEIGHT_FRESH))
        crank_log(model->context, CRANK_INFO, "%s: `%s` is new: not in the file, or of another shape there",
                  model->where, name);
    if (spec) {
        quantized_spec own = *spec;
        if (weight->packed && own.dtype == CRANK_NF4 && !weight->fresh) own.block = weight->packed->block, own.nested = weight->packed->nested;
        weight->quantized = quantized_new(model->context, model->params, name, dims[1], dims[0], &own);
        weight->param = weight->quantized ? weight->quantized->codes : NULL;
    } else if (mapped)
        weight->param = crank_params_add_view(model->params, name, CRANK_ROLE_WEIGHT, view);
    else
        weight->param = crank_params_add(model->params, name, CRANK_ROLE_WEIGHT, model->held, rank, dims);
    if (!weight->param) {
        model->count--;
        crank_free(weight->packed);
        fail(model);
        return NULL;
    }
    weight->param->no_decay = rank == 1;
    return weight;
}

crank_param *model_param(crank_model *model, const char *name, int rank, const int64_t *dims, weight_start start,
                         unsigned flags)
{
    model_weight *weight = declare(model, name, rank, dims, start, flags, NULL);
    return weight ? weight->param : NULL;
}

bool model_file_has(crank_model *model, const char *name)
{
    crank_view view;
    if (!model->weights) return true;
    return model->status == CRANK_OK && weights_lookup(model, name, &view);
}

/* ---- linears ---- */

int model_next_reads(crank_model *model)
{
    return model->reads++;
}

static crank_linear *add_linear(crank_model *model, const char *name, crank_linear_kind kind, int64_t in, int64_t out,
                                crank_param *weight, crank_param *bias, int block, int reads)
{
    if (model->status != CRANK_OK) return NULL;
    crank_linear *linear = crank_linear_add(model->linears, name, kind, in, out, weight, bias);
    if (!linear) {
        fail(model);
        return NULL;
    }
    linear->block = block;
    linear->reads = reads;
    return linear;
}

crank_linear *model_dense(crank_model *model, const char *name, int64_t in, int64_t out, int block, int reads,
                          unsigned flags)
{
    crank_param *bias = NULL;
    size_t place = model->count;
    bool quantize = block >= 0 && model->held != model->options.weights;
    quantized_spec spec = {model->options.weights, model->held, NF4_BLOCK, model->options.double_quantized};
    model_weight *weight = declare(model, model_name(model, "%s.weight", name), 2, (int64_t[]){out, in}, START_NORMAL, flags, quantize ? &spec : NULL);
    crank_quantized *quantized = weight ? weight->quantized : NULL;
    crank_param *param = weight && !quantized ? weight->param : NULL;
    if (!(flags & WEIGHT_NO_BIAS))
        bias = model_param(model, model_name(model, "%s.bias", name), 1, &out, START_ZERO,
                           flags & ~(unsigned)WEIGHT_TRANSPOSED);
    crank_linear *linear = add_linear(model, name, CRANK_LINEAR_DENSE, in, out, param, bias, block, reads);
    if (!linear) {
        quantized_free(quantized);
        return NULL;
    }
    linear->quantized = quantized;
    linear->transposed_file = flags & WEIGHT_TRANSPOSED;
    model->list[place].linear = linear;
    return linear;
}

crank_linear *model_embedding(crank_model *model, const char *name, int64_t rows, int64_t width)
{
    size_t place = model->count;
    crank_param *table =
        model_param(model, model_name(model, "%s.weight", name), 2, (int64_t[]){rows, width}, START_NORMAL, 0);
    crank_linear *linear =
        add_linear(model, name, CRANK_LINEAR_EMBEDDING, rows, width, table, NULL, -1, model_next_reads(model));
    if (linear) model->list[place].linear = linear;
    return linear;
}

nn_norm model_norm(crank_model *model, const char *name, int64_t width, bool centred)
{
    nn_norm norm = {.epsilon = model->config.epsilon, .centred = centred};
    norm.weight = model_param(model, model_name(model, "%s.weight", name), 1, &width, START_ONE, 0);
    if (centred) norm.bias = model_param(model, model_name(model, "%s.bias", name), 1, &width, START_ZERO, 0);
    return norm;
}

void model_vocabulary(crank_model *model, const char *name, crank_param *bias)
{
    int64_t vocab = model->config.vocab, hidden = model->config.hidden;
    size_t place = model->count;
    crank_param *weight = NULL;
    if (model->status != CRANK_OK) return;
    if (model->config.tied)
        weight = model->body.tokens->weight;
    else
        weight =
            model_param(model, model_name(model, "%s.weight", name), 2, (int64_t[]){vocab, hidden}, START_NORMAL, 0);
    crank_linear *head =
        add_linear(model, name, CRANK_LINEAR_DENSE, hidden, vocab, weight, bias, -1, model_next_reads(model));
    if (!head) return;
    head->is_head = true;
    if (!model->config.tied) model->list[place].linear = head;
    model->heads.vocabulary = head;
}

void model_classifier(crank_model *model, const char *name, unsigned flags)
{
    if (model->options.labels > 0) flags |= WEIGHT_FRESH;
    crank_linear *linear =
        model_dense(model, name, model->config.hidden, model->config.labels, -1, model_next_reads(model), flags);
    if (!linear) return;
    linear->is_head = true;
    model->heads.classifier = linear;
}

crank_linear *model_layer_dense(crank_model *model, int i, const char *name, int64_t in, int64_t out, int reads,
                                unsigned flags)
{
    if (reads == NEW_READS) reads = model_next_reads(model);
    return model_dense(model, model_body_name(model, "%s.%d.%s", model->family->layer, i, name), in, out, i, reads,
                       flags);
}

nn_norm model_layer_norm(crank_model *model, int i, const char *name, int64_t width, bool centred)
{
    return model_norm(model, model_body_name(model, "%s.%d.%s", model->family->layer, i, name), width, centred);
}

nn_block *model_blocks(crank_model *model)
{
    if (model->status != CRANK_OK) return NULL;
    model->body.blocks =
        crank_alloc(model->context, (size_t)model->config.layers, sizeof *model->body.blocks, "the layers of a model");
    if (!model->body.blocks)
        fail(model);
    else
        model->body.count = (int)model->config.layers;
    return model->body.blocks;
}
