/* jinja_case.c - upper, lower and title case and the character classes of Python's str (Unicode, full case mapping).
 *
 * utf8proc knows the one-to-one mappings; the table holds the characters whose upper case is longer than one code point
 * (Unicode's SpecialCasing.txt, the unconditional part), and lower() knows the final sigma. */
#include <utf8proc.h>

#include "data/jinja_text.h"

typedef struct special_case {
    uint32_t    code;
    const char *upper, *title;
} special_case;

static const special_case specials[] = {
    {0x00DF, "SS", "Ss"}, {0x0149, "\u02BCN", "\u02BCN"}, {0x01F0, "J\u030C", "J\u030C"},
    {0x0390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"}, {0x03B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x0587, "\u0535\u0552", "\u0535\u0582"}, {0x1E96, "H\u0331", "H\u0331"}, {0x1E97, "T\u0308", "T\u0308"},
    {0x1E98, "W\u030A", "W\u030A"}, {0x1E99, "Y\u030A", "Y\u030A"}, {0x1E9A, "A\u02BE", "A\u02BE"},
    {0x1F50, "\u03A5\u0313", "\u03A5\u0313"}, {0x1F52, "\u03A5\u0313\u0300", "\u03A5\u0313\u0300"},
    {0x1F54, "\u03A5\u0313\u0301", "\u03A5\u0313\u0301"}, {0x1F56, "\u03A5\u0313\u0342", "\u03A5\u0313\u0342"},
    {0x1FB2, "\u1FBA\u0399", "\u1FBA\u0345"}, {0x1FB3, "\u0391\u0399", "\u1FBC"},
    {0x1FB4, "\u0386\u0399", "\u0386\u0345"}, {0x1FB6, "\u0391\u0342", "\u0391\u0342"},
    {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"}, {0x1FBC, "\u0391\u0399", "\u1FBC"},
    {0x1FC2, "\u1FCA\u0399", "\u1FCA\u0345"}, {0x1FC3, "\u0397\u0399", "\u1FCC"},
    {0x1FC4, "\u0389\u0399", "\u0389\u0345"}, {0x1FC6, "\u0397\u0342", "\u0397\u0342"},
    {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"}, {0x1FCC, "\u0397\u0399", "\u1FCC"},
    {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"}, {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x1FD6, "\u0399\u0342", "\u0399\u0342"}, {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
    {0x1FE2, "\u03A5\u0308\u0300", "\u03A5\u0308\u0300"}, {0x1FE3, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x1FE4, "\u03A1\u0313", "\u03A1\u0313"}, {0x1FE6, "\u03A5\u0342", "\u03A5\u0342"},
    {0x1FE7, "\u03A5\u0308\u0342", "\u03A5\u0308\u0342"}, {0x1FF2, "\u1FFA\u0399", "\u1FFA\u0345"},
    {0x1FF3, "\u03A9\u0399", "\u1FFC"}, {0x1FF4, "\u038F\u0399", "\u038F\u0345"},
    {0x1FF6, "\u03A9\u0342", "\u03A9\u0342"}, {0x1FF7, "\u03A9\u0342\u0399", "\u03A9\u0342\u0345"},
    {0x1FFC, "\u03A9\u0399", "\u1FFC"}, {0xFB00, "FF", "Ff"}, {0xFB01, "FI", "Fi"}, {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"}, {0xFB04, "FFL", "Ffl"}, {0xFB05, "ST", "St"}, {0xFB06, "ST", "St"},
    {0xFB13, "\u0544\u0546", "\u0544\u0576"}, {0xFB14, "\u0544\u0535", "\u0544\u0565"},
    {0xFB15, "\u0544\u053B", "\u0544\u056B"}, {0xFB16, "\u054E\u0546", "\u054E\u0576"},
    {0xFB17, "\u0544\u053D", "\u0544\u056D"},
};

static const special_case *find_special(uint32_t code)
{
    size_t low = 0, high = sizeof specials / sizeof *specials;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (specials[middle].code == code) return &specials[middle];
        if (specials[middle].code < code) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static utf8proc_category_t category(uint32_t code) { return utf8proc_category((utf8proc_int32_t)code); }

static bool is_cased(uint32_t code)
{
    utf8proc_category_t c = category(code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static uint32_t simple_lower(uint32_t code) { return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code); }

static void put_upper(jinja_state *state, jinja_buffer *out, uint32_t code)
{
    const special_case *special = code < 0x80 ? NULL : find_special(code);
    if (special) {
        jinja_append_text(state, out, special->upper);
    } else if (code >= 0x1F80 && code <= 0x1FAF) { /* Greek with iota subscript */
        jinja_append_code(state, out, (code < 0x1F90 ? 0x1F08 : code < 0x1FA0 ? 0x1F28 : 0x1F68) + (code & 7));
        jinja_append_code(state, out, 0x399);
    } else {
        jinja_append_code(state, out, (uint32_t)utf8proc_toupper((utf8proc_int32_t)code));
    }
}

static void put_title(jinja_state *state, jinja_buffer *out, uint32_t code)
{
    const special_case *special = code < 0x80 ? NULL : find_special(code);
    if (special) jinja_append_text(state, out, special->title);
    else jinja_append_code(state, out, (uint32_t)utf8proc_totitle((utf8proc_int32_t)code));
}

static bool is_case_ignorable(uint32_t code)
{
    utf8proc_category_t c = category(code);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_LM ||
           c == UTF8PROC_CATEGORY_SK || code == '\'' || code == '.' || code == ':' || code == 0xB7 || code == 0x2019;
}

/* A sigma is final when a cased letter stands before it and none behind it, case-ignorable ones not counted. */
static bool is_final_sigma(const jinja_value *text, size_t start, size_t end)
{
    bool before = false;
    for (size_t at = start; at > 0;) {
        uint32_t code = jinja_previous_code(text->text, &at);
        if (is_case_ignorable(code)) continue;
        before = is_cased(code);
        break;
    }
    for (size_t at = end; before && at < text->length;) {
        uint32_t code = jinja_next_code(text->text, text->length, &at);
        if (!is_case_ignorable(code)) return !is_cased(code);
    }
    return before;
}

static void put_lower(jinja_state *state, jinja_buffer *out, const jinja_value *text, size_t start, size_t end, uint32_t code)
{
    if (code == 0x3A3 && is_final_sigma(text, start, end)) code = 0x3C2;
    else if (code == 0x130) jinja_append_text(state, out, "i"), code = 0x307; /* dotted capital I */
    else code = simple_lower(code);
    jinja_append_code(state, out, code);
}

static void put_folded(jinja_state *state, jinja_buffer *out, uint32_t code)
{
    utf8proc_int32_t folded[4];
    int              boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, folded, 4, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 4; i++) jinja_append_code(state, out, (uint32_t)folded[i]);
}

jinja_value jinja_change_case(jinja_state *state, jinja_value text, jinja_case which)
{
    jinja_buffer out = {0};
    bool         previous_cased = false;
    for (size_t at = 0; at < text.length;) {
        size_t   start = at;
        uint32_t code = jinja_next_code(text.text, text.length, &at);
        bool     upper = category(code) == UTF8PROC_CATEGORY_LU || category(code) == UTF8PROC_CATEGORY_LT;
        if (which == JINJA_UPPER || (which == JINJA_SWAPCASE && category(code) == UTF8PROC_CATEGORY_LL))
            put_upper(state, &out, code);
        else if (which == JINJA_CASEFOLD)
            put_folded(state, &out, code);
        else if (which == JINJA_SWAPCASE && !upper)
            jinja_append_code(state, &out, code);
        else if ((which == JINJA_TITLE && !previous_cased) || (which == JINJA_CAPITALIZE && start == 0))
            put_title(state, &out, code);
        else
            put_lower(state, &out, &text, start, at, code);
        previous_cased = is_cased(code);
    }
    jinja_work(state, text.length / 16);
    return jinja_finish(&out);
}

/* --- classes --- */

bool jinja_is_space(uint32_t code)
{
    if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x1F);
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool jinja_is_line_end(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 || code == 0x2029;
}

bool jinja_is_letter(uint32_t code)
{
    utf8proc_category_t c = category(code);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_number(uint32_t code)
{
    utf8proc_category_t c = category(code);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

/* Digits that are no decimal digits: superscripts, subscripts and numbers in circles. */
static bool is_digit(uint32_t code)
{
    return category(code) == UTF8PROC_CATEGORY_ND || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
           (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089) || (code >= 0x2460 && code <= 0x2468);
}

bool jinja_is_word(uint32_t code) { return code == '_' || jinja_is_letter(code) || is_number(code); }

bool jinja_is_printable(uint32_t code)
{
    switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return code == ' ';
    default: return true;
    }
}

static bool has_class(uint32_t code, jinja_class which, bool first)
{
    switch (which) {
    case JINJA_ALPHA: return jinja_is_letter(code);
    case JINJA_ALNUM: return jinja_is_letter(code) || is_number(code);
    case JINJA_DECIMAL: return category(code) == UTF8PROC_CATEGORY_ND;
    case JINJA_DIGIT: return is_digit(code);
    case JINJA_NUMERIC: return is_number(code);
    case JINJA_SPACE: return jinja_is_space(code);
    case JINJA_ASCII: return code < 0x80;
    case JINJA_PRINTABLE: return jinja_is_printable(code);
    case JINJA_IDENTIFIER: return code == '_' || jinja_is_letter(code) || (!first && is_number(code));
    default: return true;
    }
}

/* islower, isupper, istitle: a cased character must be there, and all must agree. */
static bool cases_agree(const jinja_value *text, jinja_class which)
{
    bool any = false, previous_cased = false;
    for (size_t at = 0; at < text->length;) {
        uint32_t code = jinja_next_code(text->text, text->length, &at);
        bool     cased = is_cased(code), lower = category(code) == UTF8PROC_CATEGORY_LL;
        bool     title = category(code) == UTF8PROC_CATEGORY_LT;
        if (cased && which == JINJA_ISLOWER && !lower) return false;
        if (cased && which == JINJA_ISUPPER && (lower || title)) return false;
        if (cased && which == JINJA_ISTITLE && lower != previous_cased) return false;
        any |= cased;
        previous_cased = cased;
    }
    return any;
}

bool jinja_all(jinja_value text, jinja_class which)
{
    if (which == JINJA_ISLOWER || which == JINJA_ISUPPER || which == JINJA_ISTITLE) return cases_agree(&text, which);
    if (!text.length) return which == JINJA_ASCII || which == JINJA_PRINTABLE;
    for (size_t at = 0; at < text.length;) {
        bool first = at == 0;
        if (!has_class(jinja_next_code(text.text, text.length, &at), which, first)) return false;
    }
    return true;
}
