/* Training on a base in four bits: the same bits as on the dequantised weights, resumed runs, adapters that load on the dense base too,
 * and what such a base cannot do is refused by a rule. */
#include "runs.h"

#include "crank/model.h"

static const char common[] = "train.steps=20 train.eval_every=10 data.eval_share=0.2 train.batch=2 train.keep=last lowrank.rank=4 train.lr=0.01";

/* The weights that four bits stand for, as a model folder of dense weights. */
static void write_dequantised(const char *config, const char *name, crank_dtype compute, bool nested)
{
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    char          *text = runs_read(config, NULL);
    crank_model   *model = crank_model_new(context, device, text, &(crank_model_options){.compute = compute, .weights = CRANK_NF4, .double_quantized = nested});
    if (!model) fail_msg("%s", crank_message(context));
    assert_ok(context, crank_model_save(context, model, runs_path(name), compute));
    crank_model_free(model);
    device->close(device);
    crank_context_free(context);
    free(text);
}

static run_words on_dense(const char *name, const char *out, const char *more)
{
    run_words w = words_of("llama", "text.txt", out, more);
    snprintf(w.text[0], sizeof w.text[0], "model.path=%s", runs_path(name)); /* instead of model.config */
    return w;
}

static void check_same_as_dense(const char *compute, crank_dtype type, bool nested, const char *method)
{
    run_words four = words_of("llama", "text.txt", "four", common), dense;
    write_dequantised(runs_path("llama.json"), "opened", type, nested);
    dense = on_dense("opened", "dense", common);
    words_add(&four, "model.weights=nf4"), words_add(&four, "model.double_quantization=%s", nested ? "true" : "false");
    words_add(&four, "model.compute=%s", compute), words_add(&dense, "model.compute=%s", compute);
    words_split(&four, method), words_split(&dense, method);
    runs_finish(&four), runs_finish(&dense);
    size_t n = 0, m = 0;
    char  *a = runs_read(runs_path("four/adapter/adapter_model.safetensors"), &n), *b = runs_read(runs_path("dense/adapter/adapter_model.safetensors"), &m);
    assert_true(a && b);
    crank_context     *context = crank_context_new();
    crank_safetensors *x = crank_safetensors_open(context, runs_path("four/adapter/adapter_model.safetensors")),
                      *y = crank_safetensors_open(context, runs_path("dense/adapter/adapter_model.safetensors"));
    assert_true(x && y && crank_safetensors_count(x) == crank_safetensors_count(y) && crank_safetensors_count(x) > 0);
    for (size_t i = 0; i < crank_safetensors_count(x); i++) {
        crank_view left = crank_safetensors_view(x, i), right;
        assert_true(crank_safetensors_find(y, crank_safetensors_name(x, i), &right));
        if (memcmp(left.data, right.data, crank_view_bytes(&left))) fail_msg("%s, %s: %s differs", compute, method, crank_safetensors_name(x, i));
    }
    crank_safetensors_close(x), crank_safetensors_close(y);
    crank_context_free(context);
    free(a), free(b);
    runs_remove(runs_path("four")), runs_remove(runs_path("dense")), runs_remove(runs_path("opened"));
}

static void twenty_steps_equal_those_on_the_dequantised_weights(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = crank_device_cpu(context, NULL);
    check_same_as_dense("f32", CRANK_F32, true, "lowrank.method=lora");
    check_same_as_dense("f32", CRANK_F32, false, "lowrank.method=lora lowrank.dropout=0.1 train.accumulate=2");
    check_same_as_dense("f32", CRANK_F32, true, "lowrank.method=lora-ga");
    if (device->bf16) check_same_as_dense("bf16", CRANK_BF16, true, "lowrank.method=lora");
    device->close(device);
    crank_context_free(context);
}

static void every_method_resumes_on_four_bits_or_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; crank_map_at(i); i++) {
        const crank_map *map = crank_map_at(i);
        run_words        w[2];
        for (int k = 0; k < 2; k++) {
            w[k] = words_of(i % 2 ? "gpt2" : "llama", "text.txt", k ? "parted" : "whole",
                            "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.batch=2 model.compute=f32 train.keep=last model.weights=nf4");
            words_add(&w[k], "lowrank.method=%s", map->name);
        }
        if (map->needs_base) {
            run_result r = runs_train(&w[0], 0);
            assert_int_equal(r.status, CRANK_USAGE);
            if (!strstr(r.message, "rule `quantized-base`")) fail_msg("%s: %s", map->name, r.message);
            free(r.log);
            continue;
        }
        runs_finish(&w[0]);
        run_result first = runs_train(&w[1], 2);
        if (first.status != CRANK_STOPPED) fail_msg("%s: %s\n%s", map->name, first.message, first.log);
        runs_finish(&w[1]);
        if (!runs_same_file(runs_path("whole/adapter/adapter_model.safetensors"), runs_path("parted/adapter/adapter_model.safetensors")))
            fail_msg("%s: the resumed run differs", map->name);
        free(first.log);
        runs_remove(runs_path("whole")), runs_remove(runs_path("parted"));
    }
}

/* Losses of the last step, of the run in eight bits and of the one on dense weights. */
static void eight_bits_follow_the_dense_run_and_resume(void **state)
{
    (void)state;
    double last[2];
    for (int k = 0; k < 2; k++) {
        run_words w = words_of("llama", "text.txt", k ? "eight" : "dense", common);
        words_add(&w, "model.weights=%s", k ? "fp8" : "f32"), words_add(&w, "model.compute=f32");
        runs_finish(&w);
        char *text = runs_read(runs_path(k ? "eight/metrics.jsonl" : "dense/metrics.jsonl"), NULL), *at = text, *next;
        while ((next = strstr(at + 1, "\"train/loss\":"))) at = next;
        last[k] = json_number_of(at, "train/loss");
        free(text);
    }
    assert_true(fabs(last[1] - last[0]) < 0.02 * last[0]);
    run_words  parted = words_of("llama", "text.txt", "parted", common);
    words_add(&parted, "model.weights=fp8"), words_add(&parted, "model.compute=f32");
    run_result first = runs_train(&parted, 10);
    assert_int_equal(first.status, CRANK_STOPPED);
    runs_finish(&parted);
    assert_true(runs_same_file(runs_path("eight/adapter/adapter_model.safetensors"), runs_path("parted/adapter/adapter_model.safetensors")));
    free(first.log);
    runs_remove(runs_path("eight")), runs_remove(runs_path("dense")), runs_remove(runs_path("parted"));
}

static void full_training_of_four_bits_is_refused(void **state)
{
    (void)state;
    run_words  full = words_of("llama", "text.txt", "full", "train.steps=2 lowrank.method=none model.weights=nf4");
    run_words  module = words_of("llama", "text.txt", "module", "train.steps=2 model.weights=nf4 lowrank.modules=model.layers.0.mlp.up_proj");
    run_result r = runs_train(&full, 0);
    assert_int_equal(r.status, CRANK_USAGE);
    assert_non_null(strstr(r.message, "rule `quantized-full`"));
    free(r.log);
    r = runs_train(&module, 0);
    assert_int_equal(r.status, CRANK_USAGE);
    assert_non_null(strstr(r.message, "model.layers.0.mlp.up_proj.weight is held in nf4"));
    free(r.log);
}

static void an_adapter_of_four_bits_goes_on_on_the_dense_base(void **state)
{
    (void)state;
    static const char *const weights[] = {"f32", "nf4"};
    for (int from = 0; from < 2; from++) {
        run_words made = words_of("llama", "text.txt", "made", common), on = words_of("llama", "text.txt", "on", "train.steps=2 model.compute=f32");
        words_add(&made, "model.weights=%s", weights[from]), words_add(&made, "model.compute=f32");
        words_add(&on, "model.weights=%s", weights[1 - from]), words_add(&on, "lowrank.adapter=%s", runs_path("made/adapter"));
        runs_finish(&made), runs_finish(&on);
        runs_remove(runs_path("made")), runs_remove(runs_path("on"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_equal_those_on_the_dequantised_weights), cmocka_unit_test(every_method_resumes_on_four_bits_or_is_refused),
        cmocka_unit_test(eight_bits_follow_the_dense_run_and_resume), cmocka_unit_test(full_training_of_four_bits_is_refused), cmocka_unit_test(an_adapter_of_four_bits_goes_on_on_the_dense_base)};
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
