/* metrics.c - crank metrics QRELS RUN...: trec_eval's measures in trec_eval's format; several runs side by side with paired tests; fusion. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/number.h"
#include "cli/cli.h"
#include "metric/fuse.h"
#include "metric/metric.h"
#include "metric/significance.h"

typedef struct options {
    bool        per_topic, complete, no_summary, judged_only, list;
    int64_t     level, max_docs, collection, max_grade, rounds, seed, depth;
    double      rrf_k;
    const char *measures, *trec_eval, *format, *zscores, *fuse, *norm, *weights, *output, *tag;
} options;

static const crank_option option_table[] = {
    CRANK_LIST(options, measures, "official", "measures: name, name.params, official, all_trec, set, all"),
    CRANK_BOOL(options, per_topic, false, "values of each topic too"),
    CRANK_BOOL(options, complete, false, "average over all topics of QRELS; those without results count as 0"),
    CRANK_BOOL(options, no_summary, false, "no averages"),
    CRANK_INT(options, level, 1, 0, METRIC_GRADE_LIMIT, "documents are relevant from this level on"),
    CRANK_INT(options, max_docs, 0, 0, 1e15, "documents of a topic that count; 0: all"),
    CRANK_INT(options, collection, 0, 0, 1e15, "documents of the collection, for utility"),
    CRANK_BOOL(options, judged_only, false, "take unjudged documents out of the rankings first"),
    CRANK_CHOICE(options, trec_eval, "9", "9|10", "conventions of this version where the two differ"),
    CRANK_CHOICE(options, format, "qrels", "qrels|qrels_jg|qrels_prefs|prefs", "of QRELS: one judgment of a document, one of each group of judges, preferences"),
    CRANK_STRING(options, zscores, NULL, "file of means and deviations (topic measure mean deviation): values are printed as Z scores"),
    CRANK_INT(options, max_grade, 4, 1, 60, "highest grade of the scale, for err"),
    CRANK_BOOL(options, list, false, "print all measures with their formulas"),
    CRANK_INT(options, rounds, 100000, 100, 100000000, "sign patterns drawn by the randomisation test"),
    CRANK_INT(options, seed, 1, 0, 1e15, "seed of the randomisation test"),
    CRANK_CHOICE(options, fuse, "none", "none|rrf|combsum|combmnz|interpolate", "write one run made of all RUNs instead (no QRELS)"),
    CRANK_CHOICE(options, norm, "minmax", "minmax|zscore|none", "normalisation of scores before they are fused"),
    CRANK_LIST(options, weights, NULL, "weights of the runs to fuse"),
    CRANK_FLOAT(options, rrf_k, 60, 0, 1e9, "constant of rrf"),
    CRANK_INT(options, depth, 1000, 1, 1e9, "documents of a topic in the fused run"),
    CRANK_STRING(options, tag, "crank", "tag of the fused run"),
    CRANK_STRING(options, output, "-", "file of the fused run"),
    CRANK_END
};

static void list_measures(void)
{
    for (const measure *const *m = metric_measures; *m; m++) printf("%-22s %-30s %s\n", (*m)->name, (*m)->defaults ? (*m)->defaults : "", (*m)->formula);
}

enum { NAME_SIZE = 512 };

/* Every value's name and the tab behind it, [values][NAME_SIZE]: lines are many, names few. */
static char *padded_names(crank_context *context, const metric_plan *plan, const char *before)
{
    char *names = crank_alloc(context, (size_t)plan->values, NAME_SIZE, "names of measures");
    for (int64_t k = 0; names && k < plan->count; k++)
        for (int64_t i = 0; i < plan->requests[k].values; i++) {
            char name[NAME_SIZE - 32];
            metric_value_name(plan->requests + k, i, name, sizeof name);
            snprintf(names + (plan->requests[k].first + i) * NAME_SIZE, NAME_SIZE, "%s%-22s\t", plan->requests[k].measure->mean == MEASURE_TEXT ? "" : before, name);
        }
    return names;
}

/* "%6.4f": 10^4 v is rounded to the nearest whole number, ties to even; the product's own rounding error, known by fma, decides near ties. */
static size_t four_decimals(double value, char out[16]) /* 0: another range, printf's */
{
    double scaled = value * 1e4, whole = floor(scaled), error = fma(value, 1e4, -scaled), rest = scaled - whole - 0.5;
    if (!(value >= 0 && value < 1e6) || signbit(value)) return 0;
    long n = (long)whole + (rest > 0 || (rest == 0 && (error > 0 || (error == 0 && ((long)whole & 1)))));
    char digits[24], *at = digits + sizeof digits;
    for (int i = 0; i < 5 || n; i++, n /= 10) {
        if (i == 4) *--at = '.';
        *--at = (char)('0' + n % 10);
    }
    size_t length = (size_t)(digits + sizeof digits - at);
    memcpy(out, at, length);
    return length;
}

/* Lines to standard output by the 64 KB: there are many and they are short. */
typedef struct sink { char bytes[1 << 16]; size_t length; } sink;

static void put(sink *to, const char *bytes, size_t length)
{
    if (to->length + length > sizeof to->bytes) {
        fwrite(to->bytes, 1, to->length, stdout);
        to->length = 0;
    }
    if (length > sizeof to->bytes) fwrite(bytes, 1, length, stdout);
    else memcpy(to->bytes + to->length, bytes, length), to->length += length;
}

static void put_value(sink *to, double value, bool whole)
{
    char   text[400] = "\t";
    size_t length = whole ? 0 : four_decimals(value, text + 1);
    if (!length) length = (size_t)(whole ? snprintf(text + 1, sizeof text - 2, "%ld", (long)value) : snprintf(text + 1, sizeof text - 2, "%6.4f", value));
    text[length + 1] = '\n';
    put(to, text, length + 2);
}

/* whole: counts are printed as such. */
static void print_values(sink *to, const measure_request *r, const char *names, const char *topic, size_t length, const double *row, bool whole)
{
    for (int64_t v = r->first; v < r->first + r->values; v++) {
        put(to, names + v * NAME_SIZE, strlen(names + v * NAME_SIZE));
        put(to, topic, length);
        put_value(to, row[v], whole && r->measure->mean == MEASURE_SUM);
    }
}

/* name, topic, 'text' */
static void print_text(sink *to, const char *name, const char *topic, size_t length, const char *quote, const char *text, size_t text_length)
{
    put(to, name, strlen(name)), put(to, topic, length), put(to, "\t", 1);
    put(to, quote, strlen(quote)), put(to, text, text_length), put(to, quote, strlen(quote)), put(to, "\n", 1);
}

static bool summary_only(const measure *m) { return m->mean == MEASURE_GEOMETRIC || !strcmp(m->name, "num_q") || !strcmp(m->name, "runid"); }

static crank_status print_table(cli_call *cli, const metric_plan *plan, const trec_file *run, const metric_table *table)
{
    const options *o = cli->options;
    char          *names = padded_names(cli->context, plan, o->zscores ? "Z" : "");
    sink          *to = names ? crank_alloc(cli->context, 1, sizeof *to, "lines") : NULL;
    if (!to) return crank_free(names), CRANK_FAILED;
    for (int64_t row = 0; row < table->rows && o->per_topic; row++) {
        const trec_topic *topic = table->topics[row];
        for (int64_t k = 0; k < plan->count; k++) {
            const measure_request *r = plan->requests + k;
            if (summary_only(r->measure)) continue;
            if (r->measure->mean == MEASURE_TEXT) print_text(to, names + r->first * NAME_SIZE, topic->name, topic->length, "'", table->strings[row], strlen(table->strings[row]));
            else print_values(to, r, names, topic->name, topic->length, table->values + row * plan->values, !o->zscores);
        }
    }
    for (int64_t k = 0; k < plan->count && !o->no_summary; k++) {
        const measure_request *r = plan->requests + k;
        if (!strcmp(r->measure->name, "runid")) print_text(to, names + r->first * NAME_SIZE, "all", 3, "", run->tag, run->tag_length);
        if (r->measure->mean != MEASURE_TEXT) print_values(to, r, names, "all", 3, table->means, !o->zscores);
    }
    fwrite(to->bytes, 1, to->length, stdout);
    crank_free(names), crank_free(to);
    return CRANK_OK;
}

/* One object of named values; topics leave out what only the summary has. */
static json_t *values_object(const metric_plan *plan, const double *values, bool all)
{
    json_t *object = json_object();
    for (int64_t k = 0; k < plan->count; k++) {
        const measure_request *r = plan->requests + k;
        if (r->measure->mean == MEASURE_TEXT || (!all && summary_only(r->measure))) continue;
        for (int64_t i = 0; i < r->values; i++) {
            char   name[512];
            double value = values[r->first + i];
            metric_value_name(r, i, name, sizeof name);
            json_object_set_new(object, name, r->measure->mean == MEASURE_SUM ? json_integer((json_int_t)value) : json_real(value));
        }
    }
    return object;
}

static json_t *run_object(const options *o, const metric_plan *plan, const trec_file *run, const metric_table *table)
{
    json_t *object = json_pack("{s:s, s:s%, s:I}", "run", run->path, "tag", run->tag, (size_t)run->tag_length, "topics_averaged", (json_int_t)table->averaged);
    if (!object) return NULL;
    json_object_set_new(object, "summary", values_object(plan, table->means, true));
    json_t *topics = o->per_topic ? json_object() : NULL;
    for (int64_t row = 0; topics && row < table->rows; row++) {
        char   name[512];
        json_t *values = values_object(plan, table->values + row * plan->values, false);
        if (table->strings) json_object_set_new(values, "relstring", json_string(table->strings[row]));
        snprintf(name, sizeof name, "%.*s", (int)table->topics[row]->length, table->topics[row]->name);
        json_object_set_new(topics, name, values);
    }
    if (topics) json_object_set_new(object, "topics", topics);
    return object;
}

/* ---- several runs ---- */

typedef struct test_row { int64_t run, value; paired_tests tests; double holm[3]; char name[512]; } test_row;

/* Values of the topics that both tables have. */
static int64_t pair_up(const metric_plan *plan, const metric_table *a, const metric_table *b, int64_t value, double *x, double *y)
{
    int64_t n = 0, j = 0;
    for (int64_t i = 0; i < a->rows; i++) {
        while (j < b->rows && b->topics[j] < a->topics[i]) j++;
        if (j == b->rows || b->topics[j] != a->topics[i]) continue;
        x[n] = a->values[i * plan->values + value];
        y[n++] = b->values[j * plan->values + value];
    }
    return n;
}

static crank_status correct(crank_context *context, test_row *rows, int64_t count)
{
    double *p = crank_alloc(context, (size_t)count + 1, sizeof *p, "p-values");
    if (!p) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    for (int which = 0; which < 3 && status == CRANK_OK; which++) {
        for (int64_t i = 0; i < count; i++) p[i] = which == 0 ? rows[i].tests.student : which == 1 ? rows[i].tests.wilcoxon : rows[i].tests.fisher;
        status = holm(context, p, count);
        for (int64_t i = 0; i < count; i++) rows[i].holm[which] = p[i];
    }
    crank_free(p);
    return status;
}

/* Every averaged value of every further run against the first run. */
static crank_status test_all(cli_call *cli, const metric_plan *plan, const metric_table *tables, int64_t runs, test_row **out, int64_t *count)
{
    const options *o = cli->options;
    double        *x = crank_alloc(cli->context, (size_t)tables[0].rows + 1, 2 * sizeof *x, "values of topics");
    test_row      *rows = crank_alloc(cli->context, (size_t)(runs * plan->values), sizeof *rows, "tests");
    crank_status   status = x && rows ? CRANK_OK : CRANK_FAILED;
    *count = 0;
    for (int64_t r = 1; r < runs && status == CRANK_OK; r++)
        for (int64_t k = 0; k < plan->count && status == CRANK_OK; k++)
            for (int64_t i = 0; i < plan->requests[k].values && plan->requests[k].measure->mean == MEASURE_MEAN && status == CRANK_OK; i++) {
                test_row *row = rows + (*count)++;
                row->run = r;
                row->value = plan->requests[k].first + i;
                metric_value_name(plan->requests + k, i, row->name, sizeof row->name);
                double *y = x + tables[0].rows;
                int64_t n = pair_up(plan, tables, tables + r, row->value, x, y);
                status = paired_compare(cli->context, x, y, n, o->rounds, (uint64_t)o->seed, &row->tests);
            }
    if (status == CRANK_OK) status = correct(cli->context, rows, *count);
    crank_free(x);
    if (status != CRANK_OK) {
        crank_free(rows);
        rows = NULL;
    }
    *out = rows;
    return status;
}

static void print_side_by_side(const metric_plan *plan, const trec_file *files, const metric_table *tables, int64_t runs, const test_row *tests, int64_t count)
{
    printf("%-22s", "run");
    for (int64_t r = 0; r < runs; r++) printf("\t%.*s", (int)files[r].tag_length, files[r].tag);
    printf("\n");
    for (int64_t k = 0; k < plan->count; k++)
        for (int64_t i = 0; i < plan->requests[k].values && plan->requests[k].measure->mean != MEASURE_TEXT; i++) {
            char name[512];
            metric_value_name(plan->requests + k, i, name, sizeof name);
            printf("%-22s", name);
            for (int64_t r = 0; r < runs; r++) printf(plan->requests[k].measure->mean == MEASURE_SUM ? "\t%.0f" : "\t%6.4f", tables[r].means[plan->requests[k].first + i]);
            printf("\n");
        }
    printf("\npaired tests against %.*s; p two-sided, in brackets after Holm over %lld comparisons\n", (int)files[0].tag_length, files[0].tag, (long long)count);
    printf("%-22s\trun\tdifference\tt-test\tWilcoxon\tFisher\n", "measure");
    for (int64_t i = 0; i < count; i++) {
        const test_row *t = tests + i;
        printf("%-22s\t%.*s\t%+.4f\t%.4f (%.4f)\t%.4f (%.4f)\t%.4f (%.4f)\n", t->name, (int)files[t->run].tag_length, files[t->run].tag, t->tests.difference,
               t->tests.student, t->holm[0], t->tests.wilcoxon, t->holm[1], t->tests.fisher, t->holm[2]);
    }
}

static crank_status print_json(cli_call *cli, const metric_plan *plan, const trec_file *files, const metric_table *tables, int64_t runs, const test_row *tests, int64_t count)
{
    json_t *root = json_object(), *list = json_array(), *compared = json_array();
    for (int64_t r = 0; r < runs; r++) json_array_append_new(list, run_object(cli->options, plan, files + r, tables + r));
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(compared, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "measure", tests[i].name, "run", files[tests[i].run].path,
                                                  "baseline", files[0].path, "difference", tests[i].tests.difference, "t", tests[i].tests.t, "student",
                                                  tests[i].tests.student, "wilcoxon", tests[i].tests.wilcoxon, "fisher", tests[i].tests.fisher, "student_holm",
                                                  tests[i].holm[0], "wilcoxon_holm", tests[i].holm[1], "fisher_holm", tests[i].holm[2]));
    json_object_set_new(root, "runs", list);
    if (runs > 1) json_object_set_new(root, "tests", compared);
    else json_decref(compared);
    char *text = json_text(cli->context, root, 0);
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status report(cli_call *cli, const metric_plan *plan, const trec_file *files, const metric_table *tables, int64_t runs)
{
    test_row    *tests = NULL;
    int64_t      count = 0;
    crank_status status = runs > 1 ? test_all(cli, plan, tables, runs, &tests, &count) : CRANK_OK;
    if (status == CRANK_OK && cli->common.json) status = print_json(cli, plan, files, tables, runs, tests, count);
    else if (status == CRANK_OK && runs > 1) print_side_by_side(plan, files, tables, runs, tests, count);
    else if (status == CRANK_OK) status = print_table(cli, plan, files, tables);
    crank_free(tests);
    return status;
}

static trec_kind kind_of(const char *format)
{
    static const char *const names[] = { "qrels_jg", "qrels_prefs", "prefs" };
    for (int i = 0; i < 3; i++)
        if (!strcmp(format, names[i])) return (trec_kind)(TREC_QRELS_JG + i);
    return TREC_QRELS;
}

/* What was asked for, or what the judgments are for where nothing was. */
static const char *measures_of(const options *o, trec_kind kind)
{
    return strcmp(o->measures, "official") || kind == TREC_QRELS ? o->measures : kind == TREC_QRELS_JG ? "qrels_jg" : "prefs";
}

static crank_status measure_runs(cli_call *cli)
{
    const options *o = cli->options;
    int64_t        runs = cli->word_count - 1;
    metric_options how = { o->level, o->max_docs, o->collection, atoi(o->trec_eval), (int)o->max_grade, o->judged_only, o->complete, NULL };
    bool           comments = how.version == 10;
    trec_kind      kind = kind_of(o->format);
    zscores        reference = { 0 };
    metric_plan    plan = { 0 };
    trec_file      qrels = { 0 }, *files = crank_alloc(cli->context, (size_t)runs, sizeof *files, "runs");
    metric_table  *tables = crank_alloc(cli->context, (size_t)runs, sizeof *tables, "runs");
    crank_status   status = files && tables ? metric_plan_make(cli->context, measures_of(o, kind), how.version, &plan) : CRANK_FAILED;
    if (status == CRANK_OK) status = metric_plan_check(cli->context, &plan, kind);
    if (status == CRANK_OK && o->zscores) status = zscores_read(cli->context, o->zscores, &reference);
    if (o->zscores) how.zscores = &reference;
    if (status == CRANK_OK) status = trec_file_read(cli->context, cli->words[0], kind, comments, &qrels);
    for (int64_t r = 0; r < runs && status == CRANK_OK; r++) status = trec_file_read(cli->context, cli->words[r + 1], TREC_RUN, comments, files + r);
    for (int64_t r = 0; r < runs && status == CRANK_OK; r++) status = metric_evaluate(cli->context, &qrels, files + r, &plan, &how, tables + r);
    if (status == CRANK_OK) status = report(cli, &plan, files, tables, runs);
    for (int64_t r = 0; r < runs && files && tables; r++) {
        trec_file_free(files + r);
        metric_table_free(tables + r);
    }
    crank_free(files);
    crank_free(tables);
    trec_file_free(&qrels);
    metric_plan_free(&plan);
    zscores_free(&reference);
    return status;
}

/* ---- fusion ---- */

static crank_status read_weights(cli_call *cli, const char *text, double *weights)
{
    const char *cursor = text;
    char        item[64];
    int         n = 0;
    while (crank_list_next(&cursor, item, sizeof item, NULL, 0)) {
        if (n == cli->word_count || !number_parse(item, weights + n) || !isfinite(weights[n]))
            return crank_fail(cli->context, CRANK_USAGE, "--weights: one finite number for each of the %d runs", cli->word_count);
        n++;
    }
    return n == cli->word_count ? CRANK_OK : crank_fail(cli->context, CRANK_USAGE, "--weights: %d numbers for %d runs", n, cli->word_count);
}

static fuse_options fusion_of(const options *o, const double *weights)
{
    static const char *const rules[] = { "rrf", "combsum", "combmnz", "interpolate" }, *const norms[] = { "minmax", "zscore", "none" };
    fuse_options             f = { .k = o->rrf_k, .weights = weights, .depth = o->depth, .tag = o->tag };
    for (int i = 0; i < 4; i++)
        if (!strcmp(o->fuse, rules[i])) f.rule = (fuse_rule)i;
    for (int i = 0; i < 3; i++)
        if (!strcmp(o->norm, norms[i])) f.norm = (fuse_norm)i;
    return f;
}

static crank_status fuse(cli_call *cli)
{
    const options *o = cli->options;
    double        *weights = crank_alloc(cli->context, (size_t)cli->word_count, sizeof *weights, "weights");
    trec_file     *files = crank_alloc(cli->context, (size_t)cli->word_count, sizeof *files, "runs");
    char          *text = NULL;
    crank_status   status = weights && files ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK && (!*o->tag || strpbrk(o->tag, " \t\r\n"))) status = crank_fail(cli->context, CRANK_USAGE, "--tag: one word without spaces");
    if (status == CRANK_OK && o->weights) status = read_weights(cli, o->weights, weights);
    for (int r = 0; r < cli->word_count && status == CRANK_OK; r++) status = trec_file_read(cli->context, cli->words[r], TREC_RUN, !strcmp(o->trec_eval, "10"), files + r);
    fuse_options f = fusion_of(o, o->weights ? weights : NULL);
    if (status == CRANK_OK) status = fuse_runs(cli->context, files, cli->word_count, &f, o->output, &text);
    if (text) fputs(text, stdout);
    crank_free(text);
    for (int r = 0; files && r < cli->word_count; r++) trec_file_free(files + r);
    crank_free(files);
    crank_free(weights);
    return status;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    if (o->list) {
        list_measures();
        return CRANK_OK;
    }
    bool fusing = strcmp(o->fuse, "none") != 0;
    if (!fusing && strcmp(o->output, "-")) return crank_fail(cli->context, CRANK_USAGE, "--output belongs to --fuse: measures go to standard output");
    if (fusing && cli->common.json) return crank_fail(cli->context, CRANK_USAGE, "--fuse writes a run: leave --json out");
    if (cli->word_count < 2) return crank_fail(cli->context, CRANK_USAGE, fusing ? "crank metrics --fuse %s RUN RUN...: two runs at least" : "usage: crank metrics [options] QRELS RUN...", o->fuse);
    return fusing ? fuse(cli) : measure_runs(cli);
}

const cli_verb verb_metrics = {
    .name = "metrics",
    .usage = "[-q] [-c] [-l N] [-m MEASURE]... QRELS RUN...",
    .summary = "trec_eval's measures of runs, tests between runs, fusion of runs",
    .details = "One run: the lines of trec_eval. Several: columns side by side, and for every averaged measure the paired t-test, Wilcoxon's signed rank test and\n"
               "Fisher's randomisation test of each further run against the first, with Holm's correction. `-` is standard input; gzip files are read as they are.\n"
               "--fuse RULE RUN RUN... -o FILE writes one run made of several.",
    .letters = "R=format Z=zscores q=per_topic c=complete n=no_summary J=judged_only l=level M=max_docs N=collection m=measures o=output",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 0,
    .words_high = -1,
    .brief = true,
    .run = run,
};
