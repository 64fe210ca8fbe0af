/* The program writes GGUF: a merged model, a model alone, an adapter; what cannot be is told. */
#include "adapters.h"

/* BASE, ADAPTER and OUT in the line stand for their paths. */
static child_result run_it(const char *line, const char *base, const char *adapter, const char *out)
{
    run_words w = {.count = 0};
    for (const char *at = line; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (!strncmp(at, "BASE", n)) words_add(&w, "%s", base);
        else if (!strncmp(at, "ADAPTER", n)) words_add(&w, "%s", adapter);
        else if (!strncmp(at, "OUT", n)) words_add(&w, "%s", out);
        else words_add(&w, "%.*s", (int)n, at);
        at += n;
    }
    return child_run("adapter", &w, 0);
}

static void models_and_adapters_are_written(void **state)
{
    (void)state;
    const char *base = base_model();
    char        path[256];
    train_on(base, "hydra", "lowrank.rank=2", "run");
    static const char *const lines[] = {"merge BASE ADAPTER --gguf OUT --dtype bf16", "merge BASE --gguf OUT", "convert ADAPTER --gguf OUT"};
    size_t                   lengths[3];
    snprintf(path, sizeof path, "%s", runs_path("out.gguf"));
    for (int i = 0; i < 3; i++) {
        unlink(path);
        child_result r = run_it(lines[i], base, runs_path("run/adapter"), path);
        if (r.code) fail_msg("%s: %s", lines[i], r.err);
        child_free(&r);
        char *bytes = runs_read(path, &lengths[i]);
        assert_memory_equal(bytes, "GGUF\3\0\0\0", 8);
        free(bytes);
    }
    assert_true(lengths[0] < lengths[1] && lengths[2] < lengths[0]);
}

static void what_cannot_be_is_told(void **state)
{
    (void)state;
    const char *base = base_model();
    train_on(base, "smora", "lowrank.rank=8", "run");
    child_result r = run_it("convert ADAPTER --gguf OUT", base, runs_path("run/adapter"), runs_path("never.gguf"));
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "adapter merge"));
    child_free(&r);
    r = run_it("convert ADAPTER --gguf OUT -o y", base, runs_path("run/adapter"), runs_path("never.gguf"));
    assert_int_equal(r.code, 2);
    child_free(&r);
    assert_int_not_equal(access(runs_path("never.gguf"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_and_adapters_are_written),
        cmocka_unit_test(what_cannot_be_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
