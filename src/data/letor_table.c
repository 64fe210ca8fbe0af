/* letor_table.c - lines of a CSV or TSV table: which column is what, and their numbers.
 *
 * Fields may stand in double quotes (a doubled quote is one). Columns are named by the header or numbered from 0. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/letor_parts.h"

enum { MOST_FIELDS = 1 << 24 };

/* The field at *at, moved behind its separator (NULL: it was the last). False: a quote stays open, or text follows it. */
static bool next_field(const char **at, const char *end, char separator, const char **text, const char **stop)
{
    const char *p = *at;
    if (p < end && *p == '"') {
        *text = ++p;
        while (p < end && (*p != '"' || (p + 1 < end && p[1] == '"'))) p += *p == '"' ? 2 : 1;
        if (p >= end) return false;
        *stop = p++;
        if (p < end && *p != separator) return false;
    } else {
        const char *mark = p < end ? memchr(p, separator, (size_t)(end - p)) : NULL;
        *text = p;
        *stop = p = mark ? mark : end;
        while (*text < *stop && (**text == ' ' || (separator != '\t' && **text == '\t'))) (*text)++;
        while (*stop > *text && ((*stop)[-1] == ' ' || (separator != '\t' && (*stop)[-1] == '\t'))) (*stop)--;
    }
    *at = p < end ? p + 1 : NULL;
    return true;
}

static int shown(const char *at, const char *end) { return end - at > 60 ? 60 : (int)(end - at); }

/* One field into the row. False: refused. */
static bool take_field(letor_chunk *c, const letor_table *t, int64_t i, const char *at, const char *end)
{
    int32_t role = t->feature[i];
    float   value = NAN;
    if (role == LETOR_IGNORE) return true;
    if (role == LETOR_QUERY || role == LETOR_DOCUMENT) {
        *(role == LETOR_QUERY ? &c->queries[c->rows] : &c->documents[c->rows]) = (letor_token){at, (uint32_t)(end - at)};
        if (at < end || role == LETOR_DOCUMENT) return true;
        letor_chunk_fail(c, CRANK_BAD_DATA, "field %lld: the query is empty", (long long)i);
        return false;
    }
    if (at < end && !letor_number(at, end, &value)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "field %lld is `%.*s`, which is no number; name text columns in the option ignore", (long long)i,
                         shown(at, end), at);
        return false;
    }
    if (isinf(value) || (role < 0 && !isfinite(value)) || (role == LETOR_WEIGHT && value < 0)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "field %lld is `%.*s`; %s", (long long)i, shown(at, end), at,
                         role == LETOR_LABEL    ? "a label must be a finite number"
                         : role == LETOR_WEIGHT ? "a weight must be a finite number, not negative"
                                                : "infinite as float32");
        return false;
    }
    if (role == LETOR_LABEL) c->labels[c->rows] = value;
    else if (role == LETOR_WEIGHT) c->weights[c->rows] = value;
    else return letor_chunk_value(c, role, value);
    return true;
}

static bool parse_line(letor_chunk *c, const char *at, const char *end, const letor_table *t)
{
    if (!letor_chunk_row(c)) return false;
    int64_t i = 0;
    for (const char *text, *stop; at; i++) {
        if (!next_field(&at, end, t->separator, &text, &stop)) {
            letor_chunk_fail(c, CRANK_BAD_DATA, "field %lld: a quote stays open, or text follows a closing quote", (long long)i);
            return false;
        }
        if (i < t->fields && !take_field(c, t, i, text, stop)) return false;
    }
    if (i != t->fields) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "the line has %lld fields; the first line has %lld", (long long)i, (long long)t->fields);
        return false;
    }
    c->ends[c->rows++] = c->count;
    return true;
}

void letor_parse_table(letor_chunk *chunk, const char *text, const char *end, const letor_table *table)
{
    while (text < end) {
        const char *mark = memchr(text, '\n', (size_t)(end - text)), *stop = mark ? mark : end, *next = mark ? mark + 1 : end;
        chunk->lines++;
        if (stop > text && stop[-1] == '\r') stop--;
        if (memchr(text, 0, (size_t)(stop - text))) letor_chunk_fail(chunk, CRANK_BAD_DATA, "a zero byte stands in the line: this is no text");
        if (chunk->status != CRANK_OK) return;
        if (stop > text && !parse_line(chunk, text, stop, table)) return;
        text = next;
    }
}

/* ---- the first line ---- */

typedef struct fields {
    char  **names; /* unquoted copies */
    int64_t count;
    bool    numbers; /* every field is a number or empty */
} fields;

static void fields_free(fields *f)
{
    for (int64_t i = 0; i < f->count; i++) crank_free(f->names[i]);
    crank_free(f->names);
}

static crank_status split(crank_context *context, const char *path, const char *at, const char *end, char separator, fields *out)
{
    int64_t most = 1;
    for (const char *p = at; p < end; p++) most += *p == separator;
    if (most > MOST_FIELDS)
        return crank_fail(context, CRANK_BAD_DATA, "%s:1: a line of %lld fields; a table has at most %d: write the SVMlight format", path, (long long)most, MOST_FIELDS);
    *out = (fields){crank_alloc(context, (size_t)most, sizeof *out->names, "a table's columns"), 0, true};
    if (!out->names) return CRANK_FAILED;
    for (const char *text, *stop; at; out->count++) {
        float number;
        if (!next_field(&at, end, separator, &text, &stop))
            return crank_fail(context, CRANK_BAD_DATA, "%s:1: field %lld: a quote stays open, or text follows a closing quote", path, (long long)out->count);
        if (text < stop && !letor_number(text, stop, &number)) out->numbers = false;
        if (!(out->names[out->count] = crank_format(context, "%.*s", (int)(stop - text), text))) return CRANK_FAILED;
    }
    return CRANK_OK;
}

/* The number of the column that `key` names, or -1 with a message. */
static int64_t column_of(crank_context *context, const char *path, const fields *f, bool header, const char *key, const char *option)
{
    for (int64_t i = 0; header && i < f->count; i++)
        if (strcmp(f->names[i], key) == 0) return i;
    char *stop;
    long  number = strtol(key, &stop, 10);
    if (*key && !*stop && number >= 0 && number < f->count) return number;
    const char *near = header ? crank_closest(key, (const char *const *)f->names, (size_t)(f->count < 4096 ? f->count : 4096)) : NULL;
    crank_fail(context, CRANK_USAGE, "%s: the option %s names column `%s`, which the table does not have (%lld columns%s%s%s)", path, option, key,
               (long long)f->count, header ? "" : ", no header", near ? "; did you mean " : "", near ? near : "");
    return -1;
}

static crank_status set_role(crank_context *context, const char *path, const fields *f, bool header, const char *key, const char *option, int32_t role, letor_table *t)
{
    int64_t i = column_of(context, path, f, header, key, option);
    if (i < 0) return CRANK_USAGE;
    if (t->feature[i] < 0)
        return crank_fail(context, CRANK_USAGE, "%s: column `%s` has two roles; the option %s names it again", path, key, option);
    t->feature[i] = role;
    return CRANK_OK;
}

static crank_status set_roles(crank_context *context, const char *path, const fields *f, bool header, const letor_options *o, letor_table *t)
{
    const struct {
        const char *key, *option;
        int32_t     role;
    } roles[] = {{o->label ? o->label : "0", "label", LETOR_LABEL}, {o->query, "query", LETOR_QUERY}, {o->weight, "weight", LETOR_WEIGHT},
                 {o->document, "document", LETOR_DOCUMENT}};
    crank_status status = CRANK_OK;
    for (size_t i = 0; i < sizeof roles / sizeof *roles && status == CRANK_OK; i++)
        if (roles[i].key) status = set_role(context, path, f, header, roles[i].key, roles[i].option, roles[i].role, t);
    char        key[512];
    const char *cursor = o->ignore;
    while (status == CRANK_OK && cursor && crank_list_next(&cursor, key, sizeof key, NULL, 0))
        status = set_role(context, path, f, header, key, "ignore", LETOR_IGNORE, t);
    return status;
}

static crank_status mark_categorical(crank_context *context, const char *path, const fields *f, bool header, const letor_options *o, letor_table *t)
{
    char        key[512];
    const char *cursor = o->categorical;
    while (cursor && crank_list_next(&cursor, key, sizeof key, NULL, 0)) {
        int64_t i = column_of(context, path, f, header, key, "categorical");
        if (i < 0) return CRANK_USAGE;
        if (t->feature[i] < 0) return crank_fail(context, CRANK_USAGE, "%s: column `%s` is categorical and no feature", path, key);
        t->categorical[t->feature[i]] = true;
    }
    return CRANK_OK;
}

/* Names of the features in one block of text: names[i] points into *arena. */
static crank_status take_names(crank_context *context, const fields *f, const letor_table *t, letor_set *set)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < f->count; i++) bytes += strlen(f->names[i]) + 1;
    char *at = set->arena[2] = crank_alloc(context, bytes, 1, "column names");
    set->names = crank_alloc(context, (size_t)t->columns + 1, sizeof *set->names, "column names");
    if (!at || !set->names) return CRANK_FAILED;
    for (int64_t i = 0; i < f->count; i++) {
        size_t length = strlen(f->names[i]) + 1;
        if (t->feature[i] < 0) continue;
        memcpy(at, f->names[i], length);
        set->names[t->feature[i]] = at;
        at += length;
    }
    return CRANK_OK;
}

crank_status letor_table_open(crank_context *context, const char *path, const char *line, size_t length, const letor_options *o, char separator,
                              letor_table *t, letor_set *set, bool *skip)
{
    fields f = {0};
    *t = (letor_table){.separator = separator};
    if (length && line[length - 1] == '\r') length--;
    crank_status status = split(context, path, line, line + length, separator, &f);
    *skip = strcmp(o->header, "yes") == 0 || (strcmp(o->header, "auto") == 0 && !f.numbers && !o->query && !o->ignore && !o->document);
    if (strcmp(o->header, "auto") == 0 && !f.numbers) { /* text columns may be data: the label tells */
        int64_t label = status == CRANK_OK ? column_of(context, path, &f, true, o->label ? o->label : "0", "label") : -1;
        float   number;
        if (label < 0) status = status == CRANK_OK ? CRANK_USAGE : status;
        else *skip = !letor_number(f.names[label], f.names[label] + strlen(f.names[label]), &number);
    }
    t->fields = f.count;
    if (status == CRANK_OK && !(t->feature = crank_alloc(context, (size_t)f.count, sizeof *t->feature, "a table's columns"))) status = CRANK_FAILED;
    if (status == CRANK_OK && !(t->categorical = crank_alloc(context, (size_t)f.count, 1, "a table's columns"))) status = CRANK_FAILED;
    if (status == CRANK_OK) status = set_roles(context, path, &f, *skip, o, t);
    for (int64_t i = 0; status == CRANK_OK && i < f.count; i++)
        if (t->feature[i] == 0) t->feature[i] = (int32_t)t->columns++;
    if (status == CRANK_OK) status = mark_categorical(context, path, &f, *skip, o, t);
    if (status == CRANK_OK && *skip) status = take_names(context, &f, t, set);
    fields_free(&f);
    return status;
}

void letor_table_close(letor_table *t)
{
    crank_free(t->feature);
    crank_free(t->categorical);
    *t = (letor_table){0};
}
