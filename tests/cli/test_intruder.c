/* crank inspect intruder and crank adapter repair: models, adapters of several methods, every output, what does not fit. */
#include "adapters.h"

static child_result run_words_of(const char *verb, const char *a, const char *b, const char *c, const char *more)
{
    run_words w = {.count = 0};
    words_add(&w, "%s", a);
    words_add(&w, "%s", b);
    words_add(&w, "%s", c);
    words_split(&w, more);
    return child_run(verb, &w, 0);
}

static child_result must(const char *verb, const char *a, const char *b, const char *c, const char *more)
{
    child_result r = run_words_of(verb, a, b, c, more);
    if (r.code) fail_msg("%s %s %s: %d %s", verb, a, more, r.code, r.err);
    return r;
}

static void an_adapter_and_its_merged_model_have_the_same_spectra(void **state)
{
    (void)state;
    static const char *const methods[][2] = {{"lora", "lowrank.rank=2 train.lr=1e-1"}, {"dora", "lowrank.rank=2 train.lr=1e-1"}, {"hydra", "lowrank.rank=2 train.lr=1e-1"}};
    const char *base = base_model();
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        train_on(base, methods[i][0], methods[i][1], "run");
        runs_remove(runs_path("merged"));
        child_result r = must("adapter", "merge", base, runs_path("run/adapter"), runs_path("merged"));
        child_free(&r);
        child_result a = must("inspect", "intruder", base, runs_path("run/adapter"), "--json --top 4,8 --epsilon 0.5,0.7 --side both");
        child_result b = must("inspect", "intruder", base, runs_path("merged"), "--json --top 4,8 --epsilon 0.5,0.7 --side both");
        assert_true(fabs(json_number_of(a.out, "change") - json_number_of(b.out, "change")) < 1e-6 && json_number_of(a.out, "change") > 0);
        assert_true(fabs(json_number_of(a.out, "mean_cosine") - json_number_of(b.out, "mean_cosine")) < 1e-5);
        assert_non_null(strstr(a.out, "\"epsilon\":0.7"));
        assert_non_null(strstr(a.out, "\"right\":"));
        child_free(&a), child_free(&b);
    }
}

static void every_output_is_written(void **state)
{
    (void)state;
    const char *base = base_model();
    char        more[1024];
    train_on(base, "lora", "lowrank.rank=2 train.lr=1e-1", "run");
    snprintf(more, sizeof more, "--top 4 --csv %s --html %s --text %s --threads 1", runs_path("t.csv"), runs_path("t.html"), runs_path("text.txt"));
    child_result r = must("inspect", "intruder", base, runs_path("run/adapter"), more);
    assert_non_null(strstr(r.out, "model.layers.1.mlp.down_proj"));
    assert_non_null(strstr(r.out, "forgetting: loss"));
    child_free(&r);
    char *csv = runs_read(runs_path("t.csv"), NULL), *page = runs_read(runs_path("t.html"), NULL);
    int   lines = 0;
    for (const char *at = csv; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, 1 + 14);
    assert_non_null(strstr(page, "<svg"));
    assert_non_null(strstr(page, "self_attn.q_proj, left"));
    free(csv), free(page);
    r = must("inspect", "intruder", base, base, "");
    assert_non_null(strstr(r.err, "are the same"));
    assert_non_null(strstr(r.out, ": 0 intruders"));
    child_free(&r);
}

/* The largest relative distance of a tensor in two model folders. */
static double largest_distance(const char *a, const char *b)
{
    crank_context     *context = crank_context_new();
    crank_safetensors *files[2];
    double             largest = 0;
    for (int i = 0; i < 2; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/model.safetensors", i ? b : a);
        if (!(files[i] = crank_safetensors_open(context, path))) fail_msg("%s", crank_message(context));
    }
    assert_int_equal(crank_safetensors_count(files[0]), crank_safetensors_count(files[1]));
    for (size_t i = 0; i < crank_safetensors_count(files[0]); i++) {
        crank_view x = crank_safetensors_view(files[0], i), y = crank_safetensors_view(files[1], i);
        assert_int_equal(x.dtype, CRANK_F32);
        largest = fmax(largest, relative_error(x.data, y.data, (size_t)crank_view_count(&x)));
    }
    for (int i = 0; i < 2; i++) crank_safetensors_close(files[i]);
    crank_context_free(context);
    return largest;
}

static void a_repaired_adapter_is_the_repaired_model(void **state)
{
    (void)state;
    const char *base = base_model();
    char        more[1024];
    double      merged, exact;
    train_on(base, "lora", "lowrank.rank=2 train.lr=1e-1", "run");
    static const char *const forms[] = {"merged", "exact", "truncate"};
    double loss[3];
    for (int i = 0; i < 3; i++) {
        char out[64];
        snprintf(out, sizeof out, "repaired-%s", forms[i]);
        runs_remove(runs_path(out));
        snprintf(more, sizeof more, "--lambda 0.25 --epsilon 0.9 --which all --form %s --out %s", forms[i], runs_path(out));
        child_result r = must("adapter", "repair", base, runs_path("run/adapter"), more);
        assert_null(strstr(r.out, "\n0 intruders"));
        child_free(&r);
        loss[i] = i ? loss_with(base, runs_path(out)) : loss_with(runs_path(out), "");
    }
    merged = loss[0], exact = loss[1];
    double       tuned = loss_with(base, runs_path("run/adapter"));
    child_result r = must("adapter", "merge", base, runs_path("repaired-exact"), runs_path("merged-exact"));
    child_free(&r);
    assert_true(largest_distance(runs_path("merged-exact"), runs_path("repaired-merged")) < 1e-6);
    if (!(fabs(merged - exact) < 1e-5 * merged)) fail_msg("loss %.8f merged, %.8f as an adapter", merged, exact);
    assert_true(fabs(merged - tuned) > 1e-4);
    char *config = runs_read(runs_path("repaired-truncate/adapter_config.json"), NULL);
    assert_non_null(strstr(config, "\"r\": 2"));
    assert_non_null(strstr(config, "\"rank_pattern\": {}"));
    free(config);
}

static void a_sweep_tells_the_task_and_what_was_forgotten(void **state)
{
    (void)state;
    const char *base = base_model();
    char        more[1024];
    train_on(base, "lora", "lowrank.rank=2 train.lr=1e-1", "run");
    snprintf(more, sizeof more, "--lambda 0,0.5,1 --epsilon 0.9 --controls --json --text %s --forget %s --threads 1", runs_path("text.txt"), runs_path("text.txt"));
    child_result r = must("adapter", "repair", base, runs_path("run/adapter"), more);
    int          rows = 0;
    for (const char *at = r.out; (at = strstr(at, "\"change\":")); at++) rows++;
    assert_int_equal(rows, 1 + 3 * 5);
    double tuned = loss_with(base, runs_path("run/adapter"));
    assert_true(fabs(json_number_of(r.out, "task") - tuned) < 1e-5 * tuned);
    child_free(&r);
}

/* output.intruders tells at every evaluation what crank inspect intruder tells at the end. */
static void training_counts_what_inspect_counts(void **state)
{
    (void)state;
    const char *base = base_model();
    for (int full = 0; full < 2; full++) {
        char more[512];
        snprintf(more, sizeof more, "data.eval=%s train.eval_every=2 train.keep=last output.intruders=4%s", runs_path("text.txt"), full ? "" : " lowrank.rank=2 train.lr=1e-1");
        train_on(base, full ? "none" : "lora", more, "run");
        char *log = runs_read(runs_path("run/metrics.jsonl"), NULL), *last = NULL;
        int   count = 0;
        for (char *at = log; (at = strstr(at, "\"spectra/intruders\":")); at++) last = at, count++;
        assert_int_equal(count, 3); /* before, and steps 2 and 4 */
        child_result r = must("inspect", "intruder", base, runs_path(full ? "run/model" : "run/adapter"), "--json --top 4");
        double       total = 0;
        for (const char *at = r.out; (at = strstr(at, "\"intruders\":")); at++) total += json_number_of(at, "intruders");
        assert_true(json_number_of(last, "spectra/intruders") == total);
        child_free(&r);
        free(log);
    }
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    const char *base = base_model();
    static const struct {
        const char *verb, *action, *more, *says;
        int         code;
    } cases[] = {
        {"inspect", "intruder", "--top 100", "has no 100", 2},
        {"inspect", "intruder", "--top 0", "whole numbers from 1", 2},
        {"inspect", "intruder", "--epsilon 2", "above 0", 2},
        {"inspect", "intruder", "--targets nothing", "nothing", 2},
        {"adapter", "repair", "--lambda 0.5", "name one", 2},
        {"adapter", "repair", "--lambda 0,1 --out never", "one --lambda is written", 2},
        {"adapter", "repair", "--lambda x --out never", "numbers from 0", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        child_result r = run_words_of(cases[i].verb, cases[i].action, base, base, cases[i].more);
        if (r.code != cases[i].code || !strstr(r.err, cases[i].says)) fail_msg("%s %s: %d %s", cases[i].action, cases[i].more, r.code, r.err);
        child_free(&r);
    }
    runs_write_model("wide", "llama", 64, 2, 1280, 128);
    run_words w = words_of("wide", "text.txt", "base-wide", "lowrank.method=none train.steps=1 train.lr=0 train.batch=2 model.compute=f32");
    runs_finish(&w);
    child_result r = run_words_of("inspect", "intruder", base, runs_path("base-wide/model"), "");
    assert_int_equal(r.code, 3);
    assert_non_null(strstr(r.err, "is no model of this base"));
    child_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_and_its_merged_model_have_the_same_spectra),
        cmocka_unit_test(every_output_is_written),
        cmocka_unit_test(a_repaired_adapter_is_the_repaired_model),
        cmocka_unit_test(a_sweep_tells_the_task_and_what_was_forgotten),
        cmocka_unit_test(training_counts_what_inspect_counts),
        cmocka_unit_test(what_does_not_fit_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
