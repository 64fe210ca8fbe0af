/* tokenizer_regex_syntax.c - writes an Oniguruma pattern (Ruby syntax) as the PCRE2 pattern that means the same.
 *
 * What differs: \s \w \d \h \b and POSIX classes (other sets), \v (one character, not a class), (?m) (dot matches a line
 * end), {n,m}+ (a repeated repeat, not a possessive one), {,n}, a** (allowed), (?i) in the middle of alternatives (reaches
 * over the following |), nested sets [a[b]], intersections [a&&b], \uHHHH, \p{Han} (the script, not its extensions) and
 * long names of categories. What has no counterpart is refused by name. A set that PCRE2's brackets cannot hold becomes
 * alternatives and look-aheads of one character. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "data/tokenizer_regex.h"
#include "data/unicode.h"

#define NESTING_LIMIT 100

#define SPACE "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WORD  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define HEX   "0-9A-Fa-f"

typedef struct translator {
    crank_context *context;
    const char *pattern, *at, *end;
    int depth;
    bool extended; /* (?x): white space and comments do not count */
    bool failed;
} translator;

static void fail(translator *t, const char *what)
{
    if (t->failed) return;
    t->failed = true;
    int length = (int)(t->end - t->pattern < 200 ? t->end - t->pattern : 200);
    crank_fail(t->context, CRANK_BAD_DATA, "regular expression `%.*s`, byte %zu: %s", length, t->pattern,
               (size_t)(t->at - t->pattern), what);
}

static void put(translator *t, text_buffer *out, const char *text, size_t length)
{
    if (t->failed) return;
    text_add(out, text, length);
    if (!out->failed) return;
    t->failed = true;
    crank_fail(t->context, CRANK_FAILED, "out of memory: a regular expression");
}

static void puts_to(translator *t, text_buffer *out, const char *text) { put(t, out, text, strlen(text)); }

static void put_character(translator *t, text_buffer *out, uint32_t c)
{
    char text[16];
    int length = snprintf(text, sizeof text, "\\x{%X}", c);
    put(t, out, text, (size_t)length);
}

/* Puts the text from `start` on into a group. */
static void wrap(translator *t, text_buffer *out, size_t start)
{
    text_buffer tail = {0};
    put(t, &tail, out->bytes + start, out->length - start);
    if (!t->failed) {
        out->length = start;
        puts_to(t, out, "(?:");
        put(t, out, tail.bytes, tail.length);
        puts_to(t, out, ")");
    }
    text_clear(&tail);
}

static bool peek(const translator *t, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(t->end - t->at) >= length && !memcmp(t->at, text, length);
}

static bool accept(translator *t, const char *text)
{
    if (!peek(t, text)) return false;
    t->at += strlen(text);
    return true;
}

static uint32_t next_character(translator *t)
{
    if (t->at >= t->end) {
        fail(t, "it ends too early");
        return 0;
    }
    size_t length;
    uint32_t c = utf8_get(t->at, &length);
    t->at += length;
    return c;
}

/* The contents of brackets that stand for a named class, or NULL. */
static const char *named_class(const char *name)
{
    static const char *const table[][2] = {
        {"alnum", "\\p{Alphabetic}\\p{Nd}"}, {"alpha", "\\p{Alphabetic}"}, {"ascii", "\\x00-\\x7F"},
        {"blank", "\\t\\p{Zs}"}, {"cntrl", "\\p{Cc}"}, {"digit", "\\p{Nd}"}, {"lower", "\\p{Lowercase}"},
        {"punct", "\\p{P}\\x24\\x2B\\x3C-\\x3E\\x5E\\x60\\x7C\\x7E"}, {"space", SPACE}, {"upper", "\\p{Uppercase}"},
        {"word", WORD}, {"xdigit", HEX},
        {"letter", "\\p{L}"}, {"mark", "\\p{M}"}, {"number", "\\p{N}"}, {"punctuation", "\\p{P}"}, {"symbol", "\\p{S}"},
        {"separator", "\\p{Z}"}, {"other", "\\p{C}"}, {"uppercaseletter", "\\p{Lu}"}, {"lowercaseletter", "\\p{Ll}"},
        {"titlecaseletter", "\\p{Lt}"}, {"modifierletter", "\\p{Lm}"}, {"otherletter", "\\p{Lo}"},
        {"nonspacingmark", "\\p{Mn}"}, {"spacingmark", "\\p{Mc}"}, {"enclosingmark", "\\p{Me}"},
        {"decimalnumber", "\\p{Nd}"}, {"letternumber", "\\p{Nl}"}, {"othernumber", "\\p{No}"},
        {"connectorpunctuation", "\\p{Pc}"}, {"dashpunctuation", "\\p{Pd}"}, {"openpunctuation", "\\p{Ps}"},
        {"closepunctuation", "\\p{Pe}"}, {"initialpunctuation", "\\p{Pi}"}, {"finalpunctuation", "\\p{Pf}"},
        {"otherpunctuation", "\\p{Po}"}, {"mathsymbol", "\\p{Sm}"}, {"currencysymbol", "\\p{Sc}"},
        {"modifiersymbol", "\\p{Sk}"}, {"othersymbol", "\\p{So}"}, {"spaceseparator", "\\p{Zs}"},
        {"lineseparator", "\\p{Zl}"}, {"paragraphseparator", "\\p{Zp}"}, {"control", "\\p{Cc}"}, {"format", "\\p{Cf}"},
        {"surrogate", "\\p{Cs}"}, {"privateuse", "\\p{Co}"}, {"unassigned", "\\p{Cn}"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!strcmp(name, table[i][0])) return table[i][1];
    return NULL;
}

static bool compiles(const char *pattern)
{
    int error;
    PCRE2_SIZE place;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &place, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* A set of characters on its way: the contents of PCRE2 brackets, and alternatives that those cannot hold. */
typedef struct charset {
    text_buffer inside, beside;
} charset;

static void add_inside(translator *t, charset *set, const char *text, bool negated)
{
    if (!negated) {
        puts_to(t, &set->inside, text);
        return;
    }
    puts_to(t, &set->beside, "|[^");
    puts_to(t, &set->beside, text);
    puts_to(t, &set->beside, "]");
}

/* Behind \p or \P: {Name}, {^Name}; a script is asked for as such, since PCRE2's plain names mean script extensions. */
static void add_property(translator *t, charset *set, bool negated)
{
    char name[64], pattern[96];
    size_t length = 0;
    if (!accept(t, "{")) {
        fail(t, "\\p needs a name in braces");
        return;
    }
    if (accept(t, "^")) negated = !negated;
    while (t->at < t->end && *t->at != '}' && length < sizeof name - 1) {
        char c = *t->at++;
        if (c == ' ' || c == '_' || c == '-') continue;
        name[length++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    name[length] = 0;
    if (!accept(t, "}") || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") != length || !length) {
        fail(t, "a property's name is not closed or holds other than letters");
        return;
    }
    const char *known = named_class(name);
    if (known) {
        add_inside(t, set, known, negated);
        return;
    }
    const char *const forms[] = {"\\%c{sc:%s}", "\\%c{%s}"};
    for (int i = length <= 2 ? 1 : 0; i < 2; i++) {
        snprintf(pattern, sizeof pattern, i ? forms[1] : forms[0], negated ? 'P' : 'p', name);
        if (!compiles(pattern)) continue;
        puts_to(t, &set->inside, pattern);
        return;
    }
    char what[128];
    snprintf(what, sizeof what, "unknown property `%s`", name);
    fail(t, what);
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
    if (digits < least || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) fail(t, "not the code of a character");
    return value;
}

/* Behind a backslash: true with *c when it stands for one character, false when `c` names something else. */
static bool escaped_character(translator *t, uint32_t *c)
{
    switch (*c) {
    case 't': *c = '\t'; return true;
    case 'n': *c = '\n'; return true;
    case 'r': *c = '\r'; return true;
    case 'f': *c = '\f'; return true;
    case 'v': *c = '\v'; return true;
    case 'a': *c = 7; return true;
    case 'e': *c = 27; return true;
    case 'u': *c = hexadecimal(t, 4, 4); return true;
    case 'x':
        if (accept(t, "{")) {
            *c = hexadecimal(t, 1, 8);
            if (!accept(t, "}")) fail(t, "\\x{ is not closed");
        } else {
            *c = hexadecimal(t, 1, 2);
            if (*c > 0x7F) fail(t, "\\xHH above 7F is a byte, not a character");
        }
        return true;
    default: return !((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'));
    }
}

/* \s \S \w \W \d \D \h \H \p \P; false when `c` is none of them. */
static bool add_escaped_class(translator *t, charset *set, uint32_t c)
{
    bool negated = c < 'a';
    switch (c | 32) {
    case 's': add_inside(t, set, SPACE, negated); return true;
    case 'w': add_inside(t, set, WORD, negated); return true;
    case 'd': add_inside(t, set, negated ? "\\P{Nd}" : "\\p{Nd}", false); return true;
    case 'h': add_inside(t, set, HEX, negated); return true;
    case 'p': add_property(t, set, negated); return true;
    default: return false;
    }
}

static void clear_charset(charset *set)
{
    text_clear(&set->inside);
    text_clear(&set->beside);
    *set = (charset){0};
}

/* Writes a set as an expression that takes one character. */
static void put_charset(translator *t, text_buffer *out, const charset *set, bool negated)
{
    bool inside = set->inside.length > 0, beside = set->beside.length > 0;
    if (!beside) {
        if (!inside) fail(t, "an empty set of characters");
        puts_to(t, out, negated ? "[^" : "[");
        put(t, out, set->inside.bytes, set->inside.length);
        puts_to(t, out, "]");
        return;
    }
    puts_to(t, out, negated ? "(?:(?!" : "(?:");
    if (inside) {
        puts_to(t, out, "[");
        put(t, out, set->inside.bytes, set->inside.length);
        puts_to(t, out, "]");
        put(t, out, set->beside.bytes, set->beside.length);
    } else {
        put(t, out, set->beside.bytes + 1, set->beside.length - 1); /* without the first | */
    }
    puts_to(t, out, negated ? ")(?s:.))" : ")");
}

static void posix_class(translator *t, charset *set)
{
    char name[16];
    size_t length = 0;
    bool negated = accept(t, "^");
    while (t->at < t->end && *t->at >= 'a' && *t->at <= 'z' && length < sizeof name - 1) name[length++] = *t->at++;
    name[length] = 0;
    const char *known = named_class(name);
    if (!known || !accept(t, ":]"))
        fail(t, "unknown POSIX class");
    else
        add_inside(t, set, known, negated);
}

static void bracket(translator *t, text_buffer *out, charset *parent);

/* One character of a set or a class in it: true with *c for a character. */
static bool set_item(translator *t, charset *set, uint32_t *c)
{
    *c = next_character(t);
    if (*c != '\\') return true;
    *c = next_character(t);
    if (*c == 'b') {
        *c = 8;
        return true;
    }
    if (escaped_character(t, c)) return true;
    if (!t->failed && !add_escaped_class(t, set, *c)) {
        if (*c == 'R' || *c == 'X' || *c == 'c' || *c == 'C' || *c == 'M' || (*c >= '0' && *c <= '9'))
            fail(t, "unknown escape in a set");
        else
            return true; /* an escaped letter without meaning is itself */
    }
    return false;
}

/* The inside of brackets, up to the closing one; && ends one operand after another. */
static void set_items(translator *t, charset *set, text_buffer *intersection)
{
    for (bool first = true; !t->failed; first = false) {
        if (t->at >= t->end) fail(t, "a set is not closed");
        if (peek(t, "]") && !first) break;
        if (accept(t, "&&")) {
            puts_to(t, intersection, "(?=");
            put_charset(t, intersection, set, false);
            puts_to(t, intersection, ")");
            clear_charset(set);
        } else if (accept(t, "[:")) {
            posix_class(t, set);
        } else if (accept(t, "[")) {
            bracket(t, NULL, set);
        } else {
            uint32_t low, high;
            if (!set_item(t, set, &low) || t->failed) continue;
            put_character(t, &set->inside, low);
            if (!peek(t, "-") || peek(t, "-]") || peek(t, "-[") || peek(t, "-&&")) continue;
            t->at++;
            if (!set_item(t, set, &high)) fail(t, "a range ends in a class");
            if (high < low) fail(t, "a range runs backwards");
            puts_to(t, &set->inside, "-");
            put_character(t, &set->inside, high);
        }
    }
    t->at++;
}

/* Behind an opening bracket. Writes to `out`, or joins a set around it. */
static void bracket(translator *t, text_buffer *out, charset *parent)
{
    charset set = {0};
    text_buffer intersection = {0}, expression = {0};
    if (++t->depth > NESTING_LIMIT) fail(t, "nested too deeply");
    bool negated = accept(t, "^");
    set_items(t, &set, &intersection);
    if (parent && !negated && !intersection.length) {
        if (set.inside.length) put(t, &parent->inside, set.inside.bytes, set.inside.length);
        if (set.beside.length) put(t, &parent->beside, set.beside.bytes, set.beside.length);
    } else {
        if (!intersection.length) {
            put_charset(t, &expression, &set, negated);
        } else {
            puts_to(t, &expression, negated ? "(?:(?!" : "(?:");
            put(t, &expression, intersection.bytes, intersection.length);
            put_charset(t, &expression, &set, false);
            puts_to(t, &expression, negated ? ")(?s:.))" : ")");
        }
        if (parent) puts_to(t, &parent->beside, "|");
        if (!t->failed) put(t, parent ? &parent->beside : out, expression.bytes, expression.length);
    }
    t->depth--;
    clear_charset(&set);
    text_clear(&intersection);
    text_clear(&expression);
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
            fail(t, "unknown option or group");
            return false;
        }
        if (c == 'x') extended = to == on;
        to[strlen(to) + 1] = 0;
        to[strlen(to)] = c == 'm' ? 's' : c; /* Ruby's m lets the dot match a line end */
    }
    bool isolated = accept(t, ")");
    if (!isolated) accept(t, ":");
    puts_to(t, out, "(?");
    puts_to(t, out, on);
    if (*off) puts_to(t, out, "-");
    puts_to(t, out, off);
    puts_to(t, out, ":");
    t->extended = extended;
    return isolated;
}

static void group_name(translator *t, text_buffer *out, char close)
{
    const char *start = t->at;
    while (t->at < t->end && *t->at != close) {
        char c = *t->at;
        if (!((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_')) fail(t, "a group's name is not a word");
        t->at++;
    }
    if (t->at == start || t->at == t->end || t->at - start > 31) fail(t, "a group's name is empty, too long or not closed");
    if (t->failed) return;
    puts_to(t, out, "(?<");
    put(t, out, start, (size_t)(t->at - start));
    puts_to(t, out, ">");
    t->at++;
}

/* Behind an opening parenthesis. True when it was "(?i)": the caller closes that group at its own end. */
static bool group(translator *t, text_buffer *out)
{
    static const char *const plain[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
    bool extended = t->extended;
    if (++t->depth > NESTING_LIMIT) fail(t, "nested too deeply");
    bool found = false;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0] && !found; i++) {
        if (!accept(t, plain[i])) continue;
        puts_to(t, out, "(");
        puts_to(t, out, plain[i]);
        found = true;
    }
    if (!found && accept(t, "?<")) {
        group_name(t, out, '>');
    } else if (!found && accept(t, "?'")) {
        group_name(t, out, '\'');
    } else if (!found && accept(t, "?")) {
        if (options(t, out)) {
            t->depth--;
            return true;
        }
    } else if (!found) {
        if (peek(t, "*")) fail(t, "(* is not known");
        puts_to(t, out, "(");
    }
    if (!t->failed) alternatives(t, out);
    if (!t->failed && !accept(t, ")")) fail(t, "a group is not closed");
    puts_to(t, out, ")");
    t->extended = extended;
    t->depth--;
    return false;
}

/* Behind a backslash outside brackets. */
static void escape(translator *t, text_buffer *out)
{
    uint32_t c = next_character(t);
    if (t->failed) return;
    char text[3] = {'\\', (char)c, 0};
    charset set = {0};
    if (escaped_character(t, &c)) {
        put_character(t, out, c);
    } else if (add_escaped_class(t, &set, c)) {
        if (!t->failed) put_charset(t, out, &set, false);
    } else if (c == 'b') {
        puts_to(t, out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
    } else if (c == 'B') {
        puts_to(t, out, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    } else if (c == 'O') {
        puts_to(t, out, "(?s:.)");
    } else if (memchr("AzZGKRXN", (int)c, 8) || (c >= '1' && c <= '9')) {
        puts_to(t, out, text);
        while (c <= '9' && t->at < t->end && *t->at >= '0' && *t->at <= '9') put(t, out, t->at++, 1);
    } else if (memchr("kgcCMyYO0", (int)c, 9)) {
        fail(t, "an escape that is not known");
    } else {
        put_character(t, out, c);
    }
    clear_charset(&set);
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
        puts_to(t, out, text);
        if (!fixed && accept(t, "?"))
            puts_to(t, out, "?");
        else if (simple && accept(t, "+"))
            puts_to(t, out, "+");
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
        if ((t->extended && c == '#') || peek(t, "(?#")) {
            char stop = c == '#' ? '\n' : ')';
            while (t->at < t->end && *t->at != stop) t->at++;
            if (t->at < t->end) t->at++;
            continue;
        }
        if (accept(t, "|")) {
            puts_to(t, out, "|");
            continue;
        }
        if (accept(t, "(")) {
            if (group(t, out)) {
                open++;
                continue;
            }
        } else if (accept(t, "[")) {
            bracket(t, out, NULL);
        } else if (accept(t, "\\")) {
            escape(t, out);
        } else if (c == '^' || c == '$' || c == '.') {
            put(t, out, t->at++, 1);
        } else if (c == '*' || c == '+' || c == '?') {
            fail(t, "nothing to repeat");
        } else {
            put_character(t, out, next_character(t));
        }
        quantifiers(t, out, atom);
    }
    for (; open; open--) puts_to(t, out, ")");
    t->extended = extended;
}

char *regex_translate(crank_context *context, const char *pattern, size_t length)
{
    translator t = {.context = context, .pattern = pattern, .at = pattern, .end = pattern + length};
    text_buffer out = {0};
    puts_to(&t, &out, "");
    alternatives(&t, &out);
    if (!t.failed && t.at < t.end) fail(&t, "a closing parenthesis too many");
    if (!t.failed) return text_take(context, &out, "a regular expression");
    text_clear(&out);
    return NULL;
}
