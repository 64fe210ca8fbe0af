/* Option tables: typed fields from text, ranges, messages that name the closest key, help. */
#include "testing.h"

#include "base/option_value.h"
#include "crank/option.h"

typedef struct {
    int64_t     rank;
    double      alpha;
    bool        rslora;
    const char *name, *init, *targets, *groups;
} options;

static const crank_option table[] = {
    CRANK_INT(options, rank, 16, 1, 65536, "rank of the update"),
    CRANK_FLOAT(options, alpha, 32, 0, 1e9, "the update is scaled by alpha / rank"),
    CRANK_BOOL(options, rslora, false, "scale by alpha / sqrt(rank) instead"),
    CRANK_STRING(options, name, NULL, "name of the adapter"),
    CRANK_CHOICE(options, init, "kaiming", "kaiming|gaussian", "how A starts"),
    CRANK_LIST(options, targets, "q_proj\nv_proj", "linears that get the method"),
    CRANK_MAP(options, groups, NULL, "pattern to optimiser"),
    CRANK_END,
};

static crank_context *context;
static options       *opt;

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    opt = crank_options_new(context, table, sizeof *opt);
    return opt ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    crank_options_free(opt);
    crank_context_free(context);
    return 0;
}

#define set(key, value) crank_options_set(context, table, opt, key, value, "r.yaml:3")

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    assert_int_equal(opt->rank, 16);
    assert_true(opt->alpha == 32 && !opt->rslora && !opt->name && !opt->groups);
    assert_string_equal(opt->init, "kaiming");
    assert_string_equal(opt->targets, "q_proj\nv_proj");
    assert_false(crank_options_given(opt, table, "rank"));
    assert_int_equal((uintptr_t)opt % 64, 0);
}

static void values_are_set_and_known_as_given(void **state)
{
    (void)state;
    char name[] = "mine";
    assert_ok(context, set("rank", "64"));
    assert_ok(context, set("alpha", "1e-4"));
    assert_ok(context, set("rslora", "true"));
    assert_ok(context, set("name", name));
    assert_ok(context, set("init", "gaussian"));
    name[0] = 'x'; /* the options own their strings */
    assert_int_equal(opt->rank, 64);
    assert_true(opt->alpha == 1e-4 && opt->rslora);
    assert_string_equal(opt->name, "mine");
    assert_true(crank_options_given(opt, table, "rank") && crank_options_given(opt, table, "name"));
    assert_false(crank_options_given(opt, table, "groups"));
}

static void whole_numbers_may_be_written_in_several_ways(void **state)
{
    (void)state;
    static const struct { const char *text; int64_t value; } good[] = {
        {"12", 12}, {"+12", 12}, {"0x10", 16}, {"0o17", 15}, {"1e3", 1000}, {"2.0", 2}, {"007", 7}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(context, set("rank", good[i].text));
        assert_int_equal(opt->rank, good[i].value);
    }
    static const char *const bad[] = {"",     "x",    "1.5", "0",     "65537", "-3",    "1e99", "99999999999999999999",
                                      "12 ", " 12",  "1_0", "nan",   "inf",   "0x",    "--1",  "1e",
                                      "16k", "0b11", "true", "12\n", "٣",     "0x1p4", "1,5",  "true "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (set("rank", bad[i]) != CRANK_USAGE) fail_msg("`%s` was taken", bad[i]);
    assert_int_equal(opt->rank, 7);
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"-1", "1e10", "nan", ".nan", ".inf", "1e400", "1,5", "0x10", "", ".", "e5", "1e+"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (set("alpha", bad[i]) != CRANK_USAGE) fail_msg("`%s` was taken", bad[i]);
    assert_int_equal(set("rank", "0"), CRANK_USAGE);
    assert_string_equal(crank_message(context), "r.yaml:3: `rank` is 0; it must be a whole number from 1 to 65536");
    assert_int_equal(set("rslora", "yes"), CRANK_USAGE);
    assert_string_equal(crank_message(context), "r.yaml:3: `rslora` is yes; it must be true or false");
    assert_int_equal(set("init", "gausian"), CRANK_USAGE);
    assert_string_equal(crank_message(context),
                        "r.yaml:3: `init` is gausian; it must be one of kaiming|gaussian; did you mean `gaussian`?");
}

static void unknown_key_names_the_closest(void **state)
{
    (void)state;
    assert_int_equal(set("rnak", "3"), CRANK_USAGE);
    assert_string_equal(crank_message(context), "r.yaml:3: unknown key `rnak`; did you mean `rank`?");
    assert_int_equal(set("something_else", "3"), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "the keys are: rank, alpha, rslora, name, init, targets, groups"));
}

static void closest_gives_up_on_distant_names(void **state)
{
    (void)state;
    static const char *const names[] = {"lora", "galore", "nola"};
    assert_string_equal(crank_closest("galroe", names, 3), "galore");
    assert_string_equal(crank_closest("lorra", names, 3), "lora");
    assert_null(crank_closest("adamw", names, 3));
    assert_null(crank_closest("", names, 3));
    assert_null(crank_closest("x", names, 0));
}

static void lists_and_maps_are_typed_on_a_command_line(void **state)
{
    (void)state;
    static const char *const lists[] = {"a,b c", "[a, b c]", "[ a , b c ]", "a\nb c"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        assert_ok(context, set("targets", lists[i]));
        assert_string_equal(opt->targets, "a\nb c");
    }
    assert_ok(context, set("targets", "[]"));
    assert_string_equal(opt->targets, "");
    static const char *const maps[] = {"{*.A: adamw, *.B: sgd}", "*.A=adamw,*.B=sgd", "{ *.A = adamw , *.B:  sgd }"};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        assert_ok(context, set("groups", maps[i]));
        assert_string_equal(opt->groups, "*.A=adamw\n*.B=sgd");
    }
    static const char *const bad_lists[] = {"a,,b", ",a", "a,", "[a,]", ","};
    for (size_t i = 0; i < sizeof bad_lists / sizeof *bad_lists; i++) assert_int_equal(set("targets", bad_lists[i]), CRANK_USAGE);
    assert_int_equal(set("groups", "adamw"), CRANK_USAGE);
    assert_int_equal(set("groups", "{: adamw}"), CRANK_USAGE);
}

static void elements_are_given_one_by_one(void **state)
{
    (void)state;
    char        key[8], value[4];
    const char *cursor = "q_proj\nlonger_than_8\n";
    assert_true(crank_list_next(&cursor, key, sizeof key, NULL, 0));
    assert_string_equal(key, "q_proj");
    assert_true(crank_list_next(&cursor, key, sizeof key, NULL, 0));
    assert_string_equal(key, "longer_");
    assert_false(crank_list_next(&cursor, key, sizeof key, NULL, 0));
    cursor = "*.A=adamw\nb=x=y";
    assert_true(crank_list_next(&cursor, key, sizeof key, value, sizeof value));
    assert_string_equal(key, "*.A");
    assert_string_equal(value, "ada");
    assert_true(crank_list_next(&cursor, key, sizeof key, value, sizeof value));
    assert_string_equal(value, "x=y");
    cursor = NULL;
    assert_false(crank_list_next(&cursor, key, sizeof key, value, sizeof value));
}

static void shapes_are_checked(void **state)
{
    (void)state;
    assert_int_equal(option_set(context, table, opt, "rank", OPTION_ITEMS, "1\n2", "r.yaml:9"), CRANK_USAGE);
    assert_string_equal(crank_message(context), "r.yaml:9: `rank` takes one value, not a list");
    assert_int_equal(option_set(context, table, opt, "targets", OPTION_PAIRS, "a=b", NULL), CRANK_USAGE);
    assert_string_equal(crank_message(context), "`targets` takes a list, not a mapping");
    assert_int_equal(option_set(context, table, opt, "rank", OPTION_NULL, NULL, "r.yaml:9"), CRANK_USAGE);
    assert_ok(context, option_set(context, table, opt, "name", OPTION_TEXT, "x", NULL));
    assert_ok(context, option_set(context, table, opt, "name", OPTION_NULL, NULL, NULL));
    assert_null(opt->name);
    assert_ok(context, option_set(context, table, opt, "targets", OPTION_ITEMS, "one,with comma", NULL));
    assert_string_equal(opt->targets, "one,with comma");
}

static void help_lists_name_default_range_and_help(void **state)
{
    (void)state;
    char *help = crank_options_help(context, table);
    assert_non_null(strstr(help, "  rank     16             1 to 65536        rank of the update\n"));
    assert_non_null(strstr(help, "  init     kaiming        kaiming|gaussian  how A starts\n"));
    assert_non_null(strstr(help, "  targets  q_proj,v_proj  list "));
    crank_free(help);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(defaults_come_from_the_table),
        test(values_are_set_and_known_as_given),
        test(whole_numbers_may_be_written_in_several_ways),
        test(numbers_out_of_range_are_refused),
        test(unknown_key_names_the_closest),
        test(closest_gives_up_on_distant_names),
        test(lists_and_maps_are_typed_on_a_command_line),
        test(elements_are_given_one_by_one),
        test(shapes_are_checked),
        test(help_lists_name_default_range_and_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
