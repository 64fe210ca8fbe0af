/* fuse.c - fusion of runs, topic by topic. r: 1-based rank, s: normalised score, w: weight of the run; sums over the runs that hold d.
 *
 *     rrf          sum w / (k + r)                          Cormack et al. 2009, k = 60
 *     combsum      sum w s                                  Fox and Shaw 1994
 *     combmnz      (number of runs that hold d) sum w s
 *     interpolate  sum w s, weights 1 / runs unless given
 *
 * minmax: (s - min) / (max - min), 1 where all scores are equal; zscore: (s - mean) / deviation, 0 where it is 0. Scores are written with the
 * digits that read back as the same double. */
#include "metric/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"
#include "base/text.h"

typedef struct mix { const char *doc; uint32_t length, runs; double score; } mix;

static int by_name(const void *left, const void *right)
{
    const mix *a = left, *b = right;
    return trec_compare(a->doc, a->length, b->doc, b->length);
}

static int by_score(const void *left, const void *right)
{
    const mix *a = left, *b = right;
    return a->score > b->score ? -1 : a->score < b->score ? 1 : by_name(right, left);
}

/* score <- (score - shift) / scale */
static void normalization(const trec_line *docs, size_t n, fuse_norm norm, double *shift, double *scale)
{
    double low = INFINITY, high = -INFINITY, mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, docs[i].score);
        high = fmax(high, docs[i].score);
        mean += docs[i].score / (double)n;
    }
    for (size_t i = 0; i < n; i++) squares += (docs[i].score - mean) * (docs[i].score - mean) / (double)n;
    *shift = norm == FUSE_MINMAX ? low : norm == FUSE_ZSCORE ? mean : 0;
    *scale = norm == FUSE_MINMAX ? high - low : norm == FUSE_ZSCORE ? sqrt(squares) : 1;
}

static double score_of(const fuse_options *o, double weight, int64_t rank, double score, double shift, double scale)
{
    if (o->rule == FUSE_RRF) return weight / (o->k + (double)rank);
    if (scale == 0) return weight * (o->norm == FUSE_MINMAX ? 1 : 0);
    return weight * ((score - shift) / scale);
}

/* What one run says of a topic, behind the others. NULL, or the name of a document that stands twice. */
static const char *add_run(const trec_file *run, const trec_topic *topic, const fuse_options *o, double weight, topic_scratch *s, mix *out)
{
    double shift, scale;
    topic_rank(run, topic, 10, s);
    normalization(s->docs, topic->count, o->norm, &shift, &scale);
    for (size_t i = 0; i < topic->count; i++) {
        const trec_line *line = s->docs + s->order[i];
        out[i] = (mix){ line->doc, line->length, 1, score_of(o, weight, (int64_t)i + 1, line->score, shift, scale) };
    }
    qsort(out, topic->count, sizeof *out, by_name);
    for (size_t i = 1; i < topic->count; i++)
        if (!by_name(out + i - 1, out + i)) return out[i].doc;
    return NULL;
}

/* Equal names become one, in the order of the runs. */
static int by_name_then_place(const void *left, const void *right)
{
    int order = by_name(left, right);
    return order ? order : ((const mix *)left)->runs < ((const mix *)right)->runs ? -1 : 1;
}

static size_t merge(mix *all, size_t n, fuse_rule rule)
{
    size_t out = 0;
    qsort(all, n, sizeof *all, by_name_then_place); /* `runs` holds the run's number here */
    for (size_t i = 0, j; i < n; i = j) {
        mix sum = all[i];
        for (j = i + 1; j < n && !by_name(all + i, all + j); j++) sum.score += all[j].score;
        sum.runs = (uint32_t)(j - i);
        if (rule == FUSE_COMBMNZ) sum.score *= (double)sum.runs;
        all[out++] = sum;
    }
    return out;
}

static crank_status fuse_topic(crank_context *context, const trec_file *runs, int64_t count, const fuse_options *o, const char *name, uint32_t length,
                               topic_scratch *s, mix *all, text_buffer *text)
{
    size_t n = 0;
    for (int64_t r = 0; r < count; r++) {
        const trec_topic *topic = trec_file_topic(runs + r, name, length);
        if (!topic) continue;
        double      weight = o->weights ? o->weights[r] : o->rule == FUSE_INTERPOLATE ? 1.0 / (double)count : 1;
        const char *twice = add_run(runs + r, topic, o, weight, s, all + n);
        if (twice)
            return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: document `%.*s` stands twice under one topic", runs[r].path,
                              (long long)trec_file_line(runs + r, twice), (int)strcspn(twice, " \t\r\n\v\f"), twice);
        for (size_t i = 0; i < topic->count; i++) all[n + i].runs = (uint32_t)r;
        n += topic->count;
    }
    n = merge(all, n, o->rule);
    qsort(all, n, sizeof *all, by_score);
    for (size_t i = 0; i < n && (int64_t)i < o->depth; i++) {
        char number[NUMBER_SIZE];
        if (isnan(all[i].score)) return crank_fail(context, CRANK_BAD_DATA, "topic `%.*s`: infinite scores cannot be fused by their size; --fuse rrf reads ranks only", (int)length, name);
        number_print(all[i].score, number);
        text_add(text, name, length);
        text_puts(text, " Q0 ");
        text_add(text, all[i].doc, all[i].length);
        text_printf(text, " %zu %s %s\n", i + 1, number, o->tag);
    }
    return CRANK_OK;
}

typedef struct topic_name { const char *name; uint32_t length; } topic_name;

static int by_topic_name(const void *left, const void *right)
{
    const topic_name *a = left, *b = right;
    return trec_compare(a->name, a->length, b->name, b->length);
}

crank_status fuse_runs(crank_context *context, const trec_file *runs, int64_t count, const fuse_options *options, const char *path, char **out)
{
    size_t largest = 0, documents = 0, topics = 0, n = 0;
    for (int64_t r = 0; r < count; r++) {
        if (runs[r].largest >= (1u << 30)) return crank_fail(context, CRANK_BAD_DATA, "%s: more than 2^30 documents under one topic", runs[r].path);
        largest = runs[r].largest > largest ? runs[r].largest : largest;
        documents += runs[r].largest;
        topics += runs[r].topic_count;
    }
    topic_scratch *scratch = topic_scratch_new(context, NULL, largest, 0, 1);
    mix           *all = crank_alloc(context, documents, sizeof *all, "documents of a topic");
    topic_name    *names = crank_alloc(context, topics + 1, sizeof *names, "topics");
    text_buffer    text = { 0 };
    crank_status   status = scratch && all && names ? CRANK_OK : CRANK_FAILED;
    for (int64_t r = 0; r < count && status == CRANK_OK; r++)
        for (size_t i = 0; i < runs[r].topic_count; i++) names[n++] = (topic_name){ runs[r].topics[i].name, runs[r].topics[i].length };
    if (status == CRANK_OK) qsort(names, n, sizeof *names, by_topic_name);
    for (size_t i = 0; i < n && status == CRANK_OK; i++)
        if (!i || by_topic_name(names + i - 1, names + i)) status = fuse_topic(context, runs, count, options, names[i].name, names[i].length, scratch, all, &text);
    topic_scratch_free(scratch, 1);
    crank_free(all);
    crank_free(names);
    char *whole = status == CRANK_OK ? text_take(context, &text, "the fused run") : NULL;
    text_clear(&text);
    if (status == CRANK_OK && !whole) status = CRANK_FAILED;
    if (status == CRANK_OK && strcmp(path, "-")) status = file_write_text(context, path, whole);
    if (status == CRANK_OK && !strcmp(path, "-")) *out = whole;
    else crank_free(whole);
    return status;
}
