/* ubjson.h - Universal Binary JSON (draft 12, ubjson.org), as XGBoost's .ubj models use it -> a tree of JSON values. */
#ifndef CRANK_TREE_UBJSON_H
#define CRANK_TREE_UBJSON_H

#include "base/json.h"

/* A new reference; NULL: message with file and byte. Containers nested deeper than 64 are refused, and so are typed containers whose
 * elements take no bytes. */
json_t *ubjson_parse(crank_context *context, const void *bytes, size_t length, const char *where);
#endif
