/* config_layers.c - layers of different sizes: what is left where heads and neurons were pruned layer by layer. */
#include "model/model.h"

/* Member `layer` of the list, in 1..high; `initial` where there is no such list. */
static int64_t size_at(crank_model *model, const json_t *lists, const char *key, int64_t layer, int64_t high, int64_t initial)
{
    const json_t *list = json_object_get(lists, key), *value = json_array_get(list, (size_t)layer);
    if (!list || model->status != CRANK_OK) return initial;
    if (json_array_size(list) == (size_t)model->config.layers && json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= high)
        return json_integer_value(value);
    model->status = crank_fail(model->context, CRANK_BAD_DATA, "%s: `crank_layers.%s` must hold a whole number from 1 to %lld for each of %lld layers", model->where, key,
                               (long long)high, (long long)model->config.layers);
    return initial;
}

layer_sizes config_layer_sizes(crank_model *model, int64_t layer)
{
    const crank_model_config *c = &model->config;
    const json_t             *lists = json_object_get(model->json, "crank_layers");
    layer_sizes               sizes = {c->heads, c->kv_heads, c->intermediate};
    if (!lists) return sizes;
    sizes.kv_heads = size_at(model, lists, "kv_heads", layer, c->kv_heads, c->kv_heads);
    sizes.heads = sizes.kv_heads * (c->heads / c->kv_heads);
    sizes.intermediate = size_at(model, lists, "intermediate", layer, c->intermediate, c->intermediate);
    return sizes;
}
