/* crank metrics on judgments by groups, preferences and Z scores: the lines that NIST's program prints, and input that is refused. */
#include "../task/runs.h"

static child_result metrics(const char *line)
{
    char      words[1024];
    run_words w = {.count = 0};
    snprintf(words, sizeof words, "%s", line);
    words_split(&w, words);
    return child_run("metrics", &w, 0);
}

/* The text up to a line that is `stop`; *at goes behind that line. */
static char *section(char **at, const char *stop)
{
    char   line[64];
    size_t length = (size_t)snprintf(line, sizeof line, "\n%s\n", stop);
    char  *found = strstr(*at - 1, line), *from = *at;
    if (!found) return NULL;
    found[found < from ? 0 : 1] = 0;
    *at = found + length;
    return found < from ? "" : from;
}

static void printed_lines_equal_nists(void **state)
{
    (void)state;
    size_t length;
    char  *text = runs_read(golden("metric/groups.txt"), &length), *at = text;
    int    cases = 0;
    assert_non_null(text);
    while (!strncmp(at, "case ", 5)) {
        char *words = at + 5, *end = strchr(at, '\n'), line[1024];
        *end = 0;
        at = end + 1 + strlen("judgments\n");
        bool  z = strstr(words, "-Z") != NULL;
        runs_write("judgments", section(&at, "run"));
        runs_write("run", section(&at, z ? "zscores" : "want"));
        if (z) runs_write("zscores", section(&at, "want")), *strstr(words, " -Z") = 0;
        char *next = strstr(at, "\ncase "), *want = at;
        if (!next) next = strstr(at, "\nend\n");
        assert_non_null(next);
        next[0] = 0;
        at = next + 1;
        snprintf(line, sizeof line, "%s %s%s %s %s", words, z ? "-Z " : "", z ? runs_path("zscores") : "", runs_path("judgments"), runs_path("run"));
        child_result r = metrics(line);
        size_t       n = strlen(want);
        if (r.code || strncmp(r.out, want, n) || strcmp(r.out + n, "\n")) {
            size_t differs = 0;
            while (differs < n && r.out[differs] == want[differs]) differs++;
            while (differs && want[differs - 1] != '\n') differs--;
            fail_msg("case %d (%s): code %d %s\nwanted: %.80s\ngot:    %.80s", cases, words, r.code, r.err, want + differs, r.out + differs);
        }
        child_free(&r);
        cases++;
    }
    assert_int_equal(cases, 108);
    free(text);
}

/* Refused with code 3 and a message that holds `told`. */
static void refuse(const char *words, const char *judgments, const char *zscores, int code, const char *told)
{
    char line[1024];
    runs_write("judgments", judgments);
    runs_write("run", "t1 Q0 A 1 3 x\nt1 Q0 B 2 2 x\n");
    runs_write("zscores", zscores);
    snprintf(line, sizeof line, "%s %s%s %s %s", words, *zscores ? "-Z " : "", *zscores ? runs_path("zscores") : "", runs_path("judgments"), runs_path("run"));
    child_result r = metrics(line);
    if (r.code != code || !strstr(r.err, told)) fail_msg("%s | %s | %s: code %d, %s; wanted `%s`", words, judgments, zscores, r.code, r.err, told);
    child_free(&r);
}

static void broken_judgments_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct { const char *words, *text, *told; } cases[] = {
        {"-R prefs", "t1 u s A 1\nt1 u s B\n", "judgments:2: no level"},
        {"-R prefs", "t1 u s A 1\nt1\n", "judgments:2: no group"},
        {"-R prefs", "t1 u s A 1\nt1 u\n", "judgments:2: no subgroup"},
        {"-R prefs", "t1 u s A 1\n\nt1 u s\n", "judgments:3: no document"},
        {"-R prefs", "t1 u s A 1 2\n", "judgments:1: more than five fields"},
        {"-R prefs", "t1 u s A one\n", "judgments:1: the level is not a number"},
        {"-R prefs", "t1 u s A nan\n", "judgments:1: the level is not a number"},
        {"-R prefs", "t1 u s A inf\n", "judgments:1: the level is not a number"},
        {"-R prefs", "t1 u s A -1\n", "judgments:1: the level is below 0"},
        {"-R prefs", "t1 u s A 1\nt1 u s A 2\n", "judgments:2: document `A` stands twice"},
        {"-R prefs", "t1 u s A 1\nt1 u s B 0\nt1 u r B 2\nt1 u r C 1\n", "document `B` is level 0 in one subgroup"},
        {"-R prefs", "t1 u s A 2\nt1 u s B 1\nt1 u r B 2\nt1 u r A 1\n", "contradicts itself"},
        {"-R prefs", "t1 u s A 2\nt1 u s B 1\nt1 u r B 2\nt1 u r C 1\nt1 u q C 2\nt1 u q A 1\n", "contradicts itself"},
        {"-R prefs", "", "no lines of judgments"},
        {"-R prefs", "t2 u s A 1\n", "no topic in common"},
        {"-R qrels_prefs", "t1 u A 1 5\n", "judgments:1: more than four fields"},
        {"-R qrels_prefs", "t1 u A\n", "judgments:1: no level"},
        {"-R qrels_prefs", "t1 u A 1\nt1 u A 1\n", "judgments:2: document `A` stands twice"},
        {"-R qrels_jg", "t1 u A 1\nt1 v A 1\nt1 u A 0\n", "judgments:3: document `A` stands twice"},
        {"-R qrels_jg", "t1 u A 1.5\n", "judgments:1: the relevance is not a whole number"},
        {"-R qrels_jg", "t1 u A 2000000\n", "judgments:1: the relevance is above 1000000"},
        {"-R qrels_jg", "t1 u A x\n", "judgments:1: the relevance is not a whole number"},
        {"-R qrels_jg", "t1 u A 1\n# c\n", "judgments:2: no document"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(cases[i].words, cases[i].text, "", 3, cases[i].told);
    refuse("-R prefs -m map", "t1 u s A 1\n", "", 2, "`map` is a measure of qrels");
    refuse("-R qrels_jg -m prefs_simp", "t1 u A 1\n", "", 2, "measure of preferences");
    refuse("-m map_avgjg", "t1 u A 1\n", "", 2, "measure of judgments by groups");
    refuse("-R nosuch", "t1 u A 1\n", "", 2, "qrels_jg");
}

static void broken_z_scores_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct { const char *text, *told; } cases[] = {
        {"t1 map .5 .1\nt1 P_5\n", "zscores:2: no mean"},      {"t1\n", "zscores:1: no measure"},          {"t1 map .5\n", "zscores:1: no deviation"},
        {"t1 map .5 .1 .2\n", "zscores:1: more than four"},    {"t1 map x .1\n", "zscores:1: the mean"},   {"t1 map .5 -1\n", "zscores:1: the deviation"},
        {"t1 map .5 nan\n", "zscores:1: the deviation"},       {"t1 map inf .1\n", "zscores:1: the mean"}, {"t1 map .5 .1\nt1 map .5 .2\n", "stands twice"},
        {"\n", "no lines of means"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse("-m map", "t1 0 A 1\n", cases[i].text, 3, cases[i].told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_lines_equal_nists),
        cmocka_unit_test(broken_judgments_are_refused_with_their_line),
        cmocka_unit_test(broken_z_scores_are_refused_with_their_line),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
