/* distilbert.c - DistilBERT encoders (Sanh et al. 2019): BERT's layers without token types and pooler.
 *
 * Classification: relu(W_pre x_first + b), then the classifier. Masked language model: dense, gelu, norm, embedding +
 * bias. */
#include "model/model.h"

static crank_status configure(crank_model *model)
{
    static const char *const dropouts[] = {"attention_dropout", "dropout", "seq_classif_dropout", NULL};
    crank_model_config *c = &model->config;
    crank_status status = CRANK_OK;
    config_size(model, &status, "vocab_size", SIZE_VOCAB, &c->vocab);
    config_size(model, &status, "dim", SIZE_HIDDEN, &c->hidden);
    config_size(model, &status, "hidden_dim", SIZE_INNER, &c->intermediate);
    config_size(model, &status, "n_layers", SIZE_LAYERS, &c->layers);
    config_size(model, &status, "n_heads", SIZE_HEADS, &c->heads);
    config_size_or(model, &status, "max_position_embeddings", SIZE_CONTEXT, 512, &c->context);
    config_bool(model, &status, "tie_word_embeddings", true, &c->tied);
    c->epsilon = 1e-12; /* fixed in the reference */
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
    a->q = model_layer_dense(model, i, "attention.q_lin", c->hidden, width, reads, 0);
    a->k = model_layer_dense(model, i, "attention.k_lin", c->hidden, width, reads, 0);
    a->v = model_layer_dense(model, i, "attention.v_lin", c->hidden, width, reads, 0);
    a->out = model_layer_dense(model, i, "attention.out_lin", width, c->hidden, NEW_READS, 0);
    block->attention_norm = model_layer_norm(model, i, "sa_layer_norm", c->hidden, true);
    block->mlp.activation = activation;
    block->mlp.up = model_layer_dense(model, i, "ffn.lin1", c->hidden, sizes.intermediate, NEW_READS, 0);
    block->mlp.down = model_layer_dense(model, i, "ffn.lin2", sizes.intermediate, c->hidden, NEW_READS, 0);
    block->mlp_norm = model_layer_norm(model, i, "output_layer_norm", c->hidden, true);
}

static void build_heads(crank_model *model, crank_unary_kind activation)
{
    const crank_model_config *c = &model->config;
    model_heads *h = &model->heads;
    if (model->task == TASK_CLASSIFY) {
        h->dense = model_dense(model, "pre_classifier", c->hidden, c->hidden, -1, model_next_reads(model),
                               model->options.labels > 0 ? WEIGHT_FRESH : 0);
        h->dense_activation = CRANK_RELU;
        model_classifier(model, "classifier", 0);
    }
    if (model->task != TASK_MASKED) return;
    h->transform = model_dense(model, "vocab_transform", c->hidden, c->hidden, -1, model_next_reads(model), 0);
    h->transform_activation = activation;
    h->transform_norm = model_norm(model, "vocab_layer_norm", c->hidden, true);
    model_vocabulary(model, "vocab_projector", model_param(model, "vocab_projector.bias", 1, &c->vocab, START_ZERO, 0));
}

static void build(crank_model *model)
{
    const crank_model_config *c = &model->config;
    crank_unary_kind activation = CRANK_GELU;
    config_activation(model, &model->status, "activation", "gelu", &activation);
    model->body.tokens =
        model_embedding(model, model_body_name(model, "embeddings.word_embeddings"), c->vocab, c->hidden);
    model->body.positions = model_param(model, model_body_name(model, "embeddings.position_embeddings.weight"), 2,
                                        (int64_t[]){c->context, c->hidden}, START_NORMAL, 0);
    model->body.embedding_norm = model_norm(model, model_body_name(model, "embeddings.LayerNorm"), c->hidden, true);
    nn_block *blocks = model_blocks(model);
    for (int i = 0; blocks && i < c->layers; i++) build_layer(model, i, activation, &blocks[i]);
    build_heads(model, activation);
}

static const model_class classes[] = {{"distilbert", "DistilBert"}, {NULL, NULL}};
static const char *const heads[] = {
    "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.", "classifier.", "qa_outputs.", NULL};

const model_family family_distilbert = {
    .name = "distilbert",
    .summary = "encoders without token types and pooler: DistilBERT",
    .classes = classes,
    .prefix = "distilbert.",
    .layer = "transformer.layer",
    .heads = heads,
    .configure = configure,
    .build = build,
};
