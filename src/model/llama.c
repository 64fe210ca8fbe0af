/* llama.c - decoders of the Llama shape: Llama 2 and 3, SmolLM, Mistral, Qwen2 and 2.5, Qwen3.
 *
 *     layer:  x += attention(rmsnorm x);  x += W_down (silu(W_gate y) * W_up y), y = rmsnorm x         last:  rmsnorm x
 *
 * Rotary positions, grouped queries. Qwen2 has biases on q, k, v; Qwen3 norms q and k over each head; Mistral looks
 * back `sliding_window` tokens, Qwen only in the layers that layer_types (or max_window_layers) names. */
#include "model/model.h"

#include <string.h>

static bool is(const crank_model *model, const char *type)
{
    return !strcmp(model->config.model_type, type);
}

static crank_status configure(crank_model *model)
{
    static const char *const dropouts[] = {"attention_dropout", NULL};
    crank_model_config *c = &model->config;
    crank_status status = CRANK_OK;
    /* A key that is absent has the release's default, null means as many as heads. */
    int64_t kv_heads = is(model, "mistral") && !json_object_get(model->json, "num_key_value_heads") ? 8 : 0;
    config_size(model, &status, "vocab_size", SIZE_VOCAB, &c->vocab);
    config_size(model, &status, "hidden_size", SIZE_HIDDEN, &c->hidden);
    config_size(model, &status, "intermediate_size", SIZE_INNER, &c->intermediate);
    config_size(model, &status, "num_hidden_layers", SIZE_LAYERS, &c->layers);
    config_size(model, &status, "num_attention_heads", SIZE_HEADS, &c->heads);
    config_size_or(model, &status, "num_key_value_heads", SIZE_HEADS, kv_heads, &c->kv_heads);
    config_size_or(model, &status, "head_dim", SIZE_HIDDEN, is(model, "qwen3") ? 128 : 0, &c->head_dim);
    config_size_or(model, &status, "max_position_embeddings", SIZE_CONTEXT, 2048, &c->context);
    config_number(model, &status, "rms_norm_eps", 1e-30, 1, 1e-6, &c->epsilon);
    config_bool(model, &status, "tie_word_embeddings", false, &c->tied);
    config_check_heads(model, &status);
    config_rope(model, &status, &model->body.rope);
    bool windowed = is(model, "mistral");
    if (is(model, "qwen2") || is(model, "qwen3")) config_bool(model, &status, "use_sliding_window", false, &windowed);
    if (windowed)
        config_size_or(model, &status, "sliding_window", SIZE_CONTEXT, is(model, "mistral") ? 0 : 4096, &c->window);
    config_note_dropout(model, dropouts);
    return status;
}

/* The window of one layer; sets the model's sticky error for a bad layer_types. */
static int64_t layer_window(crank_model *model, int64_t layer)
{
    const json_t *types = json_object_get(model->json, "layer_types");
    int64_t first = 0;
    if (!model->config.window || is(model, "mistral")) return model->config.window;
    if (!types || json_is_null(types)) {
        if (model->status == CRANK_OK)
            model->status = json_get_int(model->context, model->json, "max_window_layers", 0, SIZE_LAYERS, 28, &first,
                                         model->where);
        return layer >= first ? model->config.window : 0;
    }
    const char *type = json_string_value(json_array_get(types, (size_t)layer));
    if (type && json_array_size(types) == (size_t)model->config.layers) {
        if (!strcmp(type, "sliding_attention")) return model->config.window;
        if (!strcmp(type, "full_attention")) return 0;
    }
    if (model->status == CRANK_OK)
        model->status =
            crank_fail(model->context, CRANK_BAD_DATA,
                       "%s: `layer_types` must name full_attention or sliding_attention for each of %lld layers",
                       model->where, (long long)model->config.layers);
    return 0;
}

static void build_attention(crank_model *model, int i, layer_sizes sizes, bool qkv_bias, bool out_bias, nn_attention *a)
{
    const crank_model_config *c = &model->config;
    unsigned bias = qkv_bias ? 0 : WEIGHT_NO_BIAS;
    int reads = model_next_reads(model);
    *a = (nn_attention){.heads = sizes.heads, .kv_heads = sizes.kv_heads, .head_dim = c->head_dim};
    a->attributes =
        (crank_attention_attributes){CRANK_MASK_CAUSAL, layer_window(model, i), 1 / sqrt((double)c->head_dim), 0};
    int64_t q = sizes.heads * c->head_dim, kv = sizes.kv_heads * c->head_dim;
    a->q = model_layer_dense(model, i, "self_attn.q_proj", c->hidden, q, reads, bias);
    a->k = model_layer_dense(model, i, "self_attn.k_proj", c->hidden, kv, reads, bias);
    a->v = model_layer_dense(model, i, "self_attn.v_proj", c->hidden, kv, reads, bias);
    if (is(model, "qwen3")) {
        a->q_norm = model_layer_norm(model, i, "self_attn.q_norm", c->head_dim, false);
        a->k_norm = model_layer_norm(model, i, "self_attn.k_norm", c->head_dim, false);
    }
    a->out = model_layer_dense(model, i, "self_attn.o_proj", q, c->hidden, NEW_READS, out_bias ? 0 : WEIGHT_NO_BIAS);
}

static void build_layer(crank_model *model, int i, bool attention_bias, bool mlp_bias, crank_unary_kind activation,
                        nn_block *block)
{
    const crank_model_config *c = &model->config;
    unsigned bias = mlp_bias ? 0 : WEIGHT_NO_BIAS;
    layer_sizes sizes = config_layer_sizes(model, i);
    block->attention_norm = model_layer_norm(model, i, "input_layernorm", c->hidden, false);
    build_attention(model, i, sizes, attention_bias || is(model, "qwen2"), attention_bias, &block->attention);
    block->mlp_norm = model_layer_norm(model, i, "post_attention_layernorm", c->hidden, false);
    int reads = model_next_reads(model);
    block->mlp.activation = activation;
    block->mlp.gate = model_layer_dense(model, i, "mlp.gate_proj", c->hidden, sizes.intermediate, reads, bias);
    block->mlp.up = model_layer_dense(model, i, "mlp.up_proj", c->hidden, sizes.intermediate, reads, bias);
    block->mlp.down = model_layer_dense(model, i, "mlp.down_proj", sizes.intermediate, c->hidden, NEW_READS, bias);
}

static void build(crank_model *model)
{
    const crank_model_config *c = &model->config;
    bool attention_bias = false, mlp_bias = false;
    crank_unary_kind activation = CRANK_SILU;
    config_activation(model, &model->status, "hidden_act", "silu", &activation);
    if (is(model, "llama") || is(model, "qwen3"))
        config_bool(model, &model->status, "attention_bias", false, &attention_bias);
    if (is(model, "llama")) config_bool(model, &model->status, "mlp_bias", false, &mlp_bias);
    if (model->status == CRANK_OK && activation != CRANK_SILU && activation != CRANK_GELU &&
        activation != CRANK_GELU_TANH)
        model->status = crank_fail(model->context, CRANK_BAD_DATA,
                                   "%s: `hidden_act` of a gated layer must be silu or gelu", model->where);
    model->body.tokens = model_embedding(model, model_body_name(model, "embed_tokens"), c->vocab, c->hidden);
    nn_block *blocks = model_blocks(model);
    for (int i = 0; blocks && i < c->layers; i++)
        build_layer(model, i, attention_bias, mlp_bias, activation, &blocks[i]);
    model->body.last_norm = model_norm(model, model_body_name(model, "norm"), c->hidden, false);
    if (model->task == TASK_LM) model_vocabulary(model, "lm_head", NULL);
    if (model->task == TASK_CLASSIFY) model_classifier(model, "score", WEIGHT_NO_BIAS);
}

static const model_class classes[] = {
    {"llama", "Llama"}, {"mistral", "Mistral"}, {"qwen2", "Qwen2"}, {"qwen3", "Qwen3"}, {NULL, NULL}};
static const char *const heads[] = {"lm_head.", "score.", NULL};

const model_family family_llama = {
    .name = "llama",
    .summary = "decoders with rotary positions and gated layers: Llama 2 and 3, SmolLM, Mistral, Qwen2, Qwen2.5, Qwen3",
    .classes = classes,
    .prefix = "model.",
    .layer = "layers",
    .heads = heads,
    .decoder = true,
    .configure = configure,
    .build = build,
};
