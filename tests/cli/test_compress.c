/* crank compress and crank adapter recover: a small model trains an adapter for the large one; what does not fit is told. */
#include "adapters.h"

static child_result compress(const char *base, const char *out, const char *more)
{
    run_words w = {.count = 0};
    words_add(&w, "%s", base);
    words_add(&w, "--json");
    words_add(&w, "-o");
    words_add(&w, "%s", out);
    words_split(&w, more);
    runs_remove(out);
    return child_run("compress", &w, 0);
}

static child_result recover(const char *large, const char *small, const char *adapter, const char *out)
{
    run_words w = {.count = 0};
    words_add(&w, "recover");
    words_add(&w, "%s", large);
    words_add(&w, "%s", small);
    words_add(&w, "%s", adapter);
    words_add(&w, "--text");
    words_add(&w, "%s", runs_path("text.txt"));
    words_add(&w, "--json");
    words_add(&w, "-o");
    words_add(&w, "%s", out);
    return child_run("adapter", &w, 0);
}

static void an_adapter_of_the_small_model_serves_the_large_one(void **state)
{
    (void)state;
    static const struct {
        const char *family, *how, *method;
    } cases[] = {{"llama", "--rule random", "lowrank.rank=3"}, {"llama", "--rule magnitude --first 1", "lowrank.rank=3"}, {"gpt2", "--rule magnitude", "lowrank.rank=2"},
                 {"qwen2", "--rule taylor --text", "lowrank.rank=3"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *base = base_of_family(cases[i].family);
        char        how[700];
        snprintf(how, sizeof how, "%s %s", cases[i].how, strstr(cases[i].how, "text") ? runs_path("text.txt") : "");
        child_result r = compress(base, runs_path("small"), how);
        if (r.code) fail_msg("%s: %s", how, r.err);
        assert_true(json_number_of(r.out, "neurons") < json_number_of(r.out, "neurons_before"));
        child_free(&r);
        train_on(runs_path("small"), "lora", cases[i].method, "run");
        runs_remove(runs_path("back"));
        r = recover(base, runs_path("small"), runs_path("run/adapter"), runs_path("back"));
        if (r.code) fail_msg("%s: %s", how, r.err);
        double after = json_number_of(r.out, "large_after"), small = json_number_of(r.out, "small_after");
        assert_true(fabs(loss_with(base, runs_path("back")) - after) < 1e-5 * after);
        assert_true(fabs(loss_with(runs_path("small"), runs_path("run/adapter")) - small) < 1e-5 * small);
        assert_true(fabs(after - json_number_of(r.out, "large_before")) > 1e-4);
        child_free(&r);
    }
}

/* The plain folder and the folder with its factors are one function; factors train alone, and what they leave loads again. */
static void welore_writes_a_plain_model_and_its_factors(void **state)
{
    (void)state;
    const char  *base = base_of_family("llama");
    child_result r = compress(base, runs_path("small"), "--rule welore --ratio 0.4 --gate 0.2");
    if (r.code) fail_msg("%s", r.err);
    double before = json_number_of(r.out, "parameters_before"), after = json_number_of(r.out, "parameters");
    assert_true(after > 0 && before > 0 && json_number_of(r.out, "factored") >= 1);
    child_free(&r);
    double plain = loss_with(runs_path("small"), ""), factored = loss_with(runs_path("small"), runs_path("small/factors"));
    if (!(fabs(plain - factored) < 1e-5 * plain)) fail_msg("a loss of %.9g of the plain folder and of %.9g with factors", plain, factored);
    char words[700];
    snprintf(words, sizeof words, "lowrank.adapter=%s lowrank.target=0.4 lowrank.gate=0.2", runs_path("small/factors"));
    train_on(runs_path("small"), "welore", words, "run");
    assert_true(loss_with(runs_path("small"), runs_path("run/adapter")) < factored);
    r = compress(base, runs_path("other"), "--rule welore --ratio 0.5 --gate 1");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "--gate"));
    child_free(&r);
}

static void at_a_ratio_of_zero_the_adapter_is_the_same(void **state)
{
    (void)state;
    const char  *base = base_model();
    child_result r = compress(base, runs_path("small"), "--ratio 0");
    assert_int_equal(r.code, 0);
    child_free(&r);
    assert_true(runs_same_file(runs_path("small/model.safetensors"), runs_path("base-llama/model/model.safetensors")));
    train_on(runs_path("small"), "lora", "lowrank.rank=3", "run");
    runs_remove(runs_path("back"));
    r = recover(base, runs_path("small"), runs_path("run/adapter"), runs_path("back"));
    assert_int_equal(r.code, 0);
    child_free(&r);
    assert_true(runs_same_file(runs_path("back/adapter_model.safetensors"), runs_path("run/adapter/adapter_model.safetensors")));
}

static void what_cannot_be_is_told(void **state)
{
    (void)state;
    const char *base = base_model();
    static const struct {
        const char *how, *says;
    } cases[] = {{"--ratio 0.99", "at least one"}, {"--first 1 --last 1", "nothing is left"}, {"--rule taylor", "go together"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        child_result r = compress(base, runs_path("never"), cases[i].how);
        if (r.code != 2 || !strstr(r.err, cases[i].says)) fail_msg("%s: %d %s", cases[i].how, r.code, r.err);
        child_free(&r);
    }
    child_result r = compress(base, runs_path("small"), "");
    child_free(&r);
    train_on(runs_path("small"), "smora", "lowrank.rank=8", "run");
    r = recover(base, runs_path("small"), runs_path("run/adapter"), runs_path("never"));
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "bounded rank"));
    child_free(&r);
    train_on(runs_path("small"), "lora", "lowrank.rank=2", "run");
    r = recover(base_of_family("gpt2"), runs_path("small"), runs_path("run/adapter"), runs_path("never"));
    assert_int_equal(r.code, 3);
    child_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_of_the_small_model_serves_the_large_one),
        cmocka_unit_test(welore_writes_a_plain_model_and_its_factors),
        cmocka_unit_test(at_a_ratio_of_zero_the_adapter_is_the_same),
        cmocka_unit_test(what_cannot_be_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
