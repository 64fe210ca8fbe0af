/* crank compare: every method at as many rates and seeds, ranks matched, ended trials kept over a stop, pages written, mistakes told. */
#include "adapters.h"
#include "base/json.h"

static run_words compare_words(const char *base, const char *out, const char *more)
{
    run_words w = {.count = 0};
    words_add(&w, "model.path=%s", base);
    words_add(&w, "data.train=%s", runs_path("text.txt"));
    words_add(&w, "data.eval=%s", runs_path("text.txt"));
    words_split(&w, "data.context=48 data.document=line train.batch=2 train.lr=1e-2 model.compute=f32 --json --threads 1 -o");
    words_add(&w, "%s", runs_path(out));
    words_split(&w, more);
    return w;
}

/* The list of methods; json_decref. */
static json_t *result_of(const child_result *r)
{
    json_t *root = json_loads(r->out, 0, NULL);
    if (r->code || !root) fail_msg("%d %s", r->code, r->err);
    json_t *methods = json_incref(json_object_get(root, "methods"));
    json_decref(root);
    return methods;
}

static double field(const json_t *methods, size_t i, const char *key) { return json_number_value(json_object_get(json_array_get(methods, i), key)); }

static void methods_are_tried_alike_and_compared_in_pairs(void **state)
{
    (void)state;
    run_words    w = compare_words(base_model(), "compare", "lora:rank=2 dora:rank=2 galore:rank=4 none train.steps=4 --tune 3 --seeds 2");
    child_result r = child_run("compare", &w, 0);
    json_t      *methods = result_of(&r);
    assert_int_equal(json_array_size(methods), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *m = json_array_get(methods, i), *tune = json_object_get(m, "tune"), *seeds = json_object_get(m, "seeds");
        double        best = INFINITY, sum = 0;
        assert_int_equal(json_array_size(tune), 3);
        assert_int_equal(json_array_size(seeds), 2);
        for (size_t k = 0; k < 3; k++) {
            double loss = json_number_value(json_object_get(json_array_get(tune, k), "loss"));
            if (loss < best) best = loss;
            assert_true(fabs(json_number_value(json_object_get(json_array_get(tune, k), "rate")) / (1e-2 * pow(10, ((double)k - 1) / 2)) - 1) < 0.01);
        }
        for (size_t k = 0; k < 3; k++)
            if (json_number_value(json_object_get(json_array_get(tune, k), "loss")) == best)
                assert_true(json_number_value(json_object_get(json_array_get(tune, k), "rate")) == field(methods, i, "rate"));
        for (size_t k = 0; k < 2; k++) sum += json_number_value(json_object_get(json_array_get(seeds, k), "loss")) / 2;
        assert_true(fabs(sum - field(methods, i, "quality")) < 1e-9);
        assert_true(fabs(field(methods, i, "difference") - (field(methods, i, "quality") - field(methods, 0, "quality"))) < 1e-9);
    }
    char *page = runs_read(runs_path("compare/compare.html"), NULL);
    assert_non_null(strstr(page, "every rate that was tried"));
    free(page);
    json_decref(methods);
    child_free(&r);
}

static void ranks_are_matched_to_the_first_method(void **state)
{
    (void)state;
    run_words    w = compare_words(base_model(), "matched", "lora:rank=3 hydra:sequential=0 lora-xs train.steps=1 --tune 1 --seeds 1 --match params");
    child_result r = child_run("compare", &w, 0);
    json_t      *methods = result_of(&r);
    double       wanted = field(methods, 0, "trainable");
    assert_true(field(methods, 2, "rank") > 1);
    assert_true(fabs(field(methods, 2, "trainable") / wanted - 1) < 0.25);
    json_decref(methods);
    child_free(&r);
}

static bool wait_for(const char *path)
{
    for (int i = 0; i < 600 && access(path, F_OK); i++) runs_sleep(0.05);
    return access(path, F_OK) == 0;
}

static void a_stopped_comparison_goes_on_and_ends_the_same(void **state)
{
    (void)state;
    char      out[512], err[512], first[512];
    run_words w = compare_words(base_model(), "stopped", "lora:rank=2 dora:rank=2 train.steps=30 --tune 2 --seeds 2"), whole = w;
    for (int i = 0; i < whole.count; i++)
        if (strstr(whole.text[i], "/stopped")) snprintf(whole.text[i], sizeof whole.text[i], "%s", runs_path("whole"));
    snprintf(out, sizeof out, "%s", runs_path("child.out")), snprintf(err, sizeof err, "%s", runs_path("child.err"));
    snprintf(first, sizeof first, "%s", runs_path("stopped/lora_rank_2/rate-0.01/outcome.json"));
    pid_t child = child_start("compare", &w, out, err, 0);
    assert_true(wait_for(first));
    kill(child, SIGINT);
    child_result r = child_wait(child, out, err);
    if (r.code != 130 && r.code != 0) fail_msg("%d %s", r.code, r.err);
    child_free(&r);
    struct stat before, after;
    assert_int_equal(stat(first, &before), 0);
    r = child_run("compare", &w, 0);
    json_t *a = result_of(&r);
    assert_int_equal(stat(first, &after), 0);
    assert_true(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec && before.st_ino == after.st_ino);
    child_result s = child_run("compare", &whole, 0);
    json_t      *b = result_of(&s);
    for (size_t i = 0; i < 2; i++) {
        assert_true(field(a, i, "quality") == field(b, i, "quality"));
        assert_true(field(a, i, "rate") == field(b, i, "rate"));
    }
    json_decref(a), json_decref(b);
    child_free(&r), child_free(&s);
}

static void mistakes_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *more, *says;
    } cases[] = {{"lora", "2 to 16"},           {"lora lora", "named twice"},        {"lora dorra", "did you mean `dora`"},
                 {"lora dora:rank", "key=value"}, {"lora dora:rnk=2", "lowrank.rnk"}, {"lora none train.lr=0", "above 0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_words    w = compare_words(base_model(), "never", cases[i].more);
        child_result r;
        words_split(&w, "train.steps=1 --tune 1 --seeds 1");
        r = child_run("compare", &w, 0);
        if (r.code != 2 || !strstr(r.err, cases[i].says)) fail_msg("%s: %d %s", cases[i].more, r.code, r.err);
        child_free(&r);
        runs_remove(runs_path("never"));
    }
    run_words w = compare_words(base_model(), "compare", "lora:rank=2 dora:rank=2 galore:rank=4 none train.steps=5 --tune 3 --seeds 2");
    child_result r = child_run("compare", &w, 0);
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "another recipe"));
    child_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_are_tried_alike_and_compared_in_pairs),
        cmocka_unit_test(ranks_are_matched_to_the_first_method),
        cmocka_unit_test(a_stopped_comparison_goes_on_and_ends_the_same),
        cmocka_unit_test(mistakes_are_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
