/* Training in bf16 follows training in f32: the loss of 200 steps of LoRA on a model that was trained before is within 1 %. */
#include "runs.h"
#include "test_device.h"

static double last_losses(const char *out)
{
    char   name[64], *text;
    double sum = 0;
    int    count = 0;
    snprintf(name, sizeof name, "%s/metrics.jsonl", out);
    text = runs_read(runs_path(name), NULL);
    for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n"))
        if (strstr(line, "train/loss") && json_number_of(line, "step") > 180) sum += json_number_of(line, "train/loss"), count++;
    free(text);
    assert_int_equal(count, 20);
    return sum / count;
}

static void bf16_follows_f32(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    crank_device  *device = test_device(context, NULL);
    bool           native = device && device->bf16;
    if (device) device->close(device);
    crank_context_free(context);
    if (!native) {
        print_message("this processor has no products in bf16\n");
        skip();
    }
    runs_write_model("pre", "llama", 64, 2, 1280, 128);
    run_words w = words_of("pre", "text.txt", "pre", "lowrank.method=none train.steps=60 train.batch=4 train.lr=0.002 model.compute=f32");
    runs_finish(&w);
    double loss[2];
    for (int i = 0; i < 2; i++) {
        char more[256];
        snprintf(more, sizeof more, "train.steps=200 train.batch=4 train.lr=0.002 lowrank.rank=8 model.compute=%s", i ? "bf16" : "f32");
        w = words_of("pre", "text.txt", i ? "bf16" : "f32", more);
        snprintf(w.text[0], sizeof w.text[0], "model.path=%s", runs_path("pre/model"));
        runs_finish(&w);
        loss[i] = last_losses(i ? "bf16" : "f32");
    }
    print_message("loss of the last 20 of 200 steps: f32 %.5f, bf16 %.5f (%+.3f %%)\n", loss[0], loss[1], 100 * (loss[1] / loss[0] - 1));
    assert_true(fabs(loss[1] / loss[0] - 1) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_follows_f32)};
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
