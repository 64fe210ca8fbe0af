/* tokenizer_regex_set.c - sets of characters in expressions: classes, properties, brackets.
 *
 * Oniguruma's sets nest, intersect and hold any class; PCRE2's brackets hold neither sets nor negated classes of our
 * own. A set that they cannot hold becomes alternatives and look-aheads of one character. */
#include "data/tokenizer_regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

/* The contents of brackets that stand for a named class, or NULL. */
static const char *named_class(const char *name)
{
    static const char *const table[][2] = {{"alnum", "\\p{Alphabetic}\\p{Nd}"},
                                           {"alpha", "\\p{Alphabetic}"},
                                           {"ascii", "\\x00-\\x7F"},
                                           {"blank", "\\t\\p{Zs}"},
                                           {"cntrl", "\\p{Cc}"},
                                           {"digit", "\\p{Nd}"},
                                           {"lower", "\\p{Lowercase}"},
                                           {"punct", "\\p{P}\\x24\\x2B\\x3C-\\x3E\\x5E\\x60\\x7C\\x7E"},
                                           {"space", REGEX_SPACE},
                                           {"upper", "\\p{Uppercase}"},
                                           {"word", REGEX_WORD},
                                           {"xdigit", REGEX_HEX},
                                           {"letter", "\\p{L}"},
                                           {"mark", "\\p{M}"},
                                           {"number", "\\p{N}"},
                                           {"punctuation", "\\p{P}"},
                                           {"symbol", "\\p{S}"},
                                           {"separator", "\\p{Z}"},
                                           {"other", "\\p{C}"},
                                           {"uppercaseletter", "\\p{Lu}"},
                                           {"lowercaseletter", "\\p{Ll}"},
                                           {"titlecaseletter", "\\p{Lt}"},
                                           {"modifierletter", "\\p{Lm}"},
                                           {"otherletter", "\\p{Lo}"},
                                           {"nonspacingmark", "\\p{Mn}"},
                                           {"spacingmark", "\\p{Mc}"},
                                           {"enclosingmark", "\\p{Me}"},
                                           {"decimalnumber", "\\p{Nd}"},
                                           {"letternumber", "\\p{Nl}"},
                                           {"othernumber", "\\p{No}"},
                                           {"connectorpunctuation", "\\p{Pc}"},
                                           {"dashpunctuation", "\\p{Pd}"},
                                           {"openpunctuation", "\\p{Ps}"},
                                           {"closepunctuation", "\\p{Pe}"},
                                           {"initialpunctuation", "\\p{Pi}"},
                                           {"finalpunctuation", "\\p{Pf}"},
                                           {"otherpunctuation", "\\p{Po}"},
                                           {"mathsymbol", "\\p{Sm}"},
                                           {"currencysymbol", "\\p{Sc}"},
                                           {"modifiersymbol", "\\p{Sk}"},
                                           {"othersymbol", "\\p{So}"},
                                           {"spaceseparator", "\\p{Zs}"},
                                           {"lineseparator", "\\p{Zl}"},
                                           {"paragraphseparator", "\\p{Zp}"},
                                           {"control", "\\p{Cc}"},
                                           {"format", "\\p{Cf}"},
                                           {"surrogate", "\\p{Cs}"},
                                           {"privateuse", "\\p{Co}"},
                                           {"unassigned", "\\p{Cn}"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (!strcmp(name, table[i][0])) return table[i][1];
    return NULL;
}

static bool compiles(const char *pattern)
{
    int error;
    PCRE2_SIZE place;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &place, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

static void add_inside(translator *t, charset *set, const char *text, bool negated)
{
    if (!negated) {
        regex_puts(t, &set->inside, text);
        return;
    }
    regex_puts(t, &set->beside, "|[^");
    regex_puts(t, &set->beside, text);
    regex_puts(t, &set->beside, "]");
}

/* Behind \p or \P: {Name}, {^Name}; a script is asked for as such, since PCRE2's plain names mean script extensions. */
static void add_property(translator *t, charset *set, bool negated)
{
    char name[64], pattern[96];
    size_t length = 0;
    if (!regex_accept(t, "{")) {
        regex_fail(t, "\\p needs a name in braces");
        return;
    }
    if (regex_accept(t, "^")) negated = !negated;
    while (t->at < t->end && *t->at != '}' && length < sizeof name - 1) {
        char c = *t->at++;
        if (c == ' ' || c == '_' || c == '-') continue;
        name[length++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    name[length] = 0;
    if (!regex_accept(t, "}") || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") != length || !length) {
        regex_fail(t, "a property's name is not closed or holds other than letters");
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
        regex_puts(t, &set->inside, pattern);
        return;
    }
    char what[128];
    snprintf(what, sizeof what, "unknown property `%s`", name);
    regex_fail(t, what);
}

/* \s \S \w \W \d \D \h \H \p \P; false when `c` is none of them. */
bool charset_add_escape(translator *t, charset *set, uint32_t c)
{
    bool negated = c < 'a';
    switch (c | 32) {
    case 's':
        add_inside(t, set, REGEX_SPACE, negated);
        return true;
    case 'w':
        add_inside(t, set, REGEX_WORD, negated);
        return true;
    case 'd':
        add_inside(t, set, negated ? "\\P{Nd}" : "\\p{Nd}", false);
        return true;
    case 'h':
        add_inside(t, set, REGEX_HEX, negated);
        return true;
    case 'p':
        add_property(t, set, negated);
        return true;
    default:
        return false;
    }
}

void charset_clear(charset *set)
{
    text_clear(&set->inside);
    text_clear(&set->beside);
    *set = (charset){0};
}

/* Writes a set as an expression that takes one character. */
void charset_put(translator *t, text_buffer *out, const charset *set, bool negated)
{
    bool inside = set->inside.length > 0, beside = set->beside.length > 0;
    if (!beside) {
        if (!inside) regex_fail(t, "an empty set of characters");
        regex_puts(t, out, negated ? "[^" : "[");
        regex_put(t, out, set->inside.bytes, set->inside.length);
        regex_puts(t, out, "]");
        return;
    }
    regex_puts(t, out, negated ? "(?:(?!" : "(?:");
    if (inside) {
        regex_puts(t, out, "[");
        regex_put(t, out, set->inside.bytes, set->inside.length);
        regex_puts(t, out, "]");
        regex_put(t, out, set->beside.bytes, set->beside.length);
    } else {
        regex_put(t, out, set->beside.bytes + 1, set->beside.length - 1); /* without the first | */
    }
    regex_puts(t, out, negated ? ")(?s:.))" : ")");
}

static void posix_class(translator *t, charset *set)
{
    char name[16];
    size_t length = 0;
    bool negated = regex_accept(t, "^");
    while (t->at < t->end && *t->at >= 'a' && *t->at <= 'z' && length < sizeof name - 1) name[length++] = *t->at++;
    name[length] = 0;
    const char *known = named_class(name);
    if (!known || !regex_accept(t, ":]"))
        regex_fail(t, "unknown POSIX class");
    else
        add_inside(t, set, known, negated);
}

/* One character of a set or a class in it: true with *c for a character. */
static bool set_item(translator *t, charset *set, uint32_t *c)
{
    *c = regex_next_character(t);
    if (*c != '\\') return true;
    *c = regex_next_character(t);
    if (*c == 'b') {
        *c = 8;
        return true;
    }
    if (regex_escaped_character(t, c)) return true;
    if (!t->failed && !charset_add_escape(t, set, *c)) {
        if (*c == 'R' || *c == 'X' || *c == 'c' || *c == 'C' || *c == 'M' || (*c >= '0' && *c <= '9'))
            regex_fail(t, "unknown escape in a set");
        else
            return true; /* an escaped letter without meaning is itself */
    }
    return false;
}

/* The inside of brackets, up to the closing one; && ends one operand after another. */
static void set_items(translator *t, charset *set, text_buffer *intersection)
{
    for (bool first = true; !t->failed; first = false) {
        if (t->at >= t->end) regex_fail(t, "a set is not closed");
        if (regex_peek(t, "]") && !first) break;
        if (regex_accept(t, "&&")) {
            regex_puts(t, intersection, "(?=");
            charset_put(t, intersection, set, false);
            regex_puts(t, intersection, ")");
            charset_clear(set);
        } else if (regex_accept(t, "[:")) {
            posix_class(t, set);
        } else if (regex_accept(t, "[")) {
            charset_bracket(t, NULL, set);
        } else {
            uint32_t low, high;
            if (!set_item(t, set, &low) || t->failed) continue;
            regex_put_character(t, &set->inside, low);
            if (!regex_peek(t, "-") || regex_peek(t, "-]") || regex_peek(t, "-[") || regex_peek(t, "-&&")) continue;
            t->at++;
            if (!set_item(t, set, &high)) regex_fail(t, "a range ends in a class");
            if (high < low) regex_fail(t, "a range runs backwards");
            regex_puts(t, &set->inside, "-");
            regex_put_character(t, &set->inside, high);
        }
    }
    t->at++;
}

/* Behind an opening bracket. Writes to `out`, or joins a set around it. */
void charset_bracket(translator *t, text_buffer *out, charset *parent)
{
    charset set = {0};
    text_buffer intersection = {0}, expression = {0};
    if (++t->depth > REGEX_NESTING_LIMIT) regex_fail(t, "nested too deeply");
    bool negated = regex_accept(t, "^");
    set_items(t, &set, &intersection);
    if (parent && !negated && !intersection.length) {
        if (set.inside.length) regex_put(t, &parent->inside, set.inside.bytes, set.inside.length);
        if (set.beside.length) regex_put(t, &parent->beside, set.beside.bytes, set.beside.length);
    } else {
        if (!intersection.length) {
            charset_put(t, &expression, &set, negated);
        } else {
            regex_puts(t, &expression, negated ? "(?:(?!" : "(?:");
            regex_put(t, &expression, intersection.bytes, intersection.length);
            charset_put(t, &expression, &set, false);
            regex_puts(t, &expression, negated ? ")(?s:.))" : ")");
        }
        if (parent) regex_puts(t, &parent->beside, "|");
        if (!t->failed) regex_put(t, parent ? &parent->beside : out, expression.bytes, expression.length);
    }
    t->depth--;
    charset_clear(&set);
    text_clear(&intersection);
    text_clear(&expression);
}
