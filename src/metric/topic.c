/* topic.c - one topic: documents ranked, looked up in the judgments, counted.
 *
 * Order: score descending, then name descending, bytewise. Version 9 of trec_eval keeps scores in f32, so scores that differ only behind
 * that tie; version 10 keeps doubles. The rank field of a run is not read. */
#include <stdlib.h>
#include <string.h>

#include "metric/metric.h"

void topic_scratch_free(topic_scratch *scratch, int count)
{
    for (int k = 0; scratch && k < count; k++) {
        crank_free(scratch[k].docs_room);
        crank_free(scratch[k].keys);
        crank_free(scratch[k].order);
        crank_free(scratch[k].table);
        crank_free(scratch[k].judged_room);
        crank_free(scratch[k].rels);
        crank_free(scratch[k].found);
        crank_free(scratch[k].hits);
        crank_free(scratch[k].counts);
        crank_free(scratch[k].levels);
    }
    crank_free(scratch);
}

topic_scratch *topic_scratch_new(crank_context *context, const trec_file *qrels, size_t run_largest, int64_t pairs, int count)
{
    size_t         n = run_largest ? run_largest : 1, judged = qrels ? qrels->largest : 0, grades = qrels ? (size_t)(qrels->grade_high + 2) : 1, capacity = 16;
    topic_scratch *scratch = crank_alloc(context, (size_t)count, sizeof *scratch, "scratch of topics");
    bool           ready = scratch != NULL;
    while (capacity < 2 * (n + judged)) capacity *= 2;
    for (int k = 0; ready && k < count; k++) {
        topic_scratch *s = scratch + k;
        ready = (s->docs_room = crank_alloc(context, n, sizeof *s->docs_room, "documents of a topic")) &&
                (s->keys = crank_alloc(context, 2 * n, sizeof *s->keys, "scores of a topic")) &&
                (s->order = crank_alloc(context, 2 * n, sizeof *s->order, "the order of a topic")) &&
                (s->table = crank_alloc(context, capacity, sizeof *s->table, "names of a topic")) &&
                (s->judged_room = crank_alloc(context, judged + 1, sizeof *s->judged_room, "judgments of a topic")) &&
                (s->rels = crank_alloc(context, n, sizeof *s->rels, "relevance by rank")) &&
                (s->found = crank_alloc(context, n, sizeof *s->found, "relevance of documents")) &&
                (s->hits = crank_alloc(context, n, sizeof *s->hits, "relevant ranks")) &&
                (s->counts = crank_alloc(context, grades, sizeof *s->counts, "counts of levels")) &&
                (s->levels = crank_alloc(context, grades + (size_t)pairs + 1, sizeof *s->levels, "gains"));
        s->capacity = capacity;
    }
    if (!ready) {
        topic_scratch_free(scratch, count);
        return NULL;
    }
    return scratch;
}

/* The topic's lines: where they are, or gathered into `out`. */
static const trec_line *gather(const trec_file *file, const trec_topic *topic, trec_line *out)
{
    const trec_line *start = out;
    if (topic->parts == 1) return file->lines + file->parts[topic->part].first;
    for (size_t p = topic->part; p < topic->part + topic->parts; p++) {
        memcpy(out, file->lines + file->parts[p].first, file->parts[p].count * sizeof *out);
        out += file->parts[p].count;
    }
    return start;
}

/* Whole numbers in the order of falling scores; -0 and 0 are one score. */
static uint64_t key_of(double score, int version)
{
    if (version == 9) {
        float    narrow = (float)score + 0.0f;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        return bits >> 31 ? bits : ~bits & 0x7fffffffu;
    }
    uint64_t bits;
    score += 0.0;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 63 ? bits : ~bits & (UINT64_MAX >> 1);
}

/* Stable; digits of 8 bits, those in which all keys agree are passed over. The result is in the lower halves. */
static void radix_sort(uint64_t *keys, uint32_t *order, size_t n)
{
    uint64_t *from = keys, *to = keys + n, all = UINT64_MAX, any = 0;
    uint32_t *from_order = order, *to_order = order + n;
    for (size_t i = 0; i < n; i++) all &= keys[i], any |= keys[i];
    for (int shift = 0; shift < 64; shift += 8) {
        if (!((all ^ any) >> shift & 255)) continue;
        size_t starts[256] = { 0 }, sum = 0;
        for (size_t i = 0; i < n; i++) starts[from[i] >> shift & 255]++;
        for (int d = 0; d < 256; d++) {
            size_t count = starts[d];
            starts[d] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++) {
            size_t at = starts[from[i] >> shift & 255]++;
            to[at] = from[i];
            to_order[at] = from_order[i];
        }
        uint64_t *keys_swap = from;
        uint32_t *order_swap = from_order;
        from = to, to = keys_swap;
        from_order = to_order, to_order = order_swap;
    }
    if (from == keys) return;
    memcpy(keys, from, n * sizeof *keys);
    memcpy(order, from_order, n * sizeof *order);
}

static bool name_before(const trec_line *docs, uint32_t a, uint32_t b) /* descending */
{
    return trec_compare(docs[a].doc, docs[a].length, docs[b].doc, docs[b].length) > 0;
}

/* Merge sort of the indices of equal scores by name, descending. */
static void sort_names(const trec_line *docs, uint32_t *order, uint32_t *spare, size_t n)
{
    if (n <= 8) {
        for (size_t i = 1; i < n; i++)
            for (size_t j = i; j > 0 && name_before(docs, order[j], order[j - 1]); j--) {
                uint32_t swap = order[j];
                order[j] = order[j - 1];
                order[j - 1] = swap;
            }
        return;
    }
    size_t half = n / 2;
    sort_names(docs, order, spare, half);
    sort_names(docs, order + half, spare, n - half);
    memcpy(spare, order, half * sizeof *order);
    size_t left = 0, right = half, out = 0;
    while (left < half && right < n) {
        bool second = name_before(docs, order[right], spare[left]);
        order[out++] = second ? order[right++] : spare[left++];
    }
    while (left < half) order[out++] = spare[left++];
}

void topic_rank(const trec_file *run, const trec_topic *of_run, int version, topic_scratch *scratch)
{
    size_t    n = of_run->count;
    uint64_t *keys = scratch->keys;
    bool      sorted = true;
    scratch->docs = gather(run, of_run, scratch->docs_room);
    for (size_t i = 0; i < n; i++) {
        keys[i] = key_of(scratch->docs[i].score, version);
        scratch->order[i] = (uint32_t)i;
        sorted = sorted && (!i || keys[i] >= keys[i - 1]);
    }
    if (!sorted) radix_sort(keys, scratch->order, n);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && keys[j] == keys[i];) j++;
        if (j - i > 1) sort_names(scratch->docs, scratch->order + i, scratch->order + n, j - i);
    }
}

/* A slot holds the hash and an index plus 1: judgments first, then documents of the run; bit 31 marks a judgment that the
 * run named. Returns the slot of the name, or the empty one where it belongs. */
enum { SEEN = 1u << 31 };
static uint64_t *find(topic_scratch *s, size_t judged, const trec_line *line)
{
    size_t mask = s->capacity - 1;
    for (size_t at = line->hash & mask;; at = (at + 1) & mask) {
        uint64_t slot = s->table[at];
        if (!slot) return s->table + at;
        if (slot >> 32 != line->hash) continue;
        size_t           index = (uint32_t)slot & ~SEEN, k = index - 1;
        const trec_line *other = k < judged ? s->judged + k : s->docs + (k - judged);
        if (other->length == line->length && !memcmp(other->doc, line->doc, line->length)) return s->table + at;
    }
}

/* The table of the topic's judgments, and how many there are of each level. NULL, or the second of two equal names. */
static const char *judge(const trec_file *qrels, const trec_topic *of_qrels, const metric_options *options, topic_scratch *s, metric_topic *topic)
{
    int64_t high = -1;
    s->judged = gather(qrels, of_qrels, s->judged_room);
    for (size_t i = 0; i < of_qrels->count; i++)
        if (s->judged[i].grade > high) high = s->judged[i].grade;
    memset(s->counts, 0, (size_t)(high + 1) * sizeof *s->counts);
    memset(s->table, 0, s->capacity * sizeof *s->table);
    for (size_t i = 0; i < of_qrels->count; i++) {
        const trec_line *line = s->judged + i;
        uint64_t        *slot = find(s, of_qrels->count, line);
        __builtin_prefetch(line->doc); /* compared later with those of the run */
        if (*slot) return line->doc;
        *slot = (uint64_t)line->hash << 32 | (i + 1);
        if (line->grade >= 0) s->counts[line->grade]++;
    }
    topic->level_counts = s->counts;
    topic->levels = high + 1;
    for (int64_t level = 0; level <= high; level++) {
        if (level >= options->level) topic->rel += s->counts[level];
        else topic->nonrel += s->counts[level];
    }
    return NULL;
}

/* The level of each of the first n documents by rank, into s->found by place in s->docs; NULL, or the second of two equal names. All documents
 * are looked up in the order of the file, in which their names lie side by side in memory. */
static const char *look_up(topic_scratch *s, int64_t judged, int64_t n, bool all)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t         index = all ? (uint32_t)i : s->order[i];
        if (all && i + 24 < n && s->table[s->docs[i + 24].hash & (s->capacity - 1)]) __builtin_prefetch(s->docs[i + 24].doc);
        const trec_line *line = s->docs + index;
        uint64_t        *slot = find(s, (size_t)judged, line);
        int32_t          rel = METRIC_NONPOOL;
        if (!*slot) *slot = (uint64_t)line->hash << 32 | ((uint64_t)judged + index + 1);
        else {
            int64_t k = (int64_t)((uint32_t)*slot & ~SEEN) - 1;
            if (k >= judged || (*slot & SEEN)) return line->doc;
            *slot |= SEEN;
            rel = s->judged[k].grade < 0 ? METRIC_UNJUDGED : s->judged[k].grade;
        }
        s->found[index] = rel;
    }
    return NULL;
}

const char *topic_form(const trec_file *qrels, const trec_topic *of_qrels, const trec_file *run, const trec_topic *of_run,
                       const metric_options *options, topic_scratch *s, metric_topic *topic, const trec_file **in)
{
    *topic = (metric_topic){ .rels = s->rels, .hits = s->hits };
    *in = qrels;
    const char *twice = judge(qrels, of_qrels, options, s, topic);
    if (twice || !of_run) return twice;
    *in = run;
    topic_rank(run, of_run, options->version, s);
    int64_t n = (int64_t)of_run->count, judged = (int64_t)of_qrels->count, rank = 0;
    if (options->max_docs && options->max_docs < n) n = options->max_docs;
    twice = look_up(s, judged, n, n == (int64_t)of_run->count);
    for (int64_t i = 0; i < n && !twice; i++) {
        int32_t rel = s->found[s->order[i]];
        if (rel < 0 && options->judged_only) continue;
        topic->nonpool += rel == METRIC_NONPOOL;
        topic->unjudged += rel == METRIC_UNJUDGED;
        if (rel >= options->level && rel >= 0) s->hits[topic->rel_ret++] = (int32_t)rank;
        s->rels[rank++] = rel;
    }
    topic->ret = rank;
    return twice;
}
