/* metric.h - measures of rankings as TREC defines them: what a measure sees of a topic, the list of measures, files, evaluation.
 *
 * The path of a number: trec_file reads judgments and runs (one pass, names stay in the file's text); topic.c ranks one topic and looks
 * every document up in the judgments; a measure (one `const measure`) turns that metric_topic into one or more values; evaluate.c does so
 * for all topics on all threads and averages in the order of the topics, so that no result depends on the number of threads. */
#ifndef CRANK_METRIC_METRIC_H
#define CRANK_METRIC_METRIC_H

#include "crank/metric.h"

enum { METRIC_NONPOOL = -1, METRIC_UNJUDGED = -2 }; /* not in the judgments | there with a negative relevance */
enum { METRIC_GRADE_LIMIT = 1000000 };

/* ---- what a measure sees ---- */

typedef struct metric_topic {
    const int32_t *rels; /* [ret]: relevance level by rank, METRIC_NONPOOL or METRIC_UNJUDGED */
    const int32_t *hits; /* [rel_ret]: 0-based ranks of the relevant documents, ascending */
    int64_t        ret, rel_ret, nonpool, unjudged;
    int64_t        rel;          /* relevant documents of the topic, found or not */
    int64_t        nonrel;       /* judged with 0 <= level < the relevance level */
    const int64_t *level_counts; /* [levels]: judged documents of each level */
    int64_t        levels;       /* highest level that occurs, plus 1 */
} metric_topic;

typedef struct metric_options {
    int64_t level;        /* relevant from this level on */
    int64_t max_docs;     /* documents of a topic that count; 0: all */
    int64_t collection;   /* documents of the collection, for `utility` */
    int     version;      /* 9 or 10: whose conventions hold where the two differ */
    int     max_grade;    /* highest grade of the scale, for `err` */
    bool    judged_only, complete;
    const struct zscores *zscores; /* values become Z scores before they are averaged; NULL: they stay */
} metric_options;

/* ---- measures ---- */

typedef enum measure_params {
    MEASURE_PLAIN,   /* none */
    MEASURE_CUTS,    /* whole numbers >= 1, sorted: one value each, NAME_K */
    MEASURE_POINTS,  /* real numbers, sorted: one value each, NAME_0.00 */
    MEASURE_NUMBERS, /* real numbers in their order: one value */
    MEASURE_PAIRS    /* name=number: one value */
} measure_params;

typedef enum measure_mean {
    MEASURE_MEAN,      /* arithmetic mean over topics */
    MEASURE_SUM,       /* a count: summed, printed whole */
    MEASURE_GEOMETRIC, /* the value is a logarithm; summary only */
    MEASURE_TEXT       /* runid, relstring: printed by their name */
} measure_mean;

/* Which judgments a measure reads. runid and num_q read none: they go with all. */
typedef enum measure_family { MEASURE_QRELS, MEASURE_JG, MEASURE_PREFS, MEASURE_ANY } measure_family;

typedef struct measure_pair { const char *name; double value; } measure_pair;

typedef struct measure_level { int64_t level, count; double gain; } measure_level;

/* One measure with its parameters, as asked for. */
typedef struct measure_request {
    const struct measure *measure;
    char                 *text;    /* the parameters as given, or NULL: the defaults */
    char                 *storage; /* owns the names of pairs */
    double               *numbers; /* [count] cut-offs, points or numbers */
    measure_pair         *pairs;   /* [count] */
    int64_t               count, values;
    int64_t               first;   /* of its values in a row of the table */
} measure_request;

typedef struct measure_call {
    const metric_topic    *topic;  /* NULL where groups judge */
    const metric_options  *options;
    const measure_request *request;
    measure_level         *levels; /* scratch for gains: topic levels + pairs + 1 */
    double                *out;    /* [request->values], zero at the start */
    const struct topic_groups *groups; /* judgments by groups (groups.h), or NULL */
    const double          *logs;   /* [log_count]: log2(i), i from 0 */
    int64_t                log_count;
} measure_call;

typedef struct measure {
    const char    *name, *formula;
    measure_params params;
    const char    *defaults; /* text of the default parameters */
    measure_mean   mean;
    bool           official, all_trec, all_trec_10, set; /* nicknames that hold it; all_trec_10: only under --trec-eval 10 */
    void (*run)(const measure_call *call);               /* NULL: num_q and runid */
    measure_family family;
    bool           prefs;                                /* nickname of some measures of preferences; all_prefs holds them all */
} measure;

extern const measure *const metric_measures[]; /* in the order in which they are printed; ends with NULL */
const measure *metric_measure_find(const char *name, size_t length);

/* ---- requests ---- */

typedef struct metric_plan {
    measure_request *requests; /* in the order of metric_measures */
    int64_t          count, values, pairs; /* pairs: the most that a request has */
} metric_plan;

/* `specs` is a list of "name", "name.params" or nicknames, joined by '\n'; parameters behind commas may stand in items of their own. */
crank_status metric_plan_make(crank_context *context, const char *specs, int version, metric_plan *plan);
void         metric_plan_free(metric_plan *plan);
/* "ndcg_cut_10": the name of value i of a request. */
void         metric_value_name(const measure_request *request, int64_t i, char *out, size_t size);

/* ---- files ---- */

typedef struct trec_line {
    const char *doc; /* in the file's text */
    uint32_t    length;
    uint32_t    hash;  /* of the name: equal names have equal ones in all files */
    union {
        int32_t grade; /* judgments */
        double  score; /* runs */
    };
} trec_line;

typedef struct trec_part { const char *topic; uint32_t length; size_t first, count; } trec_part; /* neighbouring lines of one topic */

typedef struct trec_topic { const char *name; uint32_t length; size_t part, parts, count; } trec_topic;

typedef struct trec_file {
    char       *path;
    const char *text;
    size_t      length;
    void       *memory; /* the text when it is not mapped */
    trec_line  *lines;
    size_t      line_count;
    trec_part  *parts; /* by topic, then by place in the file */
    size_t      part_count;
    trec_topic *topics; /* by name, bytewise */
    size_t      topic_count;
    size_t      largest; /* most lines of a topic */
    int64_t     grade_low, grade_high;
    struct group_line *group_lines; /* judgments by groups: instead of lines and parts; a topic's part is its first line */
    int         kind;
    const char *tag;     /* of the last line of a run */
    uint32_t    tag_length;
} trec_file;

typedef enum trec_kind { TREC_QRELS, TREC_RUN, TREC_QRELS_JG, TREC_QRELS_PREFS, TREC_PREFS } trec_kind;
/* Refuses measures of other judgments than those of a file of this kind. */
crank_status      metric_plan_check(crank_context *context, const metric_plan *plan, trec_kind kind);
/* comments: version 10's files, where lines that start with '#' are skipped (and levels of preferences are doubles, before floats). Malformed lines: CRANK_BAD_DATA with file, line and what is wrong. "-" is standard input. */
crank_status      trec_file_read(crank_context *context, const char *path, trec_kind kind, bool comments, trec_file *file);
void              trec_file_free(trec_file *file);
const trec_topic *trec_file_topic(const trec_file *file, const char *name, size_t length); /* NULL: no such topic */
int64_t           trec_file_line(const trec_file *file, const char *at); /* 1-based line of a place in the text */
int               trec_compare(const char *a, size_t a_length, const char *b, size_t b_length); /* bytewise, as strcmp */
/* trec_read.c: the lines of text[from, to). *problem tells what is wrong at *at. False: out of memory or a problem. */
typedef struct trec_chunk {
    const char *from, *to;
    trec_line  *lines;
    trec_part  *parts;
    size_t      line_count, line_capacity, part_count, part_capacity;
    const char *at, *problem, *tag;
    uint32_t    tag_length;
    bool        no_memory;
} trec_chunk;
bool trec_read_chunk(trec_chunk *chunk, trec_kind kind, bool comments);

/* ---- one topic ---- */

typedef struct topic_scratch {
    const trec_line *docs, *judged;           /* of the topic: in the files, or, where its lines are apart, gathered here */
    trec_line     *docs_room, *judged_room;   /* [run's largest], [judgments' largest] */
    uint64_t      *keys;   /* [2 * largest] */
    uint32_t      *order;  /* [2 * largest] */
    uint64_t      *table;  /* [capacity] */
    int32_t       *rels, *hits, *found;       /* found: level of docs[i] */
    int64_t       *counts; /* [highest grade + 1] */
    measure_level *levels;
    size_t         capacity; /* a power of 2 */
} topic_scratch;

topic_scratch *topic_scratch_new(crank_context *context, const trec_file *qrels, size_t run_largest, int64_t pairs, int count);
void           topic_scratch_free(topic_scratch *scratch, int count);
/* Documents best first: score descending (as float under version 9), then name descending. The rows are gathered into scratch->docs; the
 * ranking is scratch->order[0 .. count). */
void           topic_rank(const trec_file *run, const trec_topic *of_run, int version, topic_scratch *scratch);
/* of_run NULL: a topic without results. Returns NULL, or the second line of a document that stands twice: *in tells the file. */
const char    *topic_form(const trec_file *qrels, const trec_topic *of_qrels, const trec_file *run, const trec_topic *of_run,
                          const metric_options *options, topic_scratch *scratch, metric_topic *topic, const trec_file **in);

/* ---- all topics ---- */

typedef struct metric_table {
    const trec_topic **topics; /* [rows], of the judgments, by name */
    const char       **strings; /* [rows]: relstring, or NULL where it was not asked for */
    char              *string_memory;
    double            *values;  /* [rows, plan->values] */
    double            *means;   /* [plan->values]: the summary */
    int64_t            rows, averaged; /* topics in the table | in the mean */
} metric_table;

/* Means and deviations of values by topic, from reference runs: lines "topic measure mean deviation". */
typedef struct zscore { const char *topic, *name; double mean, deviation; } zscore;
typedef struct zscores { char *text; zscore *lines; size_t count; } zscores; /* by topic, then name */
enum { ZSCORE_MISSING = -1000000 };
crank_status zscores_read(crank_context *context, const char *path, zscores *z);
void         zscores_free(zscores *z);
/* (value - mean) / deviation of a topic's values [plan->values]; ZSCORE_MISSING where the file has no line. */
void         zscores_apply(const zscores *z, const trec_topic *topic, const metric_plan *plan, double *row);

crank_status metric_evaluate(crank_context *context, const trec_file *qrels, const trec_file *run, const metric_plan *plan,
                             const metric_options *options, metric_table *table);
void         metric_table_free(metric_table *table);
#endif
