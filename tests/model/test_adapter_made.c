/* Adapters that crank makes and trains, in the files of PEFT: folders that tests/oracle/peft_adapters.py --check reads back there. */
#include "model/adapter_fixture.h"

/* Methods with a place in PEFT's files, from crank's own starts, every trained parameter moved: folders with logits of their own, which
 * tests/oracle/peft_adapters.py --check compares with PEFT's. */
static const struct made {
    const char *folder, *method, *settings, *patterns;
} made[] = {
    { "made_lora", "lora", "rank=4 alpha=6 rslora=true", "down_proj=2" },
    { "made_dora", "dora", "rank=3 alpha=6", NULL },
    { "made_randlora", "randlora", "rank=5 alpha=5 basis=ternary", NULL },
    { "made_miss", "miss", "rank=5", NULL },
    { "made_miss_mini", "miss", "rank=6 mini=8", NULL },
    { "made_bat", "bone", "rank=8", NULL },
    { "made_eva", "eva", "rank=4 alpha=6 rho=2", "down_proj=2" },
    { "own_eva_dora", "eva", "rank=4 alpha=6 rho=2 dora=true", NULL },
    { "made_lora_pro", "lora-pro", "rank=4 alpha=6", NULL },
};

static void *options_of(crank_context *context, const crank_map *map, const char *settings)
{
    void *options = crank_options_new(context, map->options, map->options_size);
    char  text[256];
    snprintf(text, sizeof text, "%s", settings);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        *mark = 0;
        assert_ok(context, crank_options_set(context, map->options, options, item, mark + 1, "test"));
    }
    return options;
}

static void move_parameters(fixture *f)
{
    crank_params *params = crank_model_params(f->base.model);
    for (size_t i = 0; i < crank_params_count(params); i++) {
        crank_param *param = crank_params_at(params, i);
        float       *values = param->view.data;
        if (param->role != CRANK_ROLE_METHOD || !param->trainable) continue;
        crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, crank_hash_name(param->name));
        for (int64_t k = 0; k < crank_view_count(&param->view); k++) {
            float noise;
            crank_fill_normal(stream, (uint64_t)k, 0, 0.2f, &noise, 1);
            values[k] += noise;
        }
    }
}

static void methods_write_folders_that_peft_can_read(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof made / sizeof *made; m++) {
        fixture           f = fixture_open("llama_lora", CRANK_F32);
        crank_context    *context = f.base.context;
        const crank_map  *map = crank_map_find(made[m].method);
        void             *options = options_of(context, map, made[m].settings);
        crank_attachment *attachment = crank_attachment_new(context, crank_model_linears(f.base.model), map, options,
            &(crank_attach_options){ .targets = "q_proj\nup_proj\ndown_proj", .rank_pattern = made[m].patterns });
        if (!attachment || crank_attachment_finish(context, attachment)) fail_msg("%s: %s", made[m].folder, crank_message(context));
        crank_options_free(options);
        move_parameters(&f);
        size_t count;
        float *first = run(&f, &count);
        if (crank_adapter_save(context, f.base.model, attachment, written(made[m].folder), "some/base")) fail_msg("%s", crank_message(context));
        char path[4300];
        snprintf(path, sizeof path, "%s/logits.f32", written(made[m].folder));
        FILE *file = fopen(path, "wb");
        assert_int_equal(fwrite(first, sizeof *first, count, file), count);
        fclose(file);
        fixture_close(&f);
        f = fixture_open("llama_lora", CRANK_F32);
        load(&f, written(made[m].folder));
        float *second = run(&f, &count);
        double error = relative_error(second, first, count);
        if (!(error < 1e-6)) fail_msg("%s: relative error %g", made[m].folder, error);
        free(first), free(second);
        fixture_close(&f);
    }
}

static void ranks_that_peft_has_no_key_for_are_written_in_cranks_own_layout(void **state)
{
    (void)state;
    fixture           f = fixture_open("llama_lora", CRANK_F32);
    crank_context    *context = f.base.context;
    void             *options = options_of(context, crank_map_find("miss"), "rank=4");
    crank_attachment *attachment = crank_attachment_new(context, crank_model_linears(f.base.model), crank_map_find("miss"), options,
        &(crank_attach_options){ .targets = "q_proj\nup_proj", .rank_pattern = "up_proj=2" });
    assert_non_null(attachment);
    assert_ok(context, crank_attachment_finish(context, attachment));
    crank_options_free(options);
    move_parameters(&f);
    size_t count;
    float *first = run(&f, &count);
    assert_ok(context, crank_adapter_save(context, f.base.model, attachment, written("ranked_miss"), NULL));
    fixture_close(&f);
    char path[4300];
    snprintf(path, sizeof path, "%s/adapter_config.json", written("ranked_miss"));
    assert_int_not_equal(access(path, R_OK), 0);
    f = fixture_open("llama_lora", CRANK_F32);
    load(&f, written("ranked_miss"));
    float *second = run(&f, &count);
    assert_memory_equal(first, second, count * sizeof *first);
    free(first), free(second);
    fixture_close(&f);
}

/* Factors and core as the authors' code saves them. */
static void adapters_with_a_core_are_read_as_lora_xs(void **state)
{
    (void)state;
    fixture           f = fixture_open("llama_lora_xs", CRANK_F32);
    crank_attachment *attachment = load(&f, adapter_folder("llama_lora_xs"));
    size_t            count;
    assert_string_equal(crank_attachment_map(attachment)->name, "lora-xs");
    float *adapted = run(&f, &count);
    double error = error_to(&f, adapted, count, f.what);
    if (!(error < 2e-5)) fail_msg("relative error %g", error);
    assert_ok(f.base.context, crank_adapter_save(f.base.context, f.base.model, attachment, written("own_xs"), NULL));
    fixture_close(&f);
    f = fixture_open("llama_lora_xs", CRANK_F32);
    load(&f, written("own_xs"));
    float *again = run(&f, &count);
    assert_memory_equal(adapted, again, count * sizeof *again);
    free(adapted), free(again);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_write_folders_that_peft_can_read),
        cmocka_unit_test(adapters_with_a_core_are_read_as_lora_xs),
        cmocka_unit_test(ranks_that_peft_has_no_key_for_are_written_in_cranks_own_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
