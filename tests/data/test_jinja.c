/* Chat templates render byte for byte as Python's jinja2 renders them for transformers, errors name template and line, and
 * hostile templates end with an error instead of hanging or growing. */
#include "testing.h"

#include <jansson.h>

#include "data/jinja.h"

static json_t *load(const char *name)
{
    json_error_t error;
    json_t      *json = json_load_file(golden(name), JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s:%d: %s", name, error.line, error.text);
    return json;
}

static char *read_text(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = malloc(1 << 20);
    *length = fread(text, 1, 1 << 20, file);
    fclose(file);
    return text;
}

static bool spans_match(const json_t *wanted, const jinja_spans *spans)
{
    if (json_array_size(wanted) != spans->count) return false;
    for (size_t i = 0; i < spans->count; i++)
        for (size_t k = 0; k < 2; k++)
            if ((size_t)json_integer_value(json_array_get(json_array_get(wanted, i), k)) != spans->ranges[2 * i + k]) return false;
    return true;
}

/* Renders one golden case; what differs is printed, and the number of differences returned. */
static int check_case(const char *text, size_t length, const json_t *variables, const json_t *wanted, int64_t now)
{
    const char     *name = json_string_value(json_object_get(wanted, "name"));
    const json_t   *output = json_object_get(wanted, "output");
    crank_context  *context = crank_context_new();
    jinja_template *tmpl = jinja_parse(context, text, length, "template");
    jinja_spans     spans = {0};
    size_t          made = 0;
    char           *rendered = tmpl ? jinja_render(context, tmpl, variables, now, &spans, &made) : NULL;
    int             wrong = 0;
    if (!output && rendered) {
        wrong = 1;
        print_error("%s\n  python: %s\n  crank:  %s\n", name, json_string_value(json_object_get(wanted, "error")), rendered);
    } else if (output && !rendered) {
        wrong = 1;
        print_error("%s\n  python: %s\n  crank:  error: %s\n", name, json_string_value(output), crank_message(context));
    } else if (output && (made != json_string_length(output) || memcmp(rendered, json_string_value(output), made) != 0)) {
        wrong = 1;
        print_error("%s\n  python: %s\n  crank:  %s\n", name, json_string_value(output), rendered);
    } else if (output && !spans_match(json_object_get(wanted, "spans"), &spans)) {
        wrong = 1;
        print_error("%s\n  spans differ\n", name);
    } else if (!output && strncmp(crank_message(context), "template:", 9) != 0) {
        wrong = 1;
        print_error("%s\n  no place in: %s\n", name, crank_message(context));
    }
    crank_free(rendered);
    crank_free(spans.ranges);
    jinja_free(tmpl);
    crank_context_free(context);
    return wrong;
}

static void small_cases_render_as_python_does(void **state)
{
    (void)state;
    json_t *golden_file = load("jinja/cases.json"), *entry, *cases = json_object_get(golden_file, "cases");
    size_t  i;
    int     wrong = 0;
    assert_true(json_array_size(cases) > 300);
    json_array_foreach(cases, i, entry)
    {
        const json_t *text = json_object_get(entry, "template");
        wrong += check_case(json_string_value(text), json_string_length(text), json_object_get(entry, "variables"), entry,
                            json_integer_value(json_object_get(golden_file, "now")));
    }
    assert_int_equal(wrong, 0);
    json_decref(golden_file);
}

static void model_templates_render_as_python_does(void **state)
{
    (void)state;
    json_t *golden_file = load("jinja/models.json"), *entry, *cases = json_object_get(golden_file, "cases");
    size_t  i;
    int     wrong = 0;
    json_array_foreach(cases, i, entry)
    {
        char    path[256];
        size_t  length;
        json_t *variables = json_copy(json_object_get(entry, "extra"));
        json_t *messages = json_object_get(json_object_get(golden_file, "conversations"), json_string_value(json_object_get(entry, "messages")));
        json_object_set(variables, "messages", messages);
        snprintf(path, sizeof path, "jinja/templates/%s", json_string_value(json_object_get(entry, "file")));
        char *text = read_text(golden(path), &length);
        wrong += check_case(text, length, variables, entry, json_integer_value(json_object_get(golden_file, "now")));
        free(text);
        json_decref(variables);
    }
    assert_int_equal(wrong, 0);
    json_decref(golden_file);
}

/* --- hostile templates --- */

static char *render_text(crank_context *context, const char *text, size_t length, const char *variables)
{
    json_t         *json = json_loads(variables, 0, NULL);
    jinja_template *tmpl = jinja_parse(context, text, length, "evil");
    char           *out = tmpl ? jinja_render(context, tmpl, json, 0, NULL, NULL) : NULL;
    jinja_free(tmpl);
    json_decref(json);
    return out;
}

static void expect_error(const char *text, size_t length, const char *part)
{
    crank_context *context = crank_context_new();
    char          *out = render_text(context, text, length, "{\"m\": [{\"role\": \"user\", \"content\": \"x\"}], \"s\": \"abc\", \"n\": null}");
    if (out) fail_msg("no error from: %.100s", text);
    if (!strstr(crank_message(context), part)) fail_msg("'%.100s' tells: %s\nwanted: %s", text, crank_message(context), part);
    assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    crank_context_free(context);
}

static void hostile_templates_end_with_an_error(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        /* work */
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"},
        {"{% for a in range(90000) %}{% for b in range(90000) %}{% if loop.last %}{% endif %}{% endfor %}{% endfor %}", "steps"},
        {"{% set x = range(99999)|list %}{% for a in x %}{{ x|sum }}{% endfor %}", "steps"},
        {"{% set x = range(99999)|list %}{% for a in x %}{{ -1 in x }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ 'b' in x }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x|length }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x.upper() is none }}{% endfor %}", "evil:1"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x.replace('b', 'c') is none }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x[a] }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x == x ~ '' }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 500000 %}{% set y = 'a' * 250000 ~ 'b' %}{% for i in range(99999) %}{{ x.rfind(y) }}{% endfor %}", "steps"},
        {"{% set x = ' ' * 9000000 %}{% for a in range(99999) %}{{ x|trim }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x.strip('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxa') }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ {x: 1}[x] }}{% endfor %}", "steps"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x|e is none }}{% endfor %}", "evil:1"},
        {"{% set x = 'a' * 9000000 %}{% for a in range(99999) %}{{ x|tojson is none }}{% endfor %}", "evil:1"},
        {"{% set x = [[1] * 1000] * 1000 %}{% for a in range(99999) %}{{ x == x }}{% endfor %}", "steps"},
        {"{% macro f() %}{% for i in range(1000) %}{{ caller() }}{% endfor %}{% endmacro %}{% call f() %}{% call f() %}{% call f() %}x{% endcall %}{% endcall %}{% endcall %}", "evil:1"},
        {"{% set ns = namespace(x=0) %}{% for i in range(99999) %}{% for j in range(999) %}{% set ns.x = ns.x + 1 %}{% endfor %}{% endfor %}", "steps"},
        {"{{ range(99999)|map('string')|map('upper')|map('lower')|map('title')|map('trim')|join|wordcount }}{% for i in range(99999) %}{{ range(99999)|list|length }}{% endfor %}", "evil:1"},
        {"{% for i in range(99999) %}{{ range(99999)|sort|first }}{% endfor %}", "steps"},
        {"{% for i in range(99999) %}{{ range(99999)|unique|first }}{% endfor %}", "evil:1"},
        {"{{ '%*d' % (100000000, 1) }}", "too wide"},
        {"{{ '%.99999f' % 1.5 }}", "too large"},
        {"{{ '%99999999999999999999d' % 1 }}", "too wide"},
        {"{{ '{:99999999999999999999}'.format(1) }}", "too wide"},
        {"{{ '{:.99999f}'.format(1.5) }}", "too large"},
        {"{{ 'a'.center(1000000000) }}", "too wide"},
        {"{{ 'a'.ljust(1000000000000) }}", "too wide"},
        {"{{ 'a'.zfill(9223372036854775807) }}", "too wide"},
        {"{{ 'a'|center(9223372036854775807) }}", "too wide"},
        {"{{ 'a\\nb'|indent(9223372036854775807) }}", "too wide"},
        {"{{ [1]|tojson(indent=9223372036854775807) }}", "too wide"},
        {"{{ 'a\\tb'.expandtabs(1000000) }}", "too wide"},
        {"{{ [1]|slice(100000000000)|list }}", "evil:1"},
        {"{{ [1]|batch(100000000000, 0)|list }}", "evil:1"},
        {"{{ strftime_now('%9999999Y') }}", "strftime_now"},
        {"{{ strftime_now('%') ~ strftime_now('%E') }}", "strftime_now"},
        /* memory */
        {"{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "evil:1"},
        {"{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "evil:1"},
        {"{{ 'ab' * 1000000000000 }}", "too long"},
        {"{{ [1, 2] * 1000000000000 }}", "too long"},
        {"{{ 'ab' * 9223372036854775807 }}", "too long"},
        {"{% set x = 'a' * 60000 %}{% for i in range(9999) %}{{ x }}{% endfor %}", "64 MiB"},
        {"{% set x = 'a' * 60000000 %}{{ x }}{{ x }}", "64 MiB"},
        {"{{ ('a' * 60000000)|replace('a', 'bbbbbbbb')|length }}", "evil:1"},
        {"{{ ('<' * 60000000)|e|e|length }}", "evil:1"},
        {"{{ ('a' * 60000000)|list|length }}", "evil:1"},
        {"{{ ('\\x00' * 60000000)|tojson|length }}", "evil:1"},
        {"{{ ',' * 30000000 }}{{ (',' * 30000000).split(',')|length }}", "evil:1"},
        {"{{ ('a' * 100000).join(range(99999)|map('string')) }}", "evil:1"},
        {"{{ range(99999)|join('a' * 100000) }}", "evil:1"},
        /* depth */
        {"{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "deeper"},
        {"{% macro f(caller=none) %}{% call f() %}x{% endcall %}{% endmacro %}{{ f() }}", "deeper"},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "deeper"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "deeper"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}", "deeper"},
        {"{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}", "deeper"},
        {"{% set ns = namespace(x=[1], y=[2]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x < ns.y }}", "deeper"},
        {"{% set ns = namespace(x=(1, 2)) %}{% for i in range(5000) %}{% set ns.x = (ns.x, 1) %}{% endfor %}{{ {ns.x: 1} }}", "deeper"},
        {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "deeper"},
        {"{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x|string }}", "deeper"},
        /* numbers */
        {"{{ 99999999999999999999 }}", "64 bits"},
        {"{{ 9223372036854775807 + 1 }}", "64 bits"},
        {"{{ -9223372036854775807 - 2 }}", "64 bits"},
        {"{{ 9223372036854775807 * 2 }}", "64 bits"},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "64 bits"},
        {"{{ -(-9223372036854775807 - 1) }}", "64 bits"},
        {"{{ (-9223372036854775807 - 1)|abs }}", "64 bits"},
        {"{{ 10 ** 100 }}", "64 bits"},
        {"{{ 1e308 * 10 | int }}{{ (1e308 * 10) | int }}", "infinity"},
        {"{{ 1e300 | int }}", "64 bits"},
        {"{{ range(0, 9223372036854775807, 4611686018427387904) }}", "too big"},
        {"{{ '%c' % 1114112 }}", "%c"},
        {"{{ '\\ud800' }}", "no character"},
        {"{{ '\\U00110000' }}", "no character"},
        /* the sandbox */
        {"{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"},
        {"{{ m.append(1) }}", "may not change"},
        {"{{ m[0].update({'role': 'x'}) }}", "may not change"},
        {"{{ m[0].pop('role') }}", "may not change"},
        {"{{ '{0.__class__.__init__}'.format(s) }}", "unsafe"},
        {"{% include '/etc/passwd' %}", "stands alone"},
        {"{% import 'os' as os %}", "stands alone"},
        /* names of what is unknown, and the line */
        {"a\nb\n{{ 1 | frobnicate }}", "evil:3: unknown filter 'frobnicate'"},
        {"a\n{{ 1 is frobnicated }}", "evil:2: unknown test 'frobnicated'"},
        {"\n\n\n{% frobnicate %}", "evil:4: unknown tag 'frobnicate'"},
        {"a\n{% if s %}\n{{ s | frobnicate }}{% endif %}", "evil:3: unknown filter 'frobnicate'"},
        {"a\n{% if s %}\n{{ raise_exception('no ' ~ s) }}{% endif %}", "evil:3: no abc"},
        {"{{ n.x }}\n{{ n.x.y }}", "evil:2: 'None' has no attribute 'x'"},
        {"{{ s.x }}\n{{ nothing.y }}", "evil:2: 'nothing' is undefined"},
        {"{{ m[0].x }}\n\n{{ m[0].x.y }}", "evil:3: 'dict object' has no attribute 'x'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_error(cases[i][0], strlen(cases[i][0]), cases[i][1]);
}

static char *repeated(const char *before, const char *piece, size_t times, const char *middle, const char *after)
{
    size_t length = strlen(piece);
    char  *text = malloc(strlen(before) + times * (length + strlen(after)) + strlen(middle) + 1), *at = text;
    at = stpcpy(at, before);
    for (size_t i = 0; i < times; i++) at = stpcpy(at, piece);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < times; i++) at = stpcpy(at, after);
    return text;
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][4] = {
        {"{{ ", "(", "1", ")"},        {"{{ ", "[", "1", "]"},          {"{{ ", "{1:", "1", "}"},     {"{{ ", "-", "1", ""},
        {"{{ ", "not ", "1", ""},      {"{{ x", "[x", "", "]"},         {"{{ x", "(x", "", ")"},      {"{{ ", "1 if 1 else ", "1", ""},
        {"", "{% if 1 %}", "", "{% endif %}"}, {"", "{% for x in y %}", "", "{% endfor %}"}, {"", "{% set x %}", "", "{% endset %}"},
        {"", "{% filter upper %}", "", "{% endfilter %}"}, {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", ""}, {"{% set ", "(", "x", ",)"},
        {"", "{% macro f() %}", "", "{% endmacro %}"}, {"{{ 1", "|default(1", "", ")"}, {"{% for ", "(", "x", ",)"},
        {"{{ 1 ", "+ 1", "", ""}, {"{{ 1 ", "|abs", "", ""}, {"{{ x", ".x", "", ""}, {"{{ 1", " and 1", "", ""}, {"{{ 1", " is sameas 1 or 1", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char          *text = repeated(cases[i][0], cases[i][1], 20000, cases[i][2], cases[i][3]);
        crank_context *context = crank_context_new();
        char           whole[64];
        char          *closed = malloc(strlen(text) + sizeof whole);
        snprintf(closed, strlen(text) + sizeof whole, "%s%s", text, strstr(cases[i][0], "{{") ? " }}" : strncmp(cases[i][0], "{% set", 6) == 0 ? " = 1 %}" : "");
        if (render_text(context, closed, strlen(closed), "{}")) fail_msg("no error from %.40s", closed);
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        crank_context_free(context);
        free(closed);
        free(text);
    }
}

static void bytes_that_are_no_text_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"\xff", "a\xc0\x80", "{{ '\xed\xa0\x80' }}", "\xf5\x80\x80\x80", "\xe2\x82", "{# \x80 #}", "\xf0\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_error(cases[i], strlen(cases[i]), "not valid UTF-8");
    crank_context *context = crank_context_new();
    char          *out = render_text(context, "a\0b{{ '\\0' }}", 13, "{}");
    assert_non_null(out);
    assert_memory_equal(out, "a\0b", 4);
    crank_free(out);
    crank_context_free(context);
}

static void deep_variables_are_refused(void **state)
{
    (void)state;
    crank_context  *context = crank_context_new();
    jinja_template *tmpl = jinja_parse(context, "{{ x }}", 7, "t");
    json_t         *deep = json_array(), *object = json_object();
    for (int i = 0; i < 3000; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_object_set_new(object, "x", deep);
    assert_null(jinja_render(context, tmpl, object, 0, NULL, NULL));
    assert_non_null(strstr(crank_message(context), "deeper"));
    assert_null(jinja_render(context, tmpl, deep, 0, NULL, NULL));
    assert_non_null(strstr(crank_message(context), "object"));
    jinja_free(tmpl);
    json_decref(object);
    crank_context_free(context);
}

static void text_built_piece_by_piece_takes_linear_memory(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char    *text = "{% set ns = namespace(s='') %}{% for i in range(90000) %}{% set ns.s = ns.s ~ 'some words' %}{% endfor %}"
                          "{% set t = ns.s + 'A' %}{% set u = ns.s + 'B' %}{{ t[-2:] }}{{ u[-2:] }}{{ ns.s|length }}";
    char *out = render_text(context, text, strlen(text), "{}");
    if (!out) fail_msg("%s", crank_message(context));
    assert_string_equal(out, "sAsB900000");
    crank_free(out);
    crank_context_free(context);
}

static void generation_inside_a_macro_is_refused_only_when_spans_are_wanted(void **state)
{
    (void)state;
    crank_context  *context = crank_context_new();
    const char     *text = "{% macro f() %}{% generation %}x{% endgeneration %}{% endmacro %}{{ f() }}";
    jinja_template *tmpl = jinja_parse(context, text, strlen(text), "t");
    json_t         *variables = json_object();
    jinja_spans     spans;
    char           *out = jinja_render(context, tmpl, variables, 0, NULL, NULL);
    assert_true(jinja_has_generation(tmpl));
    assert_string_equal(out, "x");
    assert_null(jinja_render(context, tmpl, variables, 0, &spans, NULL));
    assert_non_null(strstr(crank_message(context), "t:1: {% generation %}"));
    crank_free(out);
    json_decref(variables);
    jinja_free(tmpl);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases_render_as_python_does),
        cmocka_unit_test(model_templates_render_as_python_does),
        cmocka_unit_test(hostile_templates_end_with_an_error),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(bytes_that_are_no_text_are_refused),
        cmocka_unit_test(deep_variables_are_refused),
        cmocka_unit_test(text_built_piece_by_piece_takes_linear_memory),
        cmocka_unit_test(generation_inside_a_macro_is_refused_only_when_spans_are_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
