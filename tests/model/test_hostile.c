/* test_hostile.c - configs and weights that do not hold together are refused with a message that says what and where;
 * nothing crashes, and nothing large is allocated first. */
#include "base/file.h"
#include "base/json.h"
#include "crank/random.h"
#include "model/golden_model.h"

static const char *hostile_folder(void)
{
    return CRANK_BINARY_DIR "/hostile_model";
}

typedef struct config_case {
    const char *model, *key, *value; /* value: JSON text; NULL: the key is removed */
    const char *message;             /* what the message must say */
} config_case;

static const config_case config_cases[] = {
    {"llama", "model_type", NULL, "`model_type` is missing"},
    {"llama", "model_type", "7", "`model_type` is a whole number"},
    {"llama", "model_type", "\"mamba\"", "\"mamba\" is not one of crank's"},
    {"llama", "architectures", "[\"LlamaForTokenClassification\"]", "LlamaForTokenClassification"},
    {"llama", "architectures", "[\"Qwen2ForCausalLM\"]", "Qwen2ForCausalLM"},
    {"llama", "architectures", "[\"LlamaForMaskedLM\"]", "LlamaForMaskedLM"},
    {"llama", "architectures", "[]", "list of names"},
    {"llama", "architectures", "\"LlamaForCausalLM\"", "list of names"},
    {"llama", "vocab_size", NULL, "`vocab_size` is missing"},
    {"llama", "vocab_size", "0", "`vocab_size` is 0"},
    {"llama", "vocab_size", "-96", "`vocab_size` is -96"},
    {"llama", "vocab_size", "96.5", "`vocab_size` is a number with a fraction"},
    {"llama", "vocab_size", "\"96\"", "`vocab_size` is a string"},
    {"llama", "vocab_size", "9223372036854775807", "`vocab_size`"},
    {"llama", "vocab_size", "97", "model.embed_tokens.weight is [96, 32]; the config says [97, 32]"},
    {"llama", "hidden_size", "1000000000000", "`hidden_size`"},
    {"llama", "hidden_size", "64", "the config says"},
    {"llama", "intermediate_size", "49", "model.layers.0.mlp.gate_proj.weight is [48, 32]; the config says [49, 32]"},
    {"llama", "num_hidden_layers", "3", "missing  model.layers.2."},
    {"llama", "num_hidden_layers", "1", "unknown  model.layers.1."},
    {"llama", "num_hidden_layers", "4096", "and "},
    {"llama", "num_hidden_layers", "5000", "`num_hidden_layers` is 5000"},
    {"llama", "num_attention_heads", "0", "`num_attention_heads` is 0"},
    {"llama", "num_attention_heads", "6", "no multiple"},
    {"llama", "num_key_value_heads", "3", "no multiple of 3 key and value heads"},
    {"llama", "head_dim", "7", "even"},
    {"llama", "head_dim", "1048576", "more than 1048576 together"},
    {"llama", "rms_norm_eps", "-1", "`rms_norm_eps` is -1"},
    {"llama", "rms_norm_eps", "\"small\"", "`rms_norm_eps` is a string"},
    {"llama", "hidden_act", "\"xielu\"", "\"xielu\""},
    {"llama", "hidden_act", "\"tanh\"", "gated layer"},
    {"llama", "tie_word_embeddings", "1", "`tie_word_embeddings` is a whole number"},
    {"llama", "attention_bias", "true", "missing  model.layers.0.self_attn.q_proj.bias"},
    {"llama", "max_position_embeddings", "0", "`max_position_embeddings` is 0"},
    {"llama", "rope_parameters", "{\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 4.0}",
     "\"yarn\" is not one of crank's"},
    {"llama", "rope_parameters", "{\"rope_type\": \"dynamic\", \"rope_theta\": 10000.0, \"factor\": 4.0}",
     "\"dynamic\""},
    {"llama", "rope_parameters", "{\"rope_type\": \"linear\", \"rope_theta\": 10000.0}", "`factor` is 0"},
    {"llama", "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": -5}", "`rope_theta` is -5"},
    {"llama3", "rope_scaling", "[1]", "must be an object"},
    {"llama3", "rope_scaling", "{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1}",
     "`high_freq_factor`"},
    {"llama", "quantization_config", "{\"quant_method\": \"bitsandbytes\"}", "quantised"},
    {"llama", "initializer_range", "-0.5", "`initializer_range` is -0.5"},
    {"mistral", "sliding_window", "-4", "`sliding_window` is -4"},
    {"qwen2_window", "layer_types", "[\"full_attention\"]", "`layer_types`"},
    {"qwen2_window", "layer_types", "[\"full_attention\", \"linear_attention\"]", "`layer_types`"},
    {"gpt2", "n_head", "5", "no multiple"},
    {"gpt2", "n_positions", "41", "transformer.wpe.weight is [40, 32]; the config says [41, 32]"},
    {"gpt2", "add_cross_attention", "true", "`add_cross_attention` is true"},
    {"gpt2", "n_inner", "100", "transformer.h.0.mlp.c_fc.weight is [32, 128]; the config says [32, 100]"},
    {"bert", "is_decoder", "true", "`is_decoder` is true"},
    {"bert", "position_embedding_type", "\"relative_key\"", "relative_key"},
    {"bert", "type_vocab_size", "0", "`type_vocab_size` is 0"},
    {"bert", "num_attention_heads", "5", "no multiple"},
    {"roberta", "pad_token_id", "39", "no position"},
    {"roberta", "pad_token_id", "-1", "`pad_token_id` is -1"},
    {"bert_classify", "num_labels", "5", "classifier.weight is [3, 32]; the config says [5, 32]"},
    {"bert_classify", "architectures", "[\"BertModel\"]", NULL}, /* loads: the classifier is another head's */
};

static crank_model *load(crank_context *context, crank_device *device)
{
    return crank_model_load(context, device, hostile_folder(), &(crank_model_options){0});
}

static void copy_file(crank_context *context, const char *from, const char *name, size_t length_or_0)
{
    char path[4200];
    size_t length;
    snprintf(path, sizeof path, "%s/%s", from, name);
    char *bytes = file_read(context, path, &length);
    assert_non_null(bytes);
    snprintf(path, sizeof path, "%s/%s", hostile_folder(), name);
    file_writer *writer = file_writer_open(context, path);
    assert_ok(context, file_writer_write(context, writer, bytes, length_or_0 ? length_or_0 : length));
    assert_ok(context, file_writer_commit(context, writer));
    crank_free(bytes);
}

/* The folder of a golden model with one key of its config changed. */
static void write_config(crank_context *context, const char *model, const char *key, const char *value)
{
    char path[4200];
    file_folder_remove(context, hostile_folder());
    assert_ok(context, file_make_folder(context, hostile_folder()));
    snprintf(path, sizeof path, "%s/config.json", golden_folder(model));
    json_t *config = json_read(context, path);
    if (key && value)
        json_object_set_new(config, key, json_parse(context, value, strlen(value), "case"));
    else if (key)
        json_object_del(config, key);
    snprintf(path, sizeof path, "%s/config.json", hostile_folder());
    assert_ok(context, json_write(context, path, config));
    json_decref(config);
}

static void assert_refused(crank_context *context, crank_device *device, const char *what, const char *message)
{
    crank_clear(context);
    crank_model *model = load(context, device);
    if (!message) {
        if (!model) fail_msg("%s: %s", what, crank_message(context));
    } else {
        if (model) fail_msg("%s: loaded", what);
        if (!strstr(crank_message(context), message)) fail_msg("%s: the message is: %s", what, crank_message(context));
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    }
    crank_model_free(model);
}

static void wrong_configs_are_refused_by_name(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    for (size_t i = 0; i < sizeof config_cases / sizeof *config_cases; i++) {
        const config_case *c = &config_cases[i];
        char what[256];
        write_config(context, c->model, c->key, c->value);
        copy_file(context, golden_folder(c->model), "model.safetensors", 0);
        snprintf(what, sizeof what, "%s with %s %s", c->model, c->key, c->value ? c->value : "removed");
        assert_refused(context, device, what, c->message);
    }
    device->close(device);
    crank_context_free(context);
}

static void configs_that_are_no_objects_are_refused(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"",
                                        "[]",
                                        "7",
                                        "null",
                                        "{",
                                        "{\"model_type\": \"llama\",}",
                                        "{\"model_type\": \"llama\"}",
                                        "{\"model_type\": \"bert\", \"hidden_size\": {}}",
                                        "\xff\xfe",
                                        "{\"a\": 1, \"a\": 2}"};
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        crank_clear(context);
        assert_null(crank_model_new(context, device, texts[i], &(crank_model_options){0}));
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        assert_true(strlen(crank_message(context)) > 0);
    }
    device->close(device);
    crank_context_free(context);
}

static void a_model_larger_than_the_machine_is_refused_before_memory_is_taken(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    const char text[] = "{\"model_type\": \"llama\", \"vocab_size\": 67108864, \"hidden_size\": 1048576, "
                        "\"intermediate_size\": 16777216,"
                        "\"num_hidden_layers\": 64, \"num_attention_heads\": 1024}";
    assert_null(crank_model_new(context, device, text, &(crank_model_options){0}));
    assert_non_null(strstr(crank_message(context), "this machine has"));
    crank_model *planned = crank_model_new(context, device, text, &(crank_model_options){.dry = true});
    assert_non_null(planned);
    crank_model_free(planned);
    device->close(device);
    crank_context_free(context);
}

/* Random edits of a config's text: a model or a message, never a crash. */
static void edited_configs_give_a_model_or_a_message(void **unused)
{
    (void)unused;
    static const char *const pieces[] = {"0",     "-1",    "1e9", "null",       "true", "\"\"",     "{}",      "[]",
                                         "\"x\"", "99999", "0.5", "4294967296", ",",    "16777216", "\"a\":1", "1"};
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    crank_stream stream = crank_stream_make(3, CRANK_RANDOM_TEST, 1);
    uint64_t draw = 0;
    int made = 0;
    for (int round = 0; round < 3000; round++) {
        char path[4200], text[8192];
        size_t length;
        snprintf(path, sizeof path, "%s/config.json", golden_folder(golden_models[round % GOLDEN_MODELS]));
        char *config = file_read(context, path, &length);
        assert_non_null(config);
        uint64_t at = crank_draw_below(stream, draw++, length), cut = crank_draw_below(stream, draw++, 6);
        if (round % 2) { /* a value as a whole */
            const char *colon = strchr(config + at, ':'), *end = colon ? strpbrk(colon, ",\n") : NULL;
            if (end) at = (uint64_t)(colon + 1 - config), cut = (uint64_t)(end - colon - 1);
        }
        if (at + cut > length) cut = length - at;
        const char *piece = pieces[crank_draw_below(stream, draw++, sizeof pieces / sizeof *pieces)];
        snprintf(text, sizeof text, "%.*s%s%s", (int)at, config, piece, config + at + cut);
        crank_free(config);
        crank_clear(context);
        crank_model *model = crank_model_new(context, device, text, &(crank_model_options){.dry = true});
        if (!model && !*crank_message(context)) fail_msg("no message for: %s", text);
        made += model != NULL;
        crank_model_free(model);
    }
    assert_in_range(made, 1, 2999);
    device->close(device);
    crank_context_free(context);
}

/* ---- weights ---- */

typedef enum damage {
    TRUNCATED,
    EMPTY,
    NO_FILE,
    NO_CONFIG,
    DROPPED,
    ADDED,
    WIDER,
    RANK,
    INTEGERS,
    ALL_RENAMED,
    DAMAGES
} damage;
static const char *const damage_messages[DAMAGES] = {[TRUNCATED] = "model.safetensors",
                                                     [EMPTY] = "model.safetensors",
                                                     [NO_FILE] = "model.safetensors",
                                                     [NO_CONFIG] = "config.json",
                                                     [DROPPED] = "missing  model.norm.weight",
                                                     [ADDED] = "unknown  model.layers.0.self_attn.x_proj.weight",
                                                     [WIDER] = "model.norm.weight is [16]; the config says [32]",
                                                     [RANK] = "model.norm.weight is [32, 1]; the config says [32]",
                                                     [INTEGERS] = "model.norm.weight is i32",
                                                     [ALL_RENAMED] = "and "};

/* Writes llama's tensors with the one that `kind` names changed. */
static void write_weights(crank_context *context, damage kind)
{
    static const float zeros[64];
    crank_named_view tensors[64];
    crank_weights *weights = crank_weights_open(context, golden_folder("llama"));
    size_t count = 0;
    for (size_t i = 0; i < crank_weights_count(weights); i++) {
        const char *name = crank_weights_name(weights, i);
        bool norm = !strcmp(name, "model.norm.weight");
        if (kind == DROPPED && norm) continue;
        char text[256];
        snprintf(text, sizeof text, "%s%s", kind == ALL_RENAMED ? "x." : "", name);
        crank_named_view *tensor = &tensors[count++];
        tensor->name = strdup(text);
        crank_weights_find(weights, name, &tensor->view);
        if (norm && kind == WIDER) tensor->view.dims[0] = 16;
        if (norm && kind == RANK) tensor->view = crank_view_make((void *)zeros, CRANK_F32, 2, (int64_t[]){32, 1});
        if (norm && kind == INTEGERS) tensor->view.dtype = CRANK_I32;
    }
    if (kind == ADDED)
        tensors[count++] = (crank_named_view){strdup("model.layers.0.self_attn.x_proj.weight"),
                                              crank_view_make((void *)zeros, CRANK_F32, 1, (int64_t[]){3})};
    assert_ok(context, crank_weights_write(context, hostile_folder(), tensors, count, 0));
    for (size_t i = 0; i < count; i++) free((char *)tensors[i].name);
    crank_weights_close(weights);
}

static void wrong_weights_are_refused_by_name(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    for (damage kind = 0; kind < DAMAGES; kind++) {
        write_config(context, "llama", NULL, NULL);
        if (kind == TRUNCATED)
            copy_file(context, golden_folder("llama"), "model.safetensors", 20000);
        else if (kind == EMPTY)
            copy_file(context, golden_folder("llama"), "model.safetensors", 1);
        else if (kind == NO_CONFIG) {
            char path[4200];
            snprintf(path, sizeof path, "%s/config.json", hostile_folder());
            unlink(path);
        } else if (kind != NO_FILE)
            write_weights(context, kind);
        crank_clear(context);
        crank_model *model = load(context, device);
        if (model) fail_msg("damage %d: loaded", (int)kind);
        if (!strstr(crank_message(context), damage_messages[kind]))
            fail_msg("damage %d: the message is: %s", (int)kind, crank_message(context));
    }
    device->close(device);
    crank_context_free(context);
}

/* Cut at any length, the files are refused and nothing is read beyond their ends. */
static void files_cut_anywhere_are_refused(void **unused)
{
    (void)unused;
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    write_config(context, "llama", NULL, NULL);
    for (size_t length = 1; length < 70000; length = length * 3 / 2 + 1) {
        copy_file(context, golden_folder("llama"), "model.safetensors", length);
        assert_null(load(context, device));
    }
    copy_file(context, golden_folder("llama"), "model.safetensors", 0);
    for (size_t length = 1; length < 700; length += 29) {
        copy_file(context, golden_folder("llama"), "config.json", length);
        assert_null(load(context, device));
    }
    device->close(device);
    crank_context_free(context);
}

static void wrong_options_are_refused(void **unused)
{
    (void)unused;
    static const struct {
        crank_model_options options;
        const char *message;
    } cases[] = {{{.pooling = "median"}, "median"},      {{.labels = -3}, "-3"},
                 {{.labels = 1 << 30}, "outputs"},       {{.compute = CRANK_I32}, "compute type"},
                 {{.weights = CRANK_U8}, "weight type"}, {{.weights = CRANK_F16}, "weight type"}};
    crank_context *context = crank_context_new();
    crank_device *device = crank_device_cpu(context, "plain");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(crank_model_load(context, device, golden_folder("bert"), &cases[i].options));
        assert_int_equal(crank_last_status(context), CRANK_USAGE);
        if (!strstr(crank_message(context), cases[i].message))
            fail_msg("case %zu: the message is: %s", i, crank_message(context));
    }
    device->close(device);
    crank_context_free(context);
}

static void wrong_inputs_are_refused_while_recording(void **unused)
{
    (void)unused;
    golden_model g = golden_load("bert", "plain", (crank_model_options){0});
    int64_t n = 4, s = 2, one = 1;
    const struct {
        bool no_segments, float_ids, short_positions, long_types;
        const char *message;
    } cases[] = {{.no_segments = true, .message = "segments"},
                 {.float_ids = true, .message = "ids"},
                 {.short_positions = true, .message = "positions"},
                 {.long_types = true, .message = "types"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crank_graph *graph = crank_graph_new(g.context, g.device);
        crank_model_inputs inputs = {
            .ids = crank_input(graph, "ids", cases[i].float_ids ? CRANK_F32 : CRANK_I32, 1, &n),
            .positions = crank_input(graph, "positions", CRANK_I32, 1, cases[i].short_positions ? &one : &n),
            .segments = cases[i].no_segments ? NULL : crank_input(graph, "segments", CRANK_I32, 1, &s),
            .types = crank_input(graph, "types", CRANK_I32, 1, cases[i].long_types ? &s : &n)};
        crank_tensor *features = crank_model_features(graph, g.model, &inputs);
        assert_non_null(features);
        crank_model_classify(graph, g.model, features, inputs.segments); /* a failed graph takes everything */
        assert_int_equal(crank_graph_status(graph), CRANK_USAGE);
        if (!strstr(crank_message(g.context), cases[i].message))
            fail_msg("case %zu: the message is: %s", i, crank_message(g.context));
        crank_graph_free(graph);
    }
    assert_null(crank_model_cache_new(g.context, g.model, 8));
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_configs_are_refused_by_name),
        cmocka_unit_test(configs_that_are_no_objects_are_refused),
        cmocka_unit_test(a_model_larger_than_the_machine_is_refused_before_memory_is_taken),
        cmocka_unit_test(edited_configs_give_a_model_or_a_message),
        cmocka_unit_test(wrong_weights_are_refused_by_name),
        cmocka_unit_test(files_cut_anywhere_are_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(wrong_inputs_are_refused_while_recording),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
