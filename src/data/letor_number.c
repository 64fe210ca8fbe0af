/* letor_number.c - decimal text to float32, correctly rounded, without the C library on the usual paths.
 *
 * A number is w 10^e with a whole w. Where w and 10^|e| are exact in a wider format, one operation there gives r, rounded once. Rounding
 * r to float then gives the float nearest to w 10^e unless r lies exactly half way between two floats (where what r lost decides), or
 * the float is subnormal: those few, and longer numbers, go to strtof. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "data/letor_parts.h"

enum { LONGEST = 512 }; /* characters of a number */

static const double exact_double[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool by_library(const char *text, const char *end, float *value)
{
    char copy[LONGEST + 1];
    if (end - text > LONGEST) return false;
    memcpy(copy, text, (size_t)(end - text));
    copy[end - text] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* glibc's one built-in object: costs nothing */
    char    *stop;
    *value = strtof_l(copy, &stop, c);
    freelocale(c);
    return *stop == 0;
}

static bool is_word(const char *text, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - text) == length && strncasecmp(text, word, length) == 0;
}

/* What is no decimal number: missing or infinite values by name. */
static bool by_name(const char *text, const char *end, float *value)
{
    bool negative = text < end && *text == '-';
    if (is_word(text, end, "nan") || is_word(text, end, "na") || is_word(text, end, "null") || is_word(text, end, "?")) {
        *value = NAN;
        return true;
    }
    if (text < end && (*text == '-' || *text == '+')) text++;
    if (!is_word(text, end, "inf") && !is_word(text, end, "infinity")) return false;
    *value = negative ? -INFINITY : INFINITY;
    return true;
}

/* w 10^e -> float. False: the library must decide. */
static bool round_once(uint64_t w, int e, float *value)
{
    if (w == 0) {
        *value = 0;
        return true;
    }
    if (w <= (uint64_t)1 << 53 && e >= -22 && e <= 22) {
        double   r = e < 0 ? (double)w / exact_double[-e] : (double)w * exact_double[e];
        uint64_t bits;
        memcpy(&bits, &r, sizeof bits);
        if ((bits & 0x1fffffff) == 0x10000000 || r < FLT_MIN || r > FLT_MAX) return false;
        *value = (float)r;
        return true;
    }
#if LDBL_MANT_DIG == 64
    if (e >= -27 && e <= 27) { /* 10^27 is 5^27 2^27, and 5^27 has 63 bits */
        long double power = 1;
        for (int i = e < 0 ? -e : e; i > 0; i -= i > 22 ? 22 : i) power *= exact_double[i > 22 ? 22 : i];
        long double r = e < 0 ? (long double)w / power : (long double)w * power;
        uint64_t    mantissa;
        memcpy(&mantissa, &r, sizeof mantissa);
        if ((mantissa & 0xffffffffffu) == 0x8000000000u || r < FLT_MIN || r > FLT_MAX) return false;
        *value = (float)r;
        return true;
    }
#endif
    return false;
}

bool letor_number(const char *text, const char *end, float *value)
{
    const char *at = text;
    bool        negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) at++;
    uint64_t w = 0;
    int      digits = 0, significant = 0, e = 0;
    for (; at < end && (unsigned)(*at - '0') < 10; at++, digits++) {
        significant += significant > 0 || *at != '0';
        if (significant <= 19) w = 10 * w + (unsigned)(*at - '0');
    }
    if (at < end && *at == '.')
        for (at++; at < end && (unsigned)(*at - '0') < 10; at++, digits++) {
            significant += significant > 0 || *at != '0';
            if (significant <= 19) w = 10 * w + (unsigned)(*at - '0'), e--;
        }
    if (digits == 0) return by_name(text, end, value);
    if (at < end && (*at == 'e' || *at == 'E')) {
        bool minus = ++at < end && *at == '-';
        int  exponent = 0;
        if (at < end && (*at == '-' || *at == '+')) at++;
        if (at == end) return false;
        for (; at < end && (unsigned)(*at - '0') < 10; at++) exponent = exponent < 100000 ? 10 * exponent + (*at - '0') : exponent;
        e += minus ? -exponent : exponent;
    }
    if (at != end) return false;
    if (significant > 19 || !round_once(w, e, value)) return by_library(text, end, value);
    if (negative) *value = -*value;
    return true;
}
