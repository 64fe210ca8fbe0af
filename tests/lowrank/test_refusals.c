/* What cannot be is refused before a parameter exists, with the linear, the numbers and the way out; nothing stays behind. */
#include "lowrank/observe.h"

typedef struct refusal {
    const char *method, *settings, *part;
} refusal;

/* On a map of OUT = 6 outputs and IN = 7 inputs. */
static const refusal ranks[] = {
    { "bone", "rank=4", "must divide its 7 inputs" },
    { "bone", "rank=1 mode=free rows=4", "must divide its 6 and 7 blocks" },
    { "bone", "rank=1 side=out mode=row", "mode must be col" },
    { "miss", "rank=8", "larger than its 7 inputs" },
    { "miss", "rank=2 mini=4", "does not divide its 6 outputs" },
    { "hydra", "rank=0 sequential=0", "needs a branch" },
    { "svfit", "rank=7", "lower lowrank.rank" },
    { "lora-xs", "rank=7", "lower lowrank.rank" },
    { "lora-sb", "rank=7", "lower lowrank.rank" },
    { "lora-pro", "rank=7", "lower lowrank.rank" },
    { "lamda", "rank=7", "lower lowrank.rank" },
    { "lamda", "rank=2 dropout=0.1", "set dropout to 0" },
    { "lamda", "rank=2 candidates=3,2", "rising ranks" },
    { "eva", "rank=8", "lower lowrank.rank" },
    { "smora", "rank=4 active=5", "lower lowrank.active" },
    { "smora", "rank=6 active=2 partition=3", "must divide" },
    { "dylora", "rank=4 unit=3", "must divide rank 4" },
    { "dylora", "rank=4 rank_min=5", "above rank 4" },
    { "dylora", "rank=4 rank_min=2 evaluate_rank=1", "was not trained" },
    { "dylora", "rank=4 distribution=list probabilities=1,2", "probabilities" },
    { "sora", "rank=4 stages=2", "stage_steps" },
    { "sora", "rank=4 stages=2 stage_steps=5 threshold=0 threshold_last=1 spacing=log", "above 0" },
    { "randlora", "rank=2 dora=true dropout=0.1", "set dropout to 0" },
    { "nola", "rank=2 bits=5", "4 or 8 bits" },
    { "nola", "rank=2 bits=4 matrices=stored", "streamed" },
    { "randlora", "rank=2 basis=ternary sparsity=1", "sparsity" },
};

static void impossible_settings_are_told(void **state)
{
    (void)state;
    world w = world_open(CRANK_F32);
    world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
    size_t before = crank_params_count(w.params);
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        const refusal *r = &ranks[i];
        if (world_try(&w, r->method, r->settings, &(crank_attach_options){ .targets = "proj" })) fail_msg("%s %s is taken", r->method, r->settings);
        if (!strstr(crank_message(w.context), r->part)) fail_msg("%s %s: `%s` is not in: %s", r->method, r->settings, r->part, crank_message(w.context));
        assert_int_equal(crank_params_count(w.params), before);
        assert_int_equal(crank_linears_attachments(w.linears), 0);
    }
    world_close(&w);
}

static void values_out_of_range_are_told(void **state)
{
    (void)state;
    static const char *const values[][3] = {
        { "lora", "rank", "0" },        { "lora", "init", "kaimng" },  { "allora", "eta", "0" },     { "sora", "threshold", "-1" },  { "lora-ga", "gamma", "0" },
        { "lora-ga", "scale", "svd" },  { "eva", "rho", "0.5" },       { "nola", "basis", "0" },     { "smora", "mu", "-1" },        { "svfit", "energy", "1.5" },
        { "lora-pro", "mode", "adam" }, { "dylora", "p", "1" },        { "randlora", "terms", "-1" }, { "lamda", "eta", "-0.1" },    { "lora-sb", "step", "-1" },
    };
    crank_context *context = crank_context_new();
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const crank_map *map = crank_map_find(values[i][0]);
        void            *options = crank_options_new(context, map->options, map->options_size);
        assert_int_not_equal(crank_options_set(context, map->options, options, values[i][1], values[i][2], "test"), CRANK_OK);
        if (!strstr(crank_message(context), values[i][1])) fail_msg("`%s` is not in: %s", values[i][1], crank_message(context));
        crank_options_free(options);
    }
    crank_context_free(context);
}

/* Three tokens for starts that need four directions. */
static void too_few_calibration_tokens_are_told(void **state)
{
    (void)state;
    static const refusal cases[] = {
        { "lora-ga", "rank=2", "has seen 3 tokens" }, { "lora-sb", "rank=4", "has seen 3 tokens" }, { "lora-sb", "rank=4 start=raw", "has seen 3 tokens" }, { "eva", "rank=4 rho=1", "has read 3 tokens" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world             w = world_open(CRANK_F32);
        crank_linear     *linear = world_linear(&w, "proj", CRANK_LINEAR_DENSE, IN, OUT, false);
        crank_attachment *attachment = observe_start(&w, cases[i].method, cases[i].settings, &(crank_attach_options){ .targets = "proj" });
        float            *rows = observe_data(3, IN, 0.9, 1), *dys = observe_data(3, OUT, 0.9, 2);
        observe_rows(&w, attachment, linear, rows, dys, 3, 3);
        crank_status status = crank_attachment_finish(w.context, attachment);
        assert_int_equal(status, CRANK_BAD_DATA);
        if (!strstr(crank_message(w.context), cases[i].part) || !strstr(crank_message(w.context), "calibration.batches"))
            fail_msg("%s: %s", cases[i].method, crank_message(w.context));
        crank_attachment_remove(attachment);
        free(rows), free(dys);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_settings_are_told),
        cmocka_unit_test(values_out_of_range_are_told),
        cmocka_unit_test(too_few_calibration_tokens_are_told),
    };
    return cmocka_run_group_tests(tests, checks_fill, NULL);
}
