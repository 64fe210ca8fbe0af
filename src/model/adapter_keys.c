/* adapter_keys.c - names of an adapter's tensors in files.
 *
 *   PEFT     base_model.model.<linear>.<suffix>          what the method made: lora_A.weight, lora_magnitude_vector, ...
 *            base_model.model.<linear>.base_layer.bias   a trained bias of an adapted linear
 *            base_model.model.<parameter>                other trained parameters: biases, modules_to_save
 *   crank    <linear>.<name>, <parameter>                the method's own names */
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "linear/quantized.h"
#include "linear/stack.h"
#include "model/adapter.h"
#include "model/model.h"

#define PEFT_PREFIX "base_model.model."

void adapter_list_free(adapter_tensors *tensors)
{
    for (size_t i = 0; i < tensors->count; i++) {
        crank_free(tensors->items[i].key);
        crank_free(tensors->items[i].other);
    }
    for (size_t i = 0; i < tensors->module_count; i++) crank_free(tensors->modules[i]);
    free(tensors->items);
    free(tensors->modules);
    *tensors = (adapter_tensors){ 0 };
}

/* Takes key and other; NULL key: out of memory. */
static crank_status add(crank_context *context, adapter_tensors *list, crank_param *param, char *key, char *other)
{
    if (!key || !stack_grow(context, &list->items, list->count, &list->capacity, sizeof *list->items, "tensors of an adapter")) {
        crank_free(key);
        crank_free(other);
        return CRANK_FAILED;
    }
    list->items[list->count++] = (adapter_tensor){ .param = param, .key = key, .other = other };
    return CRANK_OK;
}

static crank_status add_module(crank_context *context, adapter_tensors *list, const char *param)
{
    size_t length = (size_t)(strrchr(param, '.') ? strrchr(param, '.') - param : 0);
    for (size_t i = 0; i < list->module_count; i++)
        if (strlen(list->modules[i]) == length && memcmp(list->modules[i], param, length) == 0) return CRANK_OK;
    if (!stack_grow(context, &list->modules, list->module_count, &list->module_capacity, sizeof *list->modules, "modules"))
        return CRANK_FAILED;
    char *path = crank_format(context, "%.*s", (int)length, param);
    if (!path) return CRANK_FAILED;
    list->modules[list->module_count++] = path;
    return CRANK_OK;
}

/* ---- what the method made ---- */

static crank_status add_method_tensor(crank_context *context, const crank_attachment *attachment, crank_param *param, bool peft,
                                      adapter_tensors *list)
{
    const crank_site *site = param->user;
    const char       *name = site_param_name(site, param);
    if (param->role != CRANK_ROLE_METHOD) return CRANK_OK;
    if (!peft) return add(context, list, param, crank_format(context, "%s.%s", site->linear->name, name), NULL);
    const char *suffix = attachment->map->peft_name ? attachment->map->peft_name(site, name) : name;
    if (!suffix) return CRANK_OK;
    if (strncmp(suffix, "base_model.", 11) == 0) return add(context, list, param, crank_strdup(context, suffix), NULL);
    if (strcmp(suffix, "miss_block") == 0) /* files of PEFT's older releases, type BONE */
        return add(context, list, param, crank_format(context, PEFT_PREFIX "%s.%s", site->linear->name, suffix),
                   crank_format(context, PEFT_PREFIX "%s.bone_block", site->linear->name));
    if (*suffix == '_') /* the cores of LoRA-XS: PEFT takes the adapter's name ".default" out of the module's */
        return add(context, list, param, crank_format(context, PEFT_PREFIX "%s%s", site->linear->name, suffix),
                   crank_format(context, PEFT_PREFIX "%s.default%s", site->linear->name, suffix));
    return add(context, list, param, crank_format(context, PEFT_PREFIX "%s.%s", site->linear->name, suffix), NULL);
}

/* ---- what it trains of the model ---- */

static bool is_adapted_bias(const crank_attachment *attachment, const crank_param *param)
{
    for (int i = 0; i < attachment->count; i++)
        if (attachment->sites[i].linear->bias == param) return true;
    return false;
}

static bool is_transposed(const crank_linears *linears, const crank_param *param)
{
    for (size_t i = 0; i < linears->count; i++)
        if (linears->items[i]->weight == param) return linears->items[i]->transposed_file;
    return false;
}

static crank_status add_trained(crank_context *context, const crank_attachment *attachment, crank_param *param, bool peft,
                                adapter_tensors *list)
{
    const char  *name = param->name, *dot = strrchr(name, '.');
    bool         inner = peft && dot && is_adapted_bias(attachment, param);
    char        *plain = crank_format(context, "%s%s", peft ? PEFT_PREFIX : "", name);
    char        *key = inner ? crank_format(context, PEFT_PREFIX "%.*s.base_layer%s", (int)(dot - name), name, dot) : plain;
    crank_status status = add(context, list, param, key, inner ? plain : NULL);
    if (status == CRANK_OK) list->items[list->count - 1].transposed = is_transposed(attachment->linears, param);
    return status;
}

static bool listed(const adapter_tensors *list, const crank_param *param)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].param == param) return true;
    return false;
}

/* Weights that were made trainable beside the attachment: their modules are saved with it. */
static crank_status add_others(crank_context *context, const crank_attachment *attachment, bool peft, adapter_tensors *list)
{
    crank_params *params = attachment->linears->params;
    for (size_t i = 0; i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        if (param->role != CRANK_ROLE_WEIGHT || !param->trainable || listed(list, param)) continue;
        if (add_trained(context, attachment, param, peft, list) || add_module(context, list, param->name)) return CRANK_FAILED;
    }
    return CRANK_OK;
}

crank_status adapter_list(crank_context *context, crank_attachment *attachment, bool peft, bool others,
                          adapter_tensors *out)
{
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < attachment->param_count; i++)
        status = add_method_tensor(context, attachment, attachment->params[i], peft, out);
    for (size_t i = 0; status == CRANK_OK && i < attachment->trained_count; i++)
        status = add_trained(context, attachment, attachment->trained[i].param, peft, out);
    if (status == CRANK_OK && others) status = add_others(context, attachment, peft, out);
    return status;
}

/* ---- the base ---- */

/* Row `row` of a [rows, width] parameter, or of a vector taken as one, as bf16 bits, into the hash. */
static crank_status hash_row(crank_context *context, sha256 *hash, const crank_param *param, int64_t row, int64_t width)
{
    crank_param  line = *param;
    size_t       size = crank_dtype_bits(param->view.dtype) / 8;
    uint16_t    *bits = crank_alloc(context, (size_t)width, sizeof *bits, "a row of a weight");
    crank_status status = bits ? CRANK_OK : CRANK_FAILED;
    line.view = crank_view_make((char *)param->view.data + (size_t)(row * (param->view.rank == 2 ? param->view.strides[0] : width)) * size, param->view.dtype, 1, &width);
    if (status == CRANK_OK) status = crank_param_read(context, &line, bits, CRANK_BF16);
    if (status == CRANK_OK) sha256_add(hash, bits, (size_t)width * sizeof *bits);
    crank_free(bits);
    return status;
}

/* The rows that the weight had when it was quantised, so that an adapter of a quantised base is one of the dense base too; of a file that
 * held no others, the rows that the codes stand for. */
static crank_status hash_quantized(crank_context *context, sha256 *hash, const crank_linear *linear)
{
    size_t       in = (size_t)linear->in;
    uint16_t    *bits = crank_alloc(context, in, sizeof *bits, "a row of a weight");
    float       *row = crank_alloc(context, in, sizeof *row, "a row of a weight");
    crank_status status = bits && row ? CRANK_OK : CRANK_FAILED;
    for (int end = 0; end < 2 && status == CRANK_OK; end++) {
        const uint16_t *kept = linear->quantized->edges;
        if (!kept) status = crank_linear_rows(context, linear, end ? linear->out - 1 : 0, 1, row);
        if (!kept && status == CRANK_OK) crank_convert(bits, CRANK_BF16, row, CRANK_F32, in);
        if (status == CRANK_OK) sha256_add(hash, kept ? kept + (size_t)end * in : bits, in * sizeof *bits);
    }
    crank_free(bits);
    crank_free(row);
    return status;
}

crank_status adapter_base(crank_context *context, crank_attachment *attachment, char out[65])
{
    sha256 hash;
    sha256_start(&hash);
    for (int i = 0; i < attachment->count; i++) {
        const crank_linear *linear = attachment->sites[i].linear;
        const int64_t       sizes[2] = { linear->out, linear->in };
        sha256_add(&hash, linear->name, strlen(linear->name) + 1);
        sha256_add(&hash, sizes, sizeof sizes);
        if (linear->quantized && hash_quantized(context, &hash, linear)) return crank_last_status(context);
        if (!linear->weight) continue;
        const int64_t *dims = linear->weight->view.dims;
        if (hash_row(context, &hash, linear->weight, 0, dims[1]) || hash_row(context, &hash, linear->weight, dims[0] - 1, dims[1]))
            return crank_last_status(context);
    }
    sha256_hex(&hash, out);
    return CRANK_OK;
}

/* ---- the method ---- */

const crank_map *adapter_peft_map(crank_context *context, const json_t *config, const char *where)
{
    crank_status status = CRANK_OK;
    bool         dora = false;
    const char  *type = json_get_string(context, config, "peft_type", where, &status);
    if (status == CRANK_OK && !type) status = crank_fail(context, CRANK_BAD_DATA, "%s: `peft_type` is missing", where);
    if (status == CRANK_OK) status = json_get_bool(context, config, "use_dora", false, &dora, where);
    if (status) return NULL;
    if (strcmp(type, "LORA") == 0) return crank_map_find(dora ? "dora" : "lora"); /* two methods share this type */
    if (strcmp(type, "MISS") == 0 || strcmp(type, "BONE") == 0) { /* and this one */
        const char *init = json_string_value(json_object_get(config, "init_weights"));
        return crank_map_find(init && strcmp(init, "bat") == 0 ? "bone" : "miss");
    }
    const crank_map *map;
    for (size_t i = 0; (map = crank_map_at(i)); i++)
        if (map->peft_type && strcmp(map->peft_type, type) == 0) return map;
    crank_fail(context, CRANK_BAD_DATA, "%s: adapters of the type `%s` are not read", where, type);
    return NULL;
}
