/* LoRA with AdamW follows PyTorch + PEFT's losses from the same factors on the same batches. Twenty steps: a plain start, and the one that
 * PEFT's EVA made, with a rank of its own for each linear. A hundred steps: every method that PEFT has too. */
#include "testing.h"

#include "crank/adapter.h"
#include "crank/tensor.h"
#include "task/trainer.h"
#include "test_device.h"

enum { MICRO = 2, ROWS = 3, ROOM = 256 };

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

/* A golden run. `method`: crank's own, which takes the folder's factors as both the pair and the start that it subtracts. */
typedef struct curve {
    const char *bodies, *start, *file, *losses, *norms, *rate, *method, *options;
    int64_t     steps;
    double      tolerance;
} curve;

/* The tensors of the folder into A and A0, B and B0. */
static void take_start(crank_context *context, crank_attachment *attachment, const char *start)
{
    char path[96];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", start);
    crank_safetensors *file = crank_safetensors_open(context, golden(path));
    int                count;
    crank_site        *sites = crank_attachment_sites(attachment, &count);
    for (int i = 0; i < count; i++) {
        static const char *const params[2][2] = {{"A", "A0"}, {"B", "B0"}};
        for (int k = 0; k < 4; k++) {
            char key[256];
            snprintf(key, sizeof key, "base_model.model.%s.lora_%c.weight", sites[i].linear->name, "AB"[k / 2]);
            crank_view view = tensor(file, key);
            assert_ok(context, crank_param_write(context, crank_site_find(&sites[i], params[k / 2][k % 2]), view.data, view.dtype));
        }
    }
    crank_safetensors_close(file);
}

static void attach(crank_context *context, crank_model *model, const curve *c)
{
    if (!c->method) {
        if (!crank_adapter_load(context, model, golden(c->start), "default")) fail_msg("%s", crank_message(context));
        return;
    }
    const crank_map *map = crank_map_find(c->method);
    void            *options = crank_options_new(context, map->options, map->options_size);
    char             text[128];
    snprintf(text, sizeof text, "%s", c->options);
    for (char *rest = text, *item; (item = strtok_r(rest, " ", &rest));) {
        char *mark = strchr(item, '=');
        *mark = 0;
        assert_ok(context, crank_options_set(context, map->options, options, item, mark + 1, "test"));
    }
    crank_attachment *attachment = crank_attachment_new(context, crank_model_linears(model), map, options, &(crank_attach_options){.targets = "all-linear"});
    if (!attachment) fail_msg("%s", crank_message(context));
    crank_options_free(options);
    assert_ok(context, crank_attachment_finish(context, attachment));
    take_start(context, attachment, c->start);
}

static void follows_the_curve(const curve *c)
{
    crank_context *context = crank_context_new();
    crank_device  *device = test_device(context, c->bodies);
    if (!device) fail_msg("%s", crank_message(context));
    crank_safetensors *file = crank_safetensors_open(context, golden(c->file));
    if (!file) fail_msg("%s", crank_message(context));
    crank_model_options options = {.compute = CRANK_F32, .weights = CRANK_F32};
    crank_model        *model = crank_model_load(context, device, golden("models/llama"), &options);
    if (!model) fail_msg("%s", crank_message(context));
    attach(context, model, c);
    const char  *overrides[] = {"model.path=.", c->rate, "train.warmup=3", "train.accumulate=2", "train.clip=1", "optim.decay=0.01"};
    task_recipe *recipe = task_recipe_load(context, NULL, overrides, 6);
    if (!recipe) fail_msg("%s", crank_message(context));
    task_trainer *trainer = trainer_new(context, model, recipe, c->steps);
    if (!trainer) fail_msg("%s", crank_message(context));
    static int32_t ids[MICRO][ROOM], positions[MICRO][ROOM], targets[MICRO][ROOM], segments[MICRO][ROWS + 1];
    static float   weights[MICRO][ROOM];
    data_batch     batches[MICRO];
    rows           r = {tensor(file, "ids").data, tensor(file, "lengths").data, 0, 0};
    const double  *losses = tensor(file, c->losses).data, *norms = c->norms ? tensor(file, c->norms).data : NULL;
    for (int i = 0; i < MICRO; i++)
        batches[i] = (data_batch){.ids = ids[i], .positions = positions[i], .targets = targets[i], .segments = segments[i], .weights = weights[i]};
    for (int64_t step = 1; step <= c->steps; step++) {
        const data_batch *window[MICRO];
        trainer_result    result;
        for (int i = 0; i < MICRO; i++) next_batch(&r, &batches[i]), window[i] = &batches[i];
        assert_ok(context, trainer_step(context, trainer, step, window, MICRO, &result));
        double loss = losses[step - 1];
        if (!(fabs(result.loss - loss) <= c->tolerance)) fail_msg("%s, step %d: loss %.6f, PyTorch's %.6f", c->losses, (int)step, result.loss, loss);
        if (norms && !(fabs(result.norm - norms[step - 1]) <= 1e-3 * norms[step - 1]))
            fail_msg("step %d: norm %.6f, PyTorch's %.6f", (int)step, result.norm, norms[step - 1]);
    }
    trainer_free(trainer);
    task_recipe_free(recipe);
    crank_model_free(model);
    crank_safetensors_close(file);
    device->close(device);
    crank_context_free(context);
}

static const curve lora = {.start = "train/lora_start", .file = "train/lora_curve.safetensors", .losses = "losses", .norms = "norms",
                           .rate = "train.lr=2e-2", .steps = 20, .tolerance = 1e-4};

static void plain_bodies_follow_pytorch(void **state)
{
    (void)state;
    curve c = lora;
    c.bodies = "plain";
    follows_the_curve(&c);
}

static void the_best_bodies_follow_pytorch(void **state)
{
    (void)state;
    follows_the_curve(&lora);
}

static void a_start_that_eva_made_follows_pytorch(void **state)
{
    (void)state;
    curve c = lora;
    c.start = "train/eva_start";
    c.file = "train/eva_curve.safetensors";
    follows_the_curve(&c);
}

/* Of tests/oracle/peft_curves.py. */
static void follows_peft(const char *name, const char *rate, const char *method, const char *options)
{
    char start[64], losses[64];
    snprintf(start, sizeof start, "train/peft/%s", name);
    snprintf(losses, sizeof losses, "losses.%s", name);
    follows_the_curve(&(curve){.start = start, .file = "train/peft/curves.safetensors", .losses = losses, .rate = rate, .method = method, .options = options,
                               .steps = 100, .tolerance = 1e-3});
}

static void randlora_follows_peft_for_100_steps(void **state)
{
    (void)state;
    follows_peft("randlora", "train.lr=1e-2", NULL, NULL);
}

static void miss_follows_peft_for_100_steps(void **state)
{
    (void)state;
    follows_peft("miss", "train.lr=5e-3", NULL, NULL);
    follows_peft("miss_mini", "train.lr=5e-3", NULL, NULL);
}

static void bat_follows_peft_for_100_steps(void **state)
{
    (void)state;
    follows_peft("bat", "train.lr=5e-3", NULL, NULL);
}

static void eva_follows_peft_for_100_steps(void **state)
{
    (void)state;
    follows_peft("eva", "train.lr=1e-2", NULL, NULL);
}

/* PEFT trains the pair on a changed weight, crank subtracts the pair's start from the model's own. */
static void lora_ga_follows_peft_for_100_steps(void **state)
{
    (void)state;
    follows_peft("lora_ga", "train.lr=5e-3", "lora-ga", "rank=4 alpha=8 rslora=false");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_bodies_follow_pytorch),         cmocka_unit_test(the_best_bodies_follow_pytorch),
        cmocka_unit_test(a_start_that_eva_made_follows_pytorch), cmocka_unit_test(randlora_follows_peft_for_100_steps),
        cmocka_unit_test(miss_follows_peft_for_100_steps),     cmocka_unit_test(bat_follows_peft_for_100_steps),
        cmocka_unit_test(eva_follows_peft_for_100_steps),      cmocka_unit_test(lora_ga_follows_peft_for_100_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
