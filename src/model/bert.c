/* bert.c - encoders of the BERT shape (Devlin et al. 2019): BERT, MiniLM, E5, BGE, RoBERTa and XLM-RoBERTa.
 *
 *     x = layernorm(words[ids] + positions[p] + types[t]);   layer:  x = layernorm(x + attention x);
 *     x = layernorm(x + W_out gelu(W_in x))
 *
 * RoBERTa's positions begin at row pad_token_id + 1. Heads: pooler tanh(W x_first); classification on it (BERT), or
 * dense, tanh, projection on the first token (RoBERTa); masked language model: dense, gelu, norm, then the embedding.
 */
#include "model/model.h"

#include <string.h>

static bool is_roberta(const crank_model *model)
{
    return strcmp(model->config.model_type, "bert") != 0;
}

/* Row of the position table that token 0 of a sequence reads. */
static int64_t position_offset(crank_model *model, crank_status *status)
{
    int64_t pad = 1;
    if (!is_roberta(model)) return 0;
    if (*status == CRANK_OK)
        *status = json_get_int(model->context, model->json, "pad_token_id", 0, SIZE_VOCAB, 1, &pad, model->where);
    return pad + 1;
}

static crank_status configure(crank_model *model)
{
    static const char *const dropouts[] = {"attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout",
                                           NULL};
    crank_model_config *c = &model->config;
    crank_status status = CRANK_OK;
    config_size(model, &status, "vocab_size", SIZE_VOCAB, &c->vocab);
    config_size(model, &status, "hidden_size", SIZE_HIDDEN, &c->hidden);
    config_size(model, &status, "intermediate_size", SIZE_INNER, &c->intermediate);
    config_size(model, &status, "num_hidden_layers", SIZE_LAYERS, &c->layers);
    config_size(model, &status, "num_attention_heads", SIZE_HEADS, &c->heads);
    config_size_or(model, &status, "max_position_embeddings", SIZE_CONTEXT, 512, &c->context);
    config_size_or(model, &status, "type_vocab_size", 1 << 16, 2, &c->types);
    config_number(model, &status, "layer_norm_eps", 1e-30, 1, 1e-12, &c->epsilon);
    config_bool(model, &status, "tie_word_embeddings", true, &c->tied);
    config_must_be_off(model, &status, "is_decoder");
    config_must_be_off(model, &status, "add_cross_attention");
    const char *positions = status == CRANK_OK ? json_get_string(model->context, model->json, "position_embedding_type",
                                                                 model->where, &status)
                                               : NULL;
    model->body.position_offset = position_offset(model, &status);
    if (status != CRANK_OK) return status;
    if (positions && strcmp(positions, "absolute"))
        return crank_fail(model->context, CRANK_BAD_DATA, "%s: `position_embedding_type` is \"%s\"; crank has absolute",
                          model->where, positions);
    c->context -= model->body.position_offset;
    if (c->context < 1)
        return crank_fail(model->context, CRANK_BAD_DATA,
                          "%s: `max_position_embeddings` leaves no position behind the first %lld", model->where,
                          (long long)model->body.position_offset);
    config_check_heads(model, &status);
    config_note_dropout(model, dropouts);
    return status;
}

static void build_layer(crank_model *model, int i, crank_unary_kind activation, nn_block *block)
{
    const crank_model_config *c = &model->config;
    nn_attention *a = &block->attention;
    int reads = model_next_reads(model);
    layer_sizes sizes = config_layer_sizes(model, i);
    int64_t width = sizes.heads * c->head_dim;
    *a = (nn_attention){.heads = sizes.heads, .kv_heads = sizes.kv_heads, .head_dim = c->head_dim};
    a->attributes = (crank_attention_attributes){CRANK_MASK_NONE, 0, 1 / sqrt((double)c->head_dim), 0};
    block->norms_last = true;
    a->q = model_layer_dense(model, i, "attention.self.query", c->hidden, width, reads, 0);
    a->k = model_layer_dense(model, i, "attention.self.key", c->hidden, width, reads, 0);
    a->v = model_layer_dense(model, i, "attention.self.value", c->hidden, width, reads, 0);
    a->out = model_layer_dense(model, i, "attention.output.dense", width, c->hidden, NEW_READS, 0);
    block->attention_norm = model_layer_norm(model, i, "attention.output.LayerNorm", c->hidden, true);
    block->mlp.activation = activation;
    block->mlp.up = model_layer_dense(model, i, "intermediate.dense", c->hidden, sizes.intermediate, NEW_READS, 0);
    block->mlp.down = model_layer_dense(model, i, "output.dense", sizes.intermediate, c->hidden, NEW_READS, 0);
    block->mlp_norm = model_layer_norm(model, i, "output.LayerNorm", c->hidden, true);
}

static void build_embeddings(crank_model *model)
{
    const crank_model_config *c = &model->config;
    int64_t rows = c->context + model->body.position_offset;
    model->body.tokens =
        model_embedding(model, model_body_name(model, "embeddings.word_embeddings"), c->vocab, c->hidden);
    model->body.positions = model_param(model, model_body_name(model, "embeddings.position_embeddings.weight"), 2,
                                        (int64_t[]){rows, c->hidden}, START_NORMAL, 0);
    model->body.types = model_param(model, model_body_name(model, "embeddings.token_type_embeddings.weight"), 2,
                                    (int64_t[]){c->types, c->hidden}, START_NORMAL, 0);
    model->body.embedding_norm = model_norm(model, model_body_name(model, "embeddings.LayerNorm"), c->hidden, true);
}

/* dense, activation, norm, embedding + bias */
static void build_masked(crank_model *model, crank_unary_kind activation)
{
    const crank_model_config *c = &model->config;
    model_heads *h = &model->heads;
    bool roberta = is_roberta(model);
    const char *top = roberta ? "lm_head" : "cls.predictions";
    h->transform = model_dense(model, model_name(model, "%s.%s", top, roberta ? "dense" : "transform.dense"), c->hidden,
                               c->hidden, -1, model_next_reads(model), 0);
    h->transform_activation = roberta ? CRANK_GELU : activation;
    h->transform_norm = model_norm(
        model, model_name(model, "%s.%s", top, roberta ? "layer_norm" : "transform.LayerNorm"), c->hidden, true);
    crank_param *bias = model_param(model, model_name(model, "%s.%s", top, c->tied ? "bias" : "decoder.bias"), 1,
                                    &c->vocab, START_ZERO, 0);
    model_vocabulary(model, model_name(model, "%s.decoder", top), bias);
}

static void build_classifier(crank_model *model)
{
    const crank_model_config *c = &model->config;
    model_heads *h = &model->heads;
    if (!is_roberta(model)) {
        model_classifier(model, "classifier", 0);
        return;
    }
    h->dense = model_dense(model, "classifier.dense", c->hidden, c->hidden, -1, model_next_reads(model),
                           model->options.labels > 0 ? WEIGHT_FRESH : 0);
    h->dense_activation = CRANK_TANH;
    model_classifier(model, "classifier.out_proj", 0);
}

static void build(crank_model *model)
{
    const crank_model_config *c = &model->config;
    crank_unary_kind activation = CRANK_GELU;
    bool classify = model->task == TASK_CLASSIFY, roberta = is_roberta(model);
    config_activation(model, &model->status, "hidden_act", "gelu", &activation);
    build_embeddings(model);
    nn_block *blocks = model_blocks(model);
    for (int i = 0; blocks && i < c->layers; i++) build_layer(model, i, activation, &blocks[i]);
    const char *pooler = model_body_name(model, "pooler.dense");
    bool needed = classify && !roberta;
    if (needed || (model->task == TASK_BODY && model_file_has(model, model_name(model, "%s.weight", pooler))))
        model->heads.pooler = model_dense(model, pooler, c->hidden, c->hidden, -1, model_next_reads(model),
                                          model->options.labels > 0 ? WEIGHT_FRESH : 0);
    if (model->task == TASK_MASKED) build_masked(model, activation);
    if (classify) build_classifier(model);
}

static const char *const heads[] = {"cls.", "classifier.", "pooler.", "lm_head.", "qa_outputs.", NULL};
static const model_class bert_classes[] = {{"bert", "Bert"}, {NULL, NULL}};
static const model_class roberta_classes[] = {{"roberta", "Roberta"}, {"xlm-roberta", "XLMRoberta"}, {NULL, NULL}};

const model_family family_bert = {
    .name = "bert",
    .summary = "encoders with learned positions and norms behind each part: BERT, MiniLM, E5, BGE, cross-encoders",
    .classes = bert_classes,
    .prefix = "bert.",
    .layer = "encoder.layer",
    .heads = heads,
    .configure = configure,
    .build = build,
};

const model_family family_roberta = {
    .name = "roberta",
    .summary = "BERT encoders with positions behind the padding row and a head on the first token: RoBERTa, "
               "XLM-RoBERTa, BGE-M3",
    .classes = roberta_classes,
    .prefix = "roberta.",
    .layer = "encoder.layer",
    .heads = heads,
    .configure = configure,
    .build = build,
};
