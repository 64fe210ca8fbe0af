/* gguf_adapter.c - a plain LoRA adapter as a GGUF file.
 *
 *   general.type adapter, adapter.type lora, adapter.lora.alpha; NAME.weight.lora_a [r, in], NAME.weight.lora_b [out, r] in f32
 *
 * Readers scale a pair by alpha / r with one alpha for all: what a linear's own scale differs by goes into its B. Rows of B are in the order
 * that the reader's weight has. */
#include <string.h>

#include "linear/stack.h"
#include "model/gguf.h"

typedef struct pair_of {
    crank_linear *linear;
    int64_t       rank;
    double        scale;
    float        *A, *B;
} pair_of;

typedef struct source {
    const crank_model *model;
    pair_of           *pairs;
    double             alpha;
    float             *own;
} source;

static crank_status fetch(crank_context *context, void *user, size_t i, crank_view *out)
{
    source        *s = user;
    const pair_of *p = &s->pairs[i / 2];
    crank_free(s->own);
    s->own = NULL;
    if (i % 2 == 0) {
        *out = crank_view_make(p->A, CRANK_F32, 2, (const int64_t[]){p->rank, p->linear->in});
        return CRANK_OK;
    }
    size_t n = (size_t)(p->linear->out * p->rank);
    double factor = p->scale * (double)p->rank / s->alpha;
    if (!(s->own = crank_alloc(context, n, sizeof *s->own, p->linear->name))) return CRANK_FAILED;
    if (gguf_permutes(s->model, p->linear)) gguf_permute(p->B, p->linear->out, p->rank, s->model->config.head_dim, s->own);
    else memcpy(s->own, p->B, n * sizeof *s->own);
    for (size_t k = 0; factor != 1 && k < n; k++) s->own[k] = (float)(factor * (double)s->own[k]);
    *out = crank_view_make(s->own, CRANK_F32, 2, (const int64_t[]){p->linear->out, p->rank});
    return CRANK_OK;
}

/* What a GGUF adapter has no place for, as lines. */
static void list_left_out(const crank_model *model, const crank_attachment *a, text_buffer *out)
{
    char name[64];
    for (int i = 0; i < a->count; i++) {
        const crank_linear *linear = a->sites[i].linear;
        if (linear->kind == CRANK_LINEAR_EMBEDDING) text_printf(out, "\n  %s: an embedding", linear->name);
        else if (!gguf_name(model, linear->name, name)) text_printf(out, "\n  %s: no such tensor in GGUF", linear->name);
    }
    for (size_t i = 0; i < a->trained_count; i++) text_printf(out, "\n  %s: a weight of the model itself", a->trained[i].param->name);
}

static crank_status check(crank_context *context, const crank_model *model, const crank_attachment *a)
{
    text_buffer  list = {0};
    crank_status status = CRANK_OK;
    if (!a->map->as_lora)
        return crank_fail(context, CRANK_USAGE, "the change that %s makes has no bounded rank, and a GGUF adapter is a pair of factors; write the merged model: "
                                                "crank adapter merge MODEL ADAPTER --gguf FILE", a->map->name);
    list_left_out(model, a, &list);
    if (list.length)
        status = crank_fail(context, CRANK_USAGE, "a GGUF adapter cannot carry:%s\nwrite the merged model: crank adapter merge MODEL ADAPTER --gguf FILE", list.bytes ? list.bytes : "");
    text_clear(&list);
    return status;
}

static crank_status take_pairs(crank_context *context, crank_attachment *a, gguf_writer *w, source *s)
{
    crank_status status = CRANK_OK;
    int          count = 0;
    for (int i = 0; status == CRANK_OK && i < a->count; i++) {
        char     base[64], name[96];
        pair_of *p = &s->pairs[count];
        p->linear = a->sites[i].linear;
        status = a->map->as_lora(context, &a->sites[i], &p->rank, &p->scale, &p->A, &p->B);
        if (status != CRANK_OK) p->A = p->B = NULL;
        if (status != CRANK_OK) break;
        if (!p->rank) {
            crank_free(p->A), crank_free(p->B);
            p->A = p->B = NULL;
            continue;
        }
        if (!s->alpha) s->alpha = p->scale * (double)p->rank;
        gguf_name(s->model, p->linear->name, base);
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s.weight.lora_%c", base, "ab"[k]);
            gguf_tensor(w, name, CRANK_F32, 2, (const int64_t[]){k ? p->linear->out : p->rank, k ? p->rank : p->linear->in});
        }
        count++;
    }
    if (status == CRANK_OK && !count) status = crank_fail(context, CRANK_USAGE, "the adapter has rank 0 on every linear: nothing can be written");
    if (status == CRANK_OK && s->alpha == 0) s->alpha = 1; /* a scale of 0: factors that do nothing */
    return status;
}

crank_status crank_adapter_save_gguf(crank_context *context, crank_model *model, crank_attachment *attachment, const char *path)
{
    gguf_writer  w = {0};
    source       s = {.model = model};
    const char  *architecture = gguf_architecture(context, model);
    crank_status status = architecture ? check(context, model, attachment) : crank_last_status(context);
    if (status == CRANK_OK && !(s.pairs = crank_alloc(context, (size_t)attachment->count, sizeof *s.pairs, "pairs of an adapter"))) status = CRANK_FAILED;
    if (status == CRANK_OK) status = take_pairs(context, attachment, &w, &s);
    if (status == CRANK_OK) {
        gguf_text(&w, "general.architecture", architecture);
        gguf_text(&w, "general.type", "adapter");
        gguf_u32(&w, "general.file_type", 0);
        gguf_text(&w, "adapter.type", "lora");
        gguf_f32(&w, "adapter.lora.alpha", (float)s.alpha);
        status = gguf_write(context, &w, path, fetch, &s);
    }
    for (int i = 0; s.pairs && i < attachment->count; i++) crank_free(s.pairs[i].A), crank_free(s.pairs[i].B);
    crank_free(s.pairs), crank_free(s.own);
    gguf_free(&w);
    return status;
}
