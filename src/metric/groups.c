/* groups.c - one topic judged by groups: its ranking, the places of judged documents, and each group's counts.
 *
 * Judged documents are numbered by rank: those retrieved first, then the others by name. Under preferences equal scores stand by name
 * ascending, as trec_eval has it there; under qrels_jg descending, as everywhere else. */
#include <stdlib.h>
#include <string.h>

#include "metric/groups.h"

struct groups_scratch {
    topic_scratch *ranking;
    size_t         run_room, judged_room; /* largest topics */
    group_name    *names;    /* [run]: documents by rank */
    int32_t       *by_name;  /* [run]: ranks sorted by name */
    group_line   **sorted;   /* [judged]: lines by document */
    group_line    *lines;    /* [judged]: lines of the topic with ranks, in the order of the file */
    group_counts  *counts;
    metric_topic  *topics;
    int32_t       *rels, *hits; /* of all groups: [pieces * run] */
    size_t         rel_room;
    int64_t       *starts;   /* [groups + 1] */
    uint32_t      *pairs;
    uint64_t      *bits;
    double        *level;
    size_t         pair_room;
};

void groups_scratch_free(groups_scratch *s)
{
    if (!s) return;
    topic_scratch_free(s->ranking, 1);
    crank_free(s->names), crank_free(s->by_name), crank_free(s->sorted), crank_free(s->lines), crank_free(s->counts), crank_free(s->topics), crank_free(s->starts);
    crank_free(s->rels), crank_free(s->hits), crank_free(s->pairs), crank_free(s->bits), crank_free(s->level);
    crank_free(s);
}

groups_scratch *groups_scratch_new(crank_context *context, const trec_file *judgments, size_t run_largest)
{
    size_t          n = run_largest + 1, m = judgments->largest + 1;
    groups_scratch *s = crank_alloc(context, 1, sizeof *s, "scratch of topics");
    if (!s) return NULL;
    s->run_room = n, s->judged_room = m;
    if ((s->ranking = topic_scratch_new(context, NULL, run_largest, 0, 1)) && (s->names = crank_alloc(context, n, sizeof *s->names, "documents")) &&
        (s->by_name = crank_alloc(context, n, sizeof *s->by_name, "documents")) && (s->sorted = crank_alloc(context, m, sizeof *s->sorted, "judgments")) &&
        (s->lines = crank_alloc(context, m, sizeof *s->lines, "judgments")) && (s->counts = crank_alloc(context, m, sizeof *s->counts, "groups")) &&
        (s->topics = crank_alloc(context, m, sizeof *s->topics, "groups")) && (s->starts = crank_alloc(context, m + 1, sizeof *s->starts, "groups")))
        return s;
    groups_scratch_free(s);
    return NULL;
}

/* ---- the ranking ---- */

static int by_name(const void *left, const void *right, void *user)
{
    const group_name *names = user;
    int32_t           a = *(const int32_t *)left, b = *(const int32_t *)right;
    int               order = group_name_compare(names[a], names[b]);
    return order ? order : (a > b) - (a < b);
}

/* names by rank, cut at max_docs; a document that stands twice is refused. Returns their number, -1: message set. */
static int64_t rank_run(crank_context *context, const trec_file *run, const trec_topic *of_run, const metric_options *options, bool ascending, groups_scratch *s)
{
    if (!of_run) return 0;
    topic_rank(run, of_run, options->version, s->ranking);
    int64_t   n = (int64_t)of_run->count;
    uint32_t *order = s->ranking->order;
    for (int64_t i = 0, j; ascending && i < n; i = j) { /* turn each run of equal scores around */
        for (j = i + 1; j < n && s->ranking->keys[j] == s->ranking->keys[i];) j++;
        for (int64_t a = i, b = j - 1; a < b; a++, b--) {
            uint32_t swap = order[a];
            order[a] = order[b], order[b] = swap;
        }
    }
    for (int64_t i = 0; i < n; i++) s->names[i] = (group_name){s->ranking->docs[order[i]].doc, s->ranking->docs[order[i]].length}, s->by_name[i] = (int32_t)i;
    if (options->max_docs && options->max_docs < n) n = options->max_docs;
    qsort_r(s->by_name, (size_t)n, sizeof *s->by_name, by_name, s->names);
    for (int64_t i = 1; i < n; i++) {
        group_name a = s->names[s->by_name[i - 1]], b = s->names[s->by_name[i]];
        if (group_name_compare(a, b)) continue;
        crank_fail(context, CRANK_BAD_DATA, "%s:%lld: document `%.*s` stands twice under one topic", run->path, (long long)trec_file_line(run, b.at > a.at ? b.at : a.at),
                   (int)(b.length < 200 ? b.length : 200), b.at);
        return -1;
    }
    return n;
}

static int by_document(const void *left, const void *right) { return group_name_compare((*(group_line *const *)left)->doc, (*(group_line *const *)right)->doc); }

/* Lines of the topic with the rank of their document in the run, or -1. */
static void place_lines(const trec_file *judgments, const trec_topic *topic, int64_t ranked, groups_scratch *s)
{
    int64_t m = (int64_t)topic->count;
    memcpy(s->lines, judgments->group_lines + topic->part, topic->count * sizeof *s->lines);
    for (int64_t i = 0; i < m; i++) s->sorted[i] = s->lines + i;
    qsort(s->sorted, topic->count, sizeof *s->sorted, by_document);
    for (int64_t i = 0, k = 0; i < m; i++) {
        int order = -1;
        while (k < ranked && (order = group_name_compare(s->names[s->by_name[k]], s->sorted[i]->doc)) < 0) k++;
        s->sorted[i]->rank = k < ranked && !order ? s->by_name[k] : -1;
    }
}

static int64_t find_groups(int64_t m, groups_scratch *s)
{
    int64_t count = 0;
    for (int64_t i = 0; i < m; i++)
        if (!i || group_name_compare(s->lines[i - 1].group, s->lines[i].group)) s->starts[count++] = i;
    s->starts[count] = m;
    return count;
}

/* ---- relevance by group ---- */

static int by_rank(const void *left, const void *right)
{
    const group_line *a = left, *b = right;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

/* What one group says of the ranking: lines [m], sorted by rank here; rels and hits [ranked]. */
static metric_topic judge(group_line *lines, int64_t m, int64_t ranked, const metric_options *options, int32_t *rels, int32_t *hits)
{
    metric_topic t = {.rels = rels, .hits = hits};
    int64_t      k = 0, rank = 0;
    qsort(lines, (size_t)m, sizeof *lines, by_rank);
    for (int64_t i = 0; i < m; i++) {
        if (lines[i].level < 0) continue;
        if (lines[i].level >= (double)options->level) t.rel++;
        else t.nonrel++;
    }
    while (k < m && lines[k].rank < 0) k++;
    for (int64_t i = 0; i < ranked; i++) {
        int32_t rel = METRIC_NONPOOL;
        if (k < m && lines[k].rank == i) rel = lines[k].level < 0 ? METRIC_UNJUDGED : (int32_t)lines[k].level, k++;
        if (rel < 0 && options->judged_only) continue;
        t.nonpool += rel == METRIC_NONPOOL, t.unjudged += rel == METRIC_UNJUDGED;
        if (rel >= 0 && rel >= options->level) hits[t.rel_ret++] = (int32_t)rank;
        rels[rank++] = rel;
    }
    t.ret = rank;
    return t;
}

static crank_status form_topics(crank_context *context, int64_t count, int64_t ranked, const metric_options *options, groups_scratch *s)
{
    size_t room = (size_t)count * (size_t)(ranked + 1);
    if (room > s->rel_room) {
        crank_free(s->rels), crank_free(s->hits);
        s->rel_room = room;
        s->rels = crank_alloc(context, room, sizeof *s->rels, "relevance by rank");
        s->hits = crank_alloc(context, room, sizeof *s->hits, "relevant ranks");
        if (!s->rels || !s->hits) return s->rel_room = 0, CRANK_FAILED;
    }
    for (int64_t g = 0; g < count; g++)
        s->topics[g] = judge(s->lines + s->starts[g], s->starts[g + 1] - s->starts[g], ranked, options, s->rels + g * (ranked + 1), s->hits + g * (ranked + 1));
    return CRANK_OK;
}

/* ---- preferences ---- */

/* Ranks among judged documents alone: those retrieved by rank, then the others by name. */
static int64_t number_judged(int64_t m, int64_t ranked, groups_scratch *s, int64_t *retrieved)
{
    int32_t *number = s->by_name; /* of each rank: 0 not judged, then its number plus 1 */
    int32_t  count = 0;
    memset(number, 0, (size_t)ranked * sizeof *number);
    for (int64_t i = 0; i < m; i++)
        if (s->lines[i].rank >= 0) number[s->lines[i].rank] = 1;
    for (int64_t r = 0; r < ranked; r++)
        if (number[r]) number[r] = ++count;
    *retrieved = count;
    for (int64_t i = 0; i < m; i++) {
        bool same = i && !group_name_compare(s->sorted[i - 1]->doc, s->sorted[i]->doc);
        if (s->sorted[i]->rank >= 0) s->sorted[i]->rank = number[s->sorted[i]->rank] - 1;
        else s->sorted[i]->rank = same ? s->sorted[i - 1]->rank : count++;
    }
    return count;
}

static int by_level(const void *left, const void *right)
{
    const group_line *a = left, *b = right;
    int               order = group_name_compare(a->sub, b->sub);
    if (order) return order;
    return a->level != b->level ? (a->level < b->level ? 1 : -1) : (a->rank > b->rank) - (a->rank < b->rank);
}

static pair_counts count_pairs(const uint32_t *pairs, int64_t judged, int64_t retrieved)
{
    pair_counts p = {0};
    for (int64_t i = 0; i < retrieved; i++)
        for (int64_t j = i + 1; j < retrieved; j++) {
            uint32_t good = pairs[i * judged + j], all = good + pairs[j * judged + i];
            if (all) p.ret++, p.sum_ret += (double)good / (double)all;
        }
    p.sum_imp = p.sum_ret; /* one sum goes on over both parts */
    for (int64_t i = 0; i < retrieved; i++)
        for (int64_t j = retrieved; j < judged; j++) {
            uint32_t good = pairs[i * judged + j], all = good + pairs[j * judged + i];
            if (all) p.imp++, p.sum_imp += (double)good / (double)all;
        }
    for (int64_t i = retrieved; i < judged; i++)
        for (int64_t j = i + 1; j < judged; j++) p.none += pairs[i * judged + j] || pairs[j * judged + i];
    return p;
}

static crank_status form_preferences(crank_context *context, const trec_file *judgments, const trec_topic *topic, int64_t count, int64_t ranked, groups_scratch *s, pair_counts *pairs)
{
    int64_t retrieved, judged = number_judged((int64_t)topic->count, ranked, s, &retrieved);
    size_t  square = (size_t)judged * (size_t)judged, words = ((size_t)judged + 63) / 64;
    if (judged > GROUPS_MOST_DOCUMENTS)
        return crank_fail(context, CRANK_BAD_DATA, "%s: topic `%.*s` has preferences between %lld documents; at most %d are compared", judgments->path, (int)topic->length, topic->name, (long long)judged, GROUPS_MOST_DOCUMENTS);
    if (square > s->pair_room) {
        crank_free(s->pairs), crank_free(s->bits), crank_free(s->level);
        s->pair_room = square;
        s->pairs = crank_alloc(context, square, sizeof *s->pairs, "pairs of documents");
        s->bits = crank_alloc(context, (size_t)judged * words, sizeof *s->bits, "preferences");
        s->level = crank_alloc(context, (size_t)judged, sizeof *s->level, "levels");
        if (!s->pairs || !s->bits || !s->level) return s->pair_room = 0, CRANK_FAILED;
    }
    memset(s->pairs, 0, square * sizeof *s->pairs);
    memset(s->counts, 0, (size_t)count * sizeof *s->counts);
    crank_status status = CRANK_OK;
    for (int64_t g = 0; status == CRANK_OK && g < count; g++) {
        group_line *lines = s->lines + s->starts[g];
        int64_t     n = s->starts[g + 1] - s->starts[g];
        qsort(lines, (size_t)n, sizeof *lines, by_level);
        status = groups_count(context, judgments->path, lines, n, judged, retrieved, &(group_space){s->pairs, s->bits, s->level}, s->counts + g);
    }
    if (status == CRANK_OK) *pairs = count_pairs(s->pairs, judged, retrieved);
    return status;
}

crank_status groups_form(crank_context *context, const trec_file *judgments, const trec_topic *of_judgments, const trec_file *run, const trec_topic *of_run,
                         const metric_options *options, groups_scratch *s, topic_groups *groups)
{
    bool    preferences = judgments->kind != TREC_QRELS_JG;
    int64_t ranked = rank_run(context, run, of_run, options, preferences, s);
    if (ranked < 0) return CRANK_BAD_DATA;
    place_lines(judgments, of_judgments, ranked, s);
    *groups = (topic_groups){.count = find_groups((int64_t)of_judgments->count, s), .counts = s->counts, .topics = s->topics};
    return preferences ? form_preferences(context, judgments, of_judgments, groups->count, ranked, s, &groups->pairs) : form_topics(context, groups->count, ranked, options, s);
}
