/* gguf.c - models as GGUF files, by the names and keys that llama.cpp's readers know.
 *
 *   names      model.layers.N.self_attn.q_proj.weight -> blk.N.attn_q.weight, .. (tables below)
 *   q and k    of Llama and Mistral: rows of a head [2, dim/2] become [dim/2, 2], so that rotation turns neighbours
 *   values     matrices in the asked type, vectors in f32; RoBERTa's rows of positions before the first real one go
 *   rope       Llama 3's frequencies as the tensor rope_freqs.weight
 *
 * What the format has no place for (heads of encoders, sliding windows) is listed for the caller. */
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

typedef struct name_pair {
    const char *ours, *theirs;
} name_pair;

static const name_pair llama_layer[] = {{"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
                                        {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
                                        {"post_attention_layernorm", "ffn_norm"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}, {NULL, NULL}};
static const name_pair llama_top[] = {{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}, {NULL, NULL}};
static const name_pair gpt2_layer[] = {{"ln_1", "attn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"}, {"ln_2", "ffn_norm"}, {"mlp.c_fc", "ffn_up"},
                                       {"mlp.c_proj", "ffn_down"}, {NULL, NULL}};
static const name_pair gpt2_top[] = {{"wte", "token_embd"}, {"wpe", "position_embd"}, {"ln_f", "output_norm"}, {"lm_head", "output"}, {NULL, NULL}};
static const name_pair bert_layer[] = {{"attention.self.query", "attn_q"}, {"attention.self.key", "attn_k"}, {"attention.self.value", "attn_v"}, {"attention.output.dense", "attn_output"},
                                       {"attention.output.LayerNorm", "attn_output_norm"}, {"intermediate.dense", "ffn_up"}, {"output.dense", "ffn_down"},
                                       {"output.LayerNorm", "layer_output_norm"}, {NULL, NULL}};
static const name_pair bert_top[] = {{"embeddings.word_embeddings", "token_embd"}, {"embeddings.position_embeddings", "position_embd"}, {"embeddings.token_type_embeddings", "token_types"},
                                     {"embeddings.LayerNorm", "token_embd_norm"}, {NULL, NULL}};

static bool encoder(const crank_model *model) { return model->family == &family_bert || model->family == &family_roberta; }

const char *gguf_architecture(crank_context *context, const crank_model *model)
{
    const char *type = model->config.model_type;
    if (model->family == &family_llama) return !strcmp(type, "mistral") ? "llama" : type;
    if (model->family == &family_gpt2) return "gpt2";
    if (encoder(model)) return "bert";
    crank_fail(context, CRANK_USAGE, "%s is not written as GGUF: families llama, mistral, qwen2, qwen3, gpt2, bert and roberta are", model->config.architecture);
    return NULL;
}

/* ---- names ---- */

static const char *look_up(const name_pair *table, const char *module, size_t length)
{
    for (; table->ours; table++)
        if (strlen(table->ours) == length && !strncmp(table->ours, module, length)) return table->theirs;
    return NULL;
}

bool gguf_name(const crank_model *model, const char *name, char out[64])
{
    bool             gpt2 = model->family == &family_gpt2, encodes = encoder(model);
    const name_pair *layer = gpt2 ? gpt2_layer : encodes ? bert_layer : llama_layer, *top = gpt2 ? gpt2_top : encodes ? bert_top : llama_top;
    const char      *prefix = model->family->prefix, *at = name, *end = strrchr(name, '.');
    size_t           inner = strlen(model->family->layer);
    if (prefix && !strncmp(at, prefix, strlen(prefix))) at += strlen(prefix);
    if (!end || (strcmp(end, ".weight") && strcmp(end, ".bias"))) end = name + strlen(name);
    if (strncmp(at, model->family->layer, inner) || at[inner] != '.') {
        const char *found = at < end ? look_up(top, at, (size_t)(end - at)) : NULL;
        if (found) snprintf(out, 64, "%s%s", found, end);
        return found != NULL;
    }
    char *rest;
    long  number = strtol(at + inner + 1, &rest, 10);
    if (*rest != '.' || rest >= end) return false;
    const char *found = look_up(layer, rest + 1, (size_t)(end - rest - 1));
    if (found) snprintf(out, 64, "blk.%ld.%s%s", number, found, end);
    return found != NULL;
}

/* ---- rows of q and k ---- */

bool gguf_permutes(const crank_model *model, const crank_linear *linear)
{
    if (model->family != &family_llama || (strcmp(model->config.model_type, "llama") && strcmp(model->config.model_type, "mistral"))) return false;
    for (int i = 0; linear && i < model->body.count; i++)
        if (linear == model->body.blocks[i].attention.q || linear == model->body.blocks[i].attention.k) return true;
    return false;
}

int64_t gguf_row(int64_t row, int64_t dim) { return row / dim * dim + row % dim / 2 + row % 2 * (dim / 2); }

void gguf_permute(const float *from, int64_t rows, int64_t cols, int64_t dim, float *to)
{
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * cols, from + gguf_row(i, dim) * cols, (size_t)cols * sizeof *to);
}

/* ---- keys ---- */

static void put_key(gguf_writer *w, const char *architecture, const char *key, int64_t value)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    gguf_u32(w, name, (uint32_t)value);
}

static void put_real(gguf_writer *w, const char *architecture, const char *key, double value)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    gguf_f32(w, name, (float)value);
}

static void put_rope(gguf_writer *w, const char *a, const crank_model *model)
{
    const nn_rope *rope = &model->body.rope;
    char           key[64];
    put_key(w, a, "rope.dimension_count", rope->dims);
    put_real(w, a, "rope.freq_base", rope->theta);
    if (rope->kind != NN_ROPE_LINEAR) return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", a);
    gguf_text(w, key, "linear");
    put_real(w, a, "rope.scaling.factor", rope->factor);
}

static void put_sizes(gguf_writer *w, const char *a, const crank_model *model, crank_dtype dtype)
{
    const crank_model_config *c = &model->config;
    bool                      rotates = model->family == &family_llama;
    gguf_text(w, "general.architecture", a);
    gguf_text(w, "general.type", "model");
    gguf_u32(w, "general.file_type", dtype == CRANK_F32 ? 0 : dtype == CRANK_F16 ? 1 : 32);
    put_key(w, a, "context_length", c->context);
    put_key(w, a, "embedding_length", c->hidden);
    put_key(w, a, "block_count", c->layers);
    put_key(w, a, "feed_forward_length", c->intermediate);
    put_key(w, a, "attention.head_count", c->heads);
    if (rotates) {
        put_key(w, a, "attention.head_count_kv", c->kv_heads);
        put_key(w, a, "attention.key_length", c->head_dim);
        put_key(w, a, "attention.value_length", c->head_dim);
        put_key(w, a, "vocab_size", c->vocab);
        put_rope(w, a, model);
    }
    put_real(w, a, rotates ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", c->epsilon);
    if (!encoder(model)) return;
    gguf_bool(w, "bert.attention.causal", false);
    put_key(w, a, "pooling_type", model->pooling == POOL_MEAN ? 1 : model->pooling == POOL_LAST ? 3 : 2);
}

/* ---- tensors ---- */

typedef struct source {
    const crank_model   *model;
    const model_weight **weights; /* [count]; NULL: rope_freqs */
    size_t               count;
    crank_dtype          dtype;
    float               *values, *turned;
    void                *own;
} source;

/* RoBERTa's table begins with rows that no token has. */
static int64_t skipped_rows(const crank_model *model, const crank_param *param) { return param == model->body.positions ? model->body.position_offset : 0; }

static crank_dtype type_of(const source *s, const crank_param *param) { return param->view.rank < 2 ? CRANK_F32 : s->dtype; }

static crank_view shape_of(const source *s, const crank_param *param)
{
    int64_t dims[CRANK_MAX_RANK];
    memcpy(dims, param->view.dims, sizeof dims);
    dims[0] -= skipped_rows(s->model, param);
    return crank_view_make(NULL, type_of(s, param), param->view.rank, dims);
}

/* Factors by which Llama 3 divides the frequencies (Llama 3.1's scaling). */
static void fill_frequencies(const nn_rope *rope, float *out)
{
    double low = rope->original / rope->low, high = rope->original / rope->high;
    for (int64_t i = 0; i < rope->dims / 2; i++) {
        double length = 2 * 3.14159265358979323846 * pow(rope->theta, (double)(2 * i) / (double)rope->dims);
        double smooth = (rope->original / length - rope->low) / (rope->high - rope->low);
        out[i] = (float)(length < high ? 1 : length > low ? rope->factor : 1 / ((1 - smooth) / rope->factor + smooth));
    }
}

static crank_status fetch(crank_context *context, void *user, size_t i, crank_view *out)
{
    source *s = user;
    crank_free(s->values), crank_free(s->turned), crank_free(s->own);
    s->values = s->turned = NULL, s->own = NULL;
    if (!s->weights[i]) {
        int64_t half = s->model->body.rope.dims / 2;
        if (!(s->values = crank_alloc(context, (size_t)half, sizeof *s->values, "frequencies"))) return CRANK_FAILED;
        fill_frequencies(&s->model->body.rope, s->values);
        *out = crank_view_make(s->values, CRANK_F32, 1, &half);
        return CRANK_OK;
    }
    const model_weight *weight = s->weights[i];
    const crank_param  *param = weight->param;
    size_t              n = (size_t)crank_view_count(&param->view);
    int64_t             cols = param->view.rank > 1 ? param->view.dims[1] : 1;
    if (!(s->values = crank_alloc(context, n, sizeof *s->values, param->name))) return CRANK_FAILED;
    crank_status status = crank_param_read(context, param, s->values, CRANK_F32);
    float       *from = s->values;
    const crank_linear *linear = weight->linear;
    for (size_t l = 0; !linear && l < crank_linears_count(s->model->linears); l++) /* the linear of a bias */
        if (crank_linears_at(s->model->linears, l)->bias == param) linear = crank_linears_at(s->model->linears, l);
    if (status == CRANK_OK && gguf_permutes(s->model, linear)) {
        if (!(s->turned = crank_alloc(context, n, sizeof *s->turned, param->name))) return CRANK_FAILED;
        gguf_permute(s->values, param->view.dims[0], cols, s->model->config.head_dim, s->turned);
        from = s->turned;
    }
    *out = shape_of(s, param);
    from += skipped_rows(s->model, param) * cols;
    if (out->dtype == CRANK_F32) out->data = from;
    else if (status == CRANK_OK) {
        if (!(s->own = crank_alloc(context, n, 2, param->name))) return CRANK_FAILED;
        crank_convert(s->own, out->dtype, from, CRANK_F32, (size_t)crank_view_count(out));
        out->data = s->own;
    }
    return status;
}

/* Tensors that the format has a name for, in the checkpoint's order; the others are listed. */
static crank_status choose(crank_context *context, const crank_model *model, gguf_writer *w, source *s, text_buffer *left_out)
{
    s->weights = crank_alloc(context, model->count + 1, sizeof *s->weights, "tensors of a GGUF file");
    if (!s->weights) return CRANK_FAILED;
    for (size_t i = 0; i < model->count; i++) {
        const model_weight *weight = &model->list[i];
        char                name[64];
        if (!gguf_name(model, weight->name, name)) {
            text_printf(left_out, "%s: no place in GGUF\n", weight->name);
            continue;
        }
        crank_view shape = shape_of(s, weight->param);
        gguf_tensor(w, name, shape.dtype, shape.rank, shape.dims);
        s->weights[s->count++] = weight;
    }
    if (model->body.rope.kind == NN_ROPE_LLAMA3) {
        int64_t half = model->body.rope.dims / 2;
        gguf_tensor(w, "rope_freqs.weight", CRANK_F32, 1, &half);
        s->weights[s->count++] = NULL;
    }
    return CRANK_OK;
}

static crank_status check(crank_context *context, const crank_model *model, crank_dtype dtype)
{
    if (model->options.dry) return crank_fail(context, CRANK_USAGE, "a model without weights cannot be saved");
    if (dtype != CRANK_F32 && dtype != CRANK_F16 && dtype != CRANK_BF16)
        return crank_fail(context, CRANK_USAGE, "a GGUF file is written in f32, f16 or bf16, not in %s", crank_dtype_name(dtype));
    if (json_object_get(model->json, "crank_layers"))
        return crank_fail(context, CRANK_USAGE, "layers of different sizes (crank_layers) are not written as GGUF: recover the adapter for the whole model and merge it there");
    for (size_t i = 0; i < crank_linears_count(model->linears); i++)
        if (crank_linear_has_maps(crank_linears_at(model->linears, i)))
            return crank_fail(context, CRANK_USAGE, "an adapter is on the model: merge it before the model is written as GGUF, or write the adapter itself");
    return CRANK_OK;
}

crank_status crank_model_save_gguf(crank_context *context, const crank_model *model, const crank_tokenizer *tokenizer, const char *path, crank_dtype dtype,
                                   char **left_out)
{
    gguf_writer  w = {0};
    source       s = {.model = model, .dtype = dtype};
    text_buffer  list = {0};
    const char  *architecture = gguf_architecture(context, model);
    crank_status status = architecture ? check(context, model, dtype) : crank_last_status(context);
    if (left_out) *left_out = NULL;
    if (status == CRANK_OK) {
        put_sizes(&w, architecture, model, dtype);
        if (model->config.window) text_printf(&list, "sliding window of %lld tokens: readers look at the whole context\n", (long long)model->config.window);
        status = choose(context, model, &w, &s, &list);
    }
    if (status == CRANK_OK && tokenizer) status = gguf_tokens(context, &w, model, tokenizer, &list);
    if (status == CRANK_OK) status = gguf_write(context, &w, path, fetch, &s);
    if (status == CRANK_OK && left_out && list.length && !(*left_out = text_take(context, &list, path))) status = CRANK_FAILED;
    text_clear(&list);
    gguf_free(&w);
    crank_free(s.weights), crank_free(s.values), crank_free(s.turned), crank_free(s.own);
    return status;
}
