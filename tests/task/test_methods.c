/* Whole runs of every low-rank method: stopped and resumed they leave the same bits, and the adapter folder that they leave loads again
 * with the same tensors. A method of the registry that the table below does not name runs and resumes with its defaults. */
#include "runs.h"

typedef struct variety {
    const char *method, *model, *words;
    bool        moves; /* at a rate of 0 too: what is loaded does not stay as it is */
} variety;

static const variety varieties[] = {
    {"hydra", "llama", "lowrank.learn_scale=true lowrank.dropout=0.1 train.accumulate=2", false},
    {"hydra", "gpt2", "lowrank.biases=true lowrank.form=direct", false},
    {"sora", "llama", "lowrank.lambda=0.1 lowrank.prox=soft lowrank.threshold=1e-3 lowrank.stages=3 lowrank.stage_steps=2 lowrank.threshold_last=2e-2", true},
    {"sora", "gpt2", "lowrank.threshold=2 train.lr=0.01 train.clip=0 train.inside=true", false},
    {"allora", "llama", "lowrank.variant=output train.accumulate=2", false},
    {"allora", "llama", "lowrank.rank_pattern={q_proj: 3}", false},
    {"eva", "gpt2", "lowrank.rank=3 lowrank.dropout=0.1 lowrank.calibration.batches=2", false},
    {"lora-ga", "llama", "lowrank.rank=3 train.accumulate=2", false},
    {"lora-sb", "llama", "lowrank.rank=4 lowrank.keep=true", false},
    {"lora-xs", "gpt2", "lowrank.rank=4", false},
    {"svfit", "llama", "lowrank.energy=0.8 lowrank.form=relative", false},
    {"lamda", "llama", "lowrank.rank=4 lowrank.eta=0.6 train.accumulate=2", false},
    {"lamda", "gpt2", "lowrank.rank=6 lowrank.candidates=4,8 lowrank.init=zero", false},
    {"lora-pro", "llama", "lowrank.rank=4", false},
    {"lora-pro", "gpt2", "lowrank.rank=4 lowrank.mode=efficient train.accumulate=2", false},
    {"sltrain", "llama", "lowrank.rank=4", false},
    {"bone", "llama", "", false},
    {"miss", "gpt2", "", false},
    {"randlora", "llama", "", false},
    {"nola", "llama", "", false},
    {"dylora", "gpt2", "", false},
    {"gradnormlorp", "llama", "lowrank.rank=4", false},
    {"dora", "llama", "lowrank.rank=3", false},
    {"smora", "llama", "lowrank.rank=8 lowrank.active=2 lowrank.mu=1e-3 train.accumulate=2", true},
};

static bool named(const char *method)
{
    for (size_t i = 0; i < sizeof varieties / sizeof varieties[0]; i++)
        if (!strcmp(varieties[i].method, method)) return true;
    return false;
}

static run_words words_of_variety(const variety *v, const char *out, const char *more)
{
    run_words w = words_of(v->model, "text.txt", out, "train.steps=6 train.eval_every=2 data.eval_share=0.2 train.batch=2 model.compute=f32 train.keep=last");
    words_add(&w, "lowrank.method=%s", v->method);
    const char *braces = strchr(v->words, '{'); /* one word that holds spaces */
    if (braces) words_add(&w, "%s", v->words);
    else words_split(&w, v->words);
    words_split(&w, more);
    return w;
}

static void compare(const variety *v, int64_t stop_at)
{
    run_words a = words_of_variety(v, "whole", ""), b = words_of_variety(v, "parted", "");
    runs_finish(&a);
    run_result first = runs_train(&b, stop_at);
    if (first.status != CRANK_STOPPED) fail_msg("%s: not stopped: %s\n%s", v->method, first.message, first.log);
    run_result second = runs_train(&b, 0);
    if (second.status != CRANK_OK) fail_msg("%s: %s\n%s", v->method, second.message, second.log);
    if (!runs_same_file(runs_path("whole/adapter/adapter_model.safetensors"), runs_path("parted/adapter/adapter_model.safetensors")))
        fail_msg("%s, %s, stopped at %lld: the result differs", v->method, v->words, (long long)stop_at);
    runs_check_metrics("parted", 6);
    free(first.log), free(second.log);
    runs_remove(runs_path("parted"));
}

/* The folder, loaded and trained at a rate of 0, is written with the same values. */
static void load_again(const variety *v)
{
    if (v->moves) {
        runs_remove(runs_path("whole"));
        return;
    }
    variety   plain = {v->method, v->model, "", false};
    run_words w = words_of_variety(&plain, "again", "train.lr=0 optim.decay=0");
    words_add(&w, "lowrank.adapter=%s", runs_path("whole/adapter"));
    run_result r = runs_train(&w, 0);
    if (r.status != CRANK_OK) fail_msg("%s: the adapter does not load: %s\n%s", v->method, r.message, r.log);
    if (!runs_same_file(runs_path("whole/adapter/adapter_model.safetensors"), runs_path("again/adapter/adapter_model.safetensors")))
        fail_msg("%s, %s: the adapter changes when it is loaded and written", v->method, v->words);
    free(r.log);
    runs_remove(runs_path("again")), runs_remove(runs_path("whole"));
}

static void resumed_runs_leave_the_same_bits_and_adapters_load_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof varieties / sizeof varieties[0]; i++) {
        compare(&varieties[i], i % 2 ? 4 : 2);
        load_again(&varieties[i]);
    }
    for (size_t i = 0; crank_map_at(i); i++) {
        variety v = {crank_map_at(i)->name, "llama", "", false};
        if (named(v.method)) continue;
        compare(&v, 2);
        runs_remove(runs_path("whole"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(resumed_runs_leave_the_same_bits_and_adapters_load_again)};
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
