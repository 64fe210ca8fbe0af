/* format.c - model files: read by what they hold, written by what their name ends in.
 *
 *     tree ...         LightGBM's text                          any other name
 *     { " ...          XGBoost's JSON                           NAME.json
 *     { L, i, U ...    XGBoost's binary JSON (.ubj): read only
 *     CRNKTREE         binary_file.c                           NAME.trees
 *                      C source (c_source.c): written only     NAME.c */
#include <ctype.h>

#include "base/file.h"
#include "tree/score.h"
#include "tree/ubjson.h"

static crank_trees *read_json(crank_context *context, const char *path, json_t *root)
{
    crank_trees *trees = root ? trees_read_xgboost(context, path, root) : NULL;
    json_decref(root);
    return trees;
}

static crank_trees *read_any(crank_context *context, const char *path, char *bytes, size_t length)
{
    size_t first = 0;
    if (trees_is_binary(bytes, length)) return trees_read_binary(context, path, bytes, length);
    while (first < length && isspace((unsigned char)bytes[first])) first++;
    if (first == length || bytes[first] != '{') return trees_read_lightgbm(context, path, bytes, length);
    size_t next = first + 1;
    while (next < length && isspace((unsigned char)bytes[next])) next++;
    if (next < length && (bytes[next] == '"' || bytes[next] == '}')) return read_json(context, path, json_parse(context, bytes, length, path));
    return read_json(context, path, ubjson_parse(context, bytes, length, path));
}

crank_trees *crank_trees_load(crank_context *context, const char *path)
{
    size_t       length;
    char        *bytes = file_read(context, path, &length);
    crank_trees *trees = bytes ? read_any(context, path, bytes, length) : NULL;
    crank_free(bytes);
    if (!trees || (trees->scorer = scorer_make(context, trees))) return trees;
    crank_trees_free(trees);
    return NULL;
}

static bool ends_in(const char *path, const char *end)
{
    size_t a = strlen(path), b = strlen(end);
    return a >= b && strcmp(path + a - b, end) == 0;
}

crank_status crank_trees_save(crank_context *context, const crank_trees *trees, const char *path)
{
    if (ends_in(path, ".ubj")) return crank_fail(context, CRANK_USAGE, "%s: models are written as XGBoost's JSON, which it reads as well: name the file .json", path);
    if (ends_in(path, ".trees")) return trees_write_binary(context, trees, path);
    char        *text = ends_in(path, ".json") ? trees_write_xgboost(context, trees) : ends_in(path, ".c") ? trees_write_c(context, trees) : trees_write_lightgbm(context, trees);
    crank_status status = text ? file_write_text(context, path, text) : CRANK_FAILED;
    crank_free(text);
    return status == CRANK_OK || text ? status : crank_last_status(context);
}
