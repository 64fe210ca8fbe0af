/* Weights in four bits: what bitsandbytes has written is read as it is, and what crank quantises has bitsandbytes' codes; broken files are
 * refused with the tensor's name. */
#include <sys/stat.h>

#include "crank/adapter.h"
#include "crank/model.h"
#include "linear/quantized.h"
#include "model/model.h"
#include "testing.h"

static crank_context *context;
static crank_device  *device;

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    device = crank_device_cpu(context, NULL);
    return device ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    device->close(device);
    crank_context_free(context);
    return 0;
}

static crank_model *load(const char *folder, crank_dtype weights, bool nested)
{
    char path[100];
    snprintf(path, sizeof path, "quantized/%s", folder);
    crank_model *model = crank_model_load(context, device, golden(path), &(crank_model_options){.compute = CRANK_F32, .weights = weights, .double_quantized = nested});
    if (!model) fail_msg("%s", crank_message(context));
    return model;
}

enum { TOKENS = 9, WIDTH = 32 };

/* Hidden states of a sequence, [TOKENS, WIDTH]. */
static void features(crank_model *model, float *out)
{
    int32_t            ids[TOKENS], positions[TOKENS], segments[2] = {0, TOKENS};
    crank_graph       *graph = crank_graph_new(context, device);
    crank_model_inputs in = {.ids = crank_input(graph, "ids", CRANK_I32, 1, (int64_t[]){TOKENS}), .positions = crank_input(graph, "positions", CRANK_I32, 1, (int64_t[]){TOKENS}),
                             .segments = crank_input(graph, "segments", CRANK_I32, 1, (int64_t[]){2})};
    crank_graph_set_training(graph, false);
    crank_tensor *y = crank_keep(crank_model_features(graph, model, &in));
    for (int i = 0; i < TOKENS; i++) ids[i] = i * 7 % 64, positions[i] = i;
    assert_ok(context, crank_plan(graph, NULL, NULL));
    assert_ok(context, crank_write(in.ids, ids));
    assert_ok(context, crank_write(in.positions, positions));
    assert_ok(context, crank_write(in.segments, segments));
    assert_ok(context, crank_run(graph));
    assert_ok(context, crank_read(y, out));
    crank_graph_free(graph);
}

static void a_checkpoint_of_bitsandbytes_gives_the_values_of_its_codes(void **state)
{
    (void)state;
    static const crank_dtype types[] = {CRANK_NF4, CRANK_F32};
    float                    expected[TOKENS * WIDTH], got[TOKENS * WIDTH];
    crank_model             *opened = load("nf4-opened", CRANK_F32, false);
    features(opened, expected);
    assert_true(crank_model_quantized(context, golden("quantized/nf4-nested")) && !crank_model_quantized(context, golden("quantized/nf4-opened")));
    for (int t = 0; t < 2; t++) { /* held in four bits, and made dense */
        crank_model *model = load("nf4-nested", types[t], false);
        crank_linear *q = crank_linears_find(crank_model_linears(model), "model.layers.1.mlp.down_proj");
        assert_true(types[t] == CRANK_NF4 ? q->quantized && !q->weight && q->quantized->map : q->weight && !q->quantized);
        features(model, got);
        for (int i = 0; i < TOKENS * WIDTH; i++)
            if (got[i] != expected[i]) fail_msg("element %d of the features is %.9g, not %.9g", i, (double)got[i], (double)expected[i]);
        crank_model_free(model);
    }
    crank_model_free(opened);
}

static void codes_of_a_dense_checkpoint_are_those_of_bitsandbytes(void **state)
{
    (void)state;
    for (int nested = 0; nested < 2; nested++) {
        crank_model   *ours = load("nf4-dense", CRANK_NF4, nested), *theirs = load(nested ? "nf4-nested" : "nf4-plain", CRANK_NF4, false);
        crank_linears *a = crank_model_linears(ours), *b = crank_model_linears(theirs);
        int            count = 0;
        for (size_t i = 0; i < crank_linears_count(a); i++) {
            const crank_linear *x = crank_linears_at(a, i), *y = crank_linears_at(b, i);
            if (!x->quantized) continue;
            count++;
            assert_memory_equal(x->quantized->codes->view.data, y->quantized->codes->view.data, crank_view_bytes(&x->quantized->codes->view));
            if (!nested) assert_memory_equal(x->quantized->scales->view.data, y->quantized->scales->view.data, crank_view_bytes(&x->quantized->scales->view));
            float rows[2][48 * 2];
            assert_ok(context, crank_linear_rows(context, x, x->out - 2, 2, rows[0]));
            assert_ok(context, crank_linear_rows(context, y, y->out - 2, 2, rows[1]));
            assert_true(relative_error(rows[0], rows[1], (size_t)(2 * x->in)) < (nested ? 5e-3 : 1e-12));
        }
        assert_int_equal(count, 14); /* not the embedding, not the head */
        crank_model_free(ours), crank_model_free(theirs);
    }
}

static void a_model_in_four_bits_is_saved_as_the_dense_one(void **state)
{
    (void)state;
    char        folder[200];
    float       expected[TOKENS * WIDTH], got[TOKENS * WIDTH];
    crank_model *model = load("nf4-nested", CRANK_NF4, false);
    snprintf(folder, sizeof folder, "%s/saved-%d", CRANK_BINARY_DIR, (int)getpid());
    features(model, expected);
    assert_ok(context, crank_model_save(context, model, folder, CRANK_F32));
    assert_false(crank_model_quantized(context, folder));
    crank_model *again = crank_model_load(context, device, folder, &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    if (!again) fail_msg("%s", crank_message(context));
    features(again, got);
    assert_memory_equal(got, expected, sizeof got);
    crank_model_free(again), crank_model_free(model);
    snprintf(folder + strlen(folder), 50, "/model.safetensors");
    remove(folder);
    strcpy(strrchr(folder, '/'), "/config.json");
    remove(folder);
    *strrchr(folder, '/') = 0;
    rmdir(folder);
}

static void a_merge_into_four_bits_is_refused(void **state)
{
    (void)state;
    crank_model *model = load("nf4-dense", CRANK_NF4, true);
    const crank_map *map = crank_map_find("lora");
    void *options = crank_options_new(context, map->options, map->options_size);
    crank_attachment *attachment = crank_attachment_new(context, crank_model_linears(model), map, options, &(crank_attach_options){.targets = "all-linear"});
    assert_non_null(attachment);
    assert_ok(context, crank_attachment_finish(context, attachment));
    assert_int_equal(crank_linears_merge(context, crank_model_linears(model), true, false), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "is held quantised"));
    crank_options_free(options);
    map = crank_map_find("dora");
    options = crank_options_new(context, map->options, map->options_size);
    assert_null(crank_attachment_new(context, crank_model_linears(model), map, options, &(crank_attach_options){.name = "second", .targets = "all-linear"}));
    assert_non_null(strstr(crank_message(context), "set model.weights to f32 or bf16"));
    crank_options_free(options);
    crank_model_free(model);
}

/* ---- broken files ---- */

typedef struct breakage {
    const char *part; /* behind the weight's name; NULL: the weight itself */
    int         how;  /* 0: left out, 1: cut by a byte or element, 2: another type, 3: text replaced */
    const char *text, *told;
} breakage;

static const char weight[] = "model.layers.0.self_attn.k_proj.weight";

static const breakage breakages[] = {
    {NULL, 1, NULL, "a byte for two elements"},
    {"absmax", 0, NULL, "absmax or quant_map is missing"},
    {"absmax", 1, NULL, "one scale a block"},
    {"quant_map", 0, NULL, "absmax or quant_map is missing"},
    {"quant_map", 2, NULL, "levels of nf4"},
    {"nested_absmax", 0, NULL, "nested_absmax or nested_quant_map is missing"},
    {"nested_quant_map", 1, NULL, "wrong type or size"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blo", "no JSON text"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [16, 32]}", "quant_type is not nf4"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blocksize\": 0, \"shape\": [16, 32]}", "blocksize"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [32, 16], \"nested_blocksize\": 256}", "its shape in quant_state"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blocksize\": 63, \"shape\": [16, 32], \"nested_blocksize\": 256}", "odd length"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [16, 32], \"nested_blocksize\": 128}", "nested_blocksize"},
    {"quant_state.bitsandbytes__nf4", 3, "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [16, 32], \"nested_blocksize\": 256, \"nested_offset\": 1e99}", "no finite number"},
    {"quant_state.bitsandbytes__nf4", 0, NULL, "shape "},
};

static void write_broken(const char *folder, const breakage *b)
{
    char               name[200], path[300];
    crank_safetensors *file = crank_safetensors_open(context, golden("quantized/nf4-nested/model.safetensors"));
    size_t             count = crank_safetensors_count(file), kept = 0;
    crank_named_view  *views = calloc(count, sizeof *views);
    snprintf(name, sizeof name, "%s%s%s", weight, b->part ? "." : "", b->part ? b->part : "");
    for (size_t i = 0; i < count; i++) {
        crank_named_view v = {crank_safetensors_name(file, i), crank_safetensors_view(file, i)};
        if (!strcmp(v.name, name)) {
            if (b->how == 0) continue;
            if (b->how == 1) v.view = crank_view_make(v.view.data, v.view.dtype, 1, (int64_t[]){crank_view_count(&v.view) - 1});
            if (b->how == 2) v.view.dtype = CRANK_I32;
            if (b->how == 3) v.view = crank_view_make((void *)(uintptr_t)b->text, CRANK_U8, 1, (int64_t[]){(int64_t)strlen(b->text)});
        }
        views[kept++] = v;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(context, crank_safetensors_write(context, path, views, kept, NULL, 0));
    free(views);
    crank_safetensors_close(file);
}

static void broken_files_are_refused_with_the_tensor_and_the_reason(void **state)
{
    (void)state;
    char folder[200], path[300], text[4096];
    snprintf(folder, sizeof folder, "%s/broken-%d", CRANK_BINARY_DIR, (int)getpid());
    mkdir(folder, 0777);
    FILE  *from = fopen(golden("quantized/nf4-nested/config.json"), "r");
    size_t length = fread(text, 1, sizeof text, from);
    fclose(from);
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *to = fopen(path, "w");
    fwrite(text, 1, length, to);
    fclose(to);
    for (size_t i = 0; i < sizeof breakages / sizeof *breakages; i++)
        for (int dense = 0; dense < 2; dense++) {
            write_broken(folder, &breakages[i]);
            crank_model *model = crank_model_load(context, device, folder, &(crank_model_options){.compute = CRANK_F32, .weights = dense ? CRANK_F32 : CRANK_NF4});
            if (model) fail_msg("breakage %d is taken", (int)i);
            assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
            if (!strstr(crank_message(context), weight) || !strstr(crank_message(context), breakages[i].told)) fail_msg("breakage %d: %s", (int)i, crank_message(context));
        }
    remove(path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    remove(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_of_bitsandbytes_gives_the_values_of_its_codes),
        cmocka_unit_test(codes_of_a_dense_checkpoint_are_those_of_bitsandbytes),
        cmocka_unit_test(a_model_in_four_bits_is_saved_as_the_dense_one),
        cmocka_unit_test(a_merge_into_four_bits_is_refused),
        cmocka_unit_test(broken_files_are_refused_with_the_tensor_and_the_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
