/* Adapter folders: what PEFT wrote gives PEFT's outputs, what crank writes has PEFT's names and reads back bit for bit, and what
 * does not fit is refused with a table. */
#include "base/file.h"
#include "model/adapter_fixture.h"

static const char *const adapters[] = {
    "llama_lora", "llama_regex", "llama_layers", "llama_dora", "llama_embedding", "llama_embedding_dora",
    "gpt2_lora", "gpt2_dora", "gpt2_default", "bert_classify", "roberta_classify",
    "llama_randlora", "llama_miss", "llama_miss_mini", "llama_bat", "llama_eva", "llama_lora_ga",
};
enum { ADAPTERS = sizeof adapters / sizeof *adapters };

static void adapters_of_peft_give_its_outputs(void **state)
{
    (void)state;
    for (int i = 0; i < ADAPTERS; i++) {
        fixture f = fixture_open(adapters[i], CRANK_F32);
        size_t  count;
        float  *base = run(&f, &count);
        crank_attachment *attachment = load(&f, adapter_folder(adapters[i]));
        float  *adapted = run(&f, &count);
        double  error = error_to(&f, adapted, count, f.what);
        if (!(error < 2e-5)) fail_msg("%s: relative error %g", adapters[i], error);
        assert_true(relative_error(base, adapted, count) > 1e-3);
        assert_ok(f.base.context, crank_linears_merge(f.base.context, crank_model_linears(f.base.model), true, true));
        float *merged = run(&f, &count);
        error = error_to(&f, merged, count, "merged");
        if (!(error < 2e-5)) fail_msg("%s merged: relative error %g", adapters[i], error);
        assert_ok(f.base.context, crank_linears_unmerge(f.base.context, crank_model_linears(f.base.model)));
        float *again = run(&f, &count);
        assert_memory_equal(adapted, again, count * sizeof *again);
        crank_attachment_remove(attachment);
        free(base), free(adapted), free(merged), free(again);
        fixture_close(&f);
    }
}

static void written_adapters_have_the_names_of_peft_and_read_back_bit_for_bit(void **state)
{
    (void)state;
    for (int i = 0; i < ADAPTERS; i++) {
        fixture f = fixture_open(adapters[i], CRANK_F32);
        size_t  count;
        crank_attachment *attachment = load(&f, adapter_folder(adapters[i]));
        float *first = run(&f, &count);
        for (int twice = 0; twice < 2; twice++) /* the second time it replaces a folder */
            assert_ok(f.base.context, crank_adapter_save(f.base.context, f.base.model, attachment, written(adapters[i]), "some/base"));
        fixture_close(&f);

        f = fixture_open(adapters[i], CRANK_F32);
        load(&f, written(adapters[i]));
        float *second = run(&f, &count);
        assert_memory_equal(first, second, count * sizeof *first);

        char path[4300];
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", adapter_folder(adapters[i]));
        crank_safetensors *peft = crank_safetensors_open(f.base.context, path);
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", written(adapters[i]));
        crank_safetensors *ours = crank_safetensors_open(f.base.context, path);
        size_t             frozen = 0;
        assert_string_equal(crank_safetensors_metadata(ours, "format"), "pt");
        assert_int_equal(strlen(crank_safetensors_metadata(ours, "crank_base")), 64);
        for (size_t k = 0; k < crank_safetensors_count(peft); k++) {
            crank_view  a = crank_safetensors_view(peft, k), b;
            const char *name = crank_safetensors_name(peft, k);
            bool copy = (strstr(name, "randlora_A") || strstr(name, "randlora_B")) && strncmp(name, "base_model.model.", 17) == 0;
            if (copy || strstr(name, "embed_tokens.base_layer.weight")) { /* of a shared basis; the frozen table: not part of an adapter */
                frozen++;
                continue;
            }
            if (!crank_safetensors_find(ours, name, &b)) fail_msg("%s: %s was not written", adapters[i], name);
            assert_int_equal(a.rank, b.rank);
            assert_memory_equal(a.dims, b.dims, (size_t)a.rank * sizeof *a.dims);
            if (a.dtype == CRANK_F32) assert_memory_equal(a.data, b.data, crank_view_bytes(&a));
        }
        assert_int_equal(crank_safetensors_count(ours), crank_safetensors_count(peft) - frozen);
        crank_safetensors_close(peft);
        crank_safetensors_close(ours);
        free(first), free(second);
        fixture_close(&f);
    }
}

static void several_adapters_of_one_model_add_and_switch(void **state)
{
    (void)state;
    fixture f = fixture_open("llama_lora", CRANK_F32);
    size_t  count;
    float  *base = run(&f, &count), *alone, *both, *off;
    crank_attachment *a = crank_adapter_load(f.base.context, f.base.model, adapter_folder("llama_lora"), "a");
    alone = run(&f, &count);
    crank_attachment *b = crank_adapter_load(f.base.context, f.base.model, adapter_folder("llama_dora"), "b");
    assert_non_null(a);
    assert_non_null(b);
    both = run(&f, &count);
    assert_true(relative_error(both, alone, count) > 1e-3);
    crank_attachment_set(b, false, 1);
    off = run(&f, &count);
    assert_memory_equal(off, alone, count * sizeof *off);
    free(off);
    crank_attachment_set(a, false, 1);
    off = run(&f, &count);
    assert_memory_equal(off, base, count * sizeof *off);
    free(base), free(alone), free(both), free(off);
    fixture_close(&f);
}

static void an_adapter_is_the_same_base_in_another_type_and_no_other_base(void **state)
{
    (void)state;
    fixture f = fixture_open("llama_lora", CRANK_F32);
    crank_attachment *attachment = load(&f, adapter_folder("llama_lora"));
    const char *folder = written("based");
    assert_ok(f.base.context, crank_adapter_save(f.base.context, f.base.model, attachment, folder, NULL));
    fixture_close(&f);
    static const crank_dtype types[] = { CRANK_BF16, CRANK_F64 };
    for (int i = 0; i < 2; i++) {
        f = fixture_open("llama_lora", types[i]);
        load(&f, written("based"));
        fixture_close(&f);
    }
    f = fixture_open("llama_lora", CRANK_F32); /* the same shapes, other values */
    crank_linear *linear = crank_linears_find(crank_model_linears(f.base.model), "model.layers.0.self_attn.q_proj");
    assert_ok(f.base.context, crank_param_own(f.base.context, linear->weight));
    ((float *)linear->weight->view.data)[0] += 1;
    assert_null(crank_adapter_load(f.base.context, f.base.model, written("based"), "default"));
    assert_int_equal(crank_last_status(f.base.context), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(f.base.context), "another base model"));
    assert_int_equal(crank_linears_attachments(crank_model_linears(f.base.model)), 0);
    fixture_close(&f);
}

static void a_head_that_was_trained_beside_the_adapter_is_saved_with_it(void **state)
{
    (void)state;
    fixture f = fixture_open("bert_classify", CRANK_F32);
    crank_linears *linears = crank_model_linears(f.base.model);
    const crank_map *lora = crank_map_find("lora");
    void *options = crank_options_new(f.base.context, lora->options, lora->options_size);
    crank_attachment *attachment = crank_attachment_new(f.base.context, linears, lora, options, &(crank_attach_options){ .targets = "query" });
    assert_non_null(attachment);
    assert_ok(f.base.context, crank_attachment_finish(f.base.context, attachment));
    crank_options_free(options);
    static const char *const names[] = { "classifier.weight", "classifier.bias" };
    for (int i = 0; i < 2; i++) {
        crank_param *param = crank_params_find(crank_model_params(f.base.model), names[i]);
        assert_ok(f.base.context, crank_param_own(f.base.context, param));
        param->trainable = true;
        ((float *)param->view.data)[0] += 3;
    }
    size_t count;
    float *first = run(&f, &count);
    assert_ok(f.base.context, crank_adapter_save(f.base.context, f.base.model, attachment, written("headed"), NULL));
    fixture_close(&f);
    f = fixture_open("bert_classify", CRANK_F32);
    load(&f, written("headed"));
    float *second = run(&f, &count);
    assert_memory_equal(first, second, count * sizeof *first);
    assert_true(crank_params_find(crank_model_params(f.base.model), "classifier.bias")->trainable);
    free(first), free(second);
    fixture_close(&f);
}

static void a_folder_tells_of_its_head_before_a_model_is_loaded(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    int64_t        labels;
    char           pooling[16];
    assert_ok(context, crank_adapter_head(context, written("headed"), &labels, pooling)); /* of the test above */
    assert_int_equal(labels, 3);
    assert_string_equal(pooling, "pooler");
    assert_ok(context, crank_adapter_head(context, adapter_folder("roberta_classify"), &labels, pooling)); /* PEFT's own */
    assert_true(labels > 0);
    assert_string_equal(pooling, "");
    assert_ok(context, crank_adapter_head(context, adapter_folder("llama_lora"), &labels, pooling));
    assert_int_equal(labels, 0);
    crank_context_free(context);
}

static void a_method_of_bounded_rank_is_written_as_plain_lora(void **state)
{
    (void)state;
    fixture f = fixture_open("llama_lora", CRANK_F32); /* different ranks and scales a site */
    size_t  count;
    crank_attachment *attachment = load(&f, adapter_folder("llama_lora"));
    float *first = run(&f, &count);
    assert_ok(f.base.context, crank_adapter_save_lora(f.base.context, f.base.model, attachment, written("plain"), NULL));
    fixture_close(&f);
    f = fixture_open("llama_lora", CRANK_F32);
    load(&f, written("plain"));
    float *second = run(&f, &count);
    assert_true(relative_error(second, first, count) < 1e-6);
    free(first), free(second);
    crank_attachment *dora = crank_adapter_load(f.base.context, f.base.model, adapter_folder("llama_dora"), "dora");
    assert_non_null(dora);
    assert_int_equal(crank_adapter_save_lora(f.base.context, f.base.model, dora, written("never"), NULL), CRANK_USAGE);
    assert_non_null(strstr(crank_message(f.base.context), "no bounded rank"));
    fixture_close(&f);
}

/* ---- a method that PEFT does not know ---- */

typedef struct {
    double      size;
    int64_t     rank;
    bool        on;
    const char *word;
} own_options;

static const crank_option own_table[] = {
    CRANK_FLOAT(own_options, size, 0.1, 0, 10, "a number"),
    CRANK_INT(own_options, rank, 1, 1, 100, "a whole number"),
    CRANK_BOOL(own_options, on, true, "a switch"),
    CRANK_STRING(own_options, word, NULL, "a word"),
    CRANK_END
};

static crank_status own_attach(crank_context *context, crank_site *site)
{
    crank_param **scale = site->state;
    *scale = crank_site_param(context, site, "scale", CRANK_F32, 1, &site->linear->out, true);
    return *scale ? CRANK_OK : crank_last_status(context);
}

/* y = y0 (1 + size scale) */
static crank_tensor *own_forward(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)x;
    const own_options *options = site->options;
    crank_tensor      *factor = crank_affine(crank_use(graph, *(crank_param **)site->state), options->size, 1);
    return crank_mul(y0, crank_cast(factor, y0->dtype));
}

static const crank_map own_map = { .name = "rescale", .summary = "scales outputs", .options = own_table, .options_size = sizeof(own_options),
                                   .state_size = sizeof(crank_param *), .affine = true, .attach = own_attach, .forward = own_forward };

static void a_method_of_its_own_goes_through_crank_json(void **state)
{
    (void)state;
    fixture f = fixture_open("llama_lora", CRANK_F32);
    assert_ok(f.base.context, crank_register_map(f.base.context, &own_map));
    own_options options = { .size = 0.3, .rank = 7, .on = false, .word = "a \"quoted\" word" };
    crank_attachment *attachment = crank_attachment_new(f.base.context, crank_model_linears(f.base.model), &own_map, &options,
                                                        &(crank_attach_options){ .targets = "q_proj\nk_proj", .layers = "1" });
    if (!attachment) fail_msg("%s", crank_message(f.base.context));
    assert_ok(f.base.context, crank_attachment_finish(f.base.context, attachment));
    crank_param *scale = crank_params_find(crank_model_params(f.base.model), "model.layers.1.self_attn.k_proj.rescale.scale");
    for (int i = 0; i < 8; i++) ((float *)scale->view.data)[i] = (float)i / 8;
    size_t count;
    float *first = run(&f, &count);
    assert_ok(f.base.context, crank_adapter_save(f.base.context, f.base.model, attachment, written("own"), "b"));
    fixture_close(&f);
    f = fixture_open("llama_lora", CRANK_F32);
    attachment = load(&f, written("own"));
    const own_options *read = crank_attachment_options(attachment);
    assert_true(read->size == 0.3 && read->rank == 7 && !read->on);
    assert_string_equal(read->word, "a \"quoted\" word");
    float *second = run(&f, &count);
    assert_memory_equal(first, second, count * sizeof *first);
    free(first), free(second);
    fixture_close(&f);
}

/* ---- refusals ---- */

static void write_file(const char *folder, const char *name, const void *bytes, size_t length)
{
    char path[4300];
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

/* The config with the tensors of a golden adapter must be refused with a message that holds `part`. */
static void refuse(const char *adapter, const char *config, const char *part)
{
    fixture     f = fixture_open(adapter, CRANK_F32);
    char        path[4300];
    const char *folder = written("refused");
    static char bytes[1 << 20];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", adapter_folder(adapter));
    FILE  *file = fopen(path, "rb");
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    write_file(folder, "adapter_model.safetensors", bytes, length);
    write_file(folder, "adapter_config.json", config, strlen(config));
    assert_null(crank_adapter_load(f.base.context, f.base.model, folder, "default"));
    assert_int_equal(crank_last_status(f.base.context), CRANK_BAD_DATA);
    if (!strstr(crank_message(f.base.context), part)) fail_msg("`%s` is not in: %s", part, crank_message(f.base.context));
    assert_int_equal(crank_linears_attachments(crank_model_linears(f.base.model)), 0);
    fixture_close(&f);
}

static void what_does_not_fit_is_refused_with_a_table(void **state)
{
    (void)state;
#define CONFIG(rest) "{\"peft_type\": \"LORA\", " rest "}"
    refuse("llama_dora", CONFIG("\"r\": 4, \"target_modules\": [\"k_proj\", \"up_proj\"]"), "unexpected base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector");
    refuse("llama_dora", CONFIG("\"r\": 5, \"use_dora\": true, \"target_modules\": [\"k_proj\", \"up_proj\"]"), "the file has f32 [4, 32], the model takes [5, 32]");
    refuse("llama_dora", CONFIG("\"r\": 4, \"use_dora\": true, \"target_modules\": [\"k_proj\"]"), "unexpected");
    refuse("llama_dora", CONFIG("\"r\": 4, \"use_dora\": true, \"target_modules\": [\"k_proj\", \"up_proj\", \"q_proj\"]"), "missing    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    /* 65536 x 96 x 4 bytes in each factor: nothing of it is taken for a file that has no such tensors */
    refuse("llama_dora", CONFIG("\"r\": 65536, \"use_dora\": true, \"target_modules\": \"all-linear\""), "the model takes [65536, 32]");
    refuse("llama_dora", CONFIG("\"r\": 0, \"target_modules\": [\"k_proj\"]"), "from 1 to 65536");
    refuse("llama_dora", CONFIG("\"r\": 4, \"target_modules\": [\"kproj\"]"), "did you mean `k_proj`?");
    refuse("llama_dora", CONFIG("\"r\": 4, \"target_modules\": 7.5"), "target_modules");
    refuse("llama_dora", CONFIG("\"r\": [4], \"target_modules\": [\"k_proj\"]"), "`r` must be a number");
    refuse("llama_dora", CONFIG("\"r\": 4, \"rank_pattern\": {\"k_proj\": \"4\"}, \"target_modules\": [\"k_proj\"]"), "rank_pattern");
    refuse("llama_dora", CONFIG("\"r\": 4, \"target_modules\": [\"k_proj\"], \"init_lora_weights\": \"pissa\""), "changed base");
    refuse("llama_dora", CONFIG("\"r\": 4, \"target_modules\": [\"k_proj\"], \"target_parameters\": [\"x\"]"), "target_parameters");
    refuse("llama_dora", "{\"peft_type\": \"PREFIX_TUNING\"}", "PREFIX_TUNING");
    refuse("llama_dora", "{}", "peft_type");
    refuse("llama_dora", "{\"peft_type\": \"LORA\"", "not valid JSON");
#undef CONFIG
}

/* Bytes of config and tensors changed at random: whatever is told, nothing is read out of bounds and nothing stays behind. */
static void mutated_folders_load_or_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "llama_lora", "llama_layers", "llama_embedding_dora" };
    static const char *const files[] = { "adapter_config.json", "adapter_model.safetensors" };
    static char              bytes[2][1 << 16];
    char                     path[4300];
    int                      loaded = 0, refused = 0;
    for (int n = 0; n < 3; n++) {
        fixture      f = fixture_open(names[n], CRANK_F32);
        const char  *folder = written("mutated");
        crank_params *params = crank_model_params(f.base.model);
        size_t       length[2], before = crank_params_count(params);
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%s", adapter_folder(names[n]), files[k]);
            FILE *file = fopen(path, "rb");
            length[k] = fread(bytes[k], 1, sizeof bytes[k], file);
            fclose(file);
        }
        for (uint64_t i = 0; i < 150; i++) {
            crank_stream stream = crank_stream_make(i, CRANK_RANDOM_TEST, (uint32_t)n);
            int          which = i % 3 == 0;
            size_t       range = which ? 2000 : length[0], count = 1 + crank_draw_below(stream, 0, 3), at[3];
            char         kept[3];
            for (size_t j = 0; j < count; j++) {
                at[j] = crank_draw_below(stream, 3 * j + 1, range < length[which] ? range : length[which]);
                kept[j] = bytes[which][at[j]];
                bytes[which][at[j]] = "0123456789\"{}[],:-.aeE\0\x7f\xff"[crank_draw_below(stream, 3 * j + 2, 25)];
            }
            for (int k = 0; k < 2; k++) write_file(folder, files[k], bytes[k], length[k]);
            for (size_t j = count; j-- > 0;) bytes[which][at[j]] = kept[j];
            crank_attachment *attachment = crank_adapter_load(f.base.context, f.base.model, folder, "default");
            if (attachment) crank_attachment_remove(attachment);
            else assert_true(*crank_message(f.base.context));
            loaded += attachment != NULL;
            refused += attachment == NULL;
            assert_int_equal(crank_params_count(params), before);
        }
        fixture_close(&f);
    }
    assert_true(loaded > 20 && refused > 100);
}

static void folders_that_are_no_adapters_are_left_alone(void **state)
{
    (void)state;
    fixture f = fixture_open("llama_lora", CRANK_F32);
    crank_attachment *attachment = load(&f, adapter_folder("llama_lora"));
    const char *folder = written("diary");
    assert_ok(f.base.context, file_folder_remove(f.base.context, folder));
    write_file(folder, "notes.txt", "mine", 4);
    assert_int_equal(crank_adapter_save(f.base.context, f.base.model, attachment, folder, NULL), CRANK_USAGE);
    char path[4300];
    snprintf(path, sizeof path, "%s/notes.txt", folder);
    assert_int_equal(access(path, R_OK), 0);
    assert_null(crank_adapter_load(f.base.context, f.base.model, folder, "other"));
    assert_non_null(strstr(crank_message(f.base.context), "no adapter folder"));
    write_file(folder, "adapter_config.json", "{\"peft_type\": \"LORA\"}", 21);
    write_file(folder, "adapter_model.bin", "x", 1);
    assert_null(crank_adapter_load(f.base.context, f.base.model, folder, "other"));
    assert_non_null(strstr(crank_message(f.base.context), "pickle"));
    fixture_close(&f);
}

static void a_model_without_memory_takes_an_adapter_for_planning(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    crank_model   *model = crank_model_load(context, device, golden_folder("llama"), &(crank_model_options){ .dry = true });
    if (!model) fail_msg("%s", crank_message(context));
    static const char *const names[] = { "llama_lora", "llama_dora", "llama_embedding_dora" };
    for (int i = 0; i < 3; i++)
        if (!crank_adapter_load(context, model, adapter_folder(names[i]), names[i])) fail_msg("%s", crank_message(context));
    assert_non_null(crank_params_find(crank_model_params(model), "model.layers.0.self_attn.q_proj.lora.llama_lora.A"));
    assert_int_equal(crank_adapter_save(context, model, crank_linears_attachment(crank_model_linears(model), 0), written("dry"), NULL),
                     CRANK_USAGE);
    crank_model_free(model);
    device->close(device);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_of_peft_give_its_outputs),
        cmocka_unit_test(written_adapters_have_the_names_of_peft_and_read_back_bit_for_bit),
        cmocka_unit_test(several_adapters_of_one_model_add_and_switch),
        cmocka_unit_test(an_adapter_is_the_same_base_in_another_type_and_no_other_base),
        cmocka_unit_test(a_head_that_was_trained_beside_the_adapter_is_saved_with_it),
        cmocka_unit_test(a_folder_tells_of_its_head_before_a_model_is_loaded),
        cmocka_unit_test(a_method_of_bounded_rank_is_written_as_plain_lora),
        cmocka_unit_test(a_method_of_its_own_goes_through_crank_json),
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_table),
        cmocka_unit_test(mutated_folders_load_or_are_refused),
        cmocka_unit_test(folders_that_are_no_adapters_are_left_alone),
        cmocka_unit_test(a_model_without_memory_takes_an_adapter_for_planning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
