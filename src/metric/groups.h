/* groups.h - judgments by several people: qrels_jg, qrels_prefs and prefs files, and what one topic's say of a ranking.
 *
 *     qrels_jg      topic  group  document  relevance           relevance of each group of judgments (a user)
 *     qrels_prefs   topic  group  document  level               a document is preferred to those of a lower level in its group
 *     prefs         topic  group  subgroup  document  level     the same inside a subgroup; preferences of a group are transitive
 *
 * A preference A > B is *ret* when both are retrieved, *imp*(lied) when one is; it is fulfilled when A stands above B, one that is not
 * retrieved below all others. Groups may contradict each other, one group may not contradict itself. */
#ifndef CRANK_METRIC_GROUPS_H
#define CRANK_METRIC_GROUPS_H

#include "metric/metric.h"

enum { GROUPS_MOST_DOCUMENTS = 8192 }; /* judged documents of a topic of preferences: pairs are counted in a square */

typedef struct group_name { const char *at; uint32_t length; } group_name;

typedef struct group_line {
    group_name topic, group, sub, doc; /* sub "0" where the format has none */
    double     level;                  /* preferences: a float under version 9 */
    int64_t    line;
    int32_t    rank;                   /* of the document among judged ones, set topic by topic */
} group_line;

/* Preferences of one group. */
typedef struct group_counts {
    int64_t fulfilled_ret, possible_ret, fulfilled_imp, possible_imp, none; /* none: neither is retrieved */
    int64_t rel, rel_ret, nonrel, nonrel_ret;                               /* level above 0, and 0 */
    double  rnonrel, rnonrel_ret; /* fulfilled / possible with as many nonrelevant documents as relevant ones; NaN: 0 / 0 */
} group_counts;

/* Document pairs with a preference: their number, and the sum of fulfilled / all of each. */
typedef struct pair_counts { double sum_ret, sum_imp; int64_t ret, imp, none; } pair_counts;

typedef struct topic_groups {
    int64_t       count;
    group_counts *counts; /* preferences, or */
    metric_topic *topics; /* what each group judges of the ranking */
    pair_counts   pairs;
} topic_groups;

int group_name_compare(group_name a, group_name b);
/* Fills file->group_lines, sorted by topic, group, subgroup, falling level, and file->topics. */
crank_status groups_read(crank_context *context, trec_kind kind, bool comments, trec_file *file);

typedef struct groups_scratch groups_scratch;
groups_scratch *groups_scratch_new(crank_context *context, const trec_file *judgments, size_t run_largest);
void            groups_scratch_free(groups_scratch *scratch);
/* The groups of one topic against its results (of_run NULL: none): *groups lives in the scratch until the next call. */
crank_status    groups_form(crank_context *context, const trec_file *judgments, const trec_topic *of_judgments, const trec_file *run, const trec_topic *of_run,
                            const metric_options *options, groups_scratch *scratch, topic_groups *groups);

/* groups_count.c: lines [n] of one group with their ranks; `judged` documents, the first `retrieved` of them retrieved. pairs
 * [judged, judged] gets 1 for each preference. work: [judged] and bits [judged, words], spare. CRANK_BAD_DATA: a contradiction. */
typedef struct group_space { uint32_t *pairs; uint64_t *bits; double *level; } group_space;
crank_status groups_count(crank_context *context, const char *path, const group_line *lines, int64_t n, int64_t judged, int64_t retrieved, const group_space *space, group_counts *out);
#endif
