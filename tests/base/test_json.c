/* JSON: refusals with a place, typed members, text that reads back equal. */
#include "testing.h"

#include "base/file.h"
#include "base/json.h"

static crank_context *context;
static int setup(void **state) { (void)state; context = crank_context_new(); return 0; }
static int teardown(void **state) { (void)state; crank_context_free(context); return 0; }

static json_t *parse(const char *text) { return json_parse(context, text, strlen(text), "t.json"); }

static void bad_json_is_refused_with_its_place(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",           "{",          "[1,]",        "{\"a\":1,\"a\":2}", "\"\xff\"", "[01]",       "nul",  "[1] 2",
        "\"\\u0000\"", "[NaN]",     "{'a':1}",     "[1e999]",           "\"\\ud800\"", "[\"a\nb\"]", "{\"a\"}", "-"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *value = parse(bad[i]);
        if (value) fail_msg("`%s` was taken", bad[i]);
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    }
    assert_null(parse("{\"a\": 1,\n \"b\": }"));
    assert_non_null(strstr(crank_message(context), "t.json:2:"));
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = 0;
    assert_null(parse(deep));
    free(deep);
}

static void whole_numbers_beyond_64_bits_are_reals(void **state)
{
    (void)state;
    json_t *value = parse("{\"s\": \"99999999999999999999\\\"\", \"m\": 1000000000000000019884624838656, \"n\": [-9223372036854775809, "
                          "9223372036854775807, -9223372036854775808]}");
    assert_non_null(value);
    assert_true(json_real_value(json_object_get(value, "m")) == 1e30);
    assert_string_equal(json_string_value(json_object_get(value, "s")), "99999999999999999999\"");
    json_t *n = json_object_get(value, "n");
    assert_true(json_real_value(json_array_get(n, 0)) == -9223372036854775808.0);
    assert_int_equal(json_integer_value(json_array_get(n, 1)), INT64_MAX);
    assert_int_equal(json_integer_value(json_array_get(n, 2)), INT64_MIN);
    json_decref(value);
}

static void members_are_typed_and_bounded(void **state)
{
    (void)state;
    json_t      *object = parse("{\"i\": 12, \"r\": 1.5, \"b\": true, \"s\": \"x\", \"n\": null}");
    int64_t      whole;
    double       number;
    bool         yes;
    crank_status status;
    assert_ok(context, json_get_int(context, object, "i", 0, 20, 3, &whole, "c"));
    assert_int_equal(whole, 12);
    assert_ok(context, json_get_int(context, object, "absent", 0, 20, 3, &whole, "c"));
    assert_int_equal(whole, 3);
    assert_ok(context, json_get_int(context, object, "n", 0, 20, 3, &whole, "c"));
    assert_int_equal(whole, 3);
    assert_int_equal(json_get_int(context, object, "i", 0, 11, 3, &whole, "c.json"), CRANK_BAD_DATA);
    assert_string_equal(crank_message(context), "c.json: `i` is 12; it must be from 0 to 11");
    assert_int_equal(json_get_int(context, object, "r", 0, 20, 3, &whole, "c"), CRANK_BAD_DATA);
    assert_int_equal(json_need_int(context, object, "absent", 0, 20, &whole, "c"), CRANK_BAD_DATA);
    assert_int_equal(json_need_int(context, object, "n", 0, 20, &whole, "c"), CRANK_BAD_DATA);
    assert_ok(context, json_get_number(context, object, "i", 0, &number, "c"));
    assert_true(number == 12);
    assert_int_equal(json_get_number(context, object, "s", 0, &number, "c"), CRANK_BAD_DATA);
    assert_ok(context, json_get_bool(context, object, "b", false, &yes, "c"));
    assert_true(yes);
    assert_int_equal(json_get_bool(context, object, "i", false, &yes, "c"), CRANK_BAD_DATA);
    assert_string_equal(json_get_string(context, object, "s", "c", &status), "x");
    assert_null(json_get_string(context, object, "n", "c", &status));
    assert_ok(context, status);
    assert_null(json_get_string(context, object, "b", "c", &status));
    assert_int_equal(status, CRANK_BAD_DATA);
    assert_int_equal(json_get_int(context, json_object_get(object, "s"), "i", 0, 1, 0, &whole, "c"), CRANK_BAD_DATA);
    json_decref(object);
}

static void text_is_short_and_reads_back_equal(void **state)
{
    (void)state;
    static const char source[] = "{\"z\":0.1,\"a\":[1,2.0,1e-05,-3e+300,0.30000000000000004],\"e\":[],\"o\":{},\"s\":\"\\\"\\\\\\n"
                                 "\\u0001\xc3\xa9\",\"t\":[true,false,null]}";
    json_t *value = parse(source), *again;
    char   *line = json_text(context, value, 0), *indented = json_text(context, value, 2);
    assert_string_equal(line, source);
    assert_non_null(strstr(indented, "{\n  \"z\": 0.1,\n  \"a\": [\n    1,\n    2.0,\n"));
    assert_non_null(strstr(indented, "\"e\": [],\n  \"o\": {},\n"));
    again = parse(indented);
    assert_true(json_equal(value, again));
    json_decref(again);

    char path[] = "/tmp/crank_json_XXXXXX";
    close(mkstemp(path));
    assert_ok(context, json_write(context, path, value));
    again = json_read(context, path);
    assert_true(json_equal(value, again));
    unlink(path);
    json_decref(again);
    json_decref(value);
    crank_free(line);
    crank_free(indented);
}

static void byte_order_mark_is_skipped(void **state)
{
    (void)state;
    json_t *value = parse("\xef\xbb\xbf[1]");
    assert_non_null(value);
    json_decref(value);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(bad_json_is_refused_with_its_place),
        test(whole_numbers_beyond_64_bits_are_reals),
        test(members_are_typed_and_bounded),
        test(text_is_short_and_reads_back_equal),
        test(byte_order_mark_is_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
