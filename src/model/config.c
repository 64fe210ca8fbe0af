/* config.c - config.json: family, architecture, task, labels and pooling; and the typed members that families read.
 *
 * Everything comes from a file: sizes have limits, numbers must be finite, and what crank does not compute exactly is
 * refused by name rather than passed over. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "model/sentence_folder.h"

/* ---- members ---- */

void config_size(crank_model *model, crank_status *status, const char *key, int64_t high, int64_t *out)
{
    if (*status == CRANK_OK) *status = json_need_int(model->context, model->json, key, 1, high, out, model->where);
}

void config_size_or(crank_model *model, crank_status *status, const char *key, int64_t high, int64_t initial,
                    int64_t *out)
{
    if (*status == CRANK_OK)
        *status = json_get_int(model->context, model->json, key, 1, high, initial, out, model->where);
}

static void number_in(crank_model *model, crank_status *status, const json_t *object, const char *key, double low,
                      double high, double initial, double *out)
{
    if (*status == CRANK_OK) *status = json_get_number(model->context, object, key, initial, out, model->where);
    if (*status == CRANK_OK && !(*out >= low && *out <= high))
        *status = crank_fail(model->context, CRANK_BAD_DATA, "%s: `%s` is %g; it must be from %g to %g", model->where,
                             key, *out, low, high);
}

void config_number(crank_model *model, crank_status *status, const char *key, double low, double high, double initial,
                   double *out)
{
    number_in(model, status, model->json, key, low, high, initial, out);
}

void config_bool(crank_model *model, crank_status *status, const char *key, bool initial, bool *out)
{
    if (*status == CRANK_OK) *status = json_get_bool(model->context, model->json, key, initial, out, model->where);
}

void config_activation(crank_model *model, crank_status *status, const char *key, const char *initial,
                       crank_unary_kind *out)
{
    static const struct {
        const char *name;
        crank_unary_kind kind;
    } known[] = {
        {"silu", CRANK_SILU},
        {"swish", CRANK_SILU},
        {"gelu", CRANK_GELU},
        {"gelu_new", CRANK_GELU_TANH},
        {"gelu_pytorch_tanh", CRANK_GELU_TANH},
        {"gelu_fast", CRANK_GELU_TANH},
        {"relu", CRANK_RELU},
        {"tanh", CRANK_TANH},
    };
    if (*status != CRANK_OK) return;
    const char *name = json_get_string(model->context, model->json, key, model->where, status);
    if (*status != CRANK_OK) return;
    if (!name) name = initial;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            *out = known[i].kind;
            return;
        }
    *status = crank_fail(model->context, CRANK_BAD_DATA,
                         "%s: `%s` is \"%s\"; crank has silu, gelu, gelu_new, gelu_pytorch_tanh, relu and tanh",
                         model->where, key, name);
}

void config_must_be_off(crank_model *model, crank_status *status, const char *key)
{
    bool on = false;
    config_bool(model, status, key, false, &on);
    if (*status == CRANK_OK && on)
        *status =
            crank_fail(model->context, CRANK_BAD_DATA, "%s: `%s` is true; crank has no such model", model->where, key);
}

void config_note_dropout(crank_model *model, const char *const *keys)
{
    for (; *keys; keys++) {
        const json_t *rate = json_object_get(model->json, *keys);
        if (json_is_number(rate) && json_number_value(rate) > 0)
            crank_log(model->context, CRANK_INFO, "%s: `%s` %g of the config is not applied", model->where, *keys,
                      json_number_value(rate));
    }
}

void config_check_heads(crank_model *model, crank_status *status)
{
    crank_model_config *c = &model->config;
    if (*status != CRANK_OK) return;
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (!c->head_dim && c->hidden % c->heads) {
        *status = crank_fail(model->context, CRANK_BAD_DATA, "%s: hidden size %lld is no multiple of %lld heads",
                             model->where, (long long)c->hidden, (long long)c->heads);
        return;
    }
    if (!c->head_dim) c->head_dim = c->hidden / c->heads;
    if (c->heads % c->kv_heads)
        *status =
            crank_fail(model->context, CRANK_BAD_DATA, "%s: %lld heads are no multiple of %lld key and value heads",
                       model->where, (long long)c->heads, (long long)c->kv_heads);
    else if (c->heads * c->head_dim > SIZE_HIDDEN)
        *status = crank_fail(model->context, CRANK_BAD_DATA, "%s: %lld heads of %lld dims are more than %d together",
                             model->where, (long long)c->heads, (long long)c->head_dim, (int)SIZE_HIDDEN);
}

/* ---- rotary positions ---- */

static void rope_kind(crank_model *model, crank_status *status, const json_t *object, nn_rope *rope)
{
    rope->kind = NN_ROPE_DEFAULT;
    if (!object) return;
    const char *name = json_get_string(model->context, object, "rope_type", model->where, status);
    if (*status == CRANK_OK && !name) name = json_get_string(model->context, object, "type", model->where, status);
    if (*status != CRANK_OK || !name || !strcmp(name, "default")) return;
    if (!strcmp(name, "linear"))
        rope->kind = NN_ROPE_LINEAR;
    else if (!strcmp(name, "llama3"))
        rope->kind = NN_ROPE_LLAMA3;
    else
        *status =
            crank_fail(model->context, CRANK_BAD_DATA,
                       "%s: rotary scaling \"%s\" is not one of crank's: default, linear, llama3", model->where, name);
}

void config_rope(crank_model *model, crank_status *status, nn_rope *rope)
{
    if (*status != CRANK_OK) return;
    const json_t *object = json_object_get(model->json, "rope_parameters"), *outer = object;
    if (!json_is_object(object)) {
        object = json_object_get(model->json, "rope_scaling");
        outer = model->json;
    }
    if (object && !json_is_null(object) && !json_is_object(object)) {
        *status = crank_fail(model->context, CRANK_BAD_DATA, "%s: `rope_scaling` must be an object", model->where);
        return;
    }
    if (!json_is_object(object)) object = NULL;
    rope->dims = model->config.head_dim;
    double part = 1;
    number_in(model, status, outer, "rope_theta", 1e-3, 1e12, 10000, &rope->theta);
    if (object) number_in(model, status, object, "partial_rotary_factor", 0, 1, 1, &part);
    if (*status == CRANK_OK) rope_kind(model, status, object, rope);
    if (*status == CRANK_OK && (part != 1 || rope->dims % 2))
        *status = crank_fail(model->context, CRANK_BAD_DATA,
                             "%s: heads of %lld dims, %g of them rotated: all must be, and even in number",
                             model->where, (long long)rope->dims, part);
    model->config.rope_theta = rope->theta;
    if (rope->kind == NN_ROPE_DEFAULT) return;
    number_in(model, status, object, "factor", 1e-3, 1e6, 0, &rope->factor);
    if (rope->kind != NN_ROPE_LLAMA3) return;
    number_in(model, status, object, "low_freq_factor", 1e-6, 1e6, 0, &rope->low);
    number_in(model, status, object, "high_freq_factor", 1e-6, 1e6, 0, &rope->high);
    number_in(model, status, object, "original_max_position_embeddings", 1, SIZE_CONTEXT, (double)model->config.context,
              &rope->original);
    if (*status == CRANK_OK && rope->high <= rope->low)
        *status = crank_fail(model->context, CRANK_BAD_DATA, "%s: `high_freq_factor` must be above `low_freq_factor`",
                             model->where);
}

/* ---- architecture ---- */

static const struct {
    const char *suffix;
    model_task task;
} tasks[] = {
    {"Model", TASK_BODY},         {"ForCausalLM", TASK_LM},        {"LMHeadModel", TASK_LM},
    {"ForMaskedLM", TASK_MASKED}, {"ForPreTraining", TASK_MASKED}, {"ForSequenceClassification", TASK_CLASSIFY},
};

static const char *task_suffix(const char *class_name, model_task task)
{
    switch (task) {
    case TASK_LM:
        return !strcmp(class_name, "GPT2") ? "LMHeadModel" : "ForCausalLM";
    case TASK_MASKED:
        return "ForMaskedLM";
    case TASK_CLASSIFY:
        return "ForSequenceClassification";
    default:
        return "Model";
    }
}

static const model_class *find_class(crank_model *model, const char *type)
{
    for (size_t i = 0; (model->family = family_at(i)); i++)
        for (const model_class *each = model->family->classes; each->model_type; each++)
            if (!strcmp(each->model_type, type)) return each;
    text_buffer known = {0};
    for (size_t i = 0; family_at(i); i++)
        for (const model_class *each = family_at(i)->classes; each->model_type; each++)
            text_printf(&known, "%s%s", known.length ? ", " : "", each->model_type);
    crank_fail(model->context, CRANK_BAD_DATA, "%s: model_type \"%s\" is not one of crank's: %s", model->where, type,
               known.bytes ? known.bytes : "");
    text_clear(&known);
    return NULL;
}

/* The task that architectures[0] names. */
static crank_status read_task(crank_model *model, const model_class *each)
{
    const json_t *list = json_object_get(model->json, "architectures");
    const json_t *first = json_is_array(list) ? json_array_get(list, 0) : NULL;
    model->task = model->family->decoder ? TASK_LM : TASK_BODY;
    if (!list || json_is_null(list)) return CRANK_OK;
    if (!json_is_string(first))
        return crank_fail(model->context, CRANK_BAD_DATA, "%s: `architectures` must be a list of names", model->where);
    const char *name = json_string_value(first);
    size_t length = strlen(each->name);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        if (strncmp(name, each->name, length) || strcmp(name + length, tasks[i].suffix)) continue;
        model->task = tasks[i].task;
        if (model->task != (model->family->decoder ? TASK_MASKED : TASK_LM)) return CRANK_OK;
    }
    if (model->options.labels > 0 && !strncmp(name, each->name, length))
        return CRANK_OK; /* another task's head gives way */
    return crank_fail(model->context, CRANK_BAD_DATA,
                      "%s: architecture \"%s\" is not one of crank's; for model_type \"%s\" it has %sModel, %s%s and "
                      "%sForSequenceClassification",
                      model->where, name, each->model_type, each->name, each->name,
                      task_suffix(each->name, model->family->decoder ? TASK_LM : TASK_MASKED), each->name);
}

static crank_status read_labels(crank_model *model)
{
    if (model->options.labels < 0 || model->options.labels > SIZE_LABELS)
        return crank_fail(model->context, CRANK_USAGE,
                          "a classification head of %lld outputs cannot be made; choose 1 to %d",
                          (long long)model->options.labels, (int)SIZE_LABELS);
    if (model->options.labels > 0) {
        model->task = TASK_CLASSIFY;
        model->config.labels = model->options.labels;
        return CRANK_OK;
    }
    if (model->options.body) model->task = TASK_BODY;
    if (model->task != TASK_CLASSIFY) return CRANK_OK;
    const json_t *names = json_object_get(model->json, "id2label");
    int64_t count = json_is_object(names) && json_object_size(names) ? (int64_t)json_object_size(names) : 2;
    if (count > SIZE_LABELS)
        return crank_fail(model->context, CRANK_BAD_DATA, "%s: `id2label` is too long", model->where);
    return json_get_int(model->context, model->json, "num_labels", 1, SIZE_LABELS, count, &model->config.labels,
                        model->where);
}

/* ---- pooling ---- */

static const char *const pooling_names[] = {
    [POOL_MEAN] = "mean", [POOL_CLS] = "cls", [POOL_LAST] = "last", [POOL_POOLER] = "pooler"};

const char *model_pooling_label(const crank_model *model) { return pooling_names[model->pooling]; }

/* What a sentence-transformers folder says in 1_Pooling/config.json. */
static crank_status read_pooling_file(crank_context *context, crank_model *model, const char *folder, bool *found)
{
    char  told[8] = "", *place = file_join(context, folder, "1_Pooling");
    bool  without_prompt;
    if (!place) return CRANK_FAILED;
    crank_status status = sentence_pooling_read(context, place, found, told, &without_prompt);
    for (int i = 0; status == CRANK_OK && *found && i < POOL_POOLER; i++)
        if (!strcmp(told, pooling_names[i])) model->pooling = (model_pooling)i;
    if (status == CRANK_OK && *found && !*told)
        status = crank_fail(context, CRANK_BAD_DATA, "%s/config.json: crank pools by mean, first (cls) or last token, one of them; choose one with `pooling`", place);
    crank_free(place);
    return status;
}

static crank_status read_pooling(crank_context *context, crank_model *model, const char *folder)
{
    bool first = !strcmp(model->config.model_type, "bert");
    model->pooling = model->family->decoder ? POOL_LAST : first ? POOL_POOLER : POOL_CLS;
    if (!model->options.pooling) {
        return folder && model->task == TASK_BODY ? read_pooling_file(context, model, folder, &model->pooling_stated)
                                                  : CRANK_OK;
    }
    model->pooling_stated = true;
    for (size_t i = 0; i < sizeof pooling_names / sizeof *pooling_names; i++)
        if (!strcmp(model->options.pooling, pooling_names[i])) {
            model->pooling = (model_pooling)i;
            memcpy(model->pooling_name, pooling_names[i], strlen(pooling_names[i]) + 1);
            model->options.pooling = model->pooling_name;
            return CRANK_OK;
        }
    return crank_fail(context, CRANK_USAGE, "pooling `%.40s` is not one of mean, cls, last, pooler",
                      model->options.pooling);
}

/* ---- all ---- */

crank_status model_configure(crank_context *context, crank_model *model, const char *folder)
{
    crank_status status = CRANK_OK;
    if (!json_is_object(model->json))
        return crank_fail(context, CRANK_BAD_DATA, "%s: must be a JSON object", model->where);
    const char *type = json_get_string(context, model->json, "model_type", model->where, &status);
    if (status != CRANK_OK) return status;
    if (!type) return crank_fail(context, CRANK_BAD_DATA, "%s: `model_type` is missing", model->where);
    const json_t *quantized = json_object_get(model->json, "quantization_config");
    const char *method = json_string_value(json_object_get(quantized, "quant_method"));
    bool four_bits = method && !strcmp(method, "bitsandbytes") && json_is_true(json_object_get(quantized, "load_in_4bit"));
    if (quantized && !json_is_null(quantized) && !four_bits)
        return crank_fail(context, CRANK_BAD_DATA,
                          "%s: the weights are quantised (`quantization_config`), and not to bitsandbytes' four bits, which crank reads; load the original ones",
                          model->where);
    const model_class *each = find_class(model, type);
    if (!each) return CRANK_BAD_DATA;
    snprintf(model->config.model_type, sizeof model->config.model_type, "%s", each->model_type);
    if ((status = read_task(model, each)) != CRANK_OK || (status = read_labels(model)) != CRANK_OK) return status;
    snprintf(model->config.architecture, sizeof model->config.architecture, "%s%s", each->name,
             task_suffix(each->name, model->task));
    model->config.causal = model->task == TASK_LM;
    model->config.decoder = model->family->decoder;
    config_number(model, &status, "initializer_range", 0, 1e3, 0.02, &model->spread);
    if (status == CRANK_OK) status = model->family->configure(model);
    return status == CRANK_OK ? read_pooling(context, model, folder) : status;
}
