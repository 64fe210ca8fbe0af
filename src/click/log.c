/* log.c - click logs: built in memory, read from TSV or JSONL, written as TSV. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "click/click.h"
#include "click/names.h"

/* ---- in memory ---- */

click_log *click_log_new(crank_context *context, int64_t queries, int64_t items)
{
    click_log *log = crank_alloc(context, 1, sizeof *log, "a click log");
    if (!log) return NULL;
    log->queries = queries;
    log->items = items;
    log->contexts = 1;
    log->starts = calloc(1, sizeof *log->starts);
    if (log->starts) return log;
    crank_fail(context, CRANK_FAILED, "out of memory: a click log");
    crank_free(log);
    return NULL;
}

void click_log_free(click_log *log)
{
    if (!log) return;
    free(log->starts), free(log->query), free(log->context), free(log->item), free(log->place), free(log->click);
    crank_free(log);
}

static bool enlarge(void *array, int64_t count, size_t size)
{
    void **at = array, *more = realloc(*at, (size_t)count * size);
    if (more) *at = more;
    return more != NULL;
}

static bool make_room(click_log *log, int64_t n)
{
    if (log->sessions == log->session_room) {
        int64_t room = log->session_room ? 2 * log->session_room : 256;
        if (!enlarge(&log->starts, room + 1, sizeof *log->starts) || !enlarge(&log->query, room, sizeof *log->query) || !enlarge(&log->context, room, sizeof *log->context)) return false;
        log->session_room = room;
    }
    if (log->shown + n > log->shown_room) {
        int64_t room = 2 * (log->shown + n) + 1024;
        if (!enlarge(&log->item, room, sizeof *log->item) || !enlarge(&log->place, room, sizeof *log->place) || !enlarge(&log->click, room, 1)) return false;
        log->shown_room = room;
    }
    return true;
}

crank_status click_log_add(crank_context *context, click_log *log, int64_t query, int64_t group, const int32_t *items, const int32_t *places, const uint8_t *clicks, int64_t n)
{
    if (!make_room(log, n)) return crank_fail(context, CRANK_FAILED, "out of memory: a click log of %lld sessions", (long long)log->sessions);
    for (int64_t i = 0; i < n; i++) {
        log->item[log->shown + i] = items[i];
        log->place[log->shown + i] = places[i];
        log->click[log->shown + i] = clicks[i];
        if (places[i] >= log->places) log->places = places[i] + 1;
        if (items[i] >= log->items) log->items = items[i] + 1;
    }
    if (query >= log->queries) log->queries = query + 1;
    if (group >= log->contexts) log->contexts = group + 1;
    log->query[log->sessions] = (int32_t)query;
    log->context[log->sessions] = (int32_t)group;
    log->shown += n;
    log->starts[++log->sessions] = log->shown;
    return CRANK_OK;
}

click_log *click_log_take(crank_context *context, const click_log *log, const letor_set *set, const int64_t *lists, int64_t count)
{
    int32_t      *number = crank_alloc(context, (size_t)set->queries + 1, sizeof *number, "queries");
    int64_t      *first = crank_alloc(context, (size_t)count + 1, sizeof *first, "rows"), rows = 0;
    int32_t       items[CLICK_MOST_PLACES];
    crank_status  status = number && first ? CRANK_OK : CRANK_FAILED;
    for (int64_t l = 0; status == CRANK_OK && l < count; l++) number[lists[l]] = (int32_t)l + 1, first[l] = rows, rows += set->offsets[lists[l] + 1] - set->offsets[lists[l]];
    click_log *part = status == CRANK_OK ? click_log_new(context, count, rows) : NULL;
    if (!part) status = CRANK_FAILED;
    for (int64_t s = 0; status == CRANK_OK && s < log->sessions; s++) {
        int64_t q = log->query[s], l = (int64_t)number[q] - 1, at = log->starts[s], n = log->starts[s + 1] - at;
        for (int64_t i = 0; l >= 0 && i < n; i++) items[i] = (int32_t)(first[l] + log->item[at + i] - set->offsets[q]);
        if (l >= 0) status = click_log_add(context, part, l, log->context[s], items, log->place + at, log->click + at, n);
    }
    crank_free(number), crank_free(first);
    if (status == CRANK_OK) {
        part->places = log->places, part->contexts = log->contexts; /* examination curves keep their shape */
        return part;
    }
    click_log_free(part);
    return NULL;
}

/* ---- reading ---- */

typedef struct reader {
    crank_context   *context;
    const char      *path;
    const letor_set *set;
    names            queries, items;
    click_log       *log;
    size_t           line;
    /* the session so far */
    int64_t  query, n;
    int32_t  items_shown[CLICK_MOST_PLACES], places[CLICK_MOST_PLACES];
    uint8_t  clicks[CLICK_MOST_PLACES];
    char     session[256];
} reader;

#define BAD(r, ...) bad_line(r, __VA_ARGS__)
static crank_status bad_line(reader *r, const char *format, ...) CRANK_PRINTF(2, 3);
static crank_status bad_line(reader *r, const char *format, ...)
{
    char    text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return crank_fail(r->context, CRANK_BAD_DATA, "%s:%zu: %s", r->path, r->line, text);
}

/* Names of the set: queries as 1, 2, .. and documents as d1, d2, .. of their query where it has none. */
static crank_status index_set(reader *r)
{
    const letor_set *set = r->set;
    char             number[32];
    if (!set->offsets) return crank_fail(r->context, CRANK_BAD_DATA, "%s: the feature vectors have no queries to join with", r->path);
    for (int64_t q = 0; q < set->queries; q++) {
        snprintf(number, sizeof number, "%lld", (long long)q + 1);
        const char *name = set->query_names ? set->query_names[q] : number;
        if (names_add(&r->queries, 0, name, strlen(name)) < 0) return crank_fail(r->context, CRANK_FAILED, "out of memory: names of queries");
        for (int64_t i = set->offsets[q]; i < set->offsets[q + 1]; i++) {
            snprintf(number, sizeof number, "d%lld", (long long)(i - set->offsets[q]) + 1);
            const char *item = set->document_names && *set->document_names[i] ? set->document_names[i] : number;
            int64_t     found = names_add(&r->items, (int32_t)q, item, strlen(item));
            if (found < 0) return crank_fail(r->context, CRANK_FAILED, "out of memory: names of documents");
            if (found != i) return crank_fail(r->context, CRANK_BAD_DATA, "document `%s` stands twice under query `%s` of the feature vectors: clicks on it belong to no one row", item, name);
        }
    }
    return CRANK_OK;
}

static crank_status end_session(reader *r, int64_t group)
{
    crank_status status = r->n ? click_log_add(r->context, r->log, r->query, group, r->items_shown, r->places, r->clicks, r->n) : CRANK_OK;
    r->n = 0;
    return status;
}

static crank_status find_query(reader *r, const char *text, size_t length, int64_t *query)
{
    *query = r->set ? names_find(&r->queries, 0, text, length) : names_add(&r->queries, 0, text, length);
    if (*query >= 0) return CRANK_OK;
    if (!r->set) return crank_fail(r->context, CRANK_FAILED, "out of memory: names of queries");
    return BAD(r, "the feature vectors have no query `%.*s`", (int)(length < 200 ? length : 200), text);
}

static crank_status add_item(reader *r, int64_t query, const char *text, size_t length, int64_t place, int64_t click)
{
    int64_t item = r->set ? names_find(&r->items, (int32_t)query, text, length) : names_add(&r->items, (int32_t)query, text, length);
    if (item < 0 && !r->set) return crank_fail(r->context, CRANK_FAILED, "out of memory: names of documents");
    if (item < 0) return BAD(r, "the feature vectors have no document `%.*s` under this query", (int)(length < 200 ? length : 200), text);
    if (place < 1 || place > CLICK_MOST_PLACES) return BAD(r, "position %lld is not in 1 to %d", (long long)place, CLICK_MOST_PLACES);
    if (click != 0 && click != 1) return BAD(r, "a click is 0 or 1, not %lld", (long long)click);
    for (int64_t i = 0; i < r->n; i++)
        if (r->items_shown[i] == item) return BAD(r, "document `%.*s` is shown twice in one session", (int)(length < 200 ? length : 200), text);
    if (r->n == CLICK_MOST_PLACES) return BAD(r, "a session shows at most %d items", CLICK_MOST_PLACES);
    r->query = query;
    r->items_shown[r->n] = (int32_t)item;
    r->places[r->n] = (int32_t)place - 1;
    r->clicks[r->n++] = (uint8_t)click;
    return CRANK_OK;
}

static bool whole(const char *text, size_t length, int64_t *value)
{
    *value = 0;
    if (!length || length > 9) return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *value = *value * 10 + (text[i] - '0');
    }
    return true;
}

static crank_status read_tsv(reader *r, const char *line, size_t length)
{
    const char *field[5] = {line}, *end = line + length;
    size_t      size[5] = {0};
    int         n = 0;
    for (const char *p = line;; p = field[n]) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        size[n++] = (size_t)((tab ? tab : end) - p);
        if (!tab) break;
        if (n == 5) return BAD(r, "more than five fields: query, document, position, click and session are separated by tabs");
        field[n] = tab + 1;
    }
    int64_t query, place, click;
    if (n < 4) return BAD(r, "%d fields: a line has query, document, position and click, separated by tabs", n);
    if (!whole(field[2], size[2], &place)) return BAD(r, "`%.*s` is no position", (int)(size[2] < 60 ? size[2] : 60), field[2]);
    if (!whole(field[3], size[3], &click)) return BAD(r, "`%.*s` is no click: 0 or 1", (int)(size[3] < 60 ? size[3] : 60), field[3]);
    if (size[4] >= sizeof r->session) return BAD(r, "a session's name has more than %zu bytes", sizeof r->session - 1);
    crank_status status = find_query(r, field[0], size[0], &query);
    bool         other = n == 5 && (strlen(r->session) != size[4] || memcmp(r->session, field[4], size[4]));
    if (status == CRANK_OK && r->n && (query != r->query || other || place - 1 <= r->places[r->n - 1])) status = end_session(r, 0);
    if (n == 5) memcpy(r->session, field[4], size[4]), r->session[size[4]] = 0;
    return status == CRANK_OK ? add_item(r, query, field[1], size[1], place, click) : status;
}

static crank_status read_object(reader *r, const json_t *root)
{
    const json_t *query = json_object_get(root, "query"), *documents = json_object_get(root, "documents"), *clicks = json_object_get(root, "clicks"),
                 *positions = json_object_get(root, "positions"), *group = json_object_get(root, "context");
    int64_t       q, last = 0;
    if (!json_is_string(query) || !json_is_array(documents) || !json_is_array(clicks)) return BAD(r, "a line has \"query\" (text), \"documents\" (list of texts) and \"clicks\" (list of 0 and 1)");
    if (json_array_size(documents) != json_array_size(clicks) || (positions && json_array_size(positions) != json_array_size(documents)))
        return BAD(r, "%zu documents, %zu clicks, %zu positions: they go together", json_array_size(documents), json_array_size(clicks), positions ? json_array_size(positions) : json_array_size(documents));
    if (group && (!json_is_integer(group) || json_integer_value(group) < 0 || json_integer_value(group) >= CLICK_MOST_CONTEXTS)) return BAD(r, "\"context\" is a whole number from 0 to %d", CLICK_MOST_CONTEXTS - 1);
    crank_status status = find_query(r, json_string_value(query), json_string_length(query), &q);
    for (size_t i = 0; status == CRANK_OK && i < json_array_size(documents); i++) {
        const json_t *document = json_array_get(documents, i), *click = json_array_get(clicks, i), *position = positions ? json_array_get(positions, i) : NULL;
        if (!json_is_string(document) || (!json_is_integer(click) && !json_is_boolean(click)) || (positions && !json_is_integer(position)))
            return BAD(r, "item %zu: a document is a text, a click 0 or 1, a position a whole number", i + 1);
        int64_t place = position ? json_integer_value(position) : (int64_t)i + 1;
        if (place <= last) return BAD(r, "item %zu: positions rise", i + 1);
        last = place;
        status = add_item(r, q, json_string_value(document), json_string_length(document), place, json_is_boolean(click) ? json_is_true(click) : json_integer_value(click));
    }
    return status == CRANK_OK ? end_session(r, group ? json_integer_value(group) : 0) : status;
}

static crank_status read_json(reader *r, const char *line, size_t length)
{
    char where[512];
    if (end_session(r, 0) != CRANK_OK) return CRANK_FAILED; /* of lines of TSV before */
    snprintf(where, sizeof where, "%s:%zu", r->path, r->line);
    json_t *root = json_parse(r->context, line, length, where);
    if (!root) return crank_last_status(r->context);
    crank_status status = read_object(r, root);
    json_decref(root);
    return status;
}

static crank_status read_all(reader *r)
{
    file_lines  *lines = file_lines_open(r->context, r->path);
    const char  *text;
    size_t       length;
    int          more = -1;
    bool         first = true;
    crank_status status = lines ? CRANK_OK : crank_last_status(r->context);
    while (status == CRANK_OK && (more = file_lines_next(r->context, lines, &text, &length)) == 1) {
        r->line = file_lines_number(lines);
        bool head = first && length >= 6 && !memcmp(text, "query\t", 6);
        if (!length || *text == '#' || head) continue;
        first = false;
        status = *text == '{' ? read_json(r, text, length) : read_tsv(r, text, length);
    }
    if (status == CRANK_OK && more < 0) status = crank_last_status(r->context);
    file_lines_close(lines);
    if (status == CRANK_OK) status = end_session(r, 0);
    if (status == CRANK_OK && !r->log->sessions) status = crank_fail(r->context, CRANK_BAD_DATA, "%s holds no session", r->path);
    return status;
}

click_log *click_log_read(crank_context *context, const char *path, const letor_set *set)
{
    reader *r = crank_alloc(context, 1, sizeof *r, "a click log");
    if (!r) return NULL;
    r->context = context, r->path = path, r->set = set;
    crank_status status = set ? index_set(r) : CRANK_OK;
    r->log = status == CRANK_OK ? click_log_new(context, set ? set->queries : 0, set ? set->rows : 0) : NULL;
    status = r->log ? read_all(r) : crank_last_status(context);
    click_log *log = r->log;
    names_free(&r->queries), names_free(&r->items);
    crank_free(r);
    if (status == CRANK_OK) return log;
    click_log_free(log);
    return NULL;
}

/* ---- writing ---- */

crank_status click_log_write(crank_context *context, const char *path, const click_log *log, const letor_set *set)
{
    file_writer *writer = file_writer_open(context, path);
    text_buffer  text = {0};
    crank_status status = writer ? CRANK_OK : crank_last_status(context);
    for (int64_t s = 0; status == CRANK_OK && s < log->sessions; s++) {
        int64_t q = log->query[s];
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            int64_t item = log->item[i], within = set ? item - set->offsets[q] : item;
            if (set && set->query_names) text_puts(&text, set->query_names[q]);
            else text_printf(&text, "%lld", (long long)q + 1);
            if (set && set->document_names && *set->document_names[item]) text_printf(&text, "\t%s", set->document_names[item]);
            else text_printf(&text, "\td%lld", (long long)within + 1);
            text_printf(&text, "\t%d\t%d\t%lld\n", log->place[i] + 1, log->click[i], (long long)s + 1);
        }
        if (text.failed) status = crank_fail(context, CRANK_FAILED, "out of memory: a click log");
        else if (text.length > (1 << 16) || s + 1 == log->sessions) status = file_writer_write(context, writer, text.bytes, text.length), text.length = 0;
    }
    text_clear(&text);
    if (status == CRANK_OK) return file_writer_commit(context, writer);
    if (writer) file_writer_abort(writer);
    return status;
}
