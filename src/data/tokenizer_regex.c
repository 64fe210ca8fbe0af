/* tokenizer_regex.c - compiles and runs the regular expressions of tokenizer.json with PCRE2's JIT.
 *
 * Patterns of a file are not trusted: PCRE2 bounds their size and nesting, and every match has a limit on backtracking.
 */
#include "data/tokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "data/unicode.h"

#define PATTERN_LIMIT 65536
#define MATCH_LIMIT   10000000
#define HEAP_LIMIT    65536 /* KiB */
#define STACK_LIMIT   (16u << 20)

struct regex {
    pcre2_code *code;
    bool jit;
};

regex *regex_new(crank_context *context, const char *pattern, size_t length)
{
    if (length > PATTERN_LIMIT) {
        crank_fail(context, CRANK_BAD_DATA, "regular expression of %zu bytes; at most %d are read", length,
                   PATTERN_LIMIT);
        return NULL;
    }
    char *translated = regex_translate(context, pattern, length);
    if (!translated) return NULL;
    regex *expression = crank_alloc(context, 1, sizeof *expression, "a regular expression");
    int error = 0;
    PCRE2_SIZE place = 0;
    if (expression) {
        uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
        pcre2_compile_context *limits = pcre2_compile_context_create(NULL);
        if (limits) {
            pcre2_set_newline(limits, PCRE2_NEWLINE_LF);
            pcre2_set_bsr(limits, PCRE2_BSR_UNICODE);
            expression->code =
                pcre2_compile((PCRE2_SPTR)translated, strlen(translated), options, &error, &place, limits);
            pcre2_compile_context_free(limits);
        }
        if (!expression->code) {
            char reason[256] = "out of memory";
            if (error) pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
            crank_fail(context, CRANK_BAD_DATA, "regular expression `%.*s`: %s", (int)(length < 200 ? length : 200),
                       pattern, reason);
            crank_free(expression);
            expression = NULL;
        } else {
            expression->jit = pcre2_jit_compile(expression->code, PCRE2_JIT_COMPLETE) == 0;
        }
    }
    crank_free(translated);
    return expression;
}

void regex_free(regex *expression)
{
    if (!expression) return;
    pcre2_code_free(expression->code);
    crank_free(expression);
}

void regex_scratch_clear(regex_scratch *scratch)
{
    pcre2_match_data_free(scratch->match_data);
    pcre2_match_context_free(scratch->match_context);
    pcre2_jit_stack_free(scratch->stack);
    *scratch = (regex_scratch){0};
}

static bool prepare(crank_context *context, regex_scratch *scratch)
{
    if (!scratch->match_data) scratch->match_data = pcre2_match_data_create(1, NULL);
    if (!scratch->match_context && (scratch->match_context = pcre2_match_context_create(NULL))) {
        pcre2_set_match_limit(scratch->match_context, MATCH_LIMIT);
        pcre2_set_heap_limit(scratch->match_context, HEAP_LIMIT);
    }
    if (scratch->match_data && scratch->match_context) return true;
    crank_fail(context, CRANK_FAILED, "out of memory: a regular expression's match");
    return false;
}

/* PCRE2's answer; a JIT stack is made only when the machine's own 32 KiB do not suffice. */
static int match_at(const regex *expression, regex_scratch *scratch, const char *text, size_t length, size_t at)
{
    for (;;) {
        int answer = expression->jit ? pcre2_jit_match(expression->code, (PCRE2_SPTR)text, length, at,
                                                       PCRE2_NO_UTF_CHECK, scratch->match_data, scratch->match_context)
                                     : pcre2_match(expression->code, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK,
                                                   scratch->match_data, scratch->match_context);
        if (answer != PCRE2_ERROR_JIT_STACKLIMIT || scratch->stack) return answer;
        scratch->stack = pcre2_jit_stack_create(65536, STACK_LIMIT, NULL);
        if (!scratch->stack) return answer;
        pcre2_jit_stack_assign(scratch->match_context, NULL, scratch->stack);
    }
}

int regex_next(crank_context *context, const regex *expression, regex_scratch *scratch, const char *text, size_t length,
               regex_walk *walk, size_t *start, size_t *end)
{
    if (!scratch->match_data && !prepare(context, scratch)) return -1;
    while (walk->at <= length) {
        int answer = match_at(expression, scratch, text, length, walk->at);
        if (answer == PCRE2_ERROR_NOMATCH) return 0;
        if (answer < 0) {
            char reason[256];
            pcre2_get_error_message(answer, (PCRE2_UCHAR *)reason, sizeof reason);
            crank_fail(context, CRANK_BAD_DATA, "a regular expression fails at byte %zu of %zu: %s", walk->at, length,
                       reason);
            return -1;
        }
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(scratch->match_data);
        size_t from = place[0], to = place[1];
        if (from > to || from < walk->last_end) { /* \K in a look-around may turn a match inside out */
            crank_fail(context, CRANK_BAD_DATA, "a regular expression matches backwards at byte %zu", walk->at);
            return -1;
        }
        if (from == to && walk->has_last && walk->last_end == to) {
            walk->at += walk->at < length ? utf8_size((unsigned char)text[walk->at]) : 1;
            continue;
        }
        *start = from;
        *end = walk->at = walk->last_end = to;
        walk->has_last = true;
        return 1;
    }
    return 0;
}
