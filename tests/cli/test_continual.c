/* crank continual: every stage starts from the merge of the one before, all tasks are measured after each, ended stages stay. */
#include "adapters.h"
#include "base/json.h"

static void write_recipe(const char *name, const char *base, const char *text, const char *method)
{
    char yaml[2048];
    snprintf(yaml, sizeof yaml,
             "model: {path: %s, compute: f32}\ndata: {train: %s, eval: %s, context: 48, document: line}\nlowrank: {method: %s}\ntrain: {steps: 4, batch: 2, lr: 1e-2}\n"
             "output: {report: false, tensorboard: false}\n",
             base, runs_path(text), runs_path(text), method);
    runs_write(name, yaml);
}

static child_result continual(const char *out)
{
    run_words w = {.count = 0};
    words_add(&w, "%s", runs_path("one.yaml"));
    words_add(&w, "%s", runs_path("two.yaml"));
    words_add(&w, "--json");
    words_add(&w, "--threads=1");
    words_add(&w, "-o%s", runs_path(out));
    return child_run("continual", &w, 0);
}

static double loss_at(const json_t *root, size_t stage, size_t task) { return json_number_value(json_array_get(json_array_get(json_object_get(root, "losses"), stage), task)); }

static void stages_build_on_each_other_and_measure_all_tasks(void **state)
{
    (void)state;
    const char *base = base_model();
    FILE       *other = fopen(runs_path("other.txt"), "w");
    for (int i = 0; i < 40; i++) fprintf(other, "numbers %d and %d make %d of them\n", i, i + 3, 2 * i + 3);
    fclose(other);
    write_recipe("one.yaml", base, "text.txt", "lora"), write_recipe("two.yaml", base, "other.txt", "none");
    child_result r = continual("row");
    json_t      *root = json_loads(r.out, 0, NULL);
    if (r.code || !root) fail_msg("%d %s", r.code, r.err);
    assert_int_equal(json_array_size(json_object_get(root, "losses")), 3);
    double after = loss_with(runs_path("row/stage-1/merged"), "");
    assert_true(fabs(loss_at(root, 1, 0) / after - 1) < 0.05 && loss_at(root, 1, 0) < loss_at(root, 0, 0)); /* lines against one text */
    assert_true(loss_at(root, 2, 1) < loss_at(root, 1, 1));
    assert_true(fabs(json_number_value(json_object_get(root, "backward_transfer")) - (loss_at(root, 1, 0) - loss_at(root, 2, 0))) < 1e-12);
    assert_true(fabs(json_number_value(json_array_get(json_object_get(root, "forgetting"), 0)) - (loss_at(root, 2, 0) - loss_at(root, 1, 0))) < 1e-12);
    struct stat before, again;
    assert_int_equal(stat(runs_path("row/stage-1/losses.json"), &before), 0);
    unlink(runs_path("row/stage-2/losses.json"));
    child_result s = continual("row");
    if (s.code) fail_msg("%d %s", s.code, s.err);
    assert_string_equal(r.out, s.out);
    assert_int_equal(stat(runs_path("row/stage-1/losses.json"), &again), 0);
    assert_true(before.st_ino == again.st_ino);
    json_decref(root);
    child_free(&r), child_free(&s);
}

static void what_cannot_be_is_told(void **state)
{
    (void)state;
    write_recipe("one.yaml", base_of_family("bert"), "labels.tsv", "none"), write_recipe("two.yaml", base_model(), "text.txt", "none");
    child_result r = continual("never");
    assert_int_equal(r.code, 2);
    child_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_build_on_each_other_and_measure_all_tasks),
        cmocka_unit_test(what_cannot_be_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
