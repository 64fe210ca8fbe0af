/* rows.c - reading rows: plain text, jsonl by its keys, TSV and CSV by their columns. */
#include "data/rows.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "data/csv.h"

const char *rows_schema_name(row_schema schema)
{
    static const char *const names[] = {"none", "text", "prompt + completion", "messages", "text + label"};
    return names[schema];
}

void rows_free(raw_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) crank_free(rows->rows[i].text), crank_free(rows->rows[i].second);
    free(rows->rows);
    for (int i = 0; i < rows->file_count; i++) crank_free(rows->files[i]);
    free(rows->files);
    *rows = (raw_rows){0};
}

crank_status rows_add(crank_context *context, raw_rows *rows, raw_row row)
{
    if (rows->count == rows->capacity) {
        size_t   capacity = rows->capacity ? 2 * rows->capacity : 1024;
        raw_row *bigger = realloc(rows->rows, capacity * sizeof *bigger);
        if (!bigger) {
            crank_free(row.text), crank_free(row.second);
            return crank_fail(context, CRANK_FAILED, "out of memory: %zu rows", capacity);
        }
        rows->rows = bigger;
        rows->capacity = capacity;
    }
    row.file = rows->file_count - 1;
    rows->rows[rows->count++] = row;
    return CRANK_OK;
}

static char *copy_bytes(crank_context *context, const char *bytes, size_t length)
{
    char *copy = crank_alloc(context, length + 1, 1, "a row");
    if (copy) memcpy(copy, bytes, length);
    return copy;
}

static crank_status set_schema(crank_context *context, raw_rows *rows, row_schema schema, const char *path, size_t line)
{
    if (rows->schema == ROWS_NONE) rows->schema = schema;
    if (rows->schema == schema) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: this row is %s and those before it are %s: one set has one schema", path, line,
                      rows_schema_name(schema), rows_schema_name(rows->schema));
}

/* ---- plain text ---- */

/* Adds text [start, end) as a row when it holds more than white space. */
static crank_status add_text(crank_context *context, raw_rows *rows, const char *start, const char *end, size_t line)
{
    const char *p = start;
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    if (p == end) return CRANK_OK;
    char *text = copy_bytes(context, start, (size_t)(end - start));
    return text ? rows_add(context, rows, (raw_row){.text = text, .label = NAN, .line = line}) : CRANK_FAILED;
}

/* One row a line, empty ones too: results are matched by line. */
static crank_status read_lines(crank_context *context, const char *path, raw_rows *rows)
{
    file_lines  *lines = file_lines_open(context, path);
    crank_status status = lines ? set_schema(context, rows, ROWS_LABELLED, path, 1) : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          more;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) != 0) {
        size_t line = file_lines_number(lines);
        if (more < 0) status = crank_last_status(context);
        else if (memchr(text, 0, length)) status = crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the line holds a zero byte", path, line);
        if (status != CRANK_OK) break;
        char *copy = copy_bytes(context, text, length);
        status = copy ? rows_add(context, rows, (raw_row){.text = copy, .label = NAN, .line = line}) : CRANK_FAILED;
    }
    file_lines_close(lines);
    return status;
}

static crank_status read_text(crank_context *context, const dataset_options *options, const char *path, raw_rows *rows)
{
    size_t       length, line = 1, start_line = 1;
    char        *text = file_read(context, path, &length);
    crank_status status = text ? set_schema(context, rows, ROWS_TEXT, path, 1) : crank_last_status(context);
    if (status == CRANK_OK && memchr(text, 0, length))
        status = crank_fail(context, CRANK_BAD_DATA, "%s holds zero bytes and is no text file", path);
    if (status == CRANK_OK && !strcmp(options->document, "file")) {
        status = add_text(context, rows, text, text + length, 1);
    } else if (status == CRANK_OK) {
        bool        by_line = !strcmp(options->document, "line");
        const char *start = text, *end = text + length;
        for (const char *p = text; p < end && status == CRANK_OK; p++) {
            if (*p != '\n') continue;
            line++;
            const char *next = p + 1;
            while (next < end && (*next == ' ' || *next == '\r')) next++;
            bool border = by_line || (next < end && *next == '\n');
            if (!border) continue;
            status = add_text(context, rows, start, p, start_line);
            start = p + 1;
            start_line = line;
        }
        if (status == CRANK_OK) status = add_text(context, rows, start, end, start_line);
    }
    crank_free(text);
    return status;
}

/* ---- labels ---- */

/* A class by number, or by its place among data.labels. */
static crank_status read_label(crank_context *context, const dataset_options *options, const char *text, const char *path, size_t line, double *label)
{
    if (options->labels) {
        const char *cursor = options->labels;
        char        name[256];
        for (int64_t i = 0; crank_list_next(&cursor, name, sizeof name, NULL, 0); i++)
            if (!strcmp(name, text)) {
                *label = (double)i;
                return CRANK_OK;
            }
        return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: label `%s` is not among data.labels", path, line, text);
    }
    if (number_parse(text, label) && fabs(*label) <= FLT_MAX) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: label `%s` is no number: name the classes in data.labels", path, line, text);
}

/* ---- jsonl ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const json_t *value = key ? json_object_get(object, key) : NULL;
    return json_is_string(value) ? json_string_value(value) : NULL;
}

static crank_status json_label(crank_context *context, const dataset_options *options, const json_t *value, const char *path, size_t line, double *label)
{
    if (json_is_number(value)) *label = json_number_value(value);
    else if (json_is_boolean(value)) *label = json_is_true(value);
    else if (json_is_string(value)) return read_label(context, options, json_string_value(value), path, line, label);
    else return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: `%s` is neither a number nor a class name", path, line, options->label_field);
    return fabs(*label) <= FLT_MAX ? CRANK_OK : crank_fail(context, CRANK_BAD_DATA, "%s:%zu: label %g is out of range", path, line, *label);
}

static crank_status missing_field(crank_context *context, const dataset_options *options, const json_t *object, unsigned fields, const char *path, size_t line)
{
    bool        labelled = fields & (DATASET_LABELS | DATASET_VALUES);
    char        keys[512] = "";
    size_t      used = 0;
    const char *key;
    json_t     *value;
    json_object_foreach((json_t *)object, key, value) if (used + strlen(key) + 3 < sizeof keys)
        used += (size_t)snprintf(keys + used, sizeof keys - used, "%s%s", used ? ", " : "", key);
    if (fields & DATASET_BARE)
        return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: wanted a text `%s`%s%s%s; the row has %s", path, line, options->text_field,
                          options->pair_field ? " and a text `" : "", options->pair_field ? options->pair_field : "", options->pair_field ? "`" : "", keys);
    if (labelled)
        return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: wanted a text `%s` and a label `%s` (data.text_field, data.label_field); the row has %s", path, line,
                          options->text_field, options->label_field, keys);
    return crank_fail(context, CRANK_BAD_DATA,
                      "%s:%zu: no known schema: wanted `%s` and `%s`, or `messages`, or `%s` (data.prompt_field, data.completion_field, data.text_field); the "
                      "row has %s", path, line, options->prompt_field, options->completion_field, options->text_field, keys);
}

static crank_status add_object(crank_context *context, const dataset_options *options, const json_t *object, unsigned fields, const char *path, size_t line,
                               raw_rows *rows)
{
    const char *prompt = text_of(object, options->prompt_field), *completion = text_of(object, options->completion_field);
    const char *text = text_of(object, options->text_field), *pair = text_of(object, options->pair_field);
    bool        labelled = fields & (DATASET_LABELS | DATASET_VALUES);
    raw_row     row = {.label = NAN, .line = line};
    row_schema  schema;
    if (fields & DATASET_BARE) {
        if (!text || (options->pair_field && !pair)) return missing_field(context, options, object, fields, path, line);
        schema = ROWS_LABELLED;
        row.text = crank_strdup(context, text);
        row.second = pair ? crank_strdup(context, pair) : NULL;
    } else if (labelled) {
        const json_t *label = json_object_get(object, options->label_field);
        if (!text || !label) return missing_field(context, options, object, fields, path, line);
        if (options->pair_field && !pair) return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the row has no text `%s`", path, line, options->pair_field);
        crank_status status = json_label(context, options, label, path, line, &row.label);
        if (status != CRANK_OK) return status;
        schema = ROWS_LABELLED;
        row.text = crank_strdup(context, text);
        row.second = pair ? crank_strdup(context, pair) : NULL;
    } else if (json_is_array(json_object_get(object, "messages"))) {
        schema = ROWS_MESSAGES;
        row.text = json_text(context, object, 0);
    } else if (prompt && completion) {
        schema = ROWS_COMPLETION;
        row.text = crank_strdup(context, prompt);
        row.second = crank_strdup(context, completion);
    } else if (json_is_array(json_object_get(object, options->prompt_field)) && json_is_array(json_object_get(object, options->completion_field))) {
        schema = ROWS_MESSAGES;
        row.text = json_text(context, object, 0);
    } else if (text) {
        schema = ROWS_TEXT;
        row.text = crank_strdup(context, text);
    } else {
        return missing_field(context, options, object, fields, path, line);
    }
    crank_status status = row.text && (row.second || !(schema == ROWS_COMPLETION || pair)) ? set_schema(context, rows, schema, path, line) : CRANK_FAILED;
    if (schema == ROWS_LABELLED && row.text && status == CRANK_OK && pair && !row.second) status = CRANK_FAILED;
    if (status != CRANK_OK) {
        crank_free(row.text), crank_free(row.second);
        return status;
    }
    return rows_add(context, rows, row);
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    return true;
}

static crank_status read_jsonl(crank_context *context, const dataset_options *options, const char *path, unsigned fields, raw_rows *rows)
{
    file_lines  *lines = file_lines_open(context, path);
    crank_status status = lines ? CRANK_OK : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          more;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) != 0) {
        if (more < 0) status = crank_last_status(context);
        if (more < 0 || is_blank(text, length)) continue;
        char where[4200];
        snprintf(where, sizeof where, "%s:%zu", path, file_lines_number(lines));
        json_t *object = json_parse(context, text, length, where);
        if (!object) status = crank_last_status(context);
        else if (!json_is_object(object)) status = crank_fail(context, CRANK_BAD_DATA, "%s: a row must be a JSON object", where);
        else status = add_object(context, options, object, fields, path, file_lines_number(lines), rows);
        json_decref(object);
    }
    if (lines) file_lines_close(lines);
    return status;
}

/* ---- TSV and CSV ---- */

enum { MAX_COLUMNS = 256 };

/* A table under work: where its columns are is known from its first row. */
typedef struct table_reader {
    const dataset_options *options;
    const char            *path;
    bool                   labelled, bare, started;
    int                    text, second, label; /* columns; -1: none */
    raw_rows              *rows;
} table_reader;

/* Cuts a copied line at its tabs. */
static int cut(char *line, char **columns)
{
    int count = 0;
    for (char *p = line; p && count < MAX_COLUMNS;) {
        columns[count++] = p;
        p = strchr(p, '\t');
        if (p) *p++ = 0;
    }
    return count;
}

/* The column of a field: a number counts from 0, other texts are names of the header. -1: none. Numbers come first, since a
 * first row without header may hold the same digits (a label 1 beside text_field 1). */
static int column_of(const char *field, char *const *header, int count)
{
    int64_t number;
    if (!field) return -1;
    if (number_parse_int(field, &number)) return number >= 0 && number < MAX_COLUMNS ? (int)number : -1;
    for (int i = 0; i < count; i++)
        if (!strcmp(header[i], field)) return i;
    return -1;
}

/* *has_header: the first row names the columns. */
static crank_status find_columns(crank_context *context, table_reader *table, char *const *header, int count, bool *has_header)
{
    const dataset_options *options = table->options;
    const char            *text = options->text_field, *label = options->label_field;
    *has_header = column_of(text, header, count) >= 0 && !number_parse_int(text, &(int64_t){0});
    if (!*has_header && !strcmp(text, "text")) { /* the usual names of public sets */
        static const char *const usual[] = {"sentence", "content", "question"};
        for (int i = 0; i < 3 && !*has_header; i++)
            for (int k = 0; k < count; k++)
                if (!strcmp(header[k], usual[i])) text = usual[i], *has_header = true;
    }
    table->text = column_of(text, header, count);
    table->second = column_of(options->pair_field, header, count);
    table->label = table->labelled ? column_of(label, header, count) : -1;
    const char *missing = table->text < 0 ? text : options->pair_field && table->second < 0 ? options->pair_field : label;
    if (table->text < 0 || (options->pair_field && table->second < 0) || (table->labelled && table->label < 0))
        return crank_fail(context, CRANK_BAD_DATA, "%s:1: no column `%s`: name columns of the header, or numbers from 0, in data.text_field%s%s", table->path, missing,
                          options->pair_field ? ", data.pair_field" : "", table->labelled ? " and data.label_field" : "");
    return CRANK_OK;
}

static crank_status add_columns(crank_context *context, table_reader *table, char *const *columns, int count, size_t line)
{
    int     highest = table->text > table->label ? table->text : table->label;
    raw_row row = {.label = NAN, .line = line};
    if (table->second > highest) highest = table->second;
    if (count <= highest) return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the row has %d columns and column %d is wanted", table->path, line, count, highest);
    crank_status status = table->labelled ? read_label(context, table->options, columns[table->label], table->path, line, &row.label) : CRANK_OK;
    if (status == CRANK_OK) status = set_schema(context, table->rows, table->labelled || table->bare ? ROWS_LABELLED : ROWS_TEXT, table->path, line);
    if (status != CRANK_OK) return status;
    row.text = crank_strdup(context, columns[table->text]);
    row.second = table->second >= 0 && (table->labelled || table->bare) ? crank_strdup(context, columns[table->second]) : NULL;
    if (!row.text || (table->second >= 0 && (table->labelled || table->bare) && !row.second)) {
        crank_free(row.text), crank_free(row.second);
        return CRANK_FAILED;
    }
    return rows_add(context, table->rows, row);
}

static crank_status add_record(crank_context *context, table_reader *table, char *const *columns, int count, size_t line)
{
    bool         header = false;
    crank_status status = table->started ? CRANK_OK : find_columns(context, table, columns, count, &header);
    table->started = true;
    return status == CRANK_OK && !header ? add_columns(context, table, columns, count, line) : status;
}

static crank_status read_tsv(crank_context *context, table_reader *table)
{
    file_lines  *lines = file_lines_open(context, table->path);
    crank_status status = lines ? CRANK_OK : crank_last_status(context);
    const char  *text;
    size_t       length;
    int          more;
    while (status == CRANK_OK && (more = file_lines_next(context, lines, &text, &length)) != 0) {
        if (more < 0) status = crank_last_status(context);
        if (more < 0 || is_blank(text, length)) continue;
        size_t line = file_lines_number(lines);
        if (memchr(text, 0, length)) {
            status = crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the row holds a zero byte", table->path, line);
            break;
        }
        char *columns[MAX_COLUMNS], *copy = copy_bytes(context, text, length);
        status = copy ? add_record(context, table, columns, cut(copy, columns), line) : CRANK_FAILED;
        crank_free(copy);
    }
    if (lines) file_lines_close(lines);
    return status;
}

static crank_status read_csv(crank_context *context, table_reader *table)
{
    csv_reader   reader;
    char        *columns[MAX_COLUMNS];
    int          count = 1;
    crank_status status = csv_open(context, &reader, table->path);
    if (status != CRANK_OK) return status;
    while (status == CRANK_OK && (status = csv_next(context, &reader, columns, MAX_COLUMNS, &count)) == CRANK_OK && count)
        status = add_record(context, table, columns, count, reader.line);
    csv_close(&reader);
    return status;
}

/* ---- files ---- */

static bool ends_with(const char *path, size_t length, const char *end)
{
    size_t n = strlen(end);
    return length >= n && !memcmp(path + length - n, end, n);
}

static const char *format_of(const dataset_options *options, const char *path)
{
    size_t length = strlen(path);
    if (strcmp(options->format, "auto")) return options->format;
    if (ends_with(path, length, ".gz")) length -= 3;
    if (ends_with(path, length, ".jsonl") || ends_with(path, length, ".ndjson")) return "jsonl";
    return ends_with(path, length, ".tsv") ? "tsv" : ends_with(path, length, ".csv") ? "csv" : "text";
}

static crank_status read_file(crank_context *context, const dataset_options *options, const char *path, unsigned fields, raw_rows *rows)
{
    char **files = realloc(rows->files, (size_t)(rows->file_count + 1) * sizeof *files);
    char  *copy = files ? crank_strdup(context, path) : NULL;
    if (files) rows->files = files;
    if (!copy) return crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    rows->files[rows->file_count++] = copy;
    const char *format = format_of(options, path);
    if (!strcmp(format, "jsonl")) return read_jsonl(context, options, path, fields, rows);
    bool         labelled = fields & (DATASET_LABELS | DATASET_VALUES);
    table_reader table = {.options = options, .path = path, .labelled = labelled, .bare = fields & DATASET_BARE, .rows = rows};
    if (!strcmp(format, "tsv")) return read_tsv(context, &table);
    if (!strcmp(format, "csv")) return read_csv(context, &table);
    if (labelled) return crank_fail(context, CRANK_BAD_DATA, "%s is plain text and the objective needs labels: use jsonl, TSV or CSV rows", path);
    return fields & DATASET_BARE ? read_lines(context, path, rows) : read_text(context, options, path, rows);
}

crank_status rows_read(crank_context *context, const dataset_options *options, const char *paths, unsigned fields, raw_rows *out)
{
    char         path[4096];
    const char  *cursor = paths;
    crank_status status = CRANK_OK;
    *out = (raw_rows){0};
    while (status == CRANK_OK && crank_list_next(&cursor, path, sizeof path, NULL, 0)) status = read_file(context, options, path, fields, out);
    if (status == CRANK_OK && !out->count) status = crank_fail(context, CRANK_BAD_DATA, "%s holds no row", out->file_count ? out->files[0] : "the data");
    if (status != CRANK_OK) rows_free(out);
    return status;
}
