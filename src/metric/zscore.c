/* zscore.c - values of a topic in deviations from the mean of reference runs: trec_eval's -Z.
 *
 *     topic  measure  mean  deviation          of each topic and value ("P_5"), between white space
 *
 * A value of deviation 0 becomes 0 where it is the mean; what the file has no line for becomes -1000000. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"
#include "metric/metric.h"

static int by_topic_and_name(const void *left, const void *right)
{
    const zscore *a = left, *b = right;
    int           order = strcmp(a->topic, b->topic);
    return order ? order : strcmp(a->name, b->name);
}

void zscores_free(zscores *z)
{
    crank_free(z->text);
    free(z->lines);
    *z = (zscores){0};
}

/* NULL, or what is wrong. The line is cut into its fields. */
static const char *read_line(char *line, zscore *out)
{
    static const char *const missing[] = {"no topic", "no measure", "no mean", "no deviation"};
    char                    *fields[4], *rest = NULL;
    for (int i = 0; i < 4; i++)
        if (!(fields[i] = strtok_r(i ? NULL : line, " \t\r\v\f", &rest))) return missing[i];
    if (strtok_r(NULL, " \t\r\v\f", &rest)) return "more than four fields";
    *out = (zscore){.topic = fields[0], .name = fields[1]};
    if (!number_parse(fields[2], &out->mean) || !isfinite(out->mean)) return "the mean is not a number";
    if (!number_parse(fields[3], &out->deviation) || !(out->deviation >= 0) || !isfinite(out->deviation)) return "the deviation is no number from 0 on";
    return NULL;
}

crank_status zscores_read(crank_context *context, const char *path, zscores *z)
{
    size_t       length = 0, room = 0;
    crank_status status = CRANK_OK;
    *z = (zscores){.text = (char *)file_read(context, path, &length)};
    if (!z->text) return crank_last_status(context);
    if (memchr(z->text, 0, length)) status = crank_fail(context, CRANK_BAD_DATA, "%s holds a NUL byte: it is no text", path);
    char *at = z->text, *end = at + length;
    for (int64_t number = 1; status == CRANK_OK && at < end; number++) {
        char *stop = memchr(at, '\n', (size_t)(end - at)), *line = at;
        at = stop ? stop + 1 : end;
        if (stop) *stop = 0;
        if (!line[strspn(line, " \t\r\v\f")]) continue;
        if (z->count == room) {
            zscore *more = realloc(z->lines, (room = 2 * room + 256) * sizeof *more);
            if (!more) status = crank_fail(context, CRANK_FAILED, "%s: out of memory: %zu lines", path, z->count);
            else z->lines = more;
        }
        const char *problem = status == CRANK_OK ? read_line(line, z->lines + z->count++) : NULL;
        if (problem) status = crank_fail(context, CRANK_BAD_DATA, "%s:%lld: %s; a line is: topic measure mean deviation", path, (long long)number, problem);
    }
    if (status == CRANK_OK && !z->count) status = crank_fail(context, CRANK_BAD_DATA, "%s: no lines of means and deviations", path);
    if (status == CRANK_OK) qsort(z->lines, z->count, sizeof *z->lines, by_topic_and_name);
    for (size_t i = 1; status == CRANK_OK && i < z->count; i++)
        if (!by_topic_and_name(z->lines + i - 1, z->lines + i)) status = crank_fail(context, CRANK_BAD_DATA, "%s: topic `%s`, `%s` stands twice", path, z->lines[i].topic, z->lines[i].name);
    if (status != CRANK_OK) zscores_free(z);
    return status;
}

void zscores_apply(const zscores *z, const trec_topic *topic, const metric_plan *plan, double *row)
{
    char name[512], where[512];
    snprintf(where, sizeof where, "%.*s", (int)topic->length, topic->name);
    for (int64_t k = 0; k < plan->count; k++)
        for (int64_t i = 0; i < plan->requests[k].values; i++) {
            double *value = row + plan->requests[k].first + i;
            metric_value_name(plan->requests + k, i, name, sizeof name);
            const zscore *found = bsearch(&(zscore){.topic = where, .name = name}, z->lines, z->count, sizeof *z->lines, by_topic_and_name);
            if (!found || (found->deviation == 0 && *value != found->mean)) *value = ZSCORE_MISSING;
            else *value = found->deviation > 0 ? (*value - found->mean) / found->deviation : 0;
        }
}
