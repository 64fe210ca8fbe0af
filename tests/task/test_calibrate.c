/* The calibration pass: what it shows, that rounds and options decide as stated, resume without another pass, PEFT folders, errors. */
#include "runs.h"
#include "crank/adapter.h"

static run_words words_of_method(const char *method, const char *out, const char *more)
{
    run_words w = words_of("llama", "text.txt", out, "train.steps=4 train.eval_every=2 data.eval_share=0.2 train.batch=2 model.compute=f32 train.keep=last lowrank.rank=3");
    words_add(&w, "lowrank.method=%s", method);
    words_split(&w, more);
    return w;
}

static const char *const data_driven[] = {"eva", "lora-ga", "lora-sb"};

static void a_run_is_calibrated_once_and_resumes_without_another_pass(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        run_words  a = words_of_method(data_driven[i], "whole", ""), b = words_of_method(data_driven[i], "parted", "");
        run_result whole = runs_train(&a, 0), first = runs_train(&b, 2), second = runs_train(&b, 0);
        if (whole.status != CRANK_OK) fail_msg("%s: %s\n%s", data_driven[i], whole.message, whole.log);
        assert_int_equal(first.status, CRANK_STOPPED);
        if (second.status != CRANK_OK) fail_msg("%s: %s\n%s", data_driven[i], second.message, second.log);
        assert_non_null(strstr(whole.log, "calibrated"));
        assert_non_null(strstr(first.log, "calibrated"));
        assert_null(strstr(second.log, "calibrated"));
        if (!runs_same_file(runs_path("whole/adapter/adapter_model.safetensors"), runs_path("parted/adapter/adapter_model.safetensors")))
            fail_msg("%s: the result of a resumed run differs", data_driven[i]);
        free(whole.log), free(first.log), free(second.log);
        runs_remove(runs_path("whole")), runs_remove(runs_path("parted"));
    }
}

static char *start_of(const char *method, const char *out, const char *more, size_t *length)
{
    char      file[128];
    run_words w = words_of_method(method, out, "train.steps=1 train.lr=0 optim.decay=0");
    words_split(&w, more);
    runs_remove(runs_path(out));
    runs_finish(&w);
    snprintf(file, sizeof file, "%s/adapter/adapter_model.safetensors", out);
    char *bytes = runs_read(runs_path(file), length);
    assert_non_null(bytes);
    return bytes;
}

static void options_decide_what_is_seen_and_nothing_is_drawn(void **state)
{
    (void)state;
    static const char *const more[] = {"", "", "lowrank.calibration.batches=2", "lowrank.calibration.rows=1", "lowrank.calibration.batches=1", "lowrank.calibration.of=all"};
    char  *bytes[6];
    size_t length[6];
    for (int i = 0; i < 6; i++) {
        char words[128];
        snprintf(words, sizeof words, "lowrank.rho=1 %s", more[i]);
        bytes[i] = start_of("eva", "seen", words, &length[i]);
    }
    for (int i = 0; i < 6; i++) assert_int_equal(length[i], length[0]);
    assert_memory_equal(bytes[0], bytes[1], length[0]);     /* the same bits again */
    assert_memory_not_equal(bytes[0], bytes[2], length[0]); /* other rows, other components */
    assert_memory_equal(bytes[3], bytes[4], length[0]);     /* one batch holds more than a row */
    assert_memory_not_equal(bytes[0], bytes[5], length[0]); /* the last token of a row has no target */
    for (int i = 0; i < 6; i++) free(bytes[i]);
}

static void every_objective_and_family_calibrates(void **state)
{
    (void)state;
    static const struct {
        const char *model, *data, *more;
    } cases[] = {{"gpt2", "text.txt", "model.labels=0"},
                 {"bert", "labels.tsv", "loss.objective=classification model.labels=3"},
                 {"roberta", "values.tsv", "loss.objective=regression model.labels=1 train.accumulate=2"}};
    for (int i = 0; i < 3; i++)
        for (int m = 0; m < 3; m++) {
            run_words w = words_of(cases[i].model, cases[i].data, "families", "train.steps=2 train.batch=4 model.compute=f32 lowrank.rank=2");
            words_split(&w, cases[i].more);
            words_add(&w, "lowrank.method=%s", data_driven[m]);
            runs_remove(runs_path("families"));
            runs_finish(&w);
        }
}

/* Adapters of eva and lora-ga are PEFT's plain pairs, with rank patterns where ranks differ. */
static void results_are_peft_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        run_words w = words_of_method(data_driven[i], "pairs", "");
        runs_remove(runs_path("pairs"));
        runs_finish(&w);
        char *config = runs_read(runs_path("pairs/adapter/adapter_config.json"), NULL);
        assert_non_null(config);
        assert_non_null(strstr(config, "\"peft_type\": \"LORA\""));
        assert_non_null(strstr(config, i ? "\"r\": 6" : "\"rank_pattern\": {"));
        free(config);
        run_words again = words_of_method("lora", "again", "train.lr=0 optim.decay=0");
        words_add(&again, "lowrank.adapter=%s", runs_path("pairs/adapter"));
        runs_remove(runs_path("again"));
        runs_finish(&again);
        assert_true(runs_same_file(runs_path("pairs/adapter/adapter_model.safetensors"), runs_path("again/adapter/adapter_model.safetensors")));
    }
}

/* What the log tells behind `mark`. */
static double told(const char *log, const char *mark)
{
    const char *at = strstr(log, mark);
    if (!at) fail_msg("the log does not tell `%s`:\n%s", mark, log);
    return strtod(at + strlen(mark), NULL);
}

/* Rounds are as large as the step that follows allows: small batches take many passes over few linears, a long context takes one. */
static void a_round_takes_no_more_than_the_step_that_follows(void **state)
{
    (void)state;
    static const char *const more[] = {"train.batch=1 data.context=16 lowrank.rank=2", "train.batch=4 data.context=64 lowrank.rank=2"};
    int most = 0;
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < 2; i++) {
            run_words w = words_of_method(data_driven[m], "bounded", more[i]);
            words_add(&w, "train.eval_every=0");
            runs_remove(runs_path("bounded"));
            run_result r = runs_train(&w, 0);
            if (r.status != CRANK_OK) fail_msg("%s: %s\n%s", data_driven[m], r.message, r.log);
            double calibration = told(r.log, "of at most "), step = told(r.log, "method ") + told(r.log, "optimiser ") + told(r.log, "activations ") + told(r.log, "workspace "),
                   weights = told(r.log, "memory plan: weights ");
            int    rounds = (int)told(r.log, "linears in ");
            if (rounds > most) most = rounds;
            if (calibration > 1.1 * (step + weights) - weights + 0.2) /* figures are told to a tenth of a MiB */
                fail_msg("%s, %s: calibration takes %g MiB, the step %g beside weights of %g:\n%s", data_driven[m], more[i], calibration, step, weights, r.log);
            free(r.log);
        }
    assert_true(most > 1);
}

/* Two methods that write down x^T x and the sums of x: one from rows, one as it is handed over. */
enum { SITES = 16, WIDEST = 64 };
static double  second_of[2][SITES][WIDEST][WIDEST], sum_of[2][SITES][WIDEST];
static int64_t rows_of[2][SITES];

static crank_status note(crank_context *context, crank_site *site, const crank_observation *batch)
{
    (void)context;
    int64_t in = site->linear->in;
    if (!batch) return CRANK_OK;
    int way = batch->second != NULL;
    assert_true(site->index < SITES && in <= WIDEST && (batch->x != NULL) != way);
    rows_of[way][site->index] += batch->n;
    for (int64_t i = 0; i < in; i++) {
        if (way) sum_of[1][site->index][i] += (double)batch->sum[i];
        for (int64_t j = 0; way && j < in; j++) second_of[1][site->index][i][j] += (double)batch->second[i * in + j];
        for (int64_t n = 0; !way && n < batch->n; n++) {
            sum_of[0][site->index][i] += (double)batch->x[n * in + i];
            for (int64_t j = 0; j < in; j++) second_of[0][site->index][i][j] += (double)batch->x[n * in + i] * (double)batch->x[n * in + j];
        }
    }
    return CRANK_OK;
}

static crank_status attach_shift(crank_context *context, crank_site *site)
{
    return crank_site_param(context, site, "shift", CRANK_F32, 1, &site->linear->out, true) ? CRANK_OK : crank_last_status(context);
}

static crank_tensor *add_shift(crank_graph *graph, crank_site *site, crank_tensor *x, crank_tensor *y0)
{
    (void)x;
    return crank_add(y0, crank_cast(crank_use(graph, crank_site_find(site, "shift")), y0->dtype));
}

static const crank_option no_options[] = {CRANK_END};
static const crank_map    by_rows = {.name = "notes-rows", .options = no_options, .options_size = 1, .observes = CRANK_OBSERVE_X, .calibrate = note, .attach = attach_shift, .forward = add_shift};
static const crank_map    by_second = {.name = "notes-second", .options = no_options, .options_size = 1, .observes = CRANK_OBSERVE_SECOND, .calibrate = note, .attach = attach_shift, .forward = add_shift};

static void second_moments_are_those_of_the_rows(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_ok(context, crank_register_map(context, &by_rows));
    assert_ok(context, crank_register_map(context, &by_second));
    for (int way = 0; way < 2; way++) {
        run_words w = words_of("llama", "text.txt", "notes", "train.steps=1 train.batch=3 model.compute=f32 lowrank.calibration.batches=3");
        words_add(&w, "lowrank.method=%s", way ? "notes-second" : "notes-rows");
        runs_remove(runs_path("notes"));
        run_result r = runs_train(&w, 0);
        if (r.status != CRANK_OK) fail_msg("%s\n%s", r.message, r.log);
        free(r.log);
    }
    for (int s = 0; s < SITES; s++) {
        assert_int_equal(rows_of[0][s], rows_of[1][s]);
        for (int i = 0; i < WIDEST; i++) {
            assert_true(fabs(sum_of[1][s][i] - sum_of[0][s][i]) <= 1e-4 * (1 + fabs(sum_of[0][s][i])));
            for (int j = 0; j < WIDEST; j++) assert_true(fabs(second_of[1][s][i][j] - second_of[0][s][i][j]) <= 1e-4 * (1 + fabs(second_of[0][s][i][j])));
        }
    }
    assert_true(rows_of[0][0] > 0 && second_of[0][0][0][0] > 0);
    crank_context_free(context);
}

static void refuses(const char *method, const char *more, const char *said)
{
    run_words w = words_of_method(method, "refused", more);
    runs_remove(runs_path("refused"));
    run_result r = runs_train(&w, 0);
    if (r.status == CRANK_OK || !strstr(r.message, said)) fail_msg("%s %s: `%s` does not tell `%s`", method, more, r.message, said);
    free(r.log);
}

static void bad_input_is_told_with_what_to_do(void **state)
{
    (void)state;
    refuses("eva", "lowrank.calibration.batches=1 train.batch=1 data.context=24 lowrank.rank=16", "lowrank.calibration.batches");
    refuses("eva", "lowrank.rank=999 lowrank.rho=1", "lowrank.rank");
    refuses("lora-ga", "lowrank.rank=20", "rank_pattern");
    refuses("lora-sb", "lowrank.rank=99", "lower lowrank.rank");
    refuses("eva", "lowrank.targets=nothing_here", "the model has: ");
    refuses("lora-ga", "memory.limit=15", "memory.limit");
    refuses("eva", "lowrank.calibration.batches=0", "calibration.batches");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_calibrated_once_and_resumes_without_another_pass),
        cmocka_unit_test(options_decide_what_is_seen_and_nothing_is_drawn),
        cmocka_unit_test(every_objective_and_family_calibrates),
        cmocka_unit_test(results_are_peft_pairs),
        cmocka_unit_test(a_round_takes_no_more_than_the_step_that_follows),
        cmocka_unit_test(second_moments_are_those_of_the_rows),
        cmocka_unit_test(bad_input_is_told_with_what_to_do),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
