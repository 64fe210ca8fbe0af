/* evaluate.c - all topics of a run. Topics are shared out over the threads; each has its row, and the mean is taken over the rows in the
 * order of the topics' names, so that the bits do not depend on the number of threads.
 *
 * Version 9 of trec_eval leaves topics without results out of the table and, under -c, puts their values at 0 in the mean (1e-5 in geometric
 * means). Version 10 refuses such topics, or, under -c, evaluates an empty ranking for each and prints it too. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "metric/groups.h"

static const measure_request *relstring_of(const metric_plan *plan)
{
    for (int64_t i = 0; i < plan->count; i++)
        if (plan->requests[i].measure->mean == MEASURE_TEXT && plan->requests[i].count) return plan->requests + i;
    return NULL;
}

static void relstring(const metric_topic *topic, int64_t length, char *out)
{
    int64_t i = 0;
    for (; i < length && i < topic->ret; i++) {
        int32_t rel = topic->rels[i];
        out[i] = rel > 9 ? '>' : rel >= 0 ? (char)('0' + rel) : rel == METRIC_NONPOOL ? '-' : '.';
    }
    out[i] = 0;
}

static void measure_topic(const metric_topic *topic, const metric_plan *plan, const metric_options *options, measure_level *levels, const double *logs, int64_t log_count, double *row)
{
    for (int64_t i = 0; i < plan->count; i++) {
        const measure_request *r = plan->requests + i;
        if (!r->measure->run) row[r->first] = !strcmp(r->measure->name, "num_q");
        else r->measure->run(&(measure_call){ topic, options, r, levels, row + r->first, NULL, logs, log_count });
    }
}

/* The topics that are evaluated, with what the run says of each (NULL: nothing). */
static crank_status choose(crank_context *context, const trec_file *qrels, const trec_file *run, const metric_options *options,
                           const trec_topic **of_run, metric_table *table)
{
    size_t k = 0;
    for (size_t i = 0; i < qrels->topic_count; i++) {
        const trec_topic *topic = qrels->topics + i;
        int               order = 1;
        while (k < run->topic_count && (order = trec_compare(run->topics[k].name, run->topics[k].length, topic->name, topic->length)) < 0) k++;
        const trec_topic *found = k < run->topic_count && !order ? run->topics + k : NULL;
        if (!found && options->version == 10 && !options->complete)
            return crank_fail(context, CRANK_BAD_DATA, "%s: no results for topic `%.*s` of %s; -c counts such topics as 0, --trec-eval 9 leaves them out",
                              run->path, (int)topic->length, topic->name, qrels->path);
        if (!found && options->version == 9) continue;
        of_run[table->rows] = found;
        table->topics[table->rows++] = topic;
    }
    if (!table->rows) return crank_fail(context, CRANK_BAD_DATA, "%s and %s have no topic in common", qrels->path, run->path);
    table->averaged = options->complete ? (int64_t)qrels->topic_count : table->rows;
    return CRANK_OK;
}

static void average(const trec_file *qrels, const metric_plan *plan, const metric_options *options, metric_table *table)
{
    double topics = (double)table->averaged;
    for (int64_t i = 0; i < plan->count; i++) {
        const measure_request *r = plan->requests + i;
        for (int64_t v = r->first; v < r->first + r->values; v++) {
            double sum = 0;
            for (int64_t row = 0; row < table->rows; row++) sum += table->values[row * plan->values + v];
            if (r->measure->mean == MEASURE_MEAN) sum /= topics;
            if (r->measure->mean == MEASURE_GEOMETRIC) sum = exp((sum + (topics - (double)table->rows) * log(1e-5)) / topics);
            table->means[v] = sum;
        }
        if (!strcmp(r->measure->name, "num_q")) table->means[r->first] = topics;
        if (strcmp(r->measure->name, "num_rel") || !options->complete) continue;
        int64_t rel = 0; /* all judged topics, levels above 0 whatever -l says: trec_eval's rule */
        for (size_t k = 0; k < qrels->line_count; k++) rel += qrels->lines[k].grade > 0;
        table->means[r->first] = (double)rel;
    }
}

static crank_status allocate(crank_context *context, const trec_file *qrels, const metric_plan *plan, metric_table *table, const trec_topic ***of_run)
{
    const measure_request *text = relstring_of(plan);
    size_t                 rows = qrels->topic_count, length = text ? (size_t)fmin(fmax(text->numbers[0], 0), 1e6) + 1 : 0;
    table->topics = crank_alloc(context, rows, sizeof *table->topics, "topics");
    table->values = crank_alloc(context, rows, (size_t)plan->values * sizeof(double), "values of measures");
    table->means = crank_alloc(context, (size_t)plan->values, sizeof(double), "means");
    *of_run = crank_alloc(context, rows, sizeof **of_run, "topics");
    if (!table->topics || !table->values || !table->means || !*of_run) return CRANK_FAILED;
    if (!text) return CRANK_OK;
    table->strings = crank_alloc(context, rows, sizeof *table->strings, "relstring");
    table->string_memory = crank_alloc(context, rows, length, "relstring");
    if (!table->strings || !table->string_memory) return CRANK_FAILED;
    for (size_t i = 0; i < rows; i++) table->strings[i] = table->string_memory + i * length;
    return CRANK_OK;
}

static crank_status evaluate_rows(crank_context *context, const trec_file *qrels, const trec_file *run, const metric_plan *plan,
                                  const metric_options *options, const trec_topic **of_run, metric_table *table)
{
    const measure_request *text = relstring_of(plan);
    int                    threads = crank_threads(context) < table->rows ? crank_threads(context) : (int)table->rows;
    topic_scratch         *scratch = topic_scratch_new(context, qrels, run->largest, plan->pairs, threads);
    const char            *twice = NULL;
    const trec_file       *where = NULL;
    int64_t                log_count = (int64_t)run->largest + 3;
    double                *logs = scratch ? crank_alloc(context, (size_t)log_count, sizeof *logs, "logarithms") : NULL;
    if (!logs) return topic_scratch_free(scratch, threads), CRANK_FAILED;
    for (int64_t i = 0; i < log_count; i++) logs[i] = log2((double)i);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        topic_scratch *own = scratch;
#ifdef _OPENMP
        own += omp_get_thread_num();
#endif
#pragma omp for schedule(dynamic, 8)
        for (int64_t row = 0; row < table->rows; row++) {
            metric_topic     topic;
            const trec_file *in;
            const char      *found = topic_form(qrels, table->topics[row], run, of_run[row], options, own, &topic, &in);
            if (found) {
#pragma omp critical(metric_twice)
                if (!twice || (in == qrels && where != qrels) || (in == where && found < twice)) twice = found, where = in;
                continue;
            }
            measure_topic(&topic, plan, options, own->levels, logs, log_count, table->values + row * plan->values);
            if (text) relstring(&topic, (int64_t)fmin(fmax(text->numbers[0], 0), 1e6), (char *)(uintptr_t)table->strings[row]);
        }
    }
    topic_scratch_free(scratch, threads);
    crank_free(logs);
    if (!twice) return CRANK_OK;
    return crank_fail(context, CRANK_BAD_DATA, "%s:%lld: document `%.*s` stands twice under one topic", where->path, (long long)trec_file_line(where, twice),
                      (int)strcspn(twice, " \t\r\n\v\f"), twice);
}

static crank_status evaluate_groups(crank_context *context, const trec_file *judgments, const trec_file *run, const metric_plan *plan,
                                    const metric_options *options, const trec_topic **of_run, metric_table *table)
{
    groups_scratch *scratch = groups_scratch_new(context, judgments, run->largest);
    crank_status    status = scratch ? CRANK_OK : CRANK_FAILED;
    for (int64_t row = 0; status == CRANK_OK && row < table->rows; row++) {
        topic_groups groups;
        status = groups_form(context, judgments, table->topics[row], run, of_run[row], options, scratch, &groups);
        for (int64_t i = 0; status == CRANK_OK && i < plan->count; i++) {
            const measure_request *r = plan->requests + i;
            double                *out = table->values + row * plan->values + r->first;
            if (r->measure->run) r->measure->run(&(measure_call){ NULL, options, r, NULL, out, &groups, NULL, 0 });
            else *out = !strcmp(r->measure->name, "num_q");
        }
    }
    groups_scratch_free(scratch);
    return status;
}

crank_status metric_evaluate(crank_context *context, const trec_file *qrels, const trec_file *run, const metric_plan *plan,
                             const metric_options *options, metric_table *table)
{
    const trec_topic **of_run = NULL;
    *table = (metric_table){ 0 };
    if (run->largest + qrels->largest >= (1u << 30)) return crank_fail(context, CRANK_BAD_DATA, "%s: more than 2^30 documents under one topic", run->path);
    crank_status status = allocate(context, qrels, plan, table, &of_run);
    if (status == CRANK_OK) status = metric_plan_check(context, plan, (trec_kind)qrels->kind);
    if (status == CRANK_OK) status = choose(context, qrels, run, options, of_run, table);
    if (status == CRANK_OK) status = (qrels->group_lines ? evaluate_groups : evaluate_rows)(context, qrels, run, plan, options, of_run, table);
    for (int64_t row = 0; status == CRANK_OK && options->zscores && row < table->rows; row++)
        zscores_apply(options->zscores, table->topics[row], plan, table->values + row * plan->values);
    if (status == CRANK_OK) average(qrels, plan, options, table);
    crank_free(of_run);
    if (status != CRANK_OK) metric_table_free(table);
    return status;
}

void metric_table_free(metric_table *table)
{
    crank_free(table->topics);
    crank_free(table->strings);
    crank_free(table->string_memory);
    crank_free(table->values);
    crank_free(table->means);
    *table = (metric_table){ 0 };
}
