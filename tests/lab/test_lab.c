/* test_lab.c - the harness of experiments: what every experiment states, statistics and verdicts, equal bits, committed rates. */
#include "base/json.h"
#include "crank/random.h"
#include "lab/lab.h"
#include "testing.h"

/* ---- an experiment made up for the test: values without training ---- */

static crank_status prepare_nothing(lab_trial *trial)
{
    (void)trial;
    return CRANK_OK;
}

/* Seeds 1, 2, 3 give 1, 2, 3 plus the method's number. */
static crank_status try_number(lab_trial *trial)
{
    return lab_measure(trial, "value", (double)trial->seed + (double)trial->method->number + trial->rate);
}

static const lab_world  nothing = {.name = "nothing", .prepare = prepare_nothing, .trial = try_number};
static const lab_method two[] = {{.name = "a", .rate = 0.5}, {.name = "b", .number = 10, .rate = 0.25}, {.name = "c", .number = 1, .rate = 1, .fixed = true}, {0}};
static const double     grid[] = {0.25, 0.5, 1, 0};

static void judge_right(lab *run)
{
    lab_expect(run, "b over a", lab_mean(run, "b", "value") - lab_mean(run, "a", "value"), LAB_AT_LEAST, 9);
    lab_paper(run, true, "seen", "not seen");
}

static void judge_wrong(lab *run)
{
    judge_right(run);
    lab_expect(run, "a over b", lab_mean(run, "a", "value") - lab_mean(run, "b", "value"), LAB_AT_LEAST, 0);
    lab_paper(run, false, "seen", "because");
}

static void judge_missing(lab *run) { lab_expect(run, "x", lab_mean(run, "x", "value"), LAB_AT_MOST, 1); }

static lab_experiment made_up(void (*judge)(lab *run))
{
    return (lab_experiment){.name = "made-up", .paper = "none", .claim = "c", .setup = "s", .threshold = "t", .reason = "r", .world = &nothing,
                            .methods = two, .grid = grid, .metric = "value", .judge = judge};
}

static crank_context *quiet_context(void)
{
    crank_context *context = crank_context_new();
    crank_set_threads(context, 1);
    return context;
}

static void rows_hold_mean_and_spread_over_seeds(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    lab_experiment e = made_up(judge_right);
    lab            run;
    assert_ok(context, lab_run(context, &e, &(lab_how){0}, &run));
    assert_int_equal(run.row_count, 3);
    assert_int_equal(run.rows[0].count, 3);
    assert_true(fabs(run.rows[0].mean - 2.5) < 1e-12 && fabs(run.rows[0].spread - 1) < 1e-12);
    assert_true(fabs(lab_value(&run, "b", "value", 2) - 13.25) < 1e-12);
    assert_true(run.shown);
    lab_free(&run);
    crank_context_free(context);
}

static void one_check_that_fails_makes_the_verdict_not_shown(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    lab_experiment e = made_up(judge_wrong);
    lab            run;
    assert_ok(context, lab_run(context, &e, &(lab_how){.seeds = 2}, &run));
    assert_false(run.shown);
    char   *text = lab_json(&run);
    json_t *root = json_parse(context, text, strlen(text), "result");
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "verdict")), "not shown");
    assert_string_equal(json_string_value(json_object_get(root, "paper_claim")), "not reproduced");
    const json_t *rows = json_object_get(root, "rows");
    assert_int_equal(json_array_size(rows), 3);
    const char *keys[] = {"method", "metric", "seeds", "mean", "spread", "seconds", "bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) assert_non_null(json_object_get(json_array_get(rows, 0), keys[i]));
    json_decref(root);
    crank_free(text);
    lab_free(&run);
    crank_context_free(context);
}

static void a_judge_that_asks_for_a_row_that_does_not_exist_is_an_error(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    lab_experiment e = made_up(judge_missing);
    lab            run;
    assert_int_equal(lab_run(context, &e, &(lab_how){.seeds = 1}, &run), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "`x`, `value`"));
    crank_context_free(context);
}

static void tune_finds_the_best_rate_and_leaves_fixed_ones_alone(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    for (int lower = 0; lower < 2; lower++) {
        lab_experiment e = made_up(judge_right);
        e.lower = lower;
        char   *text = lab_tune(context, &e, NULL, &(lab_how){.seeds = 2});
        json_t *root = json_parse(context, text, strlen(text), "search");
        json_t *methods = json_object_get(root, "methods");
        assert_int_equal(json_object_size(methods), 2);
        assert_true(json_real_value(json_object_get(json_object_get(methods, "a"), "rate")) == (lower ? 0.25 : 1));
        json_decref(root);
        crank_free(text);
    }
    crank_context_free(context);
}

/* ---- all experiments ---- */

static void every_experiment_states_claim_threshold_and_reason(void **unused)
{
    (void)unused;
    for (size_t i = 0; lab_at(i); i++) {
        const lab_experiment *e = lab_at(i);
        const char           *texts[] = {e->name, e->paper, e->claim, e->setup, e->threshold, e->reason};
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            if (!texts[k] || !*texts[k]) fail_msg("experiment %s lacks text %zu", e->name, k);
        if (!e->world || !e->judge || !e->methods[0].name || !e->methods[1].name) fail_msg("experiment %s compares nothing", e->name);
        assert_ptr_equal(lab_find(e->name), e);
        for (const lab_method *m = e->methods; m->name; m++) {
            if (m->map && !crank_map_find(m->map)) fail_msg("%s: no method %s", e->name, m->map);
            for (const lab_method *other = m + 1; other->name; other++)
                if (!strcmp(m->name, other->name)) fail_msg("%s: two methods are called %s", e->name, m->name);
        }
    }
}

/* recipes/lab/NAME.json is what `crank lab tune` found; the table of methods uses it. */
static void rates_are_those_of_the_committed_search(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    for (size_t i = 0; lab_at(i); i++) {
        const lab_experiment *e = lab_at(i);
        char                  path[4096];
        snprintf(path, sizeof path, "%s/recipes/lab/%s.json", CRANK_SOURCE_DIR, e->name);
        bool searched = false;
        for (const lab_method *m = e->methods; m->name; m++) searched |= m->rate != 0 && !m->fixed;
        if (!searched) continue;
        json_t *root = json_read(context, path);
        if (!root) fail_msg("%s", crank_message(context));
        for (const lab_method *m = e->methods; m->name; m++) {
            if (m->rate == 0 || m->fixed) continue;
            const json_t *found = json_object_get(json_object_get(json_object_get(root, "methods"), m->name), "rate");
            if (!found) fail_msg("%s: %s was not searched", path, m->name);
            if (fabs(json_number_value(found) / m->rate - 1) > 1e-9)
                fail_msg("experiment %s: %s trains at %g, and the search found %g", e->name, m->name, m->rate, json_number_value(found));
        }
        json_decref(root);
    }
    crank_context_free(context);
}

/* ---- training ---- */

static void the_same_seeds_give_the_same_bits(void **unused)
{
    (void)unused;
    crank_context *context = quiet_context();
    lab            a, b;
    assert_ok(context, lab_run(context, lab_find("lora"), &(lab_how){.seeds = 1}, &a));
    assert_ok(context, lab_run(context, lab_find("lora"), &(lab_how){.seeds = 1}, &b));
    assert_int_equal(a.row_count, b.row_count);
    for (size_t i = 0; i < a.row_count; i++) assert_memory_equal(a.rows[i].values, b.rows[i].values, sizeof(double));
    lab_free(&a);
    lab_free(&b);
    crank_context_free(context);
}

/* y = x W^T from 256 samples: least squares has the answer W. */
static void training_finds_a_linear_map(void **unused)
{
    (void)unused;
    enum { N = 256, IN = 6, OUT = 4 };
    crank_context *context = quiet_context();
    lab_net       *net = lab_mlp(context, (const int64_t[]){IN, OUT}, 2, CRANK_RELU, false, 0, LAB_SQUARES, 1);
    float          w[OUT * IN];
    lab_data       data = {.n = N, .width = IN, .x = crank_alloc(context, N * IN, 4, "x"), .y = crank_alloc(context, N * OUT, 4, "y")};
    crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_TEST, 1), 0, 0, 1, w, OUT * IN);
    crank_fill_normal(crank_stream_make(3, CRANK_RANDOM_TEST, 2), 0, 0, 1, data.x, N * IN);
    for (int i = 0; i < N; i++)
        for (int o = 0; o < OUT; o++)
            for (int j = 0; j < IN; j++) data.y[i * OUT + o] += data.x[i * IN + j] * w[o * IN + j];
    lab_method method = {.name = "full"};
    lab_trial  cost = {0};
    double     curve[400], loss;
    assert_ok(context, lab_attach(net, &method, NULL, NULL, NULL));
    assert_ok(context, lab_train(net, &method, &(lab_training){.data = &data, .steps = 400, .batch = 64, .rate = 0.05, .schedule = CRANK_SCHEDULE_LINEAR, .seed = 1, .curve = curve}, &cost));
    assert_ok(context, lab_evaluate(net, &data, &loss, NULL));
    assert_true(loss < 1e-8 && curve[399] < 1e-6 && curve[0] > 0.5);
    assert_int_equal(cost.trained, OUT * IN);
    float *found = lab_weight(net, "layers.0");
    assert_true(relative_error(found, w, OUT * IN) < 1e-3);
    crank_free(found);
    lab_data_free(&data);
    lab_net_free(net);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_hold_mean_and_spread_over_seeds),
        cmocka_unit_test(one_check_that_fails_makes_the_verdict_not_shown),
        cmocka_unit_test(a_judge_that_asks_for_a_row_that_does_not_exist_is_an_error),
        cmocka_unit_test(tune_finds_the_best_rate_and_leaves_fixed_ones_alone),
        cmocka_unit_test(every_experiment_states_claim_threshold_and_reason),
        cmocka_unit_test(rates_are_those_of_the_committed_search),
        cmocka_unit_test(the_same_seeds_give_the_same_bits),
        cmocka_unit_test(training_finds_a_linear_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
