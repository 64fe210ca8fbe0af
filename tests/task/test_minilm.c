/* test_minilm.c - the real all-MiniLM-L6-v2 learns from real SST-2 rows, as PyTorch + PEFT does. Skipped where the model is not in the
 * cache (tests/oracle/fetch_minilm.sh puts it there) or the data are absent. */
#include "testing.h"

#include "crank/tensor.h"
#include "task/session.h"

enum { STEPS = 30, COMPARED = 10 };

static const char *cached_model(void)
{
    static char path[4200];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool        set = cache && *cache;
    snprintf(path, sizeof path, "%s%s/crank/all-MiniLM-L6-v2/model.safetensors", set ? cache : home ? home : "", set ? "" : "/.cache");
    if (access(path, R_OK)) return NULL;
    *strrchr(path, '/') = 0;
    return path;
}

/* The rule of tests/oracle/sst2_curve.py: a stated pattern in A and in the head's weight, zeros elsewhere. */
static void start_by_rule(crank_context *context, crank_params *params)
{
    for (size_t p = 0; p < crank_params_count(params); p++) {
        crank_param *param = crank_params_at(params, p);
        if (!param->trainable) continue;
        size_t  length = strlen(param->name), count = (size_t)crank_view_count(&param->view);
        bool    pattern = param->view.rank == 2 && (param->role == CRANK_ROLE_WEIGHT || !strcmp(param->name + length - 2, ".A"));
        float  *values = calloc(count, sizeof *values);
        int64_t columns = param->view.dims[param->view.rank - 1];
        for (size_t k = 0; pattern && k < count; k++) {
            int64_t i = (int64_t)k / columns, j = (int64_t)k % columns;
            values[k] = (float)((double)((37 * i + 101 * j) % 257 - 128) / 128 / sqrt((double)columns));
        }
        assert_ok(context, crank_param_write(context, param, values, CRANK_F32));
        free(values);
    }
}

static char *word(const char *key, const char *value)
{
    static char words[2][8400];
    static int  next;
    char       *to = words[next++ % 2];
    snprintf(to, sizeof words[0], "%s=%s", key, value);
    return to;
}

static void thirty_steps_on_sst2_learn_and_the_first_ten_follow_pytorch(void **state)
{
    (void)state;
    const char *model = cached_model(), *data = real_data("text/sst2-train.tsv.gz");
    if (!model || !data) {
        print_message("no %s: skipped\n", model ? "SST-2 (CRANK_DATA)" : "MiniLM in the cache: run tests/oracle/fetch_minilm.sh");
        skip();
    }
    crank_context     *context = crank_context_new();
    crank_safetensors *file = crank_safetensors_open(context, golden("train/sst2_curve.safetensors"));
    crank_view         losses;
    if (!file || !crank_safetensors_find(file, "losses", &losses)) fail_msg("%s", crank_message(context));
    const char  *words[] = {word("model.path", model), word("data.train", data), "model.labels=2", "model.pooling=pooler", "model.compute=f32",
                            "data.rows=960", "data.packing=false", "data.shuffle=false", "data.context=128", "lowrank.rank=8", "lowrank.alpha=16",
                            "loss.objective=classification", "train.batch=32", "train.lr=2e-3", "train.schedule=constant"};
    task_recipe *recipe = task_recipe_load(context, NULL, words, sizeof words / sizeof *words);
    if (!recipe) fail_msg("%s", crank_message(context));
    session s;
    assert_ok(context, session_open(context, recipe, NULL, &s));
    assert_int_equal(s.total, STEPS);
    start_by_rule(context, crank_model_params(s.model));
    double late = 0;
    for (int64_t step = 1; step <= STEPS; step++) {
        const data_batch *batch;
        trainer_result    result;
        assert_ok(context, dataset_batch(context, s.train, step - 1, 0, &batch));
        assert_int_equal(batch->sequences, 32);
        assert_ok(context, trainer_step(context, s.trainer, step, &batch, 1, &result));
        double expected = step <= COMPARED ? ((const double *)losses.data)[step - 1] : result.loss;
        if (fabs(result.loss - expected) > 2e-3) fail_msg("step %d: loss %.6f, PyTorch's %.6f", (int)step, result.loss, expected);
        if (step > STEPS - 5) late += result.loss / 5;
    }
    if (late > 0.5) fail_msg("the mean loss of the last five steps is %.4f; a guess has 0.6931", late);
    session_close(&s);
    task_recipe_free(recipe);
    crank_safetensors_close(file);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(thirty_steps_on_sst2_learn_and_the_first_ten_follow_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
