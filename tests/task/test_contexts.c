/* Two contexts train two models in two threads at once, and each leaves what it leaves alone. */
#include <pthread.h>

#include "runs.h"

static void *train_in_thread(void *user)
{
    run_result *r = malloc(sizeof *r);
    *r = runs_train(user, 0);
    return r;
}

static void two_contexts_train_at_once_as_alone(void **state)
{
    (void)state;
    const char *model[] = {"llama", "bert"}, *data[] = {"text.txt", "labels.tsv"}, *name[] = {"one", "two"};
    const char *more[] = {"train.steps=20 train.batch=2 model.compute=f32 lowrank.dropout=0.1 train.threads=2 data.eval_share=0.2",
                          "train.steps=30 train.batch=4 model.compute=f32 loss.objective=classification model.labels=3 train.threads=2 optim.method=adamw8bit"};
    run_words   alone[2], both[2];
    pthread_t   threads[2];
    for (int i = 0; i < 2; i++) {
        char out[64], again[64];
        snprintf(out, sizeof out, "%s-alone", name[i]), snprintf(again, sizeof again, "%s-both", name[i]);
        alone[i] = words_of(model[i], data[i], out, more[i]);
        both[i] = words_of(model[i], data[i], again, more[i]);
        runs_finish(&alone[i]);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, train_in_thread, &both[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *got;
        char  a[128], b[128];
        pthread_join(threads[i], &got);
        run_result *r = got;
        if (r->status != CRANK_OK) fail_msg("%s", r->message);
        free(r->log), free(r);
        snprintf(a, sizeof a, "%s-alone/adapter/adapter_model.safetensors", name[i]), snprintf(b, sizeof b, "%s-both/adapter/adapter_model.safetensors", name[i]);
        assert_true(runs_same_file(runs_path(a), runs_path(b)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_contexts_train_at_once_as_alone)};
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
