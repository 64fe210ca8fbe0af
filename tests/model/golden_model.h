/* golden_model.h - a tiny model of tests/golden/models with what transformers computed for it, recorded as a graph. */
#ifndef CRANK_TESTS_MODEL_GOLDEN_MODEL_H
#define CRANK_TESTS_MODEL_GOLDEN_MODEL_H

#include "crank/model.h"
#include "testing.h"
#include "test_device.h"

static const char *const golden_models[] = {
    "llama",          "llama_linear",
    "llama3",         "smollm_bf16_sharded",
    "mistral",        "qwen2",
    "qwen2_window",   "qwen3",
    "llama_classify", "gpt2",
    "gpt2_classify",  "bert",
    "minilm",         "bert_mlm",
    "bert_classify",  "roberta",
    "roberta_mlm",    "roberta_classify",
    "distilbert",     "distilbert_classify",
};
enum { GOLDEN_MODELS = sizeof golden_models / sizeof *golden_models };

typedef struct golden_model {
    crank_context *context;
    crank_device *device;
    crank_safetensors *file; /* golden.safetensors */
    const char *kind;
    crank_model *model;
} golden_model;

static inline const char *golden_folder(const char *name)
{
    static char part[256];
    snprintf(part, sizeof part, "models/%s", name);
    return golden(part);
}

static inline crank_safetensors *golden_open(crank_context *context, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/golden.safetensors", golden_folder(name));
    crank_safetensors *file = crank_safetensors_open(context, path);
    if (!file) fail_msg("%s", crank_message(context));
    return file;
}

static inline golden_model golden_load(const char *name, const char *bodies, crank_model_options options)
{
    golden_model g = {.context = crank_context_new()};
    g.device = test_device(g.context, bodies);
    assert_non_null(g.device);
    g.file = golden_open(g.context, name);
    g.kind = crank_safetensors_metadata(g.file, "kind");
    if (!strcmp(g.kind, "cls") || !strcmp(g.kind, "pooler")) options.pooling = g.kind;
    if (!strcmp(g.kind, "mean") && strcmp(name, "minilm"))
        options.pooling = "mean"; /* minilm's folder says it itself */
    g.model = crank_model_load(g.context, g.device, golden_folder(name), &options);
    if (!g.model) fail_msg("%s: %s", name, crank_message(g.context));
    return g;
}

static inline void golden_close(golden_model *g)
{
    crank_model_free(g->model);
    crank_safetensors_close(g->file);
    g->device->close(g->device);
    crank_context_free(g->context);
}

static inline crank_view golden_view(const golden_model *g, const char *name)
{
    crank_view view;
    if (!crank_safetensors_find(g->file, name, &view)) fail_msg("golden file lacks %s", name);
    return view;
}

/* A graph input of the shape of a golden tensor. */
static inline crank_tensor *golden_input(const golden_model *g, crank_graph *graph, const char *name)
{
    crank_view view;
    if (!crank_safetensors_find(g->file, name, &view)) return NULL;
    crank_dtype dtype = view.dtype == CRANK_F32 && crank_graph_compute(graph) == CRANK_F64 ? CRANK_F64 : view.dtype;
    return crank_input(graph, name, dtype, view.rank, view.dims);
}

static inline void golden_write(const golden_model *g, crank_tensor *input)
{
    if (!input) return;
    crank_view view = golden_view(g, input->name);
    if (view.dtype == input->dtype) {
        assert_ok(g->context, crank_write(input, view.data));
        return;
    }
    size_t count = (size_t)crank_view_count(&view);
    void *wide = malloc(count * sizeof(double));
    crank_convert(wide, input->dtype, view.data, view.dtype, count);
    assert_ok(g->context, crank_write(input, wide));
    free(wide);
}

/* A kept result as f32. */
static inline float *read_floats(crank_context *context, const crank_tensor *tensor, size_t *count)
{
    *count = 1;
    for (int i = 0; i < tensor->rank; i++) *count *= (size_t)tensor->dims[i];
    void *raw = malloc(*count * sizeof(double));
    float *values = malloc(*count * sizeof(float));
    assert_ok(context, crank_read(tensor, raw));
    crank_convert(values, CRANK_F32, raw, tensor->dtype, *count);
    free(raw);
    return values;
}
#endif
