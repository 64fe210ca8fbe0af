/* cache.c - keys and values of one sequence for generation: [capacity, kv_heads, head_dim] twice a layer. */
#include "model/model.h"

static crank_status add_pairs(crank_context *context, const crank_model *model, crank_model_cache *cache)
{
    const crank_model_config *c = &model->config;
    for (int64_t i = 0; i < 2 * c->layers; i++) {
        int64_t dims[3] = {cache->cache.capacity, model->body.blocks[i / 2].attention.kv_heads, c->head_dim};
        char *name = crank_format(context, "cache.%lld.%s", (long long)(i / 2), i % 2 ? "values" : "keys");
        if (!name) return CRANK_FAILED;
        crank_param *param = crank_params_add(cache->params, name, CRANK_ROLE_CACHE, model->options.compute, 3, dims);
        crank_free(name);
        if (!param) return CRANK_FAILED;
        (i % 2 ? cache->cache.values : cache->cache.keys)[i / 2] = param;
    }
    return CRANK_OK;
}

crank_model_cache *crank_model_cache_new(crank_context *context, crank_model *model, int64_t capacity)
{
    const crank_model_config *c = &model->config;
    if (!model->family->decoder) {
        crank_fail(context, CRANK_USAGE, "%s is an encoder: it does not generate", c->architecture);
        return NULL;
    }
    if (capacity < 1 || capacity > c->context) {
        crank_fail(context, CRANK_USAGE, "a cache of %lld tokens: it must hold 1 to %lld (the model's context)",
                   (long long)capacity, (long long)c->context);
        return NULL;
    }
    crank_model_cache *cache = crank_alloc(context, 1, sizeof *cache, "a cache");
    if (!cache) return NULL;
    cache->cache = (nn_cache){.layers = c->layers, .capacity = capacity};
    cache->params = crank_params_new(context, model->device);
    cache->cache.keys = crank_alloc(context, (size_t)c->layers, sizeof(crank_param *), "a cache");
    cache->cache.values = crank_alloc(context, (size_t)c->layers, sizeof(crank_param *), "a cache");
    if (cache->params && model->options.dry) crank_params_defer(cache->params, true);
    if (cache->params && cache->cache.keys && cache->cache.values && add_pairs(context, model, cache) == CRANK_OK)
        return cache;
    crank_model_cache_free(cache);
    return NULL;
}

void crank_model_cache_free(crank_model_cache *cache)
{
    if (!cache) return;
    crank_params_free(cache->params);
    crank_free(cache->cache.keys);
    crank_free(cache->cache.values);
    crank_free(cache);
}
