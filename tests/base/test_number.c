/* Numbers as text are those of the C locale whatever LC_NUMERIC says, and the shortest that read back equal. */
#include "testing.h"

#include <locale.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "crank/random.h"

static void printed_numbers_are_short_and_exact(void **state)
{
    (void)state;
    static const struct { double value; const char *text; } cases[] = {
        {0.1, "0.1"}, {1, "1"}, {1e-5, "1e-05"}, {1.0 / 3, "0.3333333333333333"}, {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"}, {-0.0, "-0"}, {INFINITY, "inf"}, {-INFINITY, "-inf"}, {NAN, "nan"},
        {123456789, "123456789"}};
    char   text[NUMBER_SIZE];
    double back;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(number_print(cases[i].value, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 0);
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t bits = crank_draw_below(stream, i, UINT64_MAX);
        double   value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        assert_true(number_print(value, text) < NUMBER_SIZE);
        assert_true(number_parse(text, &back) && back == value);
    }
}

/* Sets a locale that writes numbers with a comma: an installed one, or one made from the sources of the C library. */
static bool set_comma_locale(const char *folder)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "ru_RU.UTF-8", "de_DE"};
    char                     command[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_NUMERIC, names[i])) return true;
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1", folder, folder);
    if (system(command) != 0) return false;
    setenv("LOCPATH", folder, 1);
    return setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL;
}

static void a_comma_locale_changes_nothing(void **state)
{
    (void)state;
    char           folder[] = "/tmp/crank_locale_XXXXXX", text[NUMBER_SIZE], sample[16];
    crank_context *context = crank_context_new();
    double         value = 0, dot = 0;
    assert_non_null(mkdtemp(folder));
    bool found = set_comma_locale(folder);
    snprintf(sample, sizeof sample, "%.1f", 0.5);
    number_print(0.5, text);
    bool    parsed = number_parse("0.5", &dot), comma = number_parse("0,5", &value);
    json_t *json = json_parse(context, "[0.5]", 5, "text");
    char   *written = json ? json_text(context, json, 0) : NULL;
    setlocale(LC_NUMERIC, "C");
    assert_ok(context, file_folder_remove(context, folder));
    assert_string_equal(text, "0.5");
    assert_true(parsed && !comma && dot == 0.5);
    assert_string_equal(written, "[0.5]");
    crank_free(written);
    json_decref(json);
    crank_context_free(context);
    if (!found) skip(); /* all of the above was in the C locale */
    assert_string_equal(sample, "0,5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_numbers_are_short_and_exact),
        cmocka_unit_test(a_comma_locale_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
