/* letor_cache.c - the binary form of a data set, little-endian, read by mapping it.
 *
 *     "CRKLETR1" | u64 version, rows, columns, queries, values, init_outputs, flags, bytes of query, document and column names
 *     | u32 CRC-32C of what follows, xor that of the header with 0 here | padding to 128 bytes
 *     then, each padded to 64 bytes, those that the flags name: dense, starts, indices, values, labels, weights, init, positions,
 *     offsets, categorical, and three blocks of NUL-ended names */
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "data/letor_parts.h"

enum { DENSE = 1, WEIGHTS = 2, INIT = 4, POSITIONS = 8, QUERIES = 16, CATEGORICAL = 32, QUERY_NAMES = 64, DOCUMENT_NAMES = 128, COLUMN_NAMES = 256, ABSENT_MISSING = 512 };
enum { PARTS = 13, VERSION = 1 };

typedef struct header {
    char     magic[8];
    uint64_t version, rows, columns, queries, values, init_outputs, flags, text[3];
    uint32_t crc;
    uint8_t  padding[36];
} header;
_Static_assert(sizeof(header) == 128, "the header of a data file has 128 bytes");

bool letor_is_binary(const uint8_t *data, size_t length) { return length >= sizeof(header) && memcmp(data, "CRKLETR1", 8) == 0; }

/* Bytes of each part. */
static void sizes_of(const header *h, size_t size[PARTS])
{
    bool dense = h->flags & DENSE;
    size[0] = dense ? h->rows * h->columns * 4 : 0;
    size[1] = dense ? 0 : (h->rows + 1) * 8;
    size[2] = size[3] = dense ? 0 : h->values * 4;
    size[4] = h->rows * 4;
    size[5] = h->flags & WEIGHTS ? h->rows * 4 : 0;
    size[6] = h->flags & INIT ? h->rows * h->init_outputs * 8 : 0;
    size[7] = h->flags & POSITIONS ? h->rows * 4 : 0;
    size[8] = h->flags & QUERIES ? (h->queries + 1) * 4 : 0;
    size[9] = h->flags & CATEGORICAL ? h->columns : 0;
    for (int i = 0; i < 3; i++) size[10 + i] = h->text[i];
}

static size_t padded(size_t size) { return (size + 63) / 64 * 64; }

static uint64_t text_bytes(char *const *names, int64_t count)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; names && i < count; i++) bytes += strlen(names[i]) + 1;
    return bytes;
}

static void put_names(char *out, char *const *names, int64_t count)
{
    for (int64_t i = 0; names && i < count; i++) {
        size_t length = strlen(names[i]) + 1;
        memcpy(out, names[i], length);
        out += length;
    }
}

static header header_of(const letor_set *set)
{
    return (header){
        .magic = {'C', 'R', 'K', 'L', 'E', 'T', 'R', '1'}, .version = VERSION, .rows = (uint64_t)set->rows, .columns = (uint64_t)set->columns,
        .queries = (uint64_t)set->queries, .values = set->dense ? 0 : (uint64_t)set->starts[set->rows], .init_outputs = (uint64_t)set->init_outputs,
        .flags = (set->dense ? DENSE : 0u) | (set->weights ? WEIGHTS : 0u) | (set->init ? INIT : 0u) | (set->positions ? POSITIONS : 0u) |
                 (set->offsets ? QUERIES : 0u) | (set->categorical ? CATEGORICAL : 0u) | (set->query_names ? QUERY_NAMES : 0u) |
                 (set->document_names ? DOCUMENT_NAMES : 0u) | (set->names ? COLUMN_NAMES : 0u) | (set->absent_missing ? ABSENT_MISSING : 0u),
        .text = {text_bytes(set->query_names, set->queries), text_bytes(set->document_names, set->rows), text_bytes(set->names, set->columns)},
    };
}

crank_status letor_save(crank_context *context, const letor_set *set, const char *path)
{
    header h = header_of(set);
    size_t size[PARTS], total = 0;
    sizes_of(&h, size);
    for (int i = 0; i < PARTS; i++) total += padded(size[i]);
    char *body = crank_alloc(context, total, 1, "a data file");
    if (!body) return CRANK_FAILED;
    const void *parts[] = {set->dense, set->starts, set->indices, set->values, set->labels, set->weights, set->init, set->positions, set->offsets, set->categorical};
    size_t at = 0;
    for (int i = 0; i < PARTS; at += padded(size[i]), i++) {
        if (i < 10 && size[i]) memcpy(body + at, parts[i], size[i]);
        if (i == 10) put_names(body + at, set->query_names, set->queries);
        if (i == 11) put_names(body + at, set->document_names, set->rows);
        if (i == 12) put_names(body + at, set->names, set->columns);
    }
    h.crc = crc32c(body, total) ^ crc32c(&h, sizeof h);
    file_writer *writer = file_writer_open(context, path);
    crank_status status = writer ? file_writer_write(context, writer, &h, sizeof h) : CRANK_FAILED;
    if (status == CRANK_OK) status = file_writer_write(context, writer, body, total);
    if (status == CRANK_OK) status = file_writer_commit(context, writer);
    else file_writer_abort(writer);
    crank_free(body);
    return status;
}

/* NUL-ended names of a block. False: not `count` of them. */
static bool take_names(crank_context *context, const char *text, uint64_t bytes, int64_t count, char ***names)
{
    const char *end = text + bytes;
    *names = crank_alloc(context, (size_t)count + 1, sizeof **names, "names");
    for (int64_t i = 0; *names && i < count; i++) {
        const char *stop = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
        if (!stop) return false;
        memcpy(&(*names)[i], &text, sizeof text);
        text = stop + 1;
    }
    return *names && text == end;
}

/* Starts, indices and offsets lead nowhere outside. */
static bool is_sound(const letor_set *set, uint64_t values)
{
    if (set->offsets) {
        if (set->offsets[0] != 0 || set->offsets[set->queries] != set->rows) return false;
        for (int64_t q = 0; q < set->queries; q++)
            if (set->offsets[q] >= set->offsets[q + 1]) return false;
    }
    if (set->dense) return true;
    if (set->starts[0] != 0 || set->starts[set->rows] != (int64_t)values) return false;
    for (int64_t i = 0; i < set->rows; i++) {
        if (set->starts[i] > set->starts[i + 1] || set->starts[i + 1] > (int64_t)values) return false;
        for (int64_t k = set->starts[i]; k < set->starts[i + 1]; k++)
            if (set->indices[k] < 0 || set->indices[k] >= set->columns || (k > set->starts[i] && set->indices[k] <= set->indices[k - 1])) return false;
    }
    return true;
}

/* The numbers of a header cannot overflow sums, and make up the file. */
static bool fits(const header *h, size_t length)
{
    uint64_t most = length;
    if (h->version != VERSION || h->rows == 0 || h->rows >= INT32_MAX || h->columns >= INT32_MAX || h->queries > h->rows || h->values > most || h->init_outputs > 1 << 16) return false;
    if ((h->flags & DENSE) && h->columns && h->rows > most / h->columns) return false;
    for (int i = 0; i < 3; i++)
        if (h->text[i] > most) return false;
    if (((h->flags & QUERIES) != 0) != (h->queries > 0) || ((h->flags & QUERY_NAMES) && !h->queries)) return false;
    size_t size[PARTS], total = sizeof *h;
    sizes_of(h, size);
    for (int i = 0; i < PARTS; i++) {
        if (size[i] > most) return false;
        total += padded(size[i]);
    }
    return total == length;
}

static crank_status take_parts(crank_context *context, const char *path, const file_map *map, letor_set *set)
{
    header h;
    memcpy(&h, map->data, sizeof h);
    if (!fits(&h, map->length)) return crank_fail(context, CRANK_BAD_DATA, "%s: the header does not fit the file's %zu bytes: it is cut or damaged; make it again", path, map->length);
    uint32_t crc = h.crc;
    h.crc = 0;
    if ((crc32c(map->data + sizeof h, map->length - sizeof h) ^ crc32c(&h, sizeof h)) != crc) return crank_fail(context, CRANK_BAD_DATA, "%s: the checksum does not hold: the file is damaged; make it again", path);
    void   *parts[PARTS];
    size_t  size[PARTS], at = sizeof h;
    sizes_of(&h, size);
    for (int i = 0; i < PARTS; at += padded(size[i]), i++) parts[i] = size[i] ? (void *)(uintptr_t)(map->data + at) : NULL;
    bool dense = h.flags & DENSE;
    set->rows = (int64_t)h.rows;
    set->columns = (int64_t)h.columns;
    set->queries = (int64_t)h.queries;
    set->init_outputs = (int64_t)h.init_outputs;
    set->absent_missing = h.flags & ABSENT_MISSING;
    set->dense = dense ? parts[0] ? parts[0] : (void *)(uintptr_t)map->data : NULL;
    set->starts = parts[1];
    set->indices = parts[2];
    set->values = parts[3];
    set->labels = parts[4];
    set->weights = parts[5];
    set->init = parts[6];
    set->positions = parts[7];
    set->offsets = parts[8];
    set->categorical = parts[9];
    bool good = is_sound(set, h.values);
    if (good && h.flags & QUERY_NAMES) good = take_names(context, parts[10], h.text[0], set->queries, &set->query_names);
    if (good && h.flags & DOCUMENT_NAMES) good = take_names(context, parts[11], h.text[1], set->rows, &set->document_names);
    if (good && h.flags & COLUMN_NAMES) good = take_names(context, parts[12], h.text[2], set->columns, &set->names);
    return good ? CRANK_OK : crank_fail(context, CRANK_BAD_DATA, "%s: rows, queries or names lead outside the file: it is damaged; make it again", path);
}

letor_set *letor_load(crank_context *context, const char *path)
{
    letor_set *set = crank_alloc(context, 1, sizeof *set, "a data set");
    file_map  *map = crank_alloc(context, 1, sizeof *map, "a data set");
    if (!set || !map || file_map_open(context, path, map) != CRANK_OK) {
        crank_free(set);
        crank_free(map);
        return NULL;
    }
    set->map = map;
    if (letor_is_binary(map->data, map->length) ? take_parts(context, path, map, set) == CRANK_OK
                                                : (crank_fail(context, CRANK_BAD_DATA, "%s: no data file of crank", path), false))
        return set;
    letor_free(set);
    return NULL;
}
