/* letor_svmlight.c - lines of "label [qid:id] column:value ... [# comment]", and the chunk that they fill. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "crank/base.h"
#include "data/letor_parts.h"

void letor_chunk_fail(letor_chunk *chunk, crank_status status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(chunk->message, sizeof chunk->message, format, list);
    va_end(list);
    chunk->status = status;
}

static bool grow(letor_chunk *chunk, void *array, int64_t capacity, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, (size_t)capacity * size);
    if (!grown) {
        letor_chunk_fail(chunk, CRANK_FAILED, "out of memory for %lld rows or values of one block", (long long)capacity);
        return false;
    }
    memcpy(array, &grown, sizeof grown);
    return true;
}

bool letor_chunk_row(letor_chunk *c)
{
    if (c->rows == c->row_capacity) {
        int64_t capacity = c->row_capacity ? 2 * c->row_capacity : 1024;
        if (!grow(c, &c->labels, capacity, sizeof *c->labels) || !grow(c, &c->weights, capacity, sizeof *c->weights) ||
            !grow(c, &c->queries, capacity, sizeof *c->queries) || !grow(c, &c->documents, capacity, sizeof *c->documents) ||
            !grow(c, &c->ends, capacity, sizeof *c->ends) || !grow(c, &c->line_of, capacity, sizeof *c->line_of))
            return false;
        c->row_capacity = capacity;
    }
    c->queries[c->rows] = c->documents[c->rows] = (letor_token){NULL, 0};
    c->weights[c->rows] = 1;
    c->line_of[c->rows] = c->lines;
    return true;
}

bool letor_chunk_value(letor_chunk *c, int32_t column, float value)
{
    if (c->count == c->capacity) {
        int64_t capacity = c->capacity ? 2 * c->capacity : 65536;
        if (!grow(c, &c->indices, capacity, sizeof *c->indices) || !grow(c, &c->values, capacity, sizeof *c->values)) return false;
        c->capacity = capacity;
    }
    c->indices[c->count] = column;
    c->values[c->count++] = value;
    if (column > c->largest) c->largest = column;
    return true;
}

void letor_chunk_clear(letor_chunk *c)
{
    c->rows = c->count = c->lines = 0;
    c->largest = -1;
    c->status = CRANK_OK;
}

void letor_chunk_free(letor_chunk *c)
{
    free(c->labels);
    free(c->weights);
    free(c->queries);
    free(c->documents);
    free(c->ends);
    free(c->line_of);
    free(c->indices);
    free(c->values);
    *c = (letor_chunk){0};
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }
static const char *skip_blank(const char *at, const char *end)
{
    while (at < end && is_blank(*at)) at++;
    return at;
}
static const char *word_end(const char *at, const char *end)
{
    while (at < end && !is_blank(*at)) at++;
    return at;
}
static int shown(const char *at, const char *end) { return end - at > 60 ? 60 : (int)(end - at); }

/* "docid = X" of LETOR's comments */
static letor_token document_of(const char *at, const char *end)
{
    const char *key = memmem(at, (size_t)(end - at), "docid", 5);
    if (!key) return (letor_token){NULL, 0};
    at = skip_blank(key + 5, end);
    if (at == end || (*at != '=' && *at != ':')) return (letor_token){NULL, 0};
    at = skip_blank(at + 1, end);
    return (letor_token){at, (uint32_t)(word_end(at, end) - at)};
}

typedef struct pair {
    int32_t column;
    float   value;
} pair;
static int by_column(const void *a, const void *b)
{
    int32_t x = ((const pair *)a)->column, y = ((const pair *)b)->column;
    return (x > y) - (x < y);
}

/* The row's pairs in ascending order; a column twice is an error. */
static bool sort_row(letor_chunk *c, int64_t first)
{
    int64_t count = c->count - first, i = 1;
    while (i < count && c->indices[first + i - 1] < c->indices[first + i]) i++;
    if (i >= count) return true;
    pair *pairs = malloc((size_t)count * sizeof *pairs);
    if (!pairs) {
        letor_chunk_fail(c, CRANK_FAILED, "out of memory for a row of %lld values", (long long)count);
        return false;
    }
    for (i = 0; i < count; i++) pairs[i] = (pair){c->indices[first + i], c->values[first + i]};
    qsort(pairs, (size_t)count, sizeof *pairs, by_column);
    for (i = 0; i < count && c->status == CRANK_OK; i++) {
        if (i > 0 && pairs[i].column == pairs[i - 1].column)
            letor_chunk_fail(c, CRANK_BAD_DATA, "feature %d stands twice in the row", pairs[i].column);
        c->indices[first + i] = pairs[i].column;
        c->values[first + i] = pairs[i].value;
    }
    free(pairs);
    return c->status == CRANK_OK;
}

/* "column:value" */
static bool parse_pair(letor_chunk *c, const char *at, const char *end, int64_t most)
{
    const char *colon = memchr(at, ':', (size_t)(end - at)), *digit = at;
    float       value;
    int64_t     column = 0;
    if (!colon) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "`%.*s` is no feature; a feature is column:value", shown(at, end), at);
        return false;
    }
    for (; digit < colon && (unsigned)(*digit - '0') < 10 && column < (int64_t)1 << 40; digit++) column = 10 * column + (*digit - '0');
    if (digit != colon || digit == at) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "`%.*s` is no feature number; it must be a whole number from 0", shown(at, colon), at);
        return false;
    }
    if (column >= most) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "feature %lld is out of range: at most %lld columns are accepted (option columns)",
                         (long long)column, (long long)most);
        return false;
    }
    if (!letor_number(colon + 1, end, &value)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "`%.*s`: the value is no number", shown(at, end), at);
        return false;
    }
    if (isinf(value)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "`%.*s`: the value is infinite as float32; leave the feature out or write nan where it is missing",
                         shown(at, end), at);
        return false;
    }
    return letor_chunk_value(c, (int32_t)column, value);
}

static bool parse_line(letor_chunk *c, const char *at, const char *end, int64_t most)
{
    const char *comment = memchr(at, '#', (size_t)(end - at)), *stop = comment ? comment : end;
    const char *next;
    at = skip_blank(at, stop);
    if (at == stop) return true; /* empty, or a comment alone */
    if (!letor_chunk_row(c)) return false;
    next = word_end(at, stop);
    float *label = &c->labels[c->rows];
    if (memchr(at, ':', (size_t)(next - at)) || !letor_number(at, next, label)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "the line begins with `%.*s`, which is no label; a line is: label [qid:ID] column:value ...",
                         shown(at, next), at);
        return false;
    }
    if (!isfinite(*label)) {
        letor_chunk_fail(c, CRANK_BAD_DATA, "the label is `%.*s`; it must be a finite number", shown(at, next), at);
        return false;
    }
    int64_t first = c->count;
    bool    start = true;
    while ((at = skip_blank(next, stop)) < stop) {
        next = word_end(at, stop);
        if (next - at >= 4 && memcmp(at, "qid:", 4) == 0) {
            if (!start || next - at == 4) {
                letor_chunk_fail(c, CRANK_BAD_DATA, start ? "qid: is empty" : "qid: must stand once, right behind the label");
                return false;
            }
            c->queries[c->rows] = (letor_token){at + 4, (uint32_t)(next - at - 4)};
        } else if (!parse_pair(c, at, next, most))
            return false;
        start = false;
    }
    if (comment) c->documents[c->rows] = document_of(comment + 1, end);
    if (!sort_row(c, first)) return false;
    c->ends[c->rows++] = c->count;
    return true;
}

void letor_parse_svmlight(letor_chunk *chunk, const char *text, const char *end, int64_t most)
{
    while (text < end) {
        const char *mark = memchr(text, '\n', (size_t)(end - text)), *stop = mark ? mark : end, *next = mark ? mark + 1 : end;
        chunk->lines++;
        if (stop > text && stop[-1] == '\r') stop--;
        if (memchr(text, 0, (size_t)(stop - text))) letor_chunk_fail(chunk, CRANK_BAD_DATA, "a zero byte stands in the line: this is no text");
        if (chunk->status != CRANK_OK || !parse_line(chunk, text, stop, most)) return;
        text = next;
    }
}
