/* trec_read.c - lines of TREC files, one pass over the bytes:
 *
 *     judgments    topic  iteration  document  relevance
 *     run          topic  Q0  document  rank  score  tag
 *
 * Fields stand between white space. The iteration, Q0 and the rank are read over. Names are not copied. A line of at most 64 bytes whose fields
 * have one character between them is split by one mask of its white space; all others field by field. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

static uint64_t load8(const char *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static uint32_t hash_name(const char *text, size_t length)
{
    uint64_t hash = length * UINT64_C(0x9e3779b97f4a7c15), word = 0;
    size_t   i = 0;
    for (; i + 8 <= length; i += 8) {
        hash = (hash ^ load8(text + i)) * UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 32;
    }
    if (length >= 8) word = load8(text + length - 8);
    else
        for (; i < length; i++) word = word << 8 | (uint8_t)text[i];
    hash = (hash ^ word) * UINT64_C(0xc4ceb9fe1a85ec53);
    hash = (hash ^ hash >> 32) * UINT64_C(0xff51afd7ed558ccd); /* the last characters reach all bits */
    return (uint32_t)(hash >> 32);
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
    line->hash = hash_name(doc, doc_length);
    if (kind == TREC_QRELS) {
        int64_t grade;
        if (!field(at, end, &value, &value_length)) return "no relevance";
        if (!whole_number(value, value_length, &grade)) return "the relevance is not a whole number";
        if (grade > METRIC_GRADE_LIMIT) return "the relevance is above 1000000";
        if (field(at, end, &last, &last_length)) return "more than four fields";
        line->grade = (int32_t)(grade < -1 ? -1 : grade);
        return NULL;
    }
    if (!field(at, end, &skipped, &skipped_length)) return "no rank";
    if (!field(at, end, &value, &value_length)) return "no score";
    if (!real_number(value, value_length, &line->score)) return "the score is not a number";
    if (line->score != line->score) return "the score is NaN";
    if (!field(at, end, &last, &last_length)) return "no tag of the run: six fields are needed";
    if (last_length > UINT32_MAX) return "a name is longer than 4 GB";
    chunk->tag = last;
    chunk->tag_length = (uint32_t)last_length;
    return NULL;
}

#ifdef __SSE2__
enum { WINDOW = 64 };

/* Bit i: byte i is white space (*ends: a line end). */
static uint64_t white_space(const char *p, uint64_t *ends)
{
    const __m128i nine = _mm_set1_epi8(9), four = _mm_set1_epi8(4), space = _mm_set1_epi8(' '), end = _mm_set1_epi8('\n');
    uint64_t      white = 0, line_ends = 0;
    for (int k = 0; k < WINDOW; k += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + k)), low = _mm_sub_epi8(v, nine);
        __m128i is_white = _mm_or_si128(_mm_cmpeq_epi8(v, space), _mm_cmpeq_epi8(_mm_min_epu8(low, four), low)); /* 9 .. 13 */
        white |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_white) << k;
        line_ends |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, end)) << k;
    }
    *ends = line_ends;
    return white;
}

/* The number of n digits, 1 <= n <= 8, of which 8 bytes can be read; false: another character among them. */
static bool eight_digits(const char *p, unsigned n, uint64_t *value)
{
    unsigned shift = 64 - 8 * n;
    uint64_t x = (load8(p) << shift) ^ (UINT64_C(0x3030303030303030) << shift);
    if ((x | (x + UINT64_C(0x0606060606060606))) & UINT64_C(0xf0f0f0f0f0f0f0f0)) return false;
    x = (x * 10) + (x >> 8); /* pairs, then fours, then all */
    x = ((x & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) + ((x >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >> 32;
    *value = x & UINT32_MAX;
    return true;
}

/* -DDD.DDDDDD with at most 8 digits on each side of the point, 15 in all: an exact whole number over an exact power of ten, one rounding. */
static bool short_number(const char *p, unsigned n, double *value)
{
    static const double tens[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8 };
    static const uint32_t whole_tens[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000 };
    bool     minus = *p == '-';
    uint64_t left, right;
    p += minus, n -= minus;
    if (n < 3 || n > 16) return false;
    unsigned point = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8('.')));
    if (!point) return false;
    unsigned a = (unsigned)__builtin_ctz(point), b = n - a - 1;
    if (a < 1 || a > 8 || b < 1 || b > 8 || a + 1 > n || a + b > 15 || !eight_digits(p, a, &left) || !eight_digits(p + a + 1, b, &right)) return false;
    double x = (double)(left * whole_tens[b] + right) / tens[b];
    *value = minus ? -x : x;
    return true;
}

/* A line as most are; false: it is another one. *at goes to its end. */
static bool read_common(const char **at, const char *end, trec_kind kind, const char **topic, size_t *topic_length, trec_line *line, trec_chunk *chunk)
{
    const char *p = *at;
    uint64_t    ends, white = end - p < WINDOW + 16 ? 0 : white_space(p, &ends);
    unsigned    fields = kind == TREC_RUN ? 6 : 4, stop[6], start = 0;
    int64_t     grade;
    for (unsigned k = 0; k < fields; k++, start = stop[k - 1] + 1, white &= white - 1) {
        if (!white) return false;
        stop[k] = (unsigned)__builtin_ctzll(white);
        if (stop[k] == start) return false; /* two white characters */
    }
    unsigned last = stop[fields - 1];
    if (!(ends >> last & 1) || ends & ((UINT64_C(1) << last) - 1)) return false; /* the first line end stands behind the last field */
    *topic = p, *topic_length = stop[0];
    line->doc = p + stop[1] + 1, line->length = stop[2] - stop[1] - 1;
    if (kind == TREC_RUN) {
        if (!short_number(p + stop[3] + 1, stop[4] - stop[3] - 1, &line->score)) return false;
        chunk->tag = p + stop[4] + 1, chunk->tag_length = last - stop[4] - 1;
    } else {
        if (!whole_number(p + stop[2] + 1, last - stop[2] - 1, &grade) || grade > METRIC_GRADE_LIMIT) return false;
        line->grade = (int32_t)(grade < -1 ? -1 : grade);
    }
    line->hash = hash_name(line->doc, line->length);
    *at = p + last;
    return true;
}
#else
static bool read_common(const char **at, const char *end, trec_kind kind, const char **topic, size_t *topic_length, trec_line *line, trec_chunk *chunk)
{
    (void)at, (void)end, (void)kind, (void)topic, (void)topic_length, (void)line, (void)chunk;
    return false;
}
#endif

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

static bool same_name(const char *a, const char *b, size_t n)
{
    if (n > 8) return !memcmp(a, b, n);
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
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
        trec_line *line = chunk->lines + chunk->line_count;
        if (!read_common(&at, chunk->to, kind, &topic, &topic_length, line, chunk)) chunk->problem = read_line(&at, chunk->to, kind, &topic, &topic_length, line, chunk);
        if (chunk->problem) return chunk->at = start, false;
        if (!part || part->length != topic_length || !same_name(part->topic, topic, topic_length)) {
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
