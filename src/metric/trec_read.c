/* trec_read.c - lines of TREC files, one pass over the bytes:
 *
 *     judgments    topic  iteration  document  relevance
 *     run          topic  Q0  document  rank  score  tag
 *
 * Fields stand between white space. The iteration, Q0 and the rank are read over. Names are not copied. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/number.h"
#include "metric/metric.h"

enum { LARGE_PAGE = 1 << 21 };

/* 1 space, 2 line end (which is a space too) */
static const uint8_t kinds[256] = { [' '] = 1, ['\t'] = 1, ['\v'] = 1, ['\f'] = 1, ['\r'] = 1, ['\n'] = 2 };

/* The next field of the line; false at its end: a line end is no white space that is read over. *at stands behind the field. */
static bool field(const char **at, const char *end, const char **start, size_t *length)
{
    const char *p = *at;
    while (p < end && kinds[(uint8_t)*p] == 1) p++;
    const char *from = p;
    while (p < end && !kinds[(uint8_t)*p]) p++;
    *at = p;
    *start = from;
    *length = (size_t)(p - from);
    return p > from;
}

static bool whole_number(const char *text, size_t length, int64_t *value)
{
    bool    minus = length && *text == '-';
    size_t  i = length && (minus || *text == '+');
    int64_t sum = 0;
    if (i == length || length - i > 18) return false;
    for (; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        sum = sum * 10 + (text[i] - '0');
    }
    *value = minus ? -sum : sum;
    return true;
}

/* Decimals whose digits and power of ten are exact doubles need one rounding (Clinger 1990); all others go to the library. */
static bool real_number(const char *text, size_t length, double *value)
{
    static const double tens[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
                                   1e19, 1e20, 1e21, 1e22 };
    bool     minus = length && *text == '-', point = false;
    size_t   i = length && (minus || *text == '+'), start = i, digits = 0;
    uint64_t mantissa = 0;
    int      scale = 0;
    for (; i < length && digits < 19; i++) {
        if (text[i] == '.' && !point) { point = true; continue; }
        if (text[i] < '0' || text[i] > '9') break;
        mantissa = mantissa * 10 + (uint64_t)(text[i] - '0');
        digits++;
        scale -= point;
    }
    if (i == length && digits && i > start && mantissa < (UINT64_C(1) << 53) && scale >= -22) {
        *value = (double)mantissa / tens[-scale];
        if (minus) *value = -*value;
        return true;
    }
    char copy[512];
    if (length >= sizeof copy) return false;
    memcpy(copy, text + (length && *text == '+'), length - (length && *text == '+'));
    copy[length - (length && *text == '+')] = 0;
    return number_parse(copy, value);
}

static bool grow(void **memory, size_t *capacity, size_t size)
{
    size_t wanted = *capacity ? *capacity * 2 : 1024;
    void  *larger = wanted > SIZE_MAX / size ? NULL : realloc(*memory, wanted * size);
    if (!larger) return false;
    *memory = larger;
    *capacity = wanted;
    return true;
}

/* NULL, or what is wrong. */
static const char *read_line(const char **at, const char *end, trec_kind kind, const char **topic, size_t *topic_length, trec_line *line,
                             trec_chunk *chunk)
{
    const char *skipped, *doc, *value, *last;
    size_t      skipped_length, doc_length, value_length, last_length;
    if (!field(at, end, topic, topic_length)) return "no topic";
    if (!field(at, end, &skipped, &skipped_length)) return kind == TREC_RUN ? "no Q0 field" : "no iteration field";
    if (!field(at, end, &doc, &doc_length)) return "no document";
    if (*topic_length > UINT32_MAX || doc_length > UINT32_MAX) return "a name is longer than 4 GB";
    line->doc = doc;
    line->length = (uint32_t)doc_length;
    if (kind == TREC_QRELS) {
        int64_t grade;
        if (!field(at, end, &value, &value_length)) return "no relevance";
        if (!whole_number(value, value_length, &grade)) return "the relevance is not a whole number";
        if (grade > METRIC_GRADE_LIMIT) return "the relevance is above 1000000";
        if (field(at, end, &last, &last_length)) return "more than four fields";
        line->grade = (int32_t)(grade < -1 ? -1 : grade);
        line->score = 0;
        return NULL;
    }
    if (!field(at, end, &skipped, &skipped_length)) return "no rank";
    if (!field(at, end, &value, &value_length)) return "no score";
    if (!real_number(value, value_length, &line->score)) return "the score is not a number";
    if (line->score != line->score) return "the score is NaN";
    if (!field(at, end, &last, &last_length)) return "no tag of the run: six fields are needed";
    if (last_length > UINT32_MAX) return "a name is longer than 4 GB";
    line->grade = 0;
    chunk->tag = last;
    chunk->tag_length = (uint32_t)last_length;
    return NULL;
}

/* Behind the end of the line. */
static const char *line_end(const char *at, const char *end)
{
    if (at < end && *at == '\n') return at + 1;
    const char *found = memchr(at, '\n', (size_t)(end - at));
    return found ? found + 1 : end;
}

/* Room for as many lines as there are when all are as long as the first; large pages make the first touch cheap. */
static void reserve(trec_chunk *chunk)
{
    size_t bytes = (size_t)(chunk->to - chunk->from), first = (size_t)(line_end(chunk->from, chunk->to) - chunk->from);
    size_t lines = bytes / (first > 16 ? first : 16) + bytes / 1024 + 64, size = (lines * sizeof *chunk->lines + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    if (bytes < LARGE_PAGE || !(chunk->lines = aligned_alloc(LARGE_PAGE, size))) return;
    madvise(chunk->lines, size, MADV_HUGEPAGE);
    chunk->line_capacity = size / sizeof *chunk->lines;
}

bool trec_read_chunk(trec_chunk *chunk, trec_kind kind, bool comments)
{
    const char *at = chunk->from, *topic = NULL;
    size_t      topic_length = 0;
    trec_part  *part = NULL;
    reserve(chunk);
    while (at < chunk->to) {
        const char *start = at;
        while (at < chunk->to && kinds[(uint8_t)*at] == 1) at++;
        if (at == chunk->to || *at == '\n' || (comments && *start == '#')) { /* a blank line or a comment */
            at = line_end(at, chunk->to);
            continue;
        }
        if (chunk->line_count == chunk->line_capacity && !grow((void **)&chunk->lines, &chunk->line_capacity, sizeof *chunk->lines))
            return chunk->no_memory = true, false;
        chunk->problem = read_line(&at, chunk->to, kind, &topic, &topic_length, chunk->lines + chunk->line_count, chunk);
        if (chunk->problem) return chunk->at = start, false;
        if (!part || part->length != topic_length || memcmp(part->topic, topic, topic_length)) {
            if (chunk->part_count == chunk->part_capacity && !grow((void **)&chunk->parts, &chunk->part_capacity, sizeof *chunk->parts))
                return chunk->no_memory = true, false;
            part = chunk->parts + chunk->part_count++;
            *part = (trec_part){ .topic = topic, .length = (uint32_t)topic_length, .first = chunk->line_count };
        }
        part->count++;
        chunk->line_count++;
        at = line_end(at, chunk->to);
    }
    return true;
}
