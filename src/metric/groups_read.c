/* groups_read.c - files of judgments by groups: lines between white space, checked, sorted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "metric/groups.h"

int group_name_compare(group_name a, group_name b) { return trec_compare(a.at, a.length, b.at, b.length); }

static int by_group(const void *left, const void *right)
{
    const group_line *a = left, *b = right;
    int               order = group_name_compare(a->topic, b->topic);
    if (!order) order = group_name_compare(a->group, b->group);
    if (!order) order = group_name_compare(a->sub, b->sub);
    if (!order) order = a->level < b->level ? 1 : a->level > b->level ? -1 : 0;
    if (!order) order = group_name_compare(a->doc, b->doc);
    return order ? order : a->line < b->line ? -1 : a->line > b->line;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The fields of text[0, length): at most `most`; returns how many there are, most + 1: more. */
static int split(const char *text, size_t length, group_name *fields, int most)
{
    int    n = 0;
    size_t i = 0;
    for (;;) {
        while (i < length && is_space(text[i])) i++;
        if (i == length) return n;
        if (n == most) return most + 1;
        size_t from = i;
        while (i < length && !is_space(text[i])) i++;
        fields[n++] = (group_name){text + from, (uint32_t)(i - from)};
    }
}

/* NULL, or what is wrong with a level. */
static const char *read_level(group_name text, trec_kind kind, double *level)
{
    char copy[64];
    if (text.length >= sizeof copy) return "the level has more than 63 characters";
    memcpy(copy, text.at, text.length);
    copy[text.length] = 0;
    if (!number_parse(copy + (*copy == '+'), level) || !isfinite(*level)) return kind == TREC_QRELS_JG ? "the relevance is not a whole number" : "the level is not a number";
    if (kind != TREC_QRELS_JG) return *level < 0 ? "the level is below 0" : NULL;
    if (*level != floor(*level)) return "the relevance is not a whole number";
    if (*level > METRIC_GRADE_LIMIT) return "the relevance is above 1000000";
    *level = fmax(*level, -1);
    return NULL;
}

static const char *read_line(const char *text, size_t length, trec_kind kind, group_line *line)
{
    static const char *const missing[] = {"no topic", "no group", "no document", "no level"}, *const missing_sub[] = {"no topic", "no group", "no subgroup", "no document", "no level"};
    int        wanted = kind == TREC_PREFS ? 5 : 4, n;
    group_name fields[5];
    if (length > UINT32_MAX) return "a line is longer than 4 GB";
    n = split(text, length, fields, wanted);
    if (n > wanted) return kind == TREC_PREFS ? "more than five fields" : "more than four fields";
    if (n < wanted) return kind == TREC_PREFS ? missing_sub[n] : missing[n];
    *line = (group_line){.topic = fields[0], .group = fields[1], .sub = kind == TREC_PREFS ? fields[2] : (group_name){"0", 1}, .doc = fields[wanted - 2]};
    return read_level(fields[wanted - 1], kind, &line->level);
}

static crank_status read_lines(crank_context *context, trec_kind kind, bool comments, trec_file *file)
{
    static const char *const form[] = {[TREC_QRELS_JG] = "topic group document relevance", [TREC_QRELS_PREFS] = "topic group document level", [TREC_PREFS] = "topic group subgroup document level"};
    const char *at = file->text, *end = at + file->length;
    size_t      room = 0;
    for (int64_t number = 1; at < end; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *text = at;
        size_t      length = (size_t)((stop ? stop : end) - at), blank = 0;
        at = stop ? stop + 1 : end;
        while (blank < length && is_space(text[blank])) blank++;
        if (blank == length || (comments && *text == '#')) continue;
        if (file->line_count == room) {
            group_line *more = realloc(file->group_lines, (room = 2 * room + 256) * sizeof *more);
            if (!more) return crank_fail(context, CRANK_FAILED, "%s: out of memory: %zu lines", file->path, file->line_count);
            file->group_lines = more;
        }
        const char *problem = read_line(text, length, kind, file->group_lines + file->line_count);
        if (!comments && kind != TREC_QRELS_JG) file->group_lines[file->line_count].level = (double)(float)file->group_lines[file->line_count].level; /* version 9 */
        if (problem) return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: %s; a line is: %s", file->path, (long long)number, problem, form[kind]);
        file->group_lines[file->line_count++].line = number;
    }
    return CRANK_OK;
}

/* One entry of file->topics for each run of lines of one topic. */
static crank_status find_topics(crank_context *context, trec_file *file)
{
    size_t count = 0;
    for (size_t i = 0; i < file->line_count; i++) count += !i || group_name_compare(file->group_lines[i - 1].topic, file->group_lines[i].topic);
    file->topics = calloc(count + 1, sizeof *file->topics);
    if (!file->topics) return crank_fail(context, CRANK_FAILED, "%s: out of memory: topics", file->path);
    for (size_t i = 0; i < file->line_count; i++) {
        const group_line *line = file->group_lines + i;
        if (!i || group_name_compare(line[-1].topic, line->topic)) file->topics[file->topic_count++] = (trec_topic){.name = line->topic.at, .length = line->topic.length, .part = i};
        trec_topic *topic = file->topics + file->topic_count - 1;
        if (++topic->count > file->largest) file->largest = topic->count;
    }
    return CRANK_OK;
}

/* A document stands once in a group of qrels_jg. */
static int by_document(const void *left, const void *right)
{
    const group_line *a = *(const group_line *const *)left, *b = *(const group_line *const *)right;
    int               order = group_name_compare(a->topic, b->topic);
    if (!order) order = group_name_compare(a->group, b->group);
    if (!order) order = group_name_compare(a->sub, b->sub);
    if (!order) order = group_name_compare(a->doc, b->doc);
    return order ? order : a->line < b->line ? -1 : a->line > b->line;
}

static crank_status check_documents(crank_context *context, trec_file *file)
{
    const group_line **lines = crank_alloc(context, file->line_count + 1, sizeof *lines, "judgments");
    crank_status       status = lines ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; lines && i < file->line_count; i++) lines[i] = file->group_lines + i;
    if (lines) qsort(lines, file->line_count, sizeof *lines, by_document);
    for (size_t i = 1; status == CRANK_OK && i < file->line_count; i++) {
        const group_line *a = lines[i - 1], *b = lines[i];
        if (group_name_compare(a->topic, b->topic) || group_name_compare(a->group, b->group) || group_name_compare(a->sub, b->sub) || group_name_compare(a->doc, b->doc)) continue;
        status = crank_fail(context, CRANK_BAD_DATA, "%s:%lld: document `%.*s` stands twice in one group", file->path, (long long)b->line, (int)(b->doc.length < 200 ? b->doc.length : 200), b->doc.at);
    }
    crank_free(lines);
    return status;
}

crank_status groups_read(crank_context *context, trec_kind kind, bool comments, trec_file *file)
{
    crank_status status = read_lines(context, kind, comments, file);
    if (status == CRANK_OK && file->line_count) qsort(file->group_lines, file->line_count, sizeof *file->group_lines, by_group);
    if (status == CRANK_OK) status = check_documents(context, file);
    return status == CRANK_OK ? find_topics(context, file) : status;
}
