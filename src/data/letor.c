/* letor.c - reads a file of feature vectors block by block: each block is cut at line ends into one piece a thread, the pieces are
 * parsed side by side and then joined in order, so that the result and the first error do not depend on the number of threads.
 *
 * Values are kept dense where at least a quarter of the first block's matrix is written, in compressed rows otherwise: a row with column
 * ten million costs what it holds. */
#include "data/letor.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/text.h"
#include "data/letor_parts.h"

enum { BLOCK = 1 << 24, LARGEST_LINE = 1 << 30 };

const crank_option letor_option_table[] = {
    CRANK_CHOICE(letor_options, format, "auto", "auto|svmlight|csv|tsv", "of the file; auto: by its name and first line"),
    CRANK_CHOICE(letor_options, header, "auto", "auto|yes|no", "the first line of a table names its columns"),
    CRANK_STRING(letor_options, label, NULL, "the label's column of a table, by name or number from 0 (the first)"),
    CRANK_STRING(letor_options, query, NULL, "the query's column of a table"),
    CRANK_STRING(letor_options, weight, NULL, "the weight's column of a table"),
    CRANK_STRING(letor_options, document, NULL, "the column of a table that names the item"),
    CRANK_LIST(letor_options, ignore, NULL, "columns of a table that are not read"),
    CRANK_LIST(letor_options, categorical, NULL, "columns whose values are categories (whole numbers from 0)"),
    CRANK_CHOICE(letor_options, absent, "zero", "zero|missing", "what a column:value pair that is not written means"),
    CRANK_BOOL(letor_options, regroup, false, "rows of one query may stand apart: bring them together, in the order of the queries' first rows"),
    CRANK_INT(letor_options, columns, 1 << 24, 1, INT32_MAX - 1, "the largest number of columns that is accepted"),
    CRANK_END
};

typedef struct source {
    file_map map;       /* of a plain file */
    size_t   at;
    gzFile   packed;    /* of a compressed one, or standard input */
    char    *buffer;
    size_t   capacity, start, end;
    bool     ended;
} source;

typedef struct reader {
    crank_context       *context;
    const char          *path;
    const letor_options *options;
    source               source;
    letor_chunk         *chunks;
    int                  threads;
    letor_table          table;
    bool                 is_table, decided;
    letor_set           *set;
    int64_t              lines;                 /* before this block */
    int64_t              row_capacity, value_capacity, query_capacity;
    text_buffer          query_text, document_text;
    int64_t             *query_at, *document_at; /* where names begin in their text */
    int32_t             *query_of;               /* [rows] */
    int32_t             *seen;                  /* hash table of queries: index + 1 */
    int64_t              seen_size;
    bool                 any_document, any_weight;
} reader;

/* ---- blocks of whole lines ---- */

static crank_status source_open(reader *r)
{
    source *s = &r->source;
    if (strcmp(r->path, "-") != 0 && file_map_open(r->context, r->path, &s->map) != CRANK_OK) return crank_last_status(r->context);
    bool packed = strcmp(r->path, "-") == 0 || (s->map.length >= 2 && memcmp(s->map.data, "\x1f\x8b", 2) == 0);
    if (!packed) return CRANK_OK;
    file_map_close(&s->map);
    int descriptor = strcmp(r->path, "-") == 0 ? dup(0) : open(r->path, O_RDONLY | O_CLOEXEC);
    s->packed = descriptor >= 0 ? gzdopen(descriptor, "rb") : NULL;
    if (s->packed) {
        gzbuffer(s->packed, 1 << 18);
        return CRANK_OK;
    }
    if (descriptor >= 0) close(descriptor);
    return crank_fail(r->context, CRANK_FAILED, "%s: cannot be read: %s", r->path, strerror(errno));
}

/* Fills the buffer behind `end`. */
static crank_status source_fill(reader *r)
{
    source *s = &r->source;
    if (s->end > s->start && s->start > 0) memmove(s->buffer, s->buffer + s->start, s->end - s->start);
    s->end -= s->start;
    s->start = 0;
    if (s->capacity - s->end < BLOCK) {
        size_t capacity = s->capacity ? 2 * s->capacity : 2 * (size_t)BLOCK;
        char  *grown = capacity <= 4 * (size_t)LARGEST_LINE ? realloc(s->buffer, capacity) : NULL;
        if (!grown) return crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: a line of more than %zu bytes", r->path, (long long)r->lines + 1, s->end);
        s->buffer = grown;
        s->capacity = capacity;
    }
    while (!s->ended && s->capacity > s->end) {
        size_t room = s->capacity - s->end;
        int    got = gzread(s->packed, s->buffer + s->end, room > BLOCK ? BLOCK : (unsigned)room), code = Z_OK;
        if (got > 0) s->end += (size_t)got;
        const char *reason = gzerror(s->packed, &code);
        if (got < 0 || (code != Z_OK && code != Z_STREAM_END))
            return crank_fail(r->context, code == Z_ERRNO ? CRANK_FAILED : CRANK_BAD_DATA, "%s: the compressed data are damaged or cut: %s", r->path,
                              code == Z_ERRNO ? strerror(errno) : reason);
        s->ended = got == 0;
    }
    return CRANK_OK;
}

/* The next block of whole lines; *text == *end: none is left. */
static crank_status source_next(reader *r, const char **text, const char **end)
{
    source *s = &r->source;
    if (!s->packed) {
        const char *data = (const char *)s->map.data;
        size_t      left = s->map.length - s->at, size = left < BLOCK ? left : BLOCK;
        if (size < left) {
            const char *last = memrchr(data + s->at, '\n', size), *next = last ? NULL : memchr(data + s->at + size, '\n', left - size);
            size = last ? (size_t)(last + 1 - data) - s->at : next ? (size_t)(next + 1 - data) - s->at : left;
        }
        *text = data + s->at;
        *end = *text + size;
        s->at += size;
        return CRANK_OK;
    }
    for (;;) {
        char *last = s->end > s->start ? memrchr(s->buffer + s->start, '\n', s->end - s->start) : NULL;
        if (last || s->ended) {
            size_t stop = last ? (size_t)(last + 1 - s->buffer) : s->end;
            *text = s->buffer ? s->buffer + s->start : "";
            *end = s->buffer ? s->buffer + stop : *text;
            s->start = stop;
            return CRANK_OK;
        }
        crank_status status = source_fill(r);
        if (status != CRANK_OK) return status;
    }
}

static void source_close(source *s)
{
    file_map_close(&s->map);
    if (s->packed) gzclose(s->packed);
    free(s->buffer);
}

/* ---- joining ---- */

static bool grow(reader *r, void *array, int64_t capacity, size_t size, const char *what)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = capacity < INT64_MAX / (int64_t)size ? realloc(old, (size_t)capacity * size) : NULL;
    if (!grown) return crank_fail(r->context, CRANK_FAILED, "%s: out of memory for %lld %s", r->path, (long long)capacity, what), false;
    memcpy(array, &grown, sizeof grown);
    return true;
}

static uint64_t hash_text(const char *text, size_t length)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash ^ hash >> 29;
}

static const char *query_name(const reader *r, int64_t q) { return r->query_text.bytes + r->query_at[q]; }

static bool seen_grow(reader *r)
{
    int64_t size = r->seen_size ? 2 * r->seen_size : 1024;
    free(r->seen);
    r->seen = calloc((size_t)size, sizeof *r->seen);
    if (!r->seen) return crank_fail(r->context, CRANK_FAILED, "%s: out of memory for %lld queries", r->path, (long long)size), false;
    r->seen_size = size;
    for (int64_t q = 0; q < r->set->queries; q++) {
        uint64_t at = hash_text(query_name(r, q), strlen(query_name(r, q)));
        while (r->seen[at & (uint64_t)(size - 1)]) at++;
        r->seen[at & (uint64_t)(size - 1)] = (int32_t)q + 1;
    }
    return true;
}

/* A new query begins at `row`. False: refused. */
static bool add_query(reader *r, letor_token name, int64_t row, int64_t line)
{
    letor_set *set = r->set;
    if (2 * (set->queries + 1) > r->seen_size && !seen_grow(r)) return false;
    uint64_t at = hash_text(name.text, name.length), mask = (uint64_t)(r->seen_size - 1);
    for (; r->seen[at & mask]; at++) {
        const char *other = query_name(r, r->seen[at & mask] - 1);
        if (strlen(other) != name.length || memcmp(other, name.text, name.length) != 0) continue;
        if (!r->options->regroup)
            return crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: query `%.*s` comes back after other queries; the rows of a query must stand together (or "
                              "set the option regroup)", r->path, (long long)line, name.length > 60 ? 60 : (int)name.length, name.text), false;
        r->query_of[row] = r->seen[at & mask] - 1;
        return true;
    }
    if (set->queries + 1 >= r->query_capacity) {
        int64_t capacity = r->query_capacity ? 2 * r->query_capacity : 256;
        if (!grow(r, &set->offsets, capacity, sizeof *set->offsets, "queries") || !grow(r, &r->query_at, capacity, sizeof *r->query_at, "queries")) return false;
        r->query_capacity = capacity;
    }
    r->seen[at & mask] = (int32_t)set->queries + 1;
    r->query_of[row] = (int32_t)set->queries;
    r->query_at[set->queries] = (int64_t)r->query_text.length;
    text_add(&r->query_text, name.text, name.length);
    text_putc(&r->query_text, 0);
    set->offsets[set->queries++] = (int32_t)row;
    if (r->query_text.failed) return crank_fail(r->context, CRANK_FAILED, "%s: out of memory for query names", r->path), false;
    return true;
}

/* Row `row`, which is row i of a chunk, belongs to a query, as all or none do. */
static bool join_query(reader *r, const letor_chunk *c, int64_t i, int64_t row, int64_t line)
{
    letor_token name = c->queries[i];
    letor_set  *set = r->set;
    if (row > 0 && (name.text != NULL) != (set->queries > 0))
        return crank_fail(r->context, CRANK_BAD_DATA, "%s:%lld: the row has %s; all rows or none must name their query", r->path, (long long)line,
                          name.text ? "a query, and those before it do not" : "no qid:, and those before it do"), false;
    if (!name.text) return true;
    const char *current = set->queries ? query_name(r, r->query_of[row - 1]) : NULL;
    if (current && strlen(current) == name.length && memcmp(current, name.text, name.length) == 0) {
        r->query_of[row] = r->query_of[row - 1];
        return true;
    }
    return add_query(r, name, row, line);
}

/* Wider dense rows: from the last to the first in place. */
static bool widen(reader *r, int64_t columns)
{
    letor_set *set = r->set;
    float      fill = set->absent_missing ? NAN : 0;
    if (!grow(r, &set->dense, r->row_capacity * columns + 1, sizeof *set->dense, "values")) return false;
    for (int64_t i = set->rows - 1; i >= 0; i--) {
        memmove(set->dense + i * columns, set->dense + i * set->columns, (size_t)set->columns * sizeof *set->dense);
        for (int64_t j = set->columns; j < columns; j++) set->dense[i * columns + j] = fill;
    }
    set->columns = columns;
    return true;
}

/* Dense rows -> compressed ones: a row with a far column came late. */
static bool to_compressed(reader *r)
{
    letor_set *set = r->set;
    int64_t    count = 0;
    for (int64_t i = 0; i < set->rows * set->columns; i++) count += set->absent_missing ? !isnan(set->dense[i]) : set->dense[i] != 0;
    if (!grow(r, &set->indices, count + 1, sizeof *set->indices, "values") || !grow(r, &set->values, count + 1, sizeof *set->values, "values") ||
        !grow(r, &set->starts, r->row_capacity + 1, sizeof *set->starts, "rows"))
        return false;
    r->value_capacity = count + 1;
    int64_t at = 0;
    for (int64_t i = 0; i < set->rows; i++) {
        set->starts[i] = at;
        for (int64_t j = 0; j < set->columns; j++) {
            float value = set->dense[i * set->columns + j];
            if (set->absent_missing ? isnan(value) : value == 0) continue;
            set->indices[at] = (int32_t)j;
            set->values[at++] = value;
        }
    }
    set->starts[set->rows] = at;
    free(set->dense);
    set->dense = NULL;
    return true;
}

static bool grow_rows(reader *r, int64_t rows)
{
    letor_set *set = r->set;
    if (rows > INT32_MAX - 1) return crank_fail(r->context, CRANK_BAD_DATA, "%s: more than 2147483646 rows", r->path), false;
    if (rows <= r->row_capacity) return true;
    int64_t capacity = rows + rows / 4 + 16;
    if (!grow(r, &set->labels, capacity, sizeof *set->labels, "rows") || !grow(r, &set->weights, capacity, sizeof *set->weights, "rows") ||
        !grow(r, &r->document_at, capacity, sizeof *r->document_at, "rows") || !grow(r, &r->query_of, capacity, sizeof *r->query_of, "rows"))
        return false;
    if (set->dense ? !grow(r, &set->dense, capacity * set->columns + 1, sizeof *set->dense, "values") : !grow(r, &set->starts, capacity + 1, sizeof *set->starts, "rows")) return false;
    r->row_capacity = capacity;
    return true;
}

/* Before a block is joined: the layout that suits it, and room. */
static bool prepare(reader *r, int64_t rows, int64_t count, int64_t columns)
{
    letor_set *set = r->set;
    if (rows == 0) return true; /* blank lines and comments alone */
    if (!r->decided) {
        r->decided = true;
        if (count >= rows * columns / 4) {
            set->columns = columns;
            if (!grow(r, &set->dense, 1, sizeof *set->dense, "values")) return false;
        }
    }
    if (set->dense && columns > set->columns) {
        bool fits = columns <= 2 * set->columns + 64;
        if (fits ? !widen(r, columns) : !to_compressed(r)) return false;
    }
    if (columns > set->columns) set->columns = columns;
    if (!grow_rows(r, set->rows + rows)) return false;
    if (set->dense) return true;
    int64_t needed = (set->rows ? set->starts[set->rows] : 0) + count;
    if (set->rows == 0) set->starts[0] = 0;
    if (needed <= r->value_capacity && set->indices) return true;
    r->value_capacity = needed + needed / 4 + 16;
    return grow(r, &set->indices, r->value_capacity, sizeof *set->indices, "values") && grow(r, &set->values, r->value_capacity, sizeof *set->values, "values");
}

static void join_values(letor_set *set, const letor_chunk *c, int64_t i, int64_t row)
{
    int64_t first = i ? c->ends[i - 1] : 0, count = c->ends[i] - first;
    if (set->dense) {
        float *out = set->dense + row * set->columns;
        for (int64_t j = 0; j < set->columns; j++) out[j] = set->absent_missing ? NAN : 0;
        for (int64_t k = first; k < first + count; k++) out[c->indices[k]] = c->values[k];
        return;
    }
    if (count) memcpy(set->indices + set->starts[row], c->indices + first, (size_t)count * sizeof *set->indices);
    if (count) memcpy(set->values + set->starts[row], c->values + first, (size_t)count * sizeof *set->values);
    set->starts[row + 1] = set->starts[row] + count;
}

/* before: lines of the file before the chunk */
static bool join_rows(reader *r, const letor_chunk *c, int64_t before)
{
    letor_set *set = r->set;
    for (int64_t i = 0; i < c->rows; i++) {
        int64_t row = set->rows;
        if (!join_query(r, c, i, row, before + c->line_of[i])) return false;
        set->labels[row] = c->labels[i];
        set->weights[row] = c->weights[i];
        r->document_at[row] = (int64_t)r->document_text.length;
        if (c->documents[i].text) {
            r->any_document = true;
            text_add(&r->document_text, c->documents[i].text, c->documents[i].length);
        }
        text_putc(&r->document_text, 0);
        join_values(set, c, i, row);
        set->rows++;
    }
    if (r->document_text.failed) return crank_fail(r->context, CRANK_FAILED, "%s: out of memory for item names", r->path), false;
    return true;
}

/* ---- a block ---- */

static void parse_pieces(reader *r, const char *text, const char *end)
{
    size_t piece = (size_t)(end - text) / (size_t)r->threads + 1;
#pragma omp parallel for num_threads(r->threads) schedule(static)
    for (int t = 0; t < r->threads; t++) {
        const char *from = text + piece * (size_t)t, *to = from + piece;
        if (from > end) from = end;
        if (to > end) to = end;
        if (t > 0 && from < end && from[-1] != '\n') {
            const char *mark = memchr(from, '\n', (size_t)(end - from));
            from = mark ? mark + 1 : end;
        }
        if (to < end && to > text && to[-1] != '\n') {
            const char *mark = memchr(to, '\n', (size_t)(end - to));
            to = mark ? mark + 1 : end;
        }
        letor_chunk_clear(&r->chunks[t]);
        if (from >= to) continue;
        if (r->is_table) letor_parse_table(&r->chunks[t], from, to, &r->table);
        else letor_parse_svmlight(&r->chunks[t], from, to, r->options->columns);
    }
}

static crank_status read_block(reader *r, const char *text, const char *end)
{
    int64_t rows = 0, count = 0, largest = r->is_table ? r->table.columns - 1 : -1, before = r->lines;
    parse_pieces(r, text, end);
    for (int t = 0; t < r->threads; t++) {
        letor_chunk *c = &r->chunks[t];
        r->lines += c->lines;
        if (c->status != CRANK_OK) return crank_fail(r->context, c->status, "%s:%lld: %s", r->path, (long long)r->lines, c->message);
        rows += c->rows;
        count += c->count;
        if (c->largest > largest) largest = c->largest;
    }
    if (!prepare(r, rows, count, largest + 1)) return crank_last_status(r->context);
    for (int t = 0; t < r->threads; before += r->chunks[t].lines, t++)
        if (!join_rows(r, &r->chunks[t], before)) return crank_last_status(r->context);
    return CRANK_OK;
}

/* svmlight, csv or tsv by name and first line */
static char separator_of(const reader *r, const char *line, size_t length)
{
    const char *format = r->options->format;
    if (strcmp(format, "svmlight") == 0) return 0;
    if (strcmp(format, "csv") == 0) return ',';
    if (strcmp(format, "tsv") == 0) return '\t';
    size_t size = strlen(r->path);
    if (size > 3 && strcmp(r->path + size - 3, ".gz") == 0) size -= 3;
    if (size > 4 && strncmp(r->path + size - 4, ".csv", 4) == 0) return ',';
    if (size > 4 && strncmp(r->path + size - 4, ".tsv", 4) == 0) return '\t';
    if (memchr(line, ':', length)) return 0;
    return memchr(line, '\t', length) ? '\t' : memchr(line, ',', length) ? ',' : 0;
}

static crank_status read_all(reader *r)
{
    const char  *text, *end;
    crank_status status = source_next(r, &text, &end);
    if (status != CRANK_OK) return status;
    const char *mark = memchr(text, '\n', (size_t)(end - text));
    size_t      length = (size_t)((mark ? mark : end) - text);
    char        separator = separator_of(r, text, length);
    bool        skip = false;
    r->is_table = separator != 0;
    if (r->is_table) status = letor_table_open(r->context, r->path, text, length, r->options, separator, &r->table, r->set, &skip);
    if (skip) {
        text = mark ? mark + 1 : end;
        r->lines = 1;
    }
    while (status == CRANK_OK && text < end) {
        status = read_block(r, text, end);
        if (status == CRANK_OK && crank_stop_requested(r->context)) status = crank_fail(r->context, CRANK_STOPPED, "%s: reading was stopped", r->path);
        if (status == CRANK_OK) status = source_next(r, &text, &end);
    }
    return status;
}

/* ---- the end ---- */

static char **name_list(reader *r, text_buffer *text, const int64_t *at, int64_t count, void **arena)
{
    char **names = crank_alloc(r->context, (size_t)count + 1, sizeof *names, "names");
    for (int64_t i = 0; names && i < count; i++) names[i] = text->bytes + at[i];
    if (!names) return NULL;
    *arena = text->bytes;
    *text = (text_buffer){0};
    return names;
}

static crank_status mark_categories(reader *r)
{
    letor_set *set = r->set;
    if (!r->options->categorical || r->is_table) {
        if (r->is_table && r->options->categorical) {
            set->categorical = r->table.categorical;
            r->table.categorical = NULL;
        }
        return CRANK_OK;
    }
    char        key[64];
    const char *cursor = r->options->categorical;
    set->categorical = crank_alloc(r->context, (size_t)set->columns + 1, 1, "categorical columns");
    while (set->categorical && crank_list_next(&cursor, key, sizeof key, NULL, 0)) {
        char *stop;
        long  column = strtol(key, &stop, 10);
        if (*stop || !*key || column < 0 || column >= set->columns)
            return crank_fail(r->context, CRANK_USAGE, "%s: the option categorical names column `%s`; the file has columns 0 to %lld", r->path, key, (long long)set->columns - 1);
        set->categorical[column] = true;
    }
    return set->categorical ? CRANK_OK : CRANK_FAILED;
}

static crank_status finish(reader *r)
{
    letor_set *set = r->set;
    if (set->rows == 0) return crank_fail(r->context, CRANK_BAD_DATA, "%s: no rows", r->path);
    if (!(r->is_table && r->options->weight)) {
        free(set->weights);
        set->weights = NULL;
    }
    if (set->queries) {
        set->offsets[set->queries] = (int32_t)set->rows;
        set->query_names = name_list(r, &r->query_text, r->query_at, set->queries, &set->arena[0]);
        if (!set->query_names) return CRANK_FAILED;
    }
    if (r->any_document && !(set->document_names = name_list(r, &r->document_text, r->document_at, set->rows, &set->arena[1]))) return CRANK_FAILED;
    crank_status status = mark_categories(r);
    if (status == CRANK_OK && set->queries && r->options->regroup) status = letor_regroup(r->context, set, r->query_of);
    return status == CRANK_OK && strcmp(r->path, "-") != 0 ? letor_side_files(r->context, r->path, set) : status;
}

static bool is_binary(crank_context *context, const char *path, bool *binary)
{
    file_map map;
    *binary = false;
    if (strcmp(path, "-") == 0) return true;
    if (file_map_open(context, path, &map) != CRANK_OK) return false;
    *binary = letor_is_binary(map.data, map.length);
    file_map_close(&map);
    return true;
}

letor_set *letor_read(crank_context *context, const char *path, const letor_options *options)
{
    bool binary;
    if (!is_binary(context, path, &binary)) return NULL;
    if (binary) return letor_load(context, path);
    reader r = {.context = context, .path = path, .options = options, .threads = crank_threads(context)};
    r.set = crank_alloc(context, 1, sizeof *r.set, "a data set");
    r.chunks = crank_alloc(context, (size_t)r.threads, sizeof *r.chunks, "a reader");
    crank_status status = r.set && r.chunks ? source_open(&r) : CRANK_FAILED;
    if (status == CRANK_OK) {
        r.set->absent_missing = strcmp(options->absent, "missing") == 0;
        status = read_all(&r);
        if (status == CRANK_OK) status = finish(&r);
    }
    source_close(&r.source);
    for (int t = 0; r.chunks && t < r.threads; t++) letor_chunk_free(&r.chunks[t]);
    crank_free(r.chunks);
    letor_table_close(&r.table);
    text_clear(&r.query_text);
    text_clear(&r.document_text);
    free(r.query_at);
    free(r.document_at);
    free(r.query_of);
    free(r.seen);
    if (status == CRANK_OK) return r.set;
    letor_free(r.set);
    return NULL;
}

void letor_free(letor_set *set)
{
    if (!set) return;
    if (!set->map) {
        free(set->dense);
        free(set->starts);
        free(set->indices);
        free(set->values);
        free(set->labels);
        free(set->weights);
        free(set->init);
        free(set->positions);
        free(set->offsets);
        crank_free(set->categorical);
    } else {
        file_map map = *(file_map *)set->map;
        file_map_close(&map);
        crank_free(set->map);
    }
    crank_free(set->query_names);
    crank_free(set->document_names);
    crank_free(set->names);
    for (int i = 0; i < 3; i++) crank_free(set->arena[i]);
    crank_free(set);
}

void letor_row(const letor_set *set, int64_t row, float *out)
{
    if (set->dense) {
        memcpy(out, set->dense + row * set->columns, (size_t)set->columns * sizeof *out);
        return;
    }
    for (int64_t j = 0; j < set->columns; j++) out[j] = set->absent_missing ? NAN : 0;
    for (int64_t k = set->starts[row]; k < set->starts[row + 1]; k++) out[set->indices[k]] = set->values[k];
}
