/* trec_file.c - a file of judgments or a run: text mapped (or read, when compressed or from standard input), lines read by all threads in
 * pieces of the text, topics sorted by name. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "metric/groups.h"

int trec_compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

int64_t trec_file_line(const trec_file *file, const char *at)
{
    int64_t line = 1;
    for (const char *p = file->text; p < at && (p = memchr(p, '\n', (size_t)(at - p))); p++) line++;
    return line;
}

static crank_status read_text(crank_context *context, const char *path, trec_file *file)
{
    file_map    map = { 0 };
    struct stat about;
    if (!strcmp(path, "-") || (!stat(path, &about) && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))) { /* a pipe */
        file_lines *lines = file_lines_open(context, path);
        text_buffer text = { 0 };
        const char *line;
        size_t      length;
        int         more = lines ? 0 : -1;
        while (lines && (more = file_lines_next(context, lines, &line, &length)) == 1) {
            text_add(&text, line, length);
            text_putc(&text, '\n');
        }
        file_lines_close(lines);
        file->length = text.length;
        file->memory = more < 0 ? NULL : text.length ? text_take(context, &text, "standard input") : crank_alloc(context, 1, 1, "standard input");
        text_clear(&text);
        file->text = file->memory;
        return file->memory ? CRANK_OK : crank_last_status(context);
    }
    crank_status status = file_map_open(context, path, &map);
    if (status != CRANK_OK) return status;
    if (map.length > 1 && map.data[0] == 0x1f && map.data[1] == 0x8b) { /* gzip */
        file_map_close(&map);
        file->text = file->memory = file_read(context, path, &file->length);
        return file->memory ? CRANK_OK : crank_last_status(context);
    }
    file->text = (const char *)map.data;
    file->length = map.length;
#ifdef MADV_POPULATE_READ
    if (map.length) madvise((void *)(uintptr_t)map.data, map.length, MADV_POPULATE_READ); /* one call instead of a fault every few pages */
#endif
    return CRANK_OK;
}

static int by_topic(const void *left, const void *right)
{
    const trec_part *a = left, *b = right;
    int              order = trec_compare(a->topic, a->length, b->topic, b->length);
    return order ? order : a->first < b->first ? -1 : a->first > b->first;
}

/* The pieces become one list of lines, one of parts, one of topics. */
static crank_status join(crank_context *context, trec_file *file, trec_chunk *chunks, int count)
{
    size_t lines = 0, parts = 0, line = 0, part = 0;
    for (int k = 0; k < count; k++) lines += chunks[k].line_count, parts += chunks[k].part_count;
    if (count == 1) { /* taken over as it is */
        file->lines = chunks[0].lines;
        chunks[0].lines = NULL;
    } else
        file->lines = malloc((lines ? lines : 1) * sizeof *file->lines);
    file->parts = malloc((parts ? parts : 1) * sizeof *file->parts);
    file->topics = malloc((parts ? parts : 1) * sizeof *file->topics);
    if ((!file->lines && lines) || !file->parts || !file->topics)
        return crank_fail(context, CRANK_FAILED, "%s: out of memory: %zu lines", file->path, lines);
    for (int k = 0; k < count; k++) {
        for (size_t i = 0; i < chunks[k].part_count; i++) {
            file->parts[part] = chunks[k].parts[i];
            file->parts[part++].first += line;
        }
        if (count > 1 && chunks[k].line_count) memcpy(file->lines + line, chunks[k].lines, chunks[k].line_count * sizeof *file->lines);
        line += chunks[k].line_count;
        if (chunks[k].tag) file->tag = chunks[k].tag, file->tag_length = chunks[k].tag_length;
    }
    file->line_count = lines;
    file->part_count = parts;
    qsort(file->parts, parts, sizeof *file->parts, by_topic);
    for (size_t i = 0; i < parts; i++) {
        const trec_part *p = file->parts + i;
        trec_topic      *topic = file->topics + file->topic_count;
        if (!i || trec_compare(p[-1].topic, p[-1].length, p->topic, p->length))
            *topic = (trec_topic){ .name = p->topic, .length = p->length, .part = i }, file->topic_count++;
        else
            topic--;
        topic->parts++;
        topic->count += p->count;
        if (topic->count > file->largest) file->largest = topic->count;
    }
    return CRANK_OK;
}

static void grades(trec_file *file)
{
    file->grade_low = INT32_MAX;
    file->grade_high = -1;
    for (size_t i = 0; i < file->line_count; i++) {
        if (file->lines[i].grade < file->grade_low) file->grade_low = file->lines[i].grade;
        if (file->lines[i].grade > file->grade_high) file->grade_high = file->lines[i].grade;
    }
}

enum { MOST_CHUNKS = 64, CHUNK_BYTES = 1 << 18 };

static crank_status read_lines(crank_context *context, trec_kind kind, bool comments, trec_file *file)
{
    trec_chunk  chunks[MOST_CHUNKS] = { { 0 } };
    int         threads = crank_threads(context), count = (int)(file->length / CHUNK_BYTES < MOST_CHUNKS ? file->length / CHUNK_BYTES : MOST_CHUNKS);
    const char *at = file->text, *end = file->text + file->length;
    if (count > threads) count = threads;
    if (count < 1) count = 1;
    for (int k = 0; k < count; k++) { /* pieces end behind a line end */
        const char *to = k + 1 == count ? end : file->text + file->length / (size_t)count * (size_t)(k + 1);
        if (to < at) to = at;
        if (k + 1 < count && to < end) to = memchr(to, '\n', (size_t)(end - to));
        to = to && to < end ? to + (k + 1 < count) : end;
        chunks[k].from = at;
        chunks[k].to = at = to;
    }
#pragma omp parallel for num_threads(count) schedule(static, 1) if (count > 1)
    for (int k = 0; k < count; k++) trec_read_chunk(chunks + k, kind, comments);
    crank_status status = CRANK_OK;
    for (int k = 0; k < count && status == CRANK_OK; k++) {
        if (chunks[k].no_memory) status = crank_fail(context, CRANK_FAILED, "%s: out of memory: %zu lines", file->path, chunks[k].line_count);
        if (chunks[k].problem)
            status = crank_fail(context, CRANK_BAD_DATA, "%s:%lld: %s; a line of %s", file->path, (long long)trec_file_line(file, chunks[k].at),
                                chunks[k].problem, kind == TREC_RUN ? "a run is: topic Q0 document rank score tag" : "judgments is: topic iteration document relevance");
    }
    if (status == CRANK_OK) status = join(context, file, chunks, count);
    for (int k = 0; k < count; k++) free(chunks[k].lines), free(chunks[k].parts);
    return status;
}

crank_status trec_file_read(crank_context *context, const char *path, trec_kind kind, bool comments, trec_file *file)
{
    *file = (trec_file){ .path = crank_strdup(context, path), .kind = (int)kind };
    crank_status status = file->path ? read_text(context, path, file) : CRANK_FAILED;
    if (status == CRANK_OK) status = kind >= TREC_QRELS_JG ? groups_read(context, kind, comments, file) : read_lines(context, kind, comments, file);
    if (status == CRANK_OK && !file->line_count)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: no lines of %s", path, kind == TREC_RUN ? "a run" : "judgments");
    if (status == CRANK_OK && kind == TREC_QRELS) grades(file);
    if (status != CRANK_OK) trec_file_free(file);
    return status;
}

void trec_file_free(trec_file *file)
{
    free(file->lines);
    free(file->group_lines);
    free(file->parts);
    free(file->topics);
    crank_free(file->path);
    if (file->memory) crank_free(file->memory);
    else if (file->text) {
        file_map map = { (const uint8_t *)file->text, file->length };
        file_map_close(&map);
    }
    *file = (trec_file){ 0 };
}

const trec_topic *trec_file_topic(const trec_file *file, const char *name, size_t length)
{
    size_t low = 0, high = file->topic_count;
    while (low < high) {
        size_t            middle = low + (high - low) / 2;
        const trec_topic *topic = file->topics + middle;
        int               order = trec_compare(topic->name, topic->length, name, length);
        if (!order) return topic;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}
