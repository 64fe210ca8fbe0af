/* adapter_fixture.h - a golden base model, adapters on it, and what it computes. */
#ifndef CRANK_TESTS_MODEL_ADAPTER_FIXTURE_H
#define CRANK_TESTS_MODEL_ADAPTER_FIXTURE_H

#include <sys/stat.h>

#include "crank/adapter.h"
#include "model/golden_model.h"

static inline const char *adapter_folder(const char *name)
{
    static char part[256];
    snprintf(part, sizeof part, "adapters/%s", name);
    return golden(part);
}

/* The base model of a golden adapter, and the adapter's golden file. */
typedef struct fixture {
    golden_model       base;
    crank_safetensors *file;
    const char        *what; /* "logits" or "outputs" */
} fixture;

static inline fixture fixture_open(const char *name, crank_dtype type)
{
    char           path[4200];
    fixture        f;
    crank_context *context = crank_context_new();
    snprintf(path, sizeof path, "%s/golden.safetensors", adapter_folder(name));
    crank_safetensors *file = crank_safetensors_open(context, path);
    if (!file) fail_msg("%s", crank_message(context));
    f.base = golden_load(crank_safetensors_metadata(file, "base"), NULL, (crank_model_options){ .compute = type, .weights = type });
    crank_safetensors_close(file);
    crank_context_free(context);
    f.file = crank_safetensors_open(f.base.context, path);
    crank_view view;
    f.what = crank_safetensors_find(f.file, "logits", &view) ? "logits" : "outputs";
    return f;
}

static inline void fixture_close(fixture *f)
{
    crank_safetensors_close(f->file);
    golden_close(&f->base);
}

/* Logits or classifier outputs of the model as it is now; free. */
static inline float *run(fixture *f, size_t *count)
{
    golden_model *g = &f->base;
    crank_graph  *graph = crank_graph_new(g->context, g->device);
    crank_graph_set_training(graph, false);
    crank_graph_set_compute(graph, crank_model_options_of(g->model)->compute);
    crank_model_inputs inputs = { .ids = golden_input(g, graph, "ids"),
                                  .positions = golden_input(g, graph, "positions"),
                                  .segments = golden_input(g, graph, "segments"),
                                  .types = golden_input(g, graph, "types") };
    crank_tensor *y = crank_model_features(graph, g->model, &inputs);
    y = f->what[0] == 'l' ? crank_model_logits(graph, g->model, y) : crank_model_classify(graph, g->model, y, inputs.segments);
    crank_keep(y);
    assert_ok(g->context, crank_plan(graph, NULL, NULL));
    golden_write(g, inputs.ids);
    golden_write(g, inputs.positions);
    golden_write(g, inputs.segments);
    golden_write(g, inputs.types);
    assert_ok(g->context, crank_run(graph));
    float *values = read_floats(g->context, y, count);
    crank_graph_free(graph);
    return values;
}

static inline crank_attachment *load(fixture *f, const char *folder)
{
    crank_attachment *attachment = crank_adapter_load(f->base.context, f->base.model, folder, "default");
    if (!attachment) fail_msg("%s", crank_message(f->base.context));
    return attachment;
}

static inline double error_to(fixture *f, const float *values, size_t count, const char *tensor)
{
    crank_view view;
    assert_true(crank_safetensors_find(f->file, tensor, &view));
    assert_int_equal(count, crank_view_count(&view));
    return relative_error(values, view.data, count);
}

/* A place for folders that crank writes: tests/oracle/peft_adapters.py --check reads them back in PEFT. */
static inline const char *written(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/tests/adapters", CRANK_BINARY_DIR);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/tests/adapters/%s", CRANK_BINARY_DIR, name);
    return path;
}
#endif
