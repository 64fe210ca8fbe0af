/* option_value.h - setting an option from a value whose shape is known (YAML), beside crank_options_set's bare text; an option's default
 * and range as help shows them. */
#ifndef CRANK_BASE_OPTION_VALUE_H
#define CRANK_BASE_OPTION_VALUE_H

#include "crank/option.h"

typedef enum option_shape {
    OPTION_TEXT, /* a scalar, or a list or map as typed on a command line */
    OPTION_NULL, /* nothing: allowed where the default is "not given" */
    OPTION_ITEMS, /* a list: elements joined by '\n', none of them empty */
    OPTION_PAIRS  /* a mapping: "key=value" lines joined by '\n' */
} option_shape;

/* As crank_options_set. */
crank_status option_set(crank_context *context, const crank_option *table, void *options, const char *key,
                        option_shape shape, const char *value, const char *where);
const crank_option *option_find(const crank_option *table, const char *key); /* NULL: none */
/* "16", "true", "a,b", "-" where nothing is given; "1 to 65536", "a|b", "list". Cut at `size`. */
void option_default_text(const crank_option *option, char *out, size_t size);
void option_range_text(const crank_option *option, char *out, size_t size);
#endif
