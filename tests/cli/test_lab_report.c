/* crank lab run --results keeps what was found, crank lab report makes pages of it, and refuses files that are none. */
#include "adapters.h"

static child_result lab(const char *line)
{
    run_words w = {.count = 0};
    words_split(&w, line);
    return child_run("lab", &w, 0);
}

static void a_kept_result_is_on_both_pages(void **state)
{
    (void)state;
    char line[1024];
    snprintf(line, sizeof line, "run loram --seeds 1 -q --results %s", runs_path("results"));
    child_result r = lab(line);
    assert_true(r.code == 0 || r.code == 4);
    child_free(&r);
    snprintf(line, sizeof line, "report --json --results %s --rates %s/recipes/lab --html %s --markdown %s", runs_path("results"), CRANK_SOURCE_DIR, runs_path("lab.html"), runs_path("lab.md"));
    r = lab(line);
    if (r.code) fail_msg("%s", r.err);
    assert_true(json_number_of(r.out, "kept") == 1 && json_number_of(r.out, "experiments") > 20);
    child_free(&r);
    char *page = runs_read(runs_path("lab.html"), NULL), *text = runs_read(runs_path("lab.md"), NULL);
    assert_non_null(strstr(page, "<h2 id=\"loram\">"));
    assert_non_null(strstr(page, "rates that were searched"));
    assert_null(strstr(page, "nan"));
    assert_non_null(strstr(text, "| [loram](#loram) | arXiv:2502.13533 |"));
    assert_non_null(strstr(text, "| not run |"));
    free(page), free(text);
}

static void what_is_no_result_is_told(void **state)
{
    (void)state;
    char line[1024];
    snprintf(line, sizeof line, "report --results %s", runs_path("nothing"));
    child_result r = lab(line);
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "no folder of results"));
    child_free(&r);
    mkdir(runs_path("wrong"), 0777);
    runs_write("wrong/lora.json", "{\"name\": \"bone\"}");
    snprintf(line, sizeof line, "report --results %s --html %s", runs_path("wrong"), runs_path("never.html"));
    r = lab(line);
    assert_int_equal(r.code, 3);
    assert_non_null(strstr(r.err, "no file of the experiment lora"));
    child_free(&r);
    assert_int_not_equal(access(runs_path("never.html"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_result_is_on_both_pages),
        cmocka_unit_test(what_is_no_result_is_told),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
