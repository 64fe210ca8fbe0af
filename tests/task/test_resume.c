/* A run that was stopped and resumed leaves the same bits as one that was not, for what carries state from step to step: dropout,
 * windows of micro-batches, moments of each optimiser, full weights, classification heads, packed text. */
#include "runs.h"

typedef struct variety {
    const char *model, *data, *words, *result;
} variety;

static const variety varieties[] = {
    {"llama", "text.txt", "lowrank.dropout=0.1 train.accumulate=3 train.batch=2", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "optim.method=adamw8bit optim.min_size=16 lowrank.rank=8", "adapter/adapter_model.safetensors"},
    {"gpt2", "text.txt", "optim.method=sgd optim.momentum=0.9 train.lr=0.05 lowrank.method=dora", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.decay=0.01", "model/model.safetensors"},
    {"gpt2", "text.txt", "lowrank.method=none optim.method=lion train.clip=0 train.inside=true data.packing=false", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=galore optim.rank=3 optim.gap=4 optim.on_refresh=reset train.accumulate=2", "model/model.safetensors"},
    {"gpt2", "text.txt", "lowrank.method=none optim.method=galore optim.rank=3 optim.gap=2 optim.refresh=warm optim.stagger=true train.clip=0 train.inside=true", "model/model.safetensors"},
    {"llama", "text.txt", "optim.method=galore optim.rank=3 optim.gap=3 optim.refresh=random optim.inner=adamw8bit", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=fira optim.rank=3 optim.gap=4 train.accumulate=2", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=frugal optim.gap=4 train.clip=0 train.inside=true", "model/model.safetensors"},
    {"gpt2", "text.txt", "lowrank.method=none optim.method=frugal optim.gap=2 optim.select=columns optim.reset=false", "model/model.safetensors"},
    {"llama", "text.txt", "optim.method=frugal optim.gap=4 optim.select=svd optim.rule=none", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=lisa optim.layers=1 optim.interval=4", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=lisa optim.layers=1 optim.interval=2 optim.state=offload", "model/model.safetensors"},
    {"gpt2", "text.txt", "lowrank.method=none optim.method=owlore optim.layers=1 optim.interval=3 optim.sampling=uniform optim.rank=3 optim.gap=2", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=badam optim.interval=2 train.accumulate=2", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=owlore optim.layers=1 optim.interval=2 optim.sampling=decrease optim.rank=3 optim.gap=3", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=owlore optim.layers=1 optim.interval=4 optim.sampling=uniform optim.rank=3 optim.state=drop train.clip=0 train.inside=true", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=sltrain lowrank.rank=3 lowrank.density=0.2", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=sst lowrank.rank=2 lowrank.steps=4 train.accumulate=2", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=relora lowrank.rank=2 lowrank.every=4 lowrank.restart=2 lowrank.prune=0.5", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=gradnormlorp lowrank.rank=3 optim.method=galore optim.rank=2 optim.gap=3", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=welore lowrank.gate=0", "adapter/adapter_model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=muon", "model/model.safetensors"},
    {"llama", "text.txt", "lowrank.method=none optim.method=adafactor optim.beta1=0.9", "model/model.safetensors"},
    {"bert", "labels.tsv", "loss.objective=classification model.labels=3 lowrank.dropout=0.05", "adapter/adapter_model.safetensors"},
    {"bert", "values.tsv", "loss.objective=regression model.labels=1 train.accumulate=2", "adapter/adapter_model.safetensors"},
};

static const char common[] = "train.steps=9 train.eval_every=3 data.eval_share=0.2 train.batch=3 model.compute=f32 train.warmup=2 train.keep=last ";

static void compare(const variety *v, int64_t stop_at)
{
    char more[512], whole[128], parted[128];
    /* the last of two equal keys would be refused: the variety's own words stand for the common ones */
    snprintf(more, sizeof more, "%s", v->words);
    for (const char *at = common; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " "), key = strcspn(at, "=") + 1;
        char   name[64];
        snprintf(name, sizeof name, "%.*s", (int)key, at);
        if (!strstr(v->words, name)) snprintf(more + strlen(more), sizeof more - strlen(more), " %.*s", (int)n, at);
        at += n;
    }
    run_words a = words_of(v->model, v->data, "whole", more), b = words_of(v->model, v->data, "parted", more);
    runs_finish(&a);
    run_result first = runs_train(&b, stop_at);
    if (first.status != CRANK_STOPPED) fail_msg("not stopped: %s\n%s", first.message, first.log);
    run_result second = runs_train(&b, 0);
    if (second.status != CRANK_OK) fail_msg("%s\n%s", second.message, second.log);
    assert_non_null(strstr(second.log, "resumed from"));
    assert_null(strstr(second.log, "not bit-equal"));
    snprintf(whole, sizeof whole, "whole/%s", v->result);
    snprintf(parted, sizeof parted, "parted/%s", v->result);
    if (!runs_same_file(runs_path(whole), runs_path(parted))) fail_msg("%s, %s, stopped at %lld: the result differs", v->model, v->words, (long long)stop_at);
    runs_check_metrics("parted", 9);
    free(first.log), free(second.log);
    runs_remove(runs_path("whole")), runs_remove(runs_path("parted"));
}

static void a_resumed_run_leaves_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof varieties / sizeof varieties[0]; i++) compare(&varieties[i], i % 2 ? 6 : 3);
}

static void another_number_of_threads_is_told(void **state)
{
    (void)state;
    run_words one = words_of("llama", "text.txt", "threads", "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.threads=1 model.compute=f32");
    run_words two = words_of("llama", "text.txt", "threads", "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.threads=2 model.compute=f32");
    run_result first = runs_train(&one, 2), second = runs_train(&two, 0);
    assert_int_equal(first.status, CRANK_STOPPED);
    assert_int_equal(second.status, CRANK_OK);
    assert_non_null(strstr(second.log, "not bit-equal"));
    assert_non_null(strstr(second.log, "on 1 threads"));
    free(first.log), free(second.log);
}

static void another_base_model_is_refused(void **state)
{
    (void)state;
    run_words a = words_of("llama", "text.txt", "base", "train.steps=2 model.compute=f32"), b = words_of("llama", "text.txt", "base", "train.steps=4 train.seed=5 model.compute=f32");
    runs_finish(&a);
    run_result second = runs_train(&b, 0);
    assert_int_equal(second.status, CRANK_BAD_DATA);
    assert_non_null(strstr(second.message, "another base model"));
    free(second.log);
}

static void a_recipe_of_other_shapes_is_refused_by_name(void **state)
{
    (void)state;
    run_words a = words_of("llama", "text.txt", "shapes", "train.steps=2 model.compute=f32 lowrank.rank=4"),
              b = words_of("llama", "text.txt", "shapes", "train.steps=4 model.compute=f32 lowrank.rank=8");
    runs_finish(&a);
    run_result second = runs_train(&b, 0);
    assert_int_equal(second.status, CRANK_BAD_DATA);
    assert_non_null(strstr(second.message, "made by another recipe"));
    free(second.log);
}

/* ---- kills ---- */

static bool is_temporary(const char *name) { return strstr(name, ".tmp.") || (strlen(name) > 4 && !strcmp(name + strlen(name) - 4, ".new")); }

static int temporary_files;
static int count_temporary(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
    (void)about, (void)kind;
    temporary_files += is_temporary(path + walk->base);
    return 0;
}

static void killed_runs_end_as_if_nothing_had_happened(void **state)
{
    (void)state;
    const char *more = "train.steps=60 train.save_every=2 train.eval_every=5 data.eval_share=0.2 train.batch=2 lowrank.dropout=0.1 lowrank.rank=4 "
                       "optim.method=adamw8bit optim.min_size=16 model.compute=f32 train.threads=1";
    run_words a = words_of("llama", "text.txt", "calm", more), b = words_of("llama", "text.txt", "killed", more);
    int       kills = runs_long() ? 50 : 10, done = 0, finished = 0;
    struct timespec from, to;
    char            out[512], err[512];
    snprintf(out, sizeof out, "%s", runs_path("k.out"));
    snprintf(err, sizeof err, "%s", runs_path("k.err"));
    clock_gettime(CLOCK_MONOTONIC, &from);
    child_result calm = child_run("train", &a, 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    if (calm.code) fail_msg("%s", calm.err);
    child_free(&calm);
    double   whole = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    unsigned draw = (unsigned)getpid();
    while (done < kills) {
        pid_t child = child_start("train", &b, out, err, 0);
        draw = draw * 1664525u + 1013904223u;
        runs_sleep(whole * (double)(draw >> 8) / (double)(1 << 24) * 0.5);
        kill(child, SIGKILL);
        child_result r = child_wait(child, out, err);
        if (r.code != 128 + SIGKILL && r.code) fail_msg("after %d kills: %s", done, r.err);
        bool over = r.code == 0;
        child_free(&r);
        done++;
        if (!over || done == kills) continue;
        runs_check_metrics("killed", 60);
        assert_true(runs_same_file(runs_path("calm/adapter/adapter_model.safetensors"), runs_path("killed/adapter/adapter_model.safetensors")));
        runs_remove(runs_path("killed")); /* it ended before the kill: once more from the start */
        finished++;
    }
    child_result last = child_run("train", &b, 0);
    if (last.code) fail_msg("the last run: %s", last.err);
    child_free(&last);
    runs_check_metrics("killed", 60);
    assert_true(runs_same_file(runs_path("calm/adapter/adapter_model.safetensors"), runs_path("killed/adapter/adapter_model.safetensors")));
    temporary_files = 0;
    nftw(runs_path("killed"), count_temporary, 16, FTW_PHYS);
    assert_int_equal(temporary_files, 0);
    print_message("%d kills over %d finished runs\n", kills, finished + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_leaves_the_same_bits),
        cmocka_unit_test(another_number_of_threads_is_told),
        cmocka_unit_test(another_base_model_is_refused),
        cmocka_unit_test(a_recipe_of_other_shapes_is_refused_by_name),
        cmocka_unit_test(killed_runs_end_as_if_nothing_had_happened),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
