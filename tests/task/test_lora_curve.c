/* Twenty steps of LoRA with AdamW follow PyTorch + PEFT's losses, from the same factors on the same batches: a plain start, and the one
 * that PEFT's EVA made, with a rank of its own for each linear. */
#include "testing.h"

#include "crank/adapter.h"
#include "crank/tensor.h"
#include "task/trainer.h"
#include "test_device.h"

enum { STEPS = 20, MICRO = 2, ROWS = 3, ROOM = 256 };

typedef struct rows {
    const int32_t *ids, *lengths;
    int64_t        row, token; /* the next ones */
} rows;

/* The next ROWS rows as a batch in memory of the caller. */
static void next_batch(rows *r, data_batch *b)
{
    b->tokens = b->sequences = b->trained = 0;
    b->segments[0] = 0;
    for (int k = 0; k < ROWS; k++) {
        int32_t n = r->lengths[r->row++];
        for (int32_t i = 0; i < n; i++) {
            int64_t at = b->tokens + i;
            b->ids[at] = r->ids[r->token + i];
            b->positions[at] = i;
            b->targets[at] = i + 1 < n ? r->ids[r->token + i + 1] : -1;
            b->weights[at] = i + 1 < n ? 1 : 0;
        }
        b->trained += n - 1;
        b->tokens += n;
        r->token += n;
        b->segments[++b->sequences] = (int32_t)b->tokens;
    }
}

static crank_view tensor(const crank_safetensors *file, const char *name)
{
    crank_view view;
    assert_true(crank_safetensors_find(file, name, &view));
    return view;
}

/* NAME: golden train/NAME_start and train/NAME_curve.safetensors. */
static void follows_the_curve(const char *bodies, const char *name)
{
    char start[64], curve[64];
    snprintf(start, sizeof start, "train/%s_start", name);
    snprintf(curve, sizeof curve, "train/%s_curve.safetensors", name);
    crank_context *context = crank_context_new();
    crank_device  *device = test_device(context, bodies);
    if (!device) fail_msg("%s", crank_message(context));
    crank_safetensors *file = crank_safetensors_open(context, golden(curve));
    if (!file) fail_msg("%s", crank_message(context));
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32};
    crank_model        *model = crank_model_load(context, device, golden("models/llama"), &options);
    if (!model) fail_msg("%s", crank_message(context));
    if (!crank_adapter_load(context, model, golden(start), "default")) fail_msg("%s", crank_message(context));
    const char  *overrides[] = {"model.path=.", "train.lr=2e-2", "train.warmup=3", "train.accumulate=2", "train.clip=1", "optim.decay=0.01"};
    task_recipe *recipe = task_recipe_load(context, NULL, overrides, 6);
    if (!recipe) fail_msg("%s", crank_message(context));
    task_trainer *trainer = trainer_new(context, model, recipe, STEPS);
    if (!trainer) fail_msg("%s", crank_message(context));
    static int32_t ids[MICRO][ROOM], positions[MICRO][ROOM], targets[MICRO][ROOM], segments[MICRO][ROWS + 1];
    static float   weights[MICRO][ROOM];
    data_batch     batches[MICRO];
    rows           r = {tensor(file, "ids").data, tensor(file, "lengths").data, 0, 0};
    const double  *losses = tensor(file, "losses").data, *norms = tensor(file, "norms").data;
    for (int i = 0; i < MICRO; i++)
        batches[i] = (data_batch){.ids = ids[i], .positions = positions[i], .targets = targets[i], .segments = segments[i], .weights = weights[i]};
    for (int64_t step = 1; step <= STEPS; step++) {
        const data_batch *window[MICRO];
        trainer_result    result;
        for (int i = 0; i < MICRO; i++) next_batch(&r, &batches[i]), window[i] = &batches[i];
        assert_ok(context, trainer_step(context, trainer, step, window, MICRO, &result));
        if (fabs(result.loss - losses[step - 1]) > 1e-4) fail_msg("step %d: loss %.6f, PyTorch's %.6f", (int)step, result.loss, losses[step - 1]);
        if (fabs(result.norm - norms[step - 1]) > 1e-3 * norms[step - 1]) fail_msg("step %d: norm %.6f, PyTorch's %.6f", (int)step, result.norm, norms[step - 1]);
    }
    trainer_free(trainer);
    task_recipe_free(recipe);
    crank_model_free(model);
    crank_safetensors_close(file);
    device->close(device);
    crank_context_free(context);
}

static void plain_bodies_follow_pytorch(void **state)
{
    (void)state;
    follows_the_curve("plain", "lora");
}

static void the_best_bodies_follow_pytorch(void **state)
{
    (void)state;
    follows_the_curve(NULL, "lora");
}

static void a_start_that_eva_made_follows_pytorch(void **state)
{
    (void)state;
    follows_the_curve(NULL, "eva");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_bodies_follow_pytorch), cmocka_unit_test(the_best_bodies_follow_pytorch),
                                       cmocka_unit_test(a_start_that_eva_made_follows_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
