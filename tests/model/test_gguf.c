/* GGUF files: every tensor of golden models and adapters under the name, shape and values that the format's own tables and readers give; keys,
 * tokenizers; what has no place there is told. */
#include "base/json.h"
#include "base/sha256.h"
#include "crank/adapter.h"
#include "model/golden_model.h"

/* ---- a reader of what the tests need ---- */

typedef struct reader {
    uint8_t *bytes;
    size_t   length, at;
} reader;

static uint64_t take(reader *r, size_t size)
{
    uint64_t value = 0;
    assert_true(r->at + size <= r->length);
    memcpy(&value, r->bytes + r->at, size);
    r->at += size;
    return value;
}

/* In one of sixteen static buffers. */
static const char *take_text(reader *r)
{
    static char     texts[16][4096];
    static unsigned next;
    uint64_t        n = take(r, 8);
    char           *out = texts[next++ % 16];
    assert_true(r->at + n <= r->length && n < sizeof texts[0]);
    memcpy(out, r->bytes + r->at, n);
    out[n] = 0;
    r->at += n;
    return out;
}

static json_t *take_value(reader *r, uint64_t type)
{
    if (type == 8) return json_string(take_text(r));
    if (type == 7) return json_boolean((int)take(r, 1));
    if (type == 6) {
        uint32_t bits = (uint32_t)take(r, 4);
        float    value;
        memcpy(&value, &bits, 4);
        return json_real((double)value);
    }
    if (type == 4 || type == 5) return json_integer((json_int_t)(int32_t)take(r, 4));
    assert_int_equal(type, 9);
    uint64_t inner = take(r, 4), count = take(r, 8);
    json_t  *list = json_array();
    for (uint64_t i = 0; i < count; i++) json_array_append_new(list, take_value(r, inner));
    return list;
}

/* {"keys": {..}, "tensors": {NAME: [shape, hash]}} of a file whose tensors are f32. */
static json_t *read_gguf(const char *path)
{
    reader r = {0};
    FILE  *file = fopen(path, "rb");
    if (!file) fail_msg("%s is not there", path);
    fseek(file, 0, SEEK_END);
    r.length = (size_t)ftell(file);
    rewind(file);
    r.bytes = malloc(r.length);
    assert_int_equal(fread(r.bytes, 1, r.length, file), r.length);
    fclose(file);
    assert_memory_equal(r.bytes, "GGUF", 4);
    r.at = 4;
    assert_int_equal(take(&r, 4), 3);
    uint64_t tensors = take(&r, 8), pairs = take(&r, 8), offsets[256];
    json_t  *keys = json_object(), *list = json_object();
    assert_true(tensors < 256);
    for (uint64_t i = 0; i < pairs; i++) {
        const char *key = take_text(&r);
        char        name[256];
        snprintf(name, sizeof name, "%s", key);
        uint64_t type = take(&r, 4);
        assert_null(json_object_get(keys, name));
        json_object_set_new(keys, name, take_value(&r, type));
    }
    const char *names[256];
    json_t     *shapes[256];
    size_t      counts[256];
    for (uint64_t i = 0; i < tensors; i++) {
        names[i] = strdup(take_text(&r));
        uint64_t rank = take(&r, 4);
        shapes[i] = json_array();
        counts[i] = 1;
        for (uint64_t k = 0; k < rank; k++) {
            uint64_t dim = take(&r, 8);
            json_array_insert_new(shapes[i], 0, json_integer((json_int_t)dim));
            counts[i] *= dim;
        }
        assert_int_equal(take(&r, 4), 0);
        offsets[i] = take(&r, 8);
        assert_int_equal(offsets[i] % 32, 0);
    }
    size_t data = (r.at + 31) / 32 * 32;
    for (uint64_t i = 0; i < tensors; i++) {
        char hex[65];
        assert_true(data + offsets[i] + 4 * counts[i] <= r.length);
        sha256 hash;
        sha256_start(&hash);
        sha256_add(&hash, r.bytes + data + offsets[i], 4 * counts[i]);
        sha256_hex(&hash, hex);
        json_object_set_new(list, names[i], json_pack("[o, s]", shapes[i], hex));
        free((void *)(uintptr_t)names[i]);
    }
    free(r.bytes);
    return json_pack("{s:o, s:o}", "keys", keys, "tensors", list);
}

/* ---- golden ---- */

static json_t *golden_of(crank_context *context, const char *kind, const char *name)
{
    json_t *root = json_read(context, golden("gguf.json"));
    if (!root) fail_msg("%s", crank_message(context));
    json_t *found = json_incref(json_object_get(json_object_get(root, kind), name));
    json_decref(root);
    assert_non_null(found);
    return found;
}

static void compare(const char *what, const json_t *have, const json_t *want)
{
    const char *name;
    json_t     *value;
    json_object_foreach((json_t *)(uintptr_t)want, name, value)
    {
        if (!json_object_get(have, name)) fail_msg("%s has no %s", what, name);
        if (!json_equal(json_object_get(have, name), value)) fail_msg("%s: %s differs", what, name);
    }
    if (json_object_size(have) != json_object_size(want)) fail_msg("%s has %zu tensors, expected %zu", what, json_object_size(have), json_object_size(want));
}

static void close_model(golden_model *g)
{
    crank_model_free(g->model);
    crank_safetensors_close(g->file);
    g->device->close(g->device);
    crank_context_free(g->context);
}

static const char *temporary(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/test.%ld.gguf", CRANK_BINARY_DIR, (long)getpid());
    return path;
}

static void every_tensor_of_a_model_has_its_name_shape_and_values(void **state)
{
    (void)state;
    static const struct {
        const char *model, *architecture;
    } models[] = {{"llama", "llama"}, {"llama_linear", "llama"}, {"llama3", "llama"}, {"mistral", "llama"}, {"qwen2", "qwen2"},
                  {"qwen3", "qwen3"}, {"gpt2", "gpt2"},          {"bert", "bert"},    {"roberta", "bert"}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        golden_model g = golden_load(models[i].model, NULL, (crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
        char        *left_out;
        assert_ok(g.context, crank_model_save_gguf(g.context, g.model, NULL, temporary(), CRANK_F32, &left_out));
        json_t *file = read_gguf(temporary()), *want = golden_of(g.context, "models", models[i].model), *keys = json_object_get(file, "keys");
        compare(models[i].model, json_object_get(file, "tensors"), want);
        assert_string_equal(json_string_value(json_object_get(keys, "general.architecture")), models[i].architecture);
        char key[64];
        snprintf(key, sizeof key, "%s.block_count", models[i].architecture);
        assert_int_equal(json_integer_value(json_object_get(keys, key)), crank_model_config_of(g.model)->layers);
        if (!strcmp(models[i].model, "bert")) assert_non_null(strstr(left_out, "pooler.dense.weight"));
        if (!strcmp(models[i].model, "mistral")) assert_non_null(strstr(left_out, "sliding window"));
        if (!strcmp(models[i].model, "llama")) assert_null(left_out);
        crank_free(left_out);
        json_decref(file), json_decref(want);
        close_model(&g);
    }
    unlink(temporary());
}

static crank_status write_adapter(golden_model *g, const char *base, const char *adapter)
{
    char path[256];
    *g = golden_load(base, NULL, (crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    snprintf(path, sizeof path, "adapters/%s", adapter);
    crank_attachment *a = crank_adapter_load(g->context, g->model, golden(path), "default");
    if (!a) fail_msg("%s", crank_message(g->context));
    return crank_adapter_save_gguf(g->context, g->model, a, temporary());
}


static void every_pair_of_an_adapter_has_its_name_shape_and_values(void **state)
{
    (void)state;
    static const struct {
        const char *adapter, *base;
        double      alpha;
    } adapters[] = {{"llama_lora", "llama", 8}, {"llama_regex", "llama3", 5 * 1.7320508075688772}};
    for (size_t i = 0; i < 2; i++) {
        golden_model g;
        assert_ok(g.context, write_adapter(&g, adapters[i].base, adapters[i].adapter));
        json_t *file = read_gguf(temporary()), *want = golden_of(g.context, "adapters", adapters[i].adapter), *keys = json_object_get(file, "keys");
        compare(adapters[i].adapter, json_object_get(file, "tensors"), want);
        assert_string_equal(json_string_value(json_object_get(keys, "adapter.type")), "lora");
        assert_true(fabs(json_real_value(json_object_get(keys, "adapter.lora.alpha")) - adapters[i].alpha) < 1e-5);
        json_decref(file), json_decref(want);
        close_model(&g);
    }
    unlink(temporary());
}

static void what_a_file_cannot_carry_is_listed_and_a_merge_offered(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"gpt2", "gpt2_lora", "bias: a weight of the model itself"}, {"llama", "llama_embedding", "an embedding"}, {"llama", "llama_dora", "no bounded rank"},
                                           {"llama", "llama_layers", "bias: a weight of the model itself"}};
    for (size_t i = 0; i < 4; i++) {
        golden_model g;
        int          status = (int)write_adapter(&g, !strcmp(cases[i][1], "llama_layers") ? "llama_linear" : cases[i][0], cases[i][1]);
        if (status != CRANK_USAGE || !strstr(crank_message(g.context), cases[i][2]) || !strstr(crank_message(g.context), "adapter merge"))
            fail_msg("%s: %d %s", cases[i][1], status, crank_message(g.context));
        assert_int_not_equal(access(temporary(), F_OK), 0);
        close_model(&g);
    }
}

/* ---- tokenizers ---- */

static json_t *keys_with(const char *name, const char *config, crank_context *context, crank_tokenizer **tokenizer, char **left_out)
{
    char          path[256], text[1024];
    crank_device *device = test_device(context, NULL);
    snprintf(path, sizeof path, "tokenizers/%s.json", name);
    *tokenizer = crank_tokenizer_load(context, golden(path));
    if (!*tokenizer) fail_msg("%s", crank_message(context));
    snprintf(text, sizeof text, config, (int)crank_tokenizer_size(*tokenizer));
    crank_model *model = crank_model_new(context, device, text, &(crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
    if (!model) fail_msg("%s", crank_message(context));
    assert_ok(context, crank_model_save_gguf(context, model, *tokenizer, temporary(), CRANK_F32, left_out));
    json_t *file = read_gguf(temporary()), *keys = json_incref(json_object_get(file, "keys"));
    json_decref(file);
    crank_model_free(model);
    device->close(device);
    return keys;
}

static const char llama_config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":%d,\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
                                   "\"intermediate_size\":8,\"max_position_embeddings\":16,\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\"}";
static const char bert_config[] = "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"vocab_size\":%d,\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
                                  "\"intermediate_size\":8,\"max_position_embeddings\":16,\"type_vocab_size\":2,\"pad_token_id\":0,\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-12}";

static void tokenizers_are_told_as_readers_know_them(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model, *pre;
    } cases[] = {{"gpt2", "gpt2", "gpt-2"}, {"llama3", "gpt2", "llama-bpe"}, {"qwen2", "gpt2", "qwen2"}, {"llama2", "llama", "default"}, {"bert", "bert", "default"}, {"falcon", "gpt2", "default"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crank_context   *context = crank_context_new();
        crank_tokenizer *t;
        char            *left_out;
        bool             pieces = !strcmp(cases[i].model, "bert");
        json_t          *keys = keys_with(cases[i].name, pieces ? bert_config : llama_config, context, &t, &left_out);
        json_t          *tokens = json_object_get(keys, "tokenizer.ggml.tokens"), *kinds = json_object_get(keys, "tokenizer.ggml.token_type");
        assert_string_equal(json_string_value(json_object_get(keys, "tokenizer.ggml.model")), cases[i].model);
        assert_string_equal(json_string_value(json_object_get(keys, "tokenizer.ggml.pre")), cases[i].pre);
        assert_true(!strcmp(cases[i].name, "falcon") == (left_out && strstr(left_out, "pre-tokenizer")));
        assert_int_equal(json_array_size(tokens), crank_tokenizer_size(t));
        assert_int_equal(json_array_size(kinds), crank_tokenizer_size(t));
        for (int32_t id = 0; id < crank_tokenizer_size(t) && !pieces; id++)
            if (crank_token_text(t, id)) assert_string_equal(json_string_value(json_array_get(tokens, (size_t)id)), crank_token_text(t, id));
        if (pieces) {
            int32_t id = crank_token_id(t, "##s"), word = crank_token_id(t, "the");
            assert_string_equal(json_string_value(json_array_get(tokens, (size_t)id)), "s");
            assert_string_equal(json_string_value(json_array_get(tokens, (size_t)word)), "\xE2\x96\x81the");
            assert_int_equal(json_integer_value(json_object_get(keys, "tokenizer.ggml.seperator_token_id")), crank_token_id(t, "[SEP]"));
        }
        if (!strcmp(cases[i].name, "llama2")) {
            json_t *scores = json_object_get(keys, "tokenizer.ggml.scores");
            assert_int_equal(json_integer_value(json_array_get(kinds, 3)), 6); /* <0x00> */
            assert_int_equal(json_integer_value(json_array_get(kinds, 0)), 2); /* <unk> */
            assert_int_equal(json_integer_value(json_array_get(kinds, 1)), 3); /* <s> */
            double he = json_real_value(json_array_get(scores, (size_t)crank_token_id(t, "he"))), the = json_real_value(json_array_get(scores, (size_t)crank_token_id(t, "\xE2\x96\x81the")));
            assert_true(he == -1 && the < he);
        } else if (!pieces)
            assert_true(json_array_size(json_object_get(keys, "tokenizer.ggml.merges")) > 10 && json_is_string(json_array_get(json_object_get(keys, "tokenizer.ggml.merges"), 0)));
        json_decref(keys);
        crank_free(left_out);
        crank_tokenizer_free(t);
        crank_context_free(context);
    }
    unlink(temporary());
}

/* The PyPI package itself, where CRANK_ORACLE_PYTHON names a Python that has it. */
static void the_reference_reader_reads_the_same(void **state)
{
    (void)state;
    const char *python = getenv("CRANK_ORACLE_PYTHON");
    if (!python) {
        print_message("CRANK_ORACLE_PYTHON names no Python with the package gguf: its reader is not asked\n");
        skip();
    }
    static const char *const models[] = {"llama", "llama3", "qwen3", "gpt2", "bert"};
    for (size_t i = 0; i < 5; i++) {
        char         command[2048];
        golden_model g = golden_load(models[i], NULL, (crank_model_options){.compute = CRANK_F32, .weights = CRANK_F32});
        assert_ok(g.context, crank_model_save_gguf(g.context, g.model, NULL, temporary(), CRANK_F32, NULL));
        snprintf(command, sizeof command, "'%s' '%s/tests/oracle/gguf_files.py' --check '%s'", python, CRANK_SOURCE_DIR, temporary());
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        json_t *told = json_loadf(pipe, 0, NULL), *want = golden_of(g.context, "models", models[i]);
        assert_int_equal(pclose(pipe), 0);
        compare(models[i], json_object_get(told, "tensors"), want);
        json_decref(told), json_decref(want);
        close_model(&g);
    }
    unlink(temporary());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_of_a_model_has_its_name_shape_and_values),
        cmocka_unit_test(every_pair_of_an_adapter_has_its_name_shape_and_values),
        cmocka_unit_test(what_a_file_cannot_carry_is_listed_and_a_merge_offered),
        cmocka_unit_test(tokenizers_are_told_as_readers_know_them),
        cmocka_unit_test(the_reference_reader_reads_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
