/* Several adapters at once: eval mixes them, merge writes the mix, both with the same loss; what cannot be mixed is told. */
#include "adapters.h"

static const char *two(const char *format, const char *a, const char *b)
{
    static char text[1024];
    snprintf(text, sizeof text, format, a, b);
    return text;
}

static void a_merged_mix_has_the_loss_of_the_mix(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "lora", "lowrank.rank=3", "a");
    train_on(base, "dora", "lowrank.rank=2 train.seed=5", "b");
    double alone = loss_with(base, runs_path("a/adapter")), mixed = loss_with(base, two("%s:0.75 %s:-0.5", runs_path("a/adapter"), runs_path("b/adapter")));
    double plain = loss_with(base, ""), other = loss_with(base, two("%s:-0.5 %s:0.75", runs_path("b/adapter"), runs_path("a/adapter")));
    assert_true(fabs(mixed - alone) > 1e-3 && fabs(mixed - plain) > 1e-3);
    assert_true(fabs(mixed - other) < 1e-6 * mixed);
    assert_true(loss_with(base, two("%s:0 %s:0", runs_path("a/adapter"), runs_path("b/adapter"))) == plain);
    run_words w = {.count = 0};
    words_add(&w, "merge");
    words_add(&w, "%s", base);
    words_add(&w, "%s:0.75", runs_path("a/adapter"));
    words_add(&w, "%s:-0.5", runs_path("b/adapter"));
    words_add(&w, "%s", runs_path("merged"));
    child_result r = child_run("adapter", &w, 0);
    if (r.code) fail_msg("merge: %s", r.err);
    child_free(&r);
    double merged = loss_with(runs_path("merged"), "");
    if (!(fabs(merged - mixed) < 1e-5 * mixed)) fail_msg("loss %.8f mixed, %.8f merged", mixed, merged);
}

static void two_heads_and_bad_weights_are_told(void **state)
{
    (void)state;
    const char *base = base_of_family("bert");
    for (int i = 0; i < 2; i++) {
        run_words w = {.count = 0};
        words_add(&w, "model.path=%s", base);
        words_add(&w, "data.train=%s", runs_path("labels.tsv"));
        words_add(&w, "output.path=%s", runs_path(i ? "head2" : "head1"));
        words_split(&w, "lowrank.method=lora lowrank.rank=2 lowrank.modules=classifier loss.objective=classification output.report=false "
                        "output.tensorboard=false train.steps=1 train.batch=2 model.compute=f32 data.context=48");
        runs_finish(&w);
    }
    static const char *const shapes[] = {"%s %s", "%s:0.5", "%s:much"};
    static const char *const says[] = {"a model holds one of them", "knows no weight", "with a number as weight"};
    for (int i = 0; i < 3; i++) {
        run_words w = {.count = 0};
        words_add(&w, "%s", base);
        words_add(&w, "--data=%s", runs_path("labels.tsv"));
        const char *text = two(shapes[i], runs_path("head1/adapter"), runs_path("head2/adapter"));
        for (const char *at = text; *at; at += strspn(at, " ")) {
            words_add(&w, "-a%.*s", (int)strcspn(at, " "), at);
            at += strcspn(at, " ");
        }
        child_result r = child_run("eval", &w, 0);
        if (r.code != 2 || !strstr(r.err, says[i])) fail_msg("%s: %d %s", text, r.code, r.err);
        child_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merged_mix_has_the_loss_of_the_mix),
        cmocka_unit_test(two_heads_and_bad_weights_are_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
