/* Recipes: values with their place, overrides, refusals with file, line and column, keys that nobody read. */
#include "testing.h"

#include "crank/random.h"
#include "crank/recipe.h"

typedef struct {
    int64_t     rank;
    double      alpha;
    bool        rslora;
    const char *init, *targets, *name;
} lowrank_options;

static const crank_option lowrank_table[] = {
    CRANK_INT(lowrank_options, rank, 16, 1, 65536, "rank of the update"),
    CRANK_FLOAT(lowrank_options, alpha, 32, 0, 1e9, "scale"),
    CRANK_BOOL(lowrank_options, rslora, false, "other scale"),
    CRANK_CHOICE(lowrank_options, init, "kaiming", "kaiming|gaussian", "how A starts"),
    CRANK_LIST(lowrank_options, targets, NULL, "linears"),
    CRANK_STRING(lowrank_options, name, NULL, "name"),
    CRANK_END,
};

typedef struct {
    const char *groups;
    double      rate;
} optim_options;

static const crank_option optim_table[] = {
    CRANK_MAP(optim_options, groups, NULL, "groups"),
    CRANK_FLOAT(optim_options, rate, 1e-3, 0, 1, "rate"),
    CRANK_END,
};

static crank_context   *context;
static lowrank_options *lowrank;
static optim_options   *optim;
static char             path[64];

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    lowrank = crank_options_new(context, lowrank_table, sizeof *lowrank);
    optim = crank_options_new(context, optim_table, sizeof *optim);
    snprintf(path, sizeof path, "/tmp/crank_recipe_XXXXXX");
    close(mkstemp(path));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    crank_options_free(lowrank);
    crank_options_free(optim);
    crank_context_free(context);
    return 0;
}

static crank_recipe *load(const char *text, const char *const *overrides, size_t count)
{
    FILE *file = fopen(path, "w"); /* not file_write_text: it waits for the disk */
    fputs(text, file);
    fclose(file);
    return crank_recipe_load(context, path, overrides, count);
}

static crank_recipe *must_load(const char *text, const char *const *overrides, size_t count)
{
    crank_recipe *recipe = load(text, overrides, count);
    if (!recipe) fail_msg("%s", crank_message(context));
    return recipe;
}

/* The message without the path before it */
static const char *told(void)
{
    const char *message = crank_message(context);
    return strncmp(message, path, strlen(path)) == 0 ? message + strlen(path) : message;
}

static const char sample[] = "# a recipe\n"
                             "lowrank:\n"
                             "  rank: 8\n"
                             "  alpha: 1e-4\n"
                             "  rslora: true\n"
                             "  targets: [q_proj, 'v, proj']\n"
                             "  name: no\n"
                             "optim:\n"
                             "  groups: {\"*.A\": adamw, '*.B': sgd}\n"
                             "data:\n"
                             "  files:\n"
                             "    - a.txt\n"
                             "    - b.txt\n";

static void sections_fill_their_options(void **state)
{
    (void)state;
    crank_recipe *recipe = must_load(sample, NULL, 0);
    assert_ok(context, crank_recipe_read(context, recipe, "lowrank", lowrank_table, lowrank));
    assert_ok(context, crank_recipe_read(context, recipe, "optim", optim_table, optim));
    assert_int_equal(lowrank->rank, 8);
    assert_true(lowrank->alpha == 1e-4 && lowrank->rslora);
    assert_string_equal(lowrank->targets, "q_proj\nv, proj");
    assert_string_equal(lowrank->name, "no");
    assert_string_equal(lowrank->init, "kaiming");
    assert_string_equal(optim->groups, "*.A=adamw\n*.B=sgd");
    assert_string_equal(crank_recipe_get(recipe, "data", "files"), "a.txt\nb.txt");
    assert_null(crank_recipe_get(recipe, "data", "none"));
    assert_true(crank_recipe_has(recipe, "data") && !crank_recipe_has(recipe, "dat"));
    assert_true(crank_options_given(lowrank, lowrank_table, "rank") && !crank_options_given(lowrank, lowrank_table, "init"));
    assert_ok(context, crank_recipe_finish(context, recipe));
    crank_recipe_free(recipe);
}

static void overrides_win_and_may_hold_lists_and_maps(void **state)
{
    (void)state;
    static const char *const overrides[] = {"lowrank.rank=4",  "lowrank.rank=5", "lowrank.targets=a,b", "optim.groups={x: y, 'z w': \"\"}",
                                            "data.files=[one]", "run.name=a=b: c", "lowrank.name=null"};
    crank_recipe            *recipe = must_load(sample, overrides, 7);
    assert_ok(context, crank_recipe_read(context, recipe, "lowrank", lowrank_table, lowrank));
    assert_ok(context, crank_recipe_read(context, recipe, "optim", optim_table, optim));
    assert_int_equal(lowrank->rank, 5);
    assert_string_equal(lowrank->targets, "a\nb");
    assert_null(lowrank->name);
    assert_string_equal(optim->groups, "x=y\nz w=");
    assert_string_equal(crank_recipe_get(recipe, "data", "files"), "one");
    assert_string_equal(crank_recipe_get(recipe, "run", "name"), "a=b: c");
    assert_ok(context, crank_recipe_finish(context, recipe));
    crank_recipe_free(recipe);
}

static void bad_overrides_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "rank", "rank=3", ".rank=3", "lowrank.=3", "=3", "a=b.c", "lowrank.x=[", "lowrank.x={a: [b]}",
                                      "lowrank.x=[a] b", "lowrank.x=[a]\n---\nb", "lowrank.\xff=1", "lowrank.x=\xff", "lowrank.x=[&a b]", "low rank.x=1", "lowrank.x y=1", "lowrank.x\ny=1", "lowrank.x\x7f=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        crank_recipe *recipe = crank_recipe_load(context, NULL, &bad[i], 1);
        if (recipe) fail_msg("`%s` was taken", bad[i]);
        assert_int_equal(strncmp(crank_message(context), "command line", 12), 0);
    }
    static const char *const override = "lowrank.rank=0";
    crank_recipe            *recipe = crank_recipe_load(context, NULL, &override, 1);
    assert_int_equal(crank_recipe_read(context, recipe, "lowrank", lowrank_table, lowrank), CRANK_USAGE);
    assert_string_equal(crank_message(context), "command line: `rank` is 0; it must be a whole number from 1 to 65536");
    crank_recipe_free(recipe);
}

static void bad_text_is_refused_with_line_and_column(void **state)
{
    (void)state;
    static const struct { const char *text, *expected; } bad[] = {
        {"lowrank:\n  rank: [1, [2]]\n", ":2:13: a list or mapping holds plain values"},
        {"lowrank:\n  rank: {a: {b: c}}\n", ":2:13: a list or mapping holds plain values"},
        {"lowrank:\n  rank: 1\n  rank: 2\n", ":3:3: key `lowrank.rank` was given on line 2 already"},
        {"a:\n  x: 1\nb:\na:\n  y: 2\n", ":4:1: section `a` was given on line 1 already"},
        {"\"a\\x7f\":\n  x: 1\n", ":1:1: the name of a section must be one word"},
        {"a:\n  x: {\"b\\x01\": 1}\n", ":2:7: a key with a control character"},
        {"a:\n  x: &here 1\n", ":2:6: anchors"},
        {"a:\n  x: *there\n", ":2:6: aliases"},
        {"a:\n  <<: *there\n", ":2:7: aliases"},
        {"a: &here\n  x: 1\n", ":1:4: anchors"},
        {"a:\n  x: !!int 1\n", ":2:6: tags"},
        {"a:\n  x: !mine [1]\n", ":2:6: tags"},
        {"!mine\na:\n  x: 1\n", ":1:1: tags"},
        {"rank: 3\n", ":1:1: `rank` must be a section"},
        {"- a\n", ":1:1: a recipe must be a mapping"},
        {"text\n", ":1:1: a recipe must be a mapping"},
        {"a:\n  x: 1\n---\nb:\n  x: 1\n", ":3:1: a second document"},
        {"a:\n  - x\n", ":1:1: `a` must be a section"},
        {"a:\n  x: [1, , 2]\n", ":2:10: "},
        {"a:\n  x: [1, ~]\n", ":2:10: an element of a list or mapping has no value"},
        {"a:\n  x: [\"\"]\n", ":2:7: an element of a list or mapping has no value"},
        {"a:\n  x: {k: }\n", ":2:10: an element of a list or mapping has no value"},
        {"a:\n  x: {k: 1, k: 2}\n", ":2:13: the key stands twice"},
        {"a:\n  x: {k=l: 1}\n", ":2:7: a key of a mapping must not hold ="},
        {"a:\n  x: [\"one\\ntwo\"]\n", ":2:7: an element of a list or mapping must be one line"},
        {"a:\n  x: \"nul\\0byte\"\n", ":2:6: a zero byte"},
        {"a:\n  x: [1\n", ":3:1: "},
        {"a:\n  x: 'open\n", ":3:1: "},
        {"a:\n x: 1\n  y: 2\n", ":3:"},
        {"a:\n\tx: 1\n", ":2:1: "},
        {"a.b:\n  x: 1\n", ":1:1: the name of a section must not hold a dot"},
        {"a:\n  \"x y\": 1\n", ":2:3: the name of a key must be one word"},
        {"a:\n  [x]: 1\n", ":2:3: the name of a key must be one word"},
        {"a:\n  x: \xff\n", ":"},
        {"%TAG ! tag:x,2000:\n---\na:\n  x: !y 1\n", ":4:6: tags"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        crank_recipe *recipe = load(bad[i].text, NULL, 0);
        if (recipe) fail_msg("taken: %s", bad[i].text);
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        if (strncmp(told(), bad[i].expected, strlen(bad[i].expected)) != 0)
            fail_msg("`%s` instead of `%s`", crank_message(context), bad[i].expected);
    }
}

static void unread_keys_are_named_with_the_closest(void **state)
{
    (void)state;
    char          expected[1024];
    crank_recipe *recipe = must_load("lowrnak:\n  rank: 8\nlowrank:\n  rnak: 8\n  zzzzzzzzz: 1\nempty:\nother:\n  key: 1\n", NULL, 0);
    assert_ok(context, crank_recipe_read(context, recipe, "lowrank", lowrank_table, lowrank));
    assert_int_equal(crank_recipe_finish(context, recipe), CRANK_USAGE);
    snprintf(expected, sizeof expected,
             "%s:6: unknown section `empty`\n"
             "%s:2: unknown key `lowrnak.rank`; did you mean `lowrank.rank`?\n"
             "%s:4: unknown key `lowrank.rnak`; did you mean `lowrank.rank`?\n"
             "%s:5: unknown key `lowrank.zzzzzzzzz`; the section's keys are: rank, alpha, rslora, init, targets, name\n"
             "%s:8: unknown key `other.key`; nothing here reads that section",
             path, path, path, path, path);
    assert_string_equal(crank_message(context), expected);
    crank_recipe_free(recipe);
}

static void several_tables_may_share_a_section(void **state)
{
    (void)state;
    crank_recipe *recipe = must_load("optim:\n  rank: 3\n  rate: 0.5\n", NULL, 0);
    assert_ok(context, crank_recipe_read(context, recipe, "optim", optim_table, optim));
    assert_int_equal(crank_recipe_finish(context, recipe), CRANK_USAGE);
    assert_ok(context, crank_recipe_read(context, recipe, "optim", lowrank_table, lowrank));
    assert_ok(context, crank_recipe_finish(context, recipe));
    assert_true(lowrank->rank == 3 && optim->rate == 0.5);
    crank_recipe_free(recipe);
}

static void wrong_values_name_their_line(void **state)
{
    (void)state;
    static const struct { const char *text, *expected; } bad[] = {
        {"lowrank:\n  alpha: yes\n", ":2: `alpha` is yes; it must be a number"},
        {"lowrank:\n  rslora: no\n", ":2: `rslora` is no; it must be true or false"},
        {"lowrank:\n\n  rank: [1]\n", ":3: `rank` takes one value, not a list"},
        {"lowrank:\n  targets: {a: b}\n", ":2: `targets` takes a list, not a mapping"},
        {"lowrank:\n  rank:\n", ":2: `rank` has no value"},
        {"lowrank:\n  init: gausian\n", ":2: `init` is gausian; it must be one of kaiming|gaussian; did you mean `gaussian`?"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        crank_recipe *recipe = must_load(bad[i].text, NULL, 0);
        assert_int_equal(crank_recipe_read(context, recipe, "lowrank", lowrank_table, lowrank), CRANK_USAGE);
        if (strncmp(told(), bad[i].expected, strlen(bad[i].expected)) != 0)
            fail_msg("`%s` instead of `%s`", crank_message(context), bad[i].expected);
        crank_recipe_free(recipe);
    }
}

static void empty_recipes_are_recipes(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "# only a comment\n", "---\n", "~\n", "{}\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        crank_recipe *recipe = must_load(texts[i], NULL, 0);
        assert_ok(context, crank_recipe_finish(context, recipe));
        crank_recipe_free(recipe);
    }
    assert_null(crank_recipe_load(context, "/no/such/recipe.yaml", NULL, 0));
    assert_int_equal(crank_last_status(context), CRANK_USAGE);
}

static void text_loads_to_the_same_recipe(void **state)
{
    (void)state;
    static const char *const overrides[] = {"lowrank.rank=7", "new.list=[\"a,b\", '\"', 'é\u2028 x', '#', '- y', 'null', '', 'x: y']",
                                            "new.text= leading, \\ and \"quotes\" \xc2\x85\x7f\t", "new.null=~", "new.empty=",
                                            "new.word=Null", "new.dash=-", "new.dots=...", "new.neg=-1e-3", "new.minus=--", "new.star=*x",
                                            "new.map={'*.A: x': '{', y: ''}", "new.many=a\nb\n"};
    size_t        count = sizeof overrides / sizeof *overrides;
    crank_recipe *recipe = load(sample, overrides, count);
    assert_null(recipe); /* an empty element */
    static const char *better = "new.list=[\"a,b\", '\"', '\u00e9\u2028 x', '#', '- y', 'null', 'x: y']";
    const char       *fixed[16];
    memcpy(fixed, overrides, sizeof overrides);
    fixed[1] = better;
    recipe = must_load(sample, fixed, count);
    char *text = crank_recipe_text(context, recipe);
    assert_non_null(strstr(text, "lowrank:\n  rank: 7\n  alpha: 1e-4\n  rslora: true\n  targets: [q_proj, \"v, proj\"]\n  name: no\n"));
    crank_recipe *again = must_load(text, NULL, 0);
    char         *second = crank_recipe_text(context, again);
    assert_string_equal(text, second);
    static const char *const keys[] = {"list", "text", "null", "empty", "word", "dash", "dots", "neg", "minus", "star", "map", "many"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *a = crank_recipe_get(recipe, "new", keys[i]), *b = crank_recipe_get(again, "new", keys[i]);
        assert_true(!a == !b);
        if (a) assert_string_equal(a, b);
    }
    crank_free(text);
    crank_free(second);
    crank_recipe_free(recipe);
    crank_recipe_free(again);
}

static void large_and_deep_texts_are_refused(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE + 64);
    memset(text, '[', SIZE);
    memcpy(text, "a:\n  x: ", 8);
    text[SIZE] = 0;
    assert_null(load(text, NULL, 0));
    assert_non_null(strstr(crank_message(context), ":2:7: a list or mapping holds plain values"));
    memset(text, '#', SIZE + 1);
    text[SIZE + 1] = 0;
    assert_null(load(text, NULL, 0));
    assert_non_null(strstr(crank_message(context), "a recipe has at most"));
    size_t length = (size_t)sprintf(text, "a:\n");
    for (int i = 0; i < 5000; i++) length += (size_t)sprintf(text + length, "  k%d: 1\n", i);
    assert_null(load(text, NULL, 0));
    assert_non_null(strstr(crank_message(context), "more than 4096 keys"));
    free(text);
}

static void any_cut_of_a_recipe_is_read_or_refused(void **state)
{
    (void)state;
    char         text[sizeof sample];
    crank_stream stream = crank_stream_make(2, CRANK_RANDOM_TEST, 0);
    for (uint64_t i = 0; i < 500; i++) {
        memcpy(text, sample, sizeof sample);
        text[crank_draw_below(stream, 4 * i, sizeof sample - 1)] = "[]{}:,&*!|>'\"%@`#\n\t -~\\x"[crank_draw_below(stream, 4 * i + 1, 24)];
        text[crank_draw_below(stream, 4 * i + 2, sizeof sample)] = 0;
        crank_recipe *recipe = load(text, NULL, 0);
        if (recipe) {
            char *out = crank_recipe_text(context, recipe);
            crank_recipe_free(recipe);
            recipe = load(out, NULL, 0);
            if (!recipe) fail_msg("%s\n%s", crank_message(context), out);
            crank_free(out);
        } else assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        crank_recipe_free(recipe);
    }
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(sections_fill_their_options),
        test(overrides_win_and_may_hold_lists_and_maps),
        test(bad_overrides_are_refused),
        test(bad_text_is_refused_with_line_and_column),
        test(unread_keys_are_named_with_the_closest),
        test(several_tables_may_share_a_section),
        test(wrong_values_name_their_line),
        test(empty_recipes_are_recipes),
        test(text_loads_to_the_same_recipe),
        test(large_and_deep_texts_are_refused),
        test(any_cut_of_a_recipe_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
