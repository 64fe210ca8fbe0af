/* tokenizer_regex_syntax.c - writes an Oniguruma pattern (Ruby syntax) as the PCRE2 pattern that means the same.
 *
 * What differs: \s \w \d \h \b and POSIX classes (other sets), \v (one character, not a class), (?m) (dot matches a
 * line end), {n,m}+ (a repeated repeat, not a possessive one), {,n}, a** (allowed), (?i) in the middle of alternatives
 * (reaches over the following |), nested sets [a[b]], intersections [a&&b], \uHHHH, \p{Han} (the script, not its
 * extensions) and long names of categories. What has no counterpart is refused by name. */
#include "data/tokenizer_regex_syntax.h"

#include <stdio.h>
#include <string.h>

#include "data/tokenizer_regex.h"
#include "data/unicode.h"

void regex_fail(translator *t, const char *what)
{
    if (t->failed) return;
    t->failed = true;
    int length = (int)(t->end - t->pattern < 200 ? t->end - t->pattern : 200);
    crank_fail(t->context, CRANK_BAD_DATA, "regular expression `%.*s`, byte %zu: %s", length, t->pattern,
               (size_t)(t->at - t->pattern), what);
}

void regex_put(translator *t, text_buffer *out, const char *text, size_t length)
{
    if (t->failed) return;
    text_add(out, text, length);
    if (!out->failed) return;
    t->failed = true;
    crank_fail(t->context, CRANK_FAILED, "out of memory: a regular expression");
}

void regex_puts(translator *t, text_buffer *out, const char *text)
{
    regex_put(t, out, text, strlen(text));
}

void regex_put_character(translator *t, text_buffer *out, uint32_t c)
{
    char text[16];
    int length = snprintf(text, sizeof text, "\\x{%X}", c);
    regex_put(t, out, text, (size_t)length);
}

/* Puts the text from `start` on into a group. */
static void wrap(translator *t, text_buffer *out, size_t start)
{
    text_buffer tail = {0};
    regex_put(t, &tail, out->bytes + start, out->length - start);
    if (!t->failed) {
        out->length = start;
        regex_puts(t, out, "(?:");
        regex_put(t, out, tail.bytes, tail.length);
        regex_puts(t, out, ")");
    }
    text_clear(&tail);
}

bool regex_peek(const translator *t, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(t->end - t->at) >= length && !memcmp(t->at, text, length);
}

bool regex_accept(translator *t, const char *text)
{
    if (!regex_peek(t, text)) return false;
    t->at += strlen(text);
    return true;
}

uint32_t regex_next_character(translator *t)
{
    if (t->at >= t->end) {
        regex_fail(t, "it ends too early");
        return 0;
    }
    size_t length;
    uint32_t c = utf8_get(t->at, &length);
    t->at += length;
    return c;
}

static uint32_t hexadecimal(translator *t, int least, int most)
{
    uint32_t value = 0;
    int digits = 0;
    for (; digits < most && t->at < t->end; digits++, t->at++) {
        char c = *t->at, low = (char)(c | 32);
        if (c >= '0' && c <= '9')
            value = value * 16 + (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            value = value * 16 + (uint32_t)(low - 'a' + 10);
        else
            break;
    }
    if (digits < least || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        regex_fail(t, "not the code of a character");
    return value;
}

/* Behind a backslash: true with *c when it stands for one character, false when `c` names something else. */
bool regex_escaped_character(translator *t, uint32_t *c)
{
    switch (*c) {
    case 't':
        *c = '\t';
        return true;
    case 'n':
        *c = '\n';
        return true;
    case 'r':
        *c = '\r';
        return true;
    case 'f':
        *c = '\f';
        return true;
    case 'v':
        *c = '\v';
        return true;
    case 'a':
        *c = 7;
        return true;
    case 'e':
        *c = 27;
        return true;
    case 'u':
        *c = hexadecimal(t, 4, 4);
        return true;
    case 'x':
        if (regex_accept(t, "{")) {
            *c = hexadecimal(t, 1, 8);
            if (!regex_accept(t, "}")) regex_fail(t, "\\x{ is not closed");
        } else {
            *c = hexadecimal(t, 1, 2);
            if (*c > 0x7F) regex_fail(t, "\\xHH above 7F is a byte, not a character");
        }
        return true;
    default:
        return !((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'));
    }
}

static void alternatives(translator *t, text_buffer *out);

/* Behind "(?": letters of options. Returns true when they hold until the end of the group around: "(?i)". */
static bool options(translator *t, text_buffer *out)
{
    char on[8] = "", off[8] = "", *to = on;
    bool extended = t->extended;
    while (t->at < t->end && *t->at != ':' && *t->at != ')') {
        char c = *t->at++;
        if (c == '-' && to == on) {
            to = off;
            continue;
        }
        const char *place = memchr("imx", c, 3);
        if (!place || strlen(to) > 5) {
            t->at--;
            regex_fail(t, "unknown option or group");
            return false;
        }
        if (c == 'x') extended = to == on;
        to[strlen(to) + 1] = 0;
        to[strlen(to)] = c == 'm' ? 's' : c; /* Ruby's m lets the dot match a line end */
    }
    bool isolated = regex_accept(t, ")");
    if (!isolated) regex_accept(t, ":");
    regex_puts(t, out, "(?");
    regex_puts(t, out, on);
    if (*off) regex_puts(t, out, "-");
    regex_puts(t, out, off);
    regex_puts(t, out, ":");
    t->extended = extended;
    return isolated;
}

static void group_name(translator *t, text_buffer *out, char close)
{
    const char *start = t->at;
    while (t->at < t->end && *t->at != close) {
        char c = *t->at;
        if (!((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_'))
            regex_fail(t, "a group's name is not a word");
        t->at++;
    }
    if (t->at == start || t->at == t->end || t->at - start > 31)
        regex_fail(t, "a group's name is empty, too long or not closed");
    if (t->failed) return;
    regex_puts(t, out, "(?<");
    regex_put(t, out, start, (size_t)(t->at - start));
    regex_puts(t, out, ">");
    t->at++;
}

/* Behind an opening parenthesis. True when it was "(?i)": the caller closes that group at its own end. */
static bool group(translator *t, text_buffer *out)
{
    static const char *const plain[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
    bool extended = t->extended;
    if (++t->depth > REGEX_NESTING_LIMIT) regex_fail(t, "nested too deeply");
    bool found = false;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0] && !found; i++) {
        if (!regex_accept(t, plain[i])) continue;
        regex_puts(t, out, "(");
        regex_puts(t, out, plain[i]);
        found = true;
    }
    if (!found && regex_accept(t, "?<")) {
        group_name(t, out, '>');
    } else if (!found && regex_accept(t, "?'")) {
        group_name(t, out, '\'');
    } else if (!found && regex_accept(t, "?")) {
        if (options(t, out)) {
            t->depth--;
            return true;
        }
    } else if (!found) {
        if (regex_peek(t, "*")) regex_fail(t, "(* is not known");
        regex_puts(t, out, "(");
    }
    if (!t->failed) alternatives(t, out);
    if (!t->failed && !regex_accept(t, ")")) regex_fail(t, "a group is not closed");
    regex_puts(t, out, ")");
    t->extended = extended;
    t->depth--;
    return false;
}

/* Behind a backslash outside brackets. */
static void escape(translator *t, text_buffer *out)
{
    uint32_t c = regex_next_character(t);
    if (t->failed) return;
    char text[3] = {'\\', (char)c, 0};
    charset set = {0};
    if (regex_escaped_character(t, &c)) {
        regex_put_character(t, out, c);
    } else if (charset_add_escape(t, &set, c)) {
        if (!t->failed) charset_put(t, out, &set, false);
    } else if (c == 'b') {
        regex_puts(t, out, "(?:(?<=[" REGEX_WORD "])(?![" REGEX_WORD "])|(?<![" REGEX_WORD "])(?=[" REGEX_WORD "]))");
    } else if (c == 'B') {
        regex_puts(t, out, "(?:(?<=[" REGEX_WORD "])(?=[" REGEX_WORD "])|(?<![" REGEX_WORD "])(?![" REGEX_WORD "]))");
    } else if (c == 'O') {
        regex_puts(t, out, "(?s:.)");
    } else if (memchr("AzZGKRXN", (int)c, 8) || (c >= '1' && c <= '9')) {
        regex_puts(t, out, text);
        while (c <= '9' && t->at < t->end && *t->at >= '0' && *t->at <= '9') regex_put(t, out, t->at++, 1);
    } else if (memchr("kgcCMyYO0", (int)c, 9)) {
        regex_fail(t, "an escape that is not known");
    } else {
        regex_put_character(t, out, c);
    }
    charset_clear(&set);
}

/* {n}, {n,}, {n,m}, {,m}: true, and *fixed for {n}. Anything else is a brace. */
static bool interval(translator *t, char text[32], bool *fixed)
{
    const char *at = t->at + 1;
    char low[8] = "", high[8] = "";
    size_t n = 0, m = 0;
    while (at < t->end && *at >= '0' && *at <= '9' && n < 6) low[n++] = *at++;
    *fixed = at < t->end && *at == '}';
    if (!*fixed) {
        if (at >= t->end || *at++ != ',') return false;
        while (at < t->end && *at >= '0' && *at <= '9' && m < 6) high[m++] = *at++;
        if (at >= t->end || *at != '}' || (!n && !m)) return false;
    } else if (!n) {
        return false;
    }
    t->at = at + 1;
    snprintf(text, 32, *fixed ? "{%s}" : "{%s,%s}", n ? low : "0", high);
    return true;
}

/* Quantifiers behind an atom that starts at `atom` in the output. */
static void quantifiers(translator *t, text_buffer *out, size_t atom)
{
    for (bool first = true; !t->failed && t->at < t->end; first = false) {
        char text[32];
        bool fixed = false, simple = *t->at == '*' || *t->at == '+' || *t->at == '?';
        if (simple)
            snprintf(text, sizeof text, "%c", *t->at++);
        else if (*t->at != '{' || !interval(t, text, &fixed))
            return;
        if (!first) wrap(t, out, atom);
        regex_puts(t, out, text);
        if (!fixed && regex_accept(t, "?"))
            regex_puts(t, out, "?");
        else if (simple && regex_accept(t, "+"))
            regex_puts(t, out, "+");
    }
}

static void alternatives(translator *t, text_buffer *out)
{
    size_t open = 0; /* groups opened by "(?i)" */
    bool extended = t->extended;
    while (!t->failed && t->at < t->end && *t->at != ')') {
        size_t atom = out->length;
        char c = *t->at;
        if (t->extended && (c == ' ' || (c >= '\t' && c <= '\r'))) {
            t->at++;
            continue;
        }
        if ((t->extended && c == '#') || regex_peek(t, "(?#")) {
            char stop = c == '#' ? '\n' : ')';
            while (t->at < t->end && *t->at != stop) t->at++;
            if (t->at < t->end) t->at++;
            continue;
        }
        if (regex_accept(t, "|")) {
            regex_puts(t, out, "|");
            continue;
        }
        if (regex_accept(t, "(")) {
            if (group(t, out)) {
                open++;
                continue;
            }
        } else if (regex_accept(t, "[")) {
            charset_bracket(t, out, NULL);
        } else if (regex_accept(t, "\\")) {
            escape(t, out);
        } else if (c == '^' || c == '$' || c == '.') {
            regex_put(t, out, t->at++, 1);
        } else if (c == '*' || c == '+' || c == '?') {
            regex_fail(t, "nothing to repeat");
        } else {
            regex_put_character(t, out, regex_next_character(t));
        }
        quantifiers(t, out, atom);
    }
    for (; open; open--) regex_puts(t, out, ")");
    t->extended = extended;
}

char *regex_translate(crank_context *context, const char *pattern, size_t length)
{
    translator t = {.context = context, .pattern = pattern, .at = pattern, .end = pattern + length};
    text_buffer out = {0};
    regex_puts(&t, &out, "");
    alternatives(&t, &out);
    if (!t.failed && t.at < t.end) regex_fail(&t, "a closing parenthesis too many");
    if (!t.failed) return text_take(context, &out, "a regular expression");
    text_clear(&out);
    return NULL;
}
