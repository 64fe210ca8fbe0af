/* json.h - jansson with crank's errors. Files are refused for duplicate keys, bad UTF-8 and nesting deeper than jansson
 * allows, with file, line and column. Whole numbers beyond 64 bits are read as reals. */
#ifndef CRANK_BASE_JSON_H
#define CRANK_BASE_JSON_H

#include <jansson.h>

#include "base/text.h"
#include "crank/base.h"

json_t *json_read(crank_context *context, const char *path);                                           /* new reference */
json_t *json_parse(crank_context *context, const char *text, size_t length, const char *where);        /* new reference */
crank_status json_write(crank_context *context, const char *path, const json_t *value);                /* atomic, indent 2 */
/* The value as text, keys in order, reals as the shortest text that reads back equal. indent 0 is one line. crank_free. */
char *json_text(crank_context *context, const json_t *value, int indent);
void  json_put_string(text_buffer *out, const char *bytes, size_t length); /* in quotes, escaped */

/* Typed members. `where` stands in the message. Absent or null: the default (get) or CRANK_BAD_DATA (need). A wrong type or an
 * out-of-range value is always CRANK_BAD_DATA. */
crank_status json_get_int(crank_context *context, const json_t *object, const char *key, int64_t low, int64_t high,
                          int64_t initial, int64_t *out, const char *where);
crank_status json_need_int(crank_context *context, const json_t *object, const char *key, int64_t low, int64_t high,
                           int64_t *out, const char *where);
crank_status json_get_number(crank_context *context, const json_t *object, const char *key, double initial, double *out,
                             const char *where);
crank_status json_get_bool(crank_context *context, const json_t *object, const char *key, bool initial, bool *out,
                           const char *where);
/* NULL when absent or null; lives with the object. Other types: *status = CRANK_BAD_DATA. */
const char *json_get_string(crank_context *context, const json_t *object, const char *key, const char *where,
                            crank_status *status);
#endif
