/* jinja.h - a small Jinja2 interpreter for chat templates: parse once, render with JSON values.
 *
 * What chat templates use: text, {{ }}, {% if for set macro filter break continue generation %}, {# #}, whitespace
 * control (- and trim_blocks + lstrip_blocks, as transformers sets them), literals, operators with Python's semantics
 * (// % ** ~ in is and or not, conditional expressions, slices, method calls of str, list and dict), `namespace`, `loop`,
 * `range`, `raise_exception`, `strftime_now`, the built-in filters and tests, `tojson` as transformers writes it. An
 * unknown filter, test or tag is an error that names it and its line. Work is bounded: a template that runs more than 10
 * million steps, writes more than 64 MiB of text, holds more than 256 MiB of values or nests deeper than 800 levels fails.
 *
 * Three things differ from Python on purpose: integers have 64 bits and overflow is an error; a negative number has no
 * fractional power (Python gives a complex number); an iterator is printed without an address.
 *
 * A template is read-only once parsed: several threads may render it at the same time, each with its own context. */
#ifndef CRANK_DATA_JINJA_H
#define CRANK_DATA_JINJA_H

#include <jansson.h>

#include "crank/base.h"

typedef struct jinja_template jinja_template;

jinja_template *jinja_parse(crank_context *context, const char *text, size_t length, const char *name);
void            jinja_free(jinja_template *tmpl);

/* Byte ranges of the output that {% generation %} blocks made. */
typedef struct jinja_spans {
    size_t *ranges; /* [2 * count] */
    size_t  count;
} jinja_spans;

/* Renders with `variables` (a JSON object). malloc'd text; crank_free. `spans` may be NULL; its ranges: crank_free.
 * `now` is the time that strftime_now prints (seconds since 1970, UTC); -1 is the present. */
char *jinja_render(crank_context *context, const jinja_template *tmpl, const json_t *variables, int64_t now,
                   jinja_spans *spans, size_t *length);
bool  jinja_has_generation(const jinja_template *tmpl);
#endif
