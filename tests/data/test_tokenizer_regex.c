/* Oniguruma's expressions keep their meaning in PCRE2. */
#include "testing.h"

#include "data/tokenizer_regex.h"

/* Marks every match of a pattern in a text: "a|b" becomes "[a]|[b]". */
static void mark_matches(crank_context *context, const char *pattern, const char *text, char *out, size_t size)
{
    regex *expression = regex_new(context, pattern, strlen(pattern));
    if (!expression) fail_msg("%s", crank_message(context));
    regex_scratch scratch = {0};
    regex_walk walk = {0};
    size_t start, end, done = 0, length = strlen(text), used = 0;
    int found;
    while ((found = regex_next(context, expression, &scratch, text, length, &walk, &start, &end)) > 0) {
        used += (size_t)snprintf(out + used, size - used, "%.*s[%.*s]", (int)(start - done), text + done,
                                 (int)(end - start), text + start);
        done = end;
    }
    assert_int_equal(found, 0);
    snprintf(out + used, size - used, "%s", text + done);
    regex_scratch_clear(&scratch);
    regex_free(expression);
}

static void patterns_match_as_in_oniguruma(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *marked;
    } cases[] = {
        {"\\d+", "a12b٣", "a[12]b[٣]"},
        {"\\h+", "xyz1aF", "xyz[1aF]"},  /* hexadecimal digits, not blanks */
        {"\\v", "a\vb\nc", "a[\v]b\nc"}, /* one character */
        {"\\s",
         "a\xE1\xA0\x8E"
         "b\xC2\x85"
         "c",
         "a\xE1\xA0\x8E"
         "b[\xC2\x85]c"}, /* U+180E is no space */
        {"\\w+", "e\xCC\x81t\xC3\xA9 \xC2\xB2-",
         "[e\xCC\x81t\xC3\xA9] [\xC2\xB2]-"}, /* marks and superscript two are word characters */
        {"\\bx\\b", "x \xCC\x81x x\xCC\x81", "[x] \xCC\x81x x\xCC\x81"},
        {"^a|b$", "a\nab\na", "[a]\n[a][b]\n[a]"}, /* lines */
        {"a.b", "a\nb axb", "a\nb [axb]"},
        {"(?m)a.b", "a\nb axb", "[a\nb] [axb]"}, /* Ruby's m is the dot's */
        {"a{,2}b", "aaab b", "a[aab] [b]"},
        {"a{2}+", "aaaaa", "[aaaa]a"}, /* a repeated repeat */
        {"a**b", "aab", "[aab]"},
        {"a++b|a", "aab aa", "[aab] [a][a]"},
        {"x(?i)a|b", "xA xB B", "[xA] [xB] B"}, /* (?i) reaches over the bar */
        {"(?i:k)", "kK\xE2\x84\xAA", "[k][K][\xE2\x84\xAA]"},
        {"[a[bc]]+", "abcd", "[abc]d"}, /* nested sets */
        {"[^a[bc]]+", "abcd", "abc[d]"},
        {"[a-z&&[^aeiou]]+", "hello", "[h]e[ll]o"}, /* intersection */
        {"[^a-z&&[^aeiou]]+", "heLLo", "h[eLLo]"},
        {"[a\\S]+", " xa ", " [xa] "},
        {"[^\\S\\n]+", " x\n\t", "[ ]x\n[\t]"},
        {"[[:alpha:]_]+|[[:^digit:]]", "ab_1-", "[ab_]1[-]"},
        {"\\p{Han}+", "\xE6\x97\xA5\xE3\x80\x82\xE3\x83\xBB",
         "[\xE6\x97\xA5]\xE3\x80\x82\xE3\x83\xBB"}, /* the script, not its extensions */
        {"\\p{Uppercase_Letter}|\\p{^L}", "aB1", "a[B][1]"},
        {"\\u0041\\x{42}\\x43", "ABC", "[ABC]"},
        {"[]a]+", "a]b", "[a]]b"},
        {"(?<n>a)(?:b)(?=c)(?!d)(?<=b)(?<!a)", "abc", "[ab]c"},
        {"(?x) a b # comment\n c", "abc", "[abc]"},
        {"(?#note)a", "a", "[a]"},
        {"", "ab", "[]a[]b[]"},
        {"a*", "baac", "[]b[aa]c[]"}, /* no empty match right behind a match */
        {"\\q\\-\\ \\/", "q- /", "[q- /]"},
        {"a{x}", "a{x}", "[a{x}]"},
        {" ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])]+",
         "it (is, so)|x [y]", "[it] ([is],[ so])|[x][ [y]]"},
    };
    crank_context *context = crank_context_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char marked[512];
        mark_matches(context, cases[i].pattern, cases[i].text, marked, sizeof marked);
        if (strcmp(marked, cases[i].marked))
            fail_msg("`%s` on `%s`: %s, not %s", cases[i].pattern, cases[i].text, marked, cases[i].marked);
    }
    crank_context_free(context);
}

static void what_has_no_counterpart_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const patterns[] = {"\\g<x>",      "\\k<x>",  "\\yx",  "\\cA",   "\\M-a",      "(?~a)",
                                           "(*X)",        "(?(1)a)", "(?|a)", "(?a)",   "\\p{Bogus}", "[\\R]",
                                           "[[:bogus:]]", "\\C",     "a\\",   "[a-\\d]"};
    crank_context *context = crank_context_new();
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        crank_clear(context);
        regex *expression = regex_new(context, patterns[i], strlen(patterns[i]));
        if (expression) fail_msg("`%s` is accepted", patterns[i]);
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
        assert_non_null(strstr(crank_message(context), patterns[i]));
    }
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_in_oniguruma),
        cmocka_unit_test(what_has_no_counterpart_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
