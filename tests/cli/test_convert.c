/* crank adapter convert: every method of bounded rank becomes LoRA with the same loss, own and PEFT layouts turn into each other, and
 * what cannot be converted is told. */
#include "adapters.h"

static child_result convert(const char *adapter, const char *model, const char *to, const char *out)
{
    run_words w = {.count = 0};
    words_add(&w, "convert");
    words_add(&w, "%s", adapter);
    words_add(&w, "--to=%s", to);
    words_add(&w, "-o");
    words_add(&w, "%s", out);
    if (model) words_add(&w, "--model=%s", model);
    return child_run("adapter", &w, 0);
}

static void must_convert(const char *adapter, const char *model, const char *to, const char *out)
{
    child_result r = convert(adapter, model, to, out);
    if (r.code) fail_msg("%s to %s: %s", adapter, to, r.err);
    child_free(&r);
}

static void methods_of_bounded_rank_become_lora_with_the_same_loss(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"hydra", "lowrank.rank=2"}, {"sora", "lowrank.rank=4 lowrank.prox=soft lowrank.threshold=0.1"}, {"lora-xs", "lowrank.rank=4"},
                                           {"svfit", "lowrank.energy=0.5"}, {"lamda", "lowrank.rank=4"}, {"lora-ga", "lowrank.rank=3"}};
    const char *base = base_model();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        train_on(base, cases[i][0], cases[i][1], "run");
        runs_remove(runs_path("lora"));
        must_convert(runs_path("run/adapter"), NULL, "lora", runs_path("lora"));
        double before = loss_with(base, runs_path("run/adapter")), after = loss_with(base, runs_path("lora"));
        if (!(fabs(before - after) < 1e-5 * before)) fail_msg("%s: loss %.7f becomes %.7f", cases[i][0], before, after);
    }
}

static void layouts_turn_into_each_other_bit_for_bit(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "lora", "lowrank.rank=3 lowrank.rank_pattern=q_proj=2", "run");
    runs_remove(runs_path("own")), runs_remove(runs_path("back"));
    must_convert(runs_path("run/adapter"), base, "own", runs_path("own"));
    assert_int_equal(access(runs_path("own/crank.json"), R_OK), 0);
    must_convert(runs_path("own"), NULL, "peft", runs_path("back"));
    assert_true(runs_same_file(runs_path("run/adapter/adapter_model.safetensors"), runs_path("back/adapter_model.safetensors")));
}

static void what_cannot_be_converted_is_told(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "smora", "lowrank.rank=8", "run");
    child_result r = convert(runs_path("run/adapter"), NULL, "lora", runs_path("never"));
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "bounded rank"));
    child_free(&r);
    r = convert(base, NULL, "lora", runs_path("never"));
    assert_int_equal(r.code, 3);
    assert_non_null(strstr(r.err, "no adapter folder"));
    child_free(&r);
    assert_int_not_equal(access(runs_path("never"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_of_bounded_rank_become_lora_with_the_same_loss),
        cmocka_unit_test(layouts_turn_into_each_other_bit_for_bit),
        cmocka_unit_test(what_cannot_be_converted_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
