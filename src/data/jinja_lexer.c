/* jinja_lexer.c - template text to tokens, with Jinja's white space rules as chat templates are read:
 * trim_blocks (the newline behind a block or comment goes), lstrip_blocks (white space before a block or comment at the
 * start of a line goes), `-` strips all white space on its side, `+` keeps it; CR LF and CR read as LF, and one newline
 * at the very end of the template goes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "data/jinja_syntax.h"
#include "data/jinja_text.h"

typedef struct scanner {
    jinja_state *state;
    const char  *text;
    size_t       length, at;
    int          line;
    bool         line_starting; /* the last thing read ended with a newline */
    jinja_tokens tokens;
    char         brackets[JINJA_MAX_DEPTH]; /* the closing ones that are awaited */
    int          bracket_count;
} scanner;

static void add(scanner *lexer, jinja_token_kind kind, jinja_value value)
{
    jinja_tokens *tokens = &lexer->tokens;
    if (tokens->count == tokens->capacity) {
        size_t       capacity = tokens->capacity ? tokens->capacity * 2 : 64;
        jinja_token *items = jinja_alloc(lexer->state, capacity, sizeof *items);
        if (tokens->count) memcpy(items, tokens->items, tokens->count * sizeof *items);
        tokens->items = items;
        tokens->capacity = capacity;
    }
    tokens->items[tokens->count++] = (jinja_token){kind, lexer->line, value};
}

static void advance(scanner *lexer, size_t to) /* moves on and counts lines */
{
    for (; lexer->at < to; lexer->at++) lexer->line += lexer->text[lexer->at] == '\n';
    lexer->state->line = lexer->line;
}

static bool starts(const scanner *lexer, size_t at, const char *what)
{
    size_t length = strlen(what);
    return length <= lexer->length - at && memcmp(lexer->text + at, what, length) == 0;
}

static size_t skip_space(const scanner *lexer, size_t at)
{
    while (at < lexer->length) {
        size_t next = at;
        if (!jinja_is_space(jinja_next_code(lexer->text, lexer->length, &next))) break;
        at = next;
    }
    return at;
}

/* The end of a tag at `at`: `what` with its sign; gives the byte behind it and what it swallows, or 0. */
static size_t tag_end(const scanner *lexer, size_t at, const char *what, bool block)
{
    if (at >= lexer->length) return 0;
    char sign = lexer->text[at];
    if (sign == '-' && starts(lexer, at + 1, what)) return skip_space(lexer, at + 3);
    if (block && sign == '+' && starts(lexer, at + 1, what)) return at + 3;
    if (!starts(lexer, at, what)) return 0;
    return at + 2 + (block && at + 2 < lexer->length && lexer->text[at + 2] == '\n');
}

/* Text before a tag, with what its sign and lstrip_blocks take away. */
static void add_text(scanner *lexer, size_t end, char sign, bool block)
{
    size_t start = lexer->at, keep = end;
    if (sign == '-') {
        jinja_value text = jinja_string(lexer->text + start, end - start);
        keep = start + jinja_strip(lexer->state, text, NULL, false, true).length;
    } else if (block && sign != '+') {
        size_t line = end; /* start of the last line of the text */
        while (line > start && lexer->text[line - 1] != '\n') line--;
        if ((line > start || lexer->line_starting) && line < end && skip_space(lexer, line) >= end) keep = line;
    }
    if (keep > start) add(lexer, TOKEN_TEXT, jinja_string(lexer->text + start, keep - start));
    advance(lexer, end);
}

static void finish_tag(scanner *lexer, size_t end)
{
    lexer->line_starting = end > 0 && lexer->text[end - 1] == '\n';
    advance(lexer, end);
}

static char sign_at(const scanner *lexer, size_t at)
{
    return at < lexer->length && (lexer->text[at] == '-' || lexer->text[at] == '+') ? lexer->text[at] : 0;
}

static void skip_comment(scanner *lexer)
{
    for (size_t at = lexer->at + 2 + (sign_at(lexer, lexer->at + 2) != 0); at < lexer->length; at++) {
        size_t end = tag_end(lexer, at, "#}", true);
        if (!end) continue;
        finish_tag(lexer, end);
        return;
    }
    jinja_fail(lexer->state, "a comment {# has no end #}");
}

/* {% raw %} at `at`: the byte behind it, or 0. */
static size_t raw_begin(const scanner *lexer, size_t at)
{
    at += 2;
    if (sign_at(lexer, at)) at++;
    at = skip_space(lexer, at);
    if (!starts(lexer, at, "raw")) return 0;
    at = skip_space(lexer, at + 3);
    if (starts(lexer, at, "-%}")) return skip_space(lexer, at + 3);
    return starts(lexer, at, "%}") ? at + 2 : 0;
}

static void read_raw(scanner *lexer, size_t begin)
{
    lexer->line_starting = lexer->text[begin - 1] == '\n';
    advance(lexer, begin);
    for (size_t at = begin; at < lexer->length; at++) {
        if (!starts(lexer, at, "{%")) continue;
        char   sign = sign_at(lexer, at + 2);
        size_t name = skip_space(lexer, at + 2 + (sign != 0));
        if (!starts(lexer, name, "endraw")) continue;
        size_t end = tag_end(lexer, skip_space(lexer, name + 6), "%}", true);
        if (!end) continue;
        add_text(lexer, at, sign, true);
        finish_tag(lexer, end);
        return;
    }
    jinja_fail(lexer->state, "{%% raw %%} has no {%% endraw %%}");
}

/* --- inside a tag --- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* (\d+_)*\d+ from `at`: the byte behind it, or `at`. */
static size_t digits_end(const scanner *lexer, size_t at)
{
    while (at < lexer->length && is_digit(lexer->text[at])) {
        while (at < lexer->length && is_digit(lexer->text[at])) at++;
        if (at + 1 < lexer->length && lexer->text[at] == '_' && is_digit(lexer->text[at + 1])) at++;
    }
    return at;
}

static size_t float_end(const scanner *lexer, size_t at) /* 0: no float here */
{
    if (at > 0 && lexer->text[at - 1] == '.') return 0;
    size_t end = digits_end(lexer, at), fraction = 0, exponent;
    if (end == at) return 0;
    if (end + 1 < lexer->length && lexer->text[end] == '.' && is_digit(lexer->text[end + 1])) end = fraction = digits_end(lexer, end + 1);
    if (end < lexer->length && (lexer->text[end] | 32) == 'e') {
        exponent = end + 1;
        if (sign_at(lexer, exponent)) exponent++;
        if (exponent < lexer->length && is_digit(lexer->text[exponent])) return digits_end(lexer, exponent);
    }
    return fraction;
}

static int digit_value(char c)
{
    if (is_digit(c)) return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

static void read_integer(scanner *lexer)
{
    size_t at = lexer->at;
    char   mark = at + 1 < lexer->length ? (char)(lexer->text[at + 1] | 32) : 0;
    int    base = lexer->text[at] == '0' && mark == 'x' ? 16 : lexer->text[at] == '0' && mark == 'o' ? 8
                : lexer->text[at] == '0' && mark == 'b' ? 2 : 10;
    size_t digits = base == 10 ? at : at + 2;
    if (base != 10 && digits < lexer->length && lexer->text[digits] == '_') digits++;
    if (base != 10 && (digits >= lexer->length || digit_value(lexer->text[digits]) >= base)) base = 10, digits = at;
    bool    zero = base == 10 && lexer->text[at] == '0'; /* 0 may be followed by zeros only */
    int64_t value = 0;
    for (at = digits; at < lexer->length; at++) {
        if (lexer->text[at] == '_' && at + 1 < lexer->length && digit_value(lexer->text[at + 1]) < base) at++;
        int digit = digit_value(lexer->text[at]);
        if (digit >= base || (zero && digit)) break;
        if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, digit, &value))
            jinja_fail(lexer->state, "an integer does not fit 64 bits");
    }
    add(lexer, TOKEN_INTEGER, jinja_int(value));
    advance(lexer, at);
}

static void read_float(scanner *lexer, size_t end)
{
    jinja_buffer text = {0};
    for (size_t at = lexer->at; at < end; at++)
        if (lexer->text[at] != '_') jinja_append(lexer->state, &text, lexer->text + at, 1);
    jinja_append(lexer->state, &text, "", 1);
    add(lexer, TOKEN_FLOAT, jinja_float(strtod(text.text, NULL)));
    advance(lexer, end);
}

/* \x41, \u0041, \U00000041: `count` hexadecimal digits behind `at`. */
static size_t read_code(scanner *lexer, jinja_buffer *out, size_t at, size_t end, int count)
{
    uint32_t code = 0;
    for (int i = 0; i < count; i++, at++) {
        if (at >= end || digit_value(lexer->text[at]) > 15) jinja_fail(lexer->state, "a string has a broken \\x, \\u or \\U escape");
        code = code << 4 | (uint32_t)digit_value(lexer->text[at]);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        jinja_fail(lexer->state, "a string escape names U+%04X, which is no character", code);
    jinja_append_code(lexer->state, out, code);
    return at;
}

static size_t read_escape(scanner *lexer, jinja_buffer *out, size_t at, size_t end)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char              c = lexer->text[at++];
    const char       *known = memchr(from, c, sizeof from - 1);
    if (known) {
        jinja_append(lexer->state, out, &to[known - from], 1);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        at = read_code(lexer, out, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (c >= '0' && c <= '7') {
        uint32_t code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && at < end && lexer->text[at] >= '0' && lexer->text[at] <= '7'; i++)
            code = code << 3 | (uint32_t)(lexer->text[at++] - '0');
        jinja_append_code(lexer->state, out, code);
    } else if (c == 'N') {
        jinja_fail(lexer->state, "a string names a character with \\N{...}: write the character itself");
    } else if (c != '\n') { /* a backslash before a newline joins the lines; unknown escapes stay */
        jinja_append(lexer->state, out, "\\", 1);
        jinja_append(lexer->state, out, &c, 1);
    }
    return at;
}

static void read_string(scanner *lexer)
{
    char   quote = lexer->text[lexer->at];
    size_t end = lexer->at + 1;
    while (end < lexer->length && lexer->text[end] != quote) end += 1 + (lexer->text[end] == '\\');
    if (end >= lexer->length) jinja_fail(lexer->state, "a string has no closing %c", quote);
    jinja_buffer out = {0};
    for (size_t at = lexer->at + 1; at < end;) {
        size_t run = at;
        while (run < end && lexer->text[run] != '\\') run++;
        jinja_append(lexer->state, &out, lexer->text + at, run - at);
        at = run < end ? read_escape(lexer, &out, run + 1, end) : run;
    }
    add(lexer, TOKEN_STRING, jinja_finish(&out));
    advance(lexer, end + 1);
}

static size_t name_end(const scanner *lexer, size_t at)
{
    while (at < lexer->length) {
        size_t next = at;
        if (!jinja_is_word(jinja_next_code(lexer->text, lexer->length, &next))) break;
        at = next;
    }
    return at;
}

static void read_operator(scanner *lexer)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
                                            "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!starts(lexer, lexer->at, operators[i])) continue;
        char c = operators[i][0];
        if (c == '(' || c == '[' || c == '{') {
            if (lexer->bracket_count == JINJA_MAX_DEPTH) jinja_fail(lexer->state, "brackets are nested too deeply");
            lexer->brackets[lexer->bracket_count++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!lexer->bracket_count) jinja_fail(lexer->state, "unexpected '%c'", c);
            if (lexer->brackets[--lexer->bracket_count] != c)
                jinja_fail(lexer->state, "unexpected '%c', expected '%c'", c, lexer->brackets[lexer->bracket_count]);
        }
        add(lexer, TOKEN_OPERATOR, jinja_static(operators[i]));
        advance(lexer, lexer->at + strlen(operators[i]));
        return;
    }
    size_t next = lexer->at;
    jinja_next_code(lexer->text, lexer->length, &next);
    jinja_fail(lexer->state, "unexpected character '%.*s'", (int)(next - lexer->at), lexer->text + lexer->at);
}

static void read_tag(scanner *lexer, bool block)
{
    add(lexer, block ? TOKEN_BLOCK_BEGIN : TOKEN_PRINT_BEGIN, jinja_none());
    int line = lexer->line;
    advance(lexer, lexer->at + 2);
    if (sign_at(lexer, lexer->at)) advance(lexer, lexer->at + 1);
    lexer->bracket_count = 0;
    while (lexer->at < lexer->length) {
        size_t at = lexer->at, end = lexer->bracket_count ? 0 : tag_end(lexer, at, block ? "%}" : "}}", block);
        char   c = lexer->text[at];
        if (end) {
            add(lexer, block ? TOKEN_BLOCK_END : TOKEN_PRINT_END, jinja_none());
            finish_tag(lexer, end);
            return;
        }
        if ((end = skip_space(lexer, at)) > at) {
            advance(lexer, end);
        } else if ((end = float_end(lexer, at))) {
            read_float(lexer, end);
        } else if (is_digit(c)) {
            read_integer(lexer);
        } else if ((end = name_end(lexer, at)) > at) {
            add(lexer, TOKEN_NAME, jinja_string(lexer->text + at, end - at));
            advance(lexer, end);
        } else if (c == '\'' || c == '"') {
            read_string(lexer);
        } else {
            read_operator(lexer);
        }
    }
    lexer->state->line = line;
    jinja_fail(lexer->state, "a tag %s has no end %s", block ? "{%" : "{{", block ? "%}" : "}}");
}

/* CR LF and CR to LF, one newline at the end away; into the arena. */
static void normalise(scanner *lexer, const char *text, size_t length)
{
    char  *copy = jinja_alloc(lexer->state, length + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r' && i + 1 < length && text[i + 1] == '\n') continue;
        copy[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n && copy[n - 1] == '\n') n--;
    lexer->text = copy;
    lexer->length = n;
}

jinja_tokens jinja_lex(jinja_state *state, const char *text, size_t length)
{
    scanner lexer = {.state = state, .line = 1, .line_starting = true};
    normalise(&lexer, text, length);
    for (size_t at = 0; at + 1 < lexer.length;) {
        char second = lexer.text[at] == '{' ? lexer.text[at + 1] : 0;
        if (second != '%' && second != '{' && second != '#') {
            at++;
            continue;
        }
        size_t raw = second == '%' ? raw_begin(&lexer, at) : 0;
        add_text(&lexer, at, sign_at(&lexer, at + 2), second != '{');
        if (raw) read_raw(&lexer, raw);
        else if (second == '#') skip_comment(&lexer);
        else read_tag(&lexer, second == '%');
        at = lexer.at;
    }
    if (lexer.at < lexer.length) add(&lexer, TOKEN_TEXT, jinja_string(lexer.text + lexer.at, lexer.length - lexer.at));
    advance(&lexer, lexer.length);
    add(&lexer, TOKEN_END, jinja_none());
    return lexer.tokens;
}
