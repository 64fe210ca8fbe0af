/* test_minilm.c - the real all-MiniLM-L6-v2: sentence embeddings equal transformers'. Skipped where the model is not in
 * the cache (tests/oracle/fetch_minilm.sh puts it there). */
#include "crank/model.h"
#include "testing.h"
#include "test_device.h"

static const char *cached_model(void)
{
    static char path[4096];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    snprintf(path, sizeof path, "%s%s/crank/all-MiniLM-L6-v2",
             cache && *cache ? cache
             : home          ? home
                             : "",
             cache && *cache ? "" : "/.cache");
    return path;
}

static crank_tensor *input(crank_graph *graph, crank_safetensors *file, const char *name)
{
    crank_view view;
    assert_true(crank_safetensors_find(file, name, &view));
    return crank_input(graph, name, view.dtype, view.rank, view.dims);
}

static void write_input(crank_context *context, crank_safetensors *file, crank_tensor *tensor)
{
    crank_view view;
    assert_true(crank_safetensors_find(file, tensor->name, &view));
    assert_ok(context, crank_write(tensor, view.data));
}

static void sentence_embeddings_equal_transformers(void **unused)
{
    (void)unused;
    char weights[4200];
    snprintf(weights, sizeof weights, "%s/model.safetensors", cached_model());
    if (access(weights, R_OK)) {
        print_message("no %s: run tests/oracle/fetch_minilm.sh\n", cached_model());
        skip();
    }
    crank_context *context = crank_context_new();
    crank_device *device = test_device(context, NULL);
    crank_safetensors *file = crank_safetensors_open(context, golden("minilm.safetensors"));
    crank_model *model = crank_model_load(context, device, cached_model(), &(crank_model_options){0});
    if (!model || !file) fail_msg("%s", crank_message(context));
    crank_graph *graph = crank_graph_new(context, device);
    crank_graph_set_training(graph, false);
    crank_model_inputs inputs = {.ids = input(graph, file, "ids"),
                                 .positions = input(graph, file, "positions"),
                                 .segments = input(graph, file, "segments")};
    crank_tensor *features = crank_model_features(graph, model, &inputs);
    crank_tensor *pooled = crank_keep(crank_model_pool(graph, model, features, inputs.segments));
    assert_ok(context, crank_graph_status(graph));
    assert_ok(context, crank_plan(graph, NULL, NULL));
    write_input(context, file, inputs.ids);
    write_input(context, file, inputs.positions);
    write_input(context, file, inputs.segments);
    assert_ok(context, crank_run(graph));
    crank_view view;
    assert_true(crank_safetensors_find(file, "pooled", &view));
    size_t width = (size_t)view.dims[1];
    float *ours = malloc(crank_view_bytes(&view));
    assert_ok(context, crank_read(pooled, ours));
    for (size_t i = 0; i < (size_t)view.dims[0]; i++) {
        double error = relative_error(ours + i * width, (const float *)view.data + i * width, width);
        if (!(error <= 2e-5)) fail_msg("sentence %zu is off by %.3g", i, error);
    }
    free(ours);
    crank_graph_free(graph);
    crank_model_free(model);
    crank_safetensors_close(file);
    device->close(device);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sentence_embeddings_equal_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
