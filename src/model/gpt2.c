/* gpt2.c - GPT-2 decoders (Radford et al. 2019).
 *
 *     x = wte[ids] + wpe[positions];   layer:  x += attention(layernorm x);  x += W_proj gelu(W_fc layernorm x); last:
 * layernorm x
 *
 * Checkpoints hold the linears of a layer as Conv1D: weights [in, out]. q, k, v are one linear. The head is the
 * embedding. */
#include "model/model.h"

typedef struct scaling {
    bool by_head, by_layer;
} scaling;

static crank_status configure(crank_model *model)
{
    static const char *const dropouts[] = {"attn_pdrop", "embd_pdrop", "resid_pdrop", NULL};
    crank_model_config *c = &model->config;
    crank_status status = CRANK_OK;
    config_size(model, &status, "vocab_size", SIZE_VOCAB, &c->vocab);
    config_size(model, &status, "n_embd", SIZE_HIDDEN, &c->hidden);
    config_size(model, &status, "n_layer", SIZE_LAYERS, &c->layers);
    config_size(model, &status, "n_head", SIZE_HEADS, &c->heads);
    config_size_or(model, &status, "n_inner", SIZE_INNER, 4 * c->hidden, &c->intermediate);
    config_size_or(model, &status, "n_positions", SIZE_CONTEXT, 1024, &c->context);
    config_number(model, &status, "layer_norm_epsilon", 1e-30, 1, 1e-5, &c->epsilon);
    config_bool(model, &status, "tie_word_embeddings", true, &c->tied);
    config_must_be_off(model, &status, "add_cross_attention");
    config_check_heads(model, &status);
    config_note_dropout(model, dropouts);
    return status;
}

static void build_layer(crank_model *model, int i, scaling scale, crank_unary_kind activation, nn_block *block)
{
    const crank_model_config *c = &model->config;
    nn_attention *a = &block->attention;
    layer_sizes sizes = config_layer_sizes(model, i);
    int64_t width = sizes.heads * c->head_dim;
    *a = (nn_attention){.heads = sizes.heads, .kv_heads = sizes.kv_heads, .head_dim = c->head_dim};
    a->attributes = (crank_attention_attributes){
        CRANK_MASK_CAUSAL, 0, (scale.by_head ? 1 / sqrt((double)c->head_dim) : 1) / (scale.by_layer ? i + 1 : 1), 0};
    block->attention_norm = model_layer_norm(model, i, "ln_1", c->hidden, true);
    a->qkv = model_layer_dense(model, i, "attn.c_attn", c->hidden, 3 * width, NEW_READS, WEIGHT_TRANSPOSED);
    a->out = model_layer_dense(model, i, "attn.c_proj", width, c->hidden, NEW_READS, WEIGHT_TRANSPOSED);
    block->mlp_norm = model_layer_norm(model, i, "ln_2", c->hidden, true);
    block->mlp.activation = activation;
    block->mlp.up = model_layer_dense(model, i, "mlp.c_fc", c->hidden, sizes.intermediate, NEW_READS, WEIGHT_TRANSPOSED);
    block->mlp.down =
        model_layer_dense(model, i, "mlp.c_proj", sizes.intermediate, c->hidden, NEW_READS, WEIGHT_TRANSPOSED);
}

static void build(crank_model *model)
{
    const crank_model_config *c = &model->config;
    scaling scale = {0};
    crank_unary_kind activation = CRANK_GELU_TANH;
    config_activation(model, &model->status, "activation_function", "gelu_new", &activation);
    config_bool(model, &model->status, "scale_attn_weights", true, &scale.by_head);
    config_bool(model, &model->status, "scale_attn_by_inverse_layer_idx", false, &scale.by_layer);
    model->body.tokens = model_embedding(model, model_body_name(model, "wte"), c->vocab, c->hidden);
    model->body.positions = model_param(model, model_body_name(model, "wpe.weight"), 2,
                                        (int64_t[]){c->context, c->hidden}, START_NORMAL, 0);
    nn_block *blocks = model_blocks(model);
    for (int i = 0; blocks && i < c->layers; i++) build_layer(model, i, scale, activation, &blocks[i]);
    model->body.last_norm = model_norm(model, model_body_name(model, "ln_f"), c->hidden, true);
    if (model->task == TASK_LM) model_vocabulary(model, "lm_head", NULL);
    if (model->task == TASK_CLASSIFY) model_classifier(model, "score", WEIGHT_NO_BIAS);
}

static const model_class classes[] = {{"gpt2", "GPT2"}, {NULL, NULL}};
static const char *const heads[] = {"lm_head.", "score.", NULL};

const model_family family_gpt2 = {
    .name = "gpt2",
    .summary = "decoders with learned positions and layer norms: GPT-2, DistilGPT-2",
    .classes = classes,
    .prefix = "transformer.",
    .layer = "h",
    .heads = heads,
    .decoder = true,
    .configure = configure,
    .build = build,
};
