/* targets.c - PEFT's rules for choosing modules by their paths.
 *
 *   "all-linear"      every dense linear but output heads and classifiers
 *   a list (lines)    path == t, or path ends with "." + t
 *   one regex         must match the whole path: a single line with any of  * + ? [ ] ( ) { } | ^ $ \
 *   patterns          "regex=value" lines: the first whose (.*\.)?(regex)$ matches the path from its start
 *
 * Regular expressions are PCRE2's, with a limit on the work that one match may take. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linear/stack.h"

enum { MATCH_LIMIT = 100000 };

struct target_rule {
    bool                 all_linear;
    char                *text; /* the list */
    pcre2_code          *code; /* or the regex */
    pcre2_match_data    *match;
    pcre2_match_context *limits;
};

/* ---- regular expressions ---- */

/* Compiles `regex` (length bytes) so that it must match the whole path, after an optional "anything." when `tail`. */
static pcre2_code *compile(crank_context *context, const char *regex, size_t length, bool tail, const char *what)
{
    char *full = crank_format(context, "%s(?:%.*s)", tail ? "(?:.*\\.)?" : "", (int)length, regex);
    if (!full) return NULL;
    int         error;
    PCRE2_SIZE  at, shift = strlen(full) - length - 1;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)full, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &at,
                                     NULL);
    if (!code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(error, reason, sizeof reason);
        crank_fail(context, CRANK_USAGE, "%s: the regex `%.*s` has an error at character %zu: %s", what, (int)length, regex,
                   at > shift ? (size_t)(at - shift) : 0, (const char *)reason);
    }
    crank_free(full);
    return code;
}

static pcre2_match_context *limits_new(void)
{
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (limits) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, 64 * 1024);
    }
    return limits;
}

/* A match that runs into a limit is no match. */
static bool matches(const pcre2_code *code, const char *path, pcre2_match_data *match, pcre2_match_context *limits)
{
    return pcre2_match(code, (PCRE2_SPTR)path, strlen(path), 0, 0, match, limits) >= 0; /* 0: more groups than it has room for */
}

/* ---- rules ---- */

target_rule *target_rule_new(crank_context *context, const char *text, const char *what)
{
    target_rule *rule = crank_alloc(context, 1, sizeof *rule, what);
    if (!rule) return NULL;
    bool good = true;
    if (strcmp(text, "all-linear") == 0) rule->all_linear = true;
    else if (!strchr(text, '\n') && strpbrk(text, "*+?[](){}|^$\\")) {
        good = (rule->code = compile(context, text, strlen(text), false, what)) != NULL;
        if (good && (!(rule->match = pcre2_match_data_create(1, NULL)) || !(rule->limits = limits_new())))
            good = crank_fail(context, CRANK_FAILED, "out of memory: %s", what) == CRANK_OK;
    } else good = (rule->text = crank_strdup(context, text)) != NULL;
    if (good) return rule;
    target_rule_free(rule);
    return NULL;
}

void target_rule_free(target_rule *rule)
{
    if (!rule) return;
    crank_free(rule->text);
    pcre2_code_free(rule->code);
    pcre2_match_data_free(rule->match);
    pcre2_match_context_free(rule->limits);
    crank_free(rule);
}

bool target_rule_is_regex(const target_rule *rule) { return rule->code != NULL; }

/* path == line, or path ends with "." + line */
static bool hits_suffix(const char *path, const char *line, size_t length)
{
    size_t whole = strlen(path);
    if (length == 0 || length > whole || memcmp(path + whole - length, line, length) != 0) return false;
    return length == whole || path[whole - length - 1] == '.';
}

bool target_rule_hits(const target_rule *rule, const char *path)
{
    if (rule->code) return matches(rule->code, path, rule->match, rule->limits);
    for (const char *line = rule->text; line && *line;) {
        size_t length = strcspn(line, "\n");
        if (hits_suffix(path, line, length)) return true;
        line += length + (line[length] == '\n');
    }
    return false;
}

bool target_rule_hits_module(const target_rule *rule, const char *path)
{
    char above[1024];
    if (strlen(path) >= sizeof above) return false;
    strcpy(above, path);
    for (char *end; !target_rule_hits(rule, above); *end = 0)
        if (!(end = strrchr(above, '.'))) return false;
    return true;
}

bool target_rule_hits_linear(const target_rule *rule, const crank_linear *linear)
{
    if (rule->all_linear) return linear->kind == CRANK_LINEAR_DENSE && !linear->is_head;
    return target_rule_hits(rule, linear->name);
}

/* ---- patterns ---- */

static crank_status pattern_line(crank_context *context, const char *line, size_t length, const char *path, const char *what,
                                 bool *found, double *value)
{
    const char *mark = memrchr(line, '=', length); /* a regex may hold '=' itself */
    char        number[64], *end = number;
    size_t      digits = mark ? (size_t)(line + length - mark - 1) : 0;
    if (mark && mark > line && digits && digits < sizeof number) {
        memcpy(number, mark + 1, digits);
        number[digits] = 0;
        *value = strtod(number, &end);
    }
    if (end == number || *end || !isfinite(*value))
        return crank_fail(context, CRANK_USAGE, "%s: `%.*s` must be regex=number", what, (int)length, line);
    pcre2_code *code = compile(context, line, (size_t)(mark - line), true, what);
    if (!code) return crank_last_status(context);
    pcre2_match_data    *match = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = limits_new();
    crank_status         status = CRANK_OK;
    if (match && limits) *found = matches(code, path, match, limits);
    else status = crank_fail(context, CRANK_FAILED, "out of memory: %s", what);
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
    return status;
}

crank_status target_pattern(crank_context *context, const char *lines, const char *path, const char *what, bool *found,
                            double *value)
{
    *found = false;
    for (const char *line = lines; line && *line && !*found;) {
        size_t length = strcspn(line, "\n");
        if (length) {
            crank_status status = pattern_line(context, line, length, path, what, found, value);
            if (status) return status;
        }
        line += length + (line[length] == '\n');
    }
    return CRANK_OK;
}

/* ---- what to say when nothing matches ---- */

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

crank_status target_nothing(crank_context *context, const crank_linears *linears, const char *targets, const char *why)
{
    const char *names[64];
    size_t      count = 0;
    char        list[1024] = "";
    for (size_t i = 0; i < linears->count && count < 64; i++) {
        const char *name = last_part(linears->items[i]->name);
        bool        known = false;
        for (size_t j = 0; j < count && !known; j++) known = strcmp(names[j], name) == 0;
        if (known) continue;
        names[count++] = name;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", name);
    }
    char   first[256];
    size_t length = strcspn(targets, "\n");
    snprintf(first, sizeof first, "%.*s", (int)length, targets);
    const char *near = crank_closest(last_part(first), names, count);
    return crank_fail(context, CRANK_USAGE, "no linear map of the model matches the targets `%.*s`%s; the model has: %s%s%s%s",
                      (int)length, targets, why, count ? list : "none", near ? "; did you mean `" : "", near ? near : "",
                      near ? "`?" : "");
}
