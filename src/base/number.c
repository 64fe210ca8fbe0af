/* number.c - numbers as text in the C locale.
 *
 * glibc hands out its one built-in object for newlocale(LC_ALL_MASK, "C"): asking for it costs nothing and needs no
 * global of ours. */
#include "base/number.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static double read_double(const char *text, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double   value = strtod_l(text, end, c);
    freelocale(c);
    return value;
}

size_t number_print_digits(double value, int digits, char out[NUMBER_SIZE])
{
    if (!isfinite(value)) return (size_t)snprintf(out, NUMBER_SIZE, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c); /* this thread's locale alone */
    int      length = snprintf(out, NUMBER_SIZE, "%.*g", digits, value);
    uselocale(before);
    freelocale(c);
    return (size_t)length;
}

/* Any text of 15 digits survives a double, so %.15g is the shortest where it reads back; subnormals hold fewer digits. */
size_t number_print(double value, char out[NUMBER_SIZE])
{
    size_t length = 0;
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= DBL_DECIMAL_DIG; digits++) {
        length = number_print_digits(value, digits, out);
        if (!isfinite(value) || read_double(out, NULL) == value) break;
    }
    return length;
}

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9') text++;
    return text;
}

/* [-+]? ( digits [. digits*] | . digits ) ( [eE] [-+]? digits )? and nothing more */
static bool is_decimal(const char *text)
{
    if (*text == '-' || *text == '+') text++;
    const char *whole = skip_digits(text), *end = whole;
    if (*whole == '.') end = skip_digits(whole + 1);
    if (whole == text && end <= whole + 1) return false;
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1;
        if (*exponent == '-' || *exponent == '+') exponent++;
        end = skip_digits(exponent);
        if (end == exponent) return false;
    }
    return *end == 0;
}

bool number_parse(const char *text, double *value)
{
    const char *word = text + (*text == '-' || *text == '+');
    if (*word == '.' && (word[1] == 'i' || word[1] == 'I' || word[1] == 'n' || word[1] == 'N')) word++;
    if (strcasecmp(word, "inf") == 0) {
        *value = *text == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (strcasecmp(word, "nan") == 0 && *text != '-' && *text != '+') {
        *value = NAN;
        return true;
    }
    if (!is_decimal(text)) return false;
    *value = read_double(text, NULL);
    return isfinite(*value);
}

bool number_parse_int(const char *text, int64_t *value)
{
    bool        negative = *text == '-';
    const char *digits = text + (*text == '-' || *text == '+');
    int         base = digits[0] == '0' && digits[1] == 'x' ? 16 : digits[0] == '0' && digits[1] == 'o' ? 8 : 10;
    if (base != 10) digits += 2;
    size_t length = strspn(digits, base == 16 ? "0123456789abcdefABCDEF" : base == 8 ? "01234567" : "0123456789");
    if (length > 0 && digits[length] == 0) {
        errno = 0;
        unsigned long long magnitude = strtoull(digits, NULL, base);
        if (errno || magnitude > (uint64_t)INT64_MAX + negative) return false;
        *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
        return true;
    }
    double number;
    if (!number_parse(text, &number) || number != floor(number) || fabs(number) > 0x1p53) return false;
    *value = (int64_t)number;
    return true;
}
