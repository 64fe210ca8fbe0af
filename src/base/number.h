/* number.h - numbers as text, in the C locale whatever the process's LC_NUMERIC says. */
#ifndef CRANK_BASE_NUMBER_H
#define CRANK_BASE_NUMBER_H

#include "crank/base.h"

enum { NUMBER_SIZE = 32 };

/* The shortest decimal text that reads back as the same double ("0.1", "1e-05", "inf", "nan"). Returns its length. */
size_t number_print(double value, char out[NUMBER_SIZE]);
/* At most `digits` significant digits, as %g. */
size_t number_print_digits(double value, int digits, char out[NUMBER_SIZE]);

/* The whole text must be a number of YAML 1.2's core schema: decimal with optional fraction and exponent, or [-+].inf, .nan
 * ("inf" and "nan" too). False otherwise, and for a finite text that overflows. */
bool number_parse(const char *text, double *value);
/* Decimal, 0x hexadecimal or 0o octal, or a decimal number that is whole ("1e6"); false when it does not fit. */
bool number_parse_int(const char *text, int64_t *value);
#endif
