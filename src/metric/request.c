/* request.c - which measures with which parameters: "map", "ndcg_cut.5,10", "ndcg.1=3.5,2=9.0", "all_trec".
 *
 * Everything behind the first point are parameters, between commas. Cut-offs and points are sorted and must differ. Where a measure is asked
 * for twice, the first parameters hold. Nicknames: official, set, all_trec (its members under version 10 are more), all (every measure of
 * plain judgments), prefs, all_prefs, qrels_jg. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "metric/measures.h"

enum { MEASURES = 96 };

typedef struct wishes {
    bool  wanted[MEASURES];
    char *params[MEASURES]; /* malloc'd */
} wishes;

static bool in_nickname(const measure *m, const char *name, size_t length, int version, bool *known)
{
    static const char *const names[] = { "official", "set", "all_trec", "all", "prefs", "all_prefs", "qrels_jg" };
    bool                     any = m->family == MEASURE_ANY;
    for (int k = 0; k < 7; k++) {
        if (strlen(names[k]) != length || memcmp(names[k], name, length)) continue;
        *known = true;
        if (k == 4) return any || m->prefs;
        if (k >= 5) return any || m->family == (k == 5 ? MEASURE_PREFS : MEASURE_JG);
        return k == 0 ? m->official : k == 1 ? m->set : k == 2 ? m->all_trec || (m->all_trec_10 && version == 10) : any || m->family == MEASURE_QRELS;
    }
    return false;
}

static bool is_name(const char *name, size_t length, int version)
{
    bool known = metric_measure_find(name, length) != NULL;
    in_nickname(metric_measures[0], name, length, version, &known);
    return known;
}

static crank_status unknown(crank_context *context, const char *name, size_t length)
{
    const char *names[MEASURES];
    char        copy[128];
    size_t      count = 0;
    for (; metric_measures[count]; count++) names[count] = metric_measures[count]->name;
    snprintf(copy, sizeof copy, "%.*s", (int)(length < 100 ? length : 100), name);
    const char *closest = crank_closest(copy, names, count);
    return crank_fail(context, CRANK_USAGE, "`%s` is no measure%s%s%s; `crank metrics --list` shows them", copy, closest ? ": did you mean `" : "",
                      closest ? closest : "", closest ? "`?" : "");
}

/* One "name.params". */
static crank_status wish(crank_context *context, const char *spec, int version, wishes *w)
{
    size_t length = strcspn(spec, ".");
    bool   known = false;
    int    index = -1;
    for (int i = 0; metric_measures[i]; i++) {
        const measure *m = metric_measures[i];
        bool           itself = strlen(m->name) == length && !memcmp(m->name, spec, length);
        if (itself) index = i;
        if (itself || in_nickname(m, spec, length, version, &known)) w->wanted[i] = true;
    }
    if (index < 0 && !known) return unknown(context, spec, length);
    if (!spec[length]) return CRANK_OK;
    if (!spec[length + 1]) return crank_fail(context, CRANK_USAGE, "`%s`: parameters are missing behind the point", spec);
    if (index < 0) return crank_fail(context, CRANK_USAGE, "`%s` is a set of measures and takes no parameters", spec);
    if (metric_measures[index]->params == MEASURE_PLAIN) return crank_fail(context, CRANK_USAGE, "`%s` takes no parameters", metric_measures[index]->name);
    if (!w->params[index]) w->params[index] = crank_strdup(context, spec + length + 1);
    return w->params[index] ? CRANK_OK : CRANK_FAILED;
}

/* Items of the list that are no names carry on the parameters of the item before. */
static crank_status read_wishes(crank_context *context, const char *specs, int version, wishes *w)
{
    const char  *cursor = specs;
    char         item[512];
    text_buffer  spec = { 0 };
    crank_status status = CRANK_OK;
    while (status == CRANK_OK && crank_list_next(&cursor, item, sizeof item, NULL, 0)) {
        bool more = spec.length && !is_name(item, strcspn(item, "."), version) && strchr("0123456789.-+p", item[0]);
        if (!more && spec.length) {
            status = spec.failed ? crank_fail(context, CRANK_FAILED, "out of memory: measures") : wish(context, spec.bytes, version, w);
            text_clear(&spec);
        }
        if (more) text_putc(&spec, ',');
        text_puts(&spec, item);
    }
    if (status == CRANK_OK && spec.length) status = spec.failed ? crank_fail(context, CRANK_FAILED, "out of memory: measures") : wish(context, spec.bytes, version, w);
    text_clear(&spec);
    return status;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static crank_status check_cuts(crank_context *context, const measure_request *r)
{
    qsort(r->numbers, (size_t)r->count, sizeof *r->numbers, by_value);
    for (int64_t i = 0; i < r->count; i++) {
        if (r->measure->params == MEASURE_CUTS && fabs(r->numbers[i]) < 1e15) r->numbers[i] = trunc(r->numbers[i]); /* as trec_eval reads them */
        double x = r->numbers[i];
        if (r->measure->params == MEASURE_CUTS && !(x >= 1 && x <= 1e9))
            return crank_fail(context, CRANK_USAGE, "`%s.%s`: cut-offs are whole numbers from 1 to 1e9", r->measure->name, r->text);
        if (i && x == r->numbers[i - 1]) return crank_fail(context, CRANK_USAGE, "`%s.%s`: a cut-off stands twice", r->measure->name, r->text);
    }
    return CRANK_OK;
}

static crank_status read_params(crank_context *context, const char *text, measure_request *r)
{
    const char *name = r->measure->name;
    r->count = 1;
    for (const char *p = text; *p; p++) r->count += *p == ',';
    if (r->count > METRIC_MAX_PARAMS) return crank_fail(context, CRANK_USAGE, "`%s` has more than %d parameters", name, METRIC_MAX_PARAMS);
    r->storage = crank_strdup(context, text);
    if (r->measure->params == MEASURE_PAIRS) r->pairs = crank_alloc(context, (size_t)r->count, sizeof *r->pairs, "parameters");
    else r->numbers = crank_alloc(context, (size_t)r->count, sizeof *r->numbers, "parameters");
    if (!r->storage || (!r->pairs && !r->numbers)) return CRANK_FAILED;
    char *at = r->storage;
    for (int64_t i = 0; i < r->count; i++) {
        char *next = strchr(at, ','), *equals = strchr(at, '='), *number = at;
        if (next) *next = 0;
        if (r->pairs) {
            if (!equals || (next && equals > next) || equals == at) return crank_fail(context, CRANK_USAGE, "`%s.%s`: parameters are name=number, between commas", name, text);
            *equals = 0;
            r->pairs[i].name = at;
            number = equals + 1;
        }
        double value;
        if (!number_parse(number, &value) || !(value >= -1e300 && value <= 1e300))
            return crank_fail(context, CRANK_USAGE, "`%s.%s`: `%s` is not a number", name, text, number);
        *(r->pairs ? &r->pairs[i].value : &r->numbers[i]) = value;
        at = next ? next + 1 : at;
    }
    if (!strcmp(name, "utility") && r->count != 4) return crank_fail(context, CRANK_USAGE, "`utility` takes four numbers, not %lld", (long long)r->count);
    return r->measure->params == MEASURE_CUTS || r->measure->params == MEASURE_POINTS ? check_cuts(context, r) : CRANK_OK;
}

static crank_status fill(crank_context *context, const measure *m, char **params, metric_plan *plan)
{
    measure_request *r = plan->requests + plan->count++;
    *r = (measure_request){ .measure = m, .text = *params, .values = 1, .first = plan->values };
    *params = NULL;
    const char  *text = r->text ? r->text : m->defaults;
    crank_status status = text ? read_params(context, text, r) : CRANK_OK;
    if (m->params == MEASURE_CUTS || m->params == MEASURE_POINTS) r->values = r->count;
    plan->values += r->values;
    if (m->params == MEASURE_PAIRS && r->count > plan->pairs) plan->pairs = r->count;
    return status;
}

crank_status metric_plan_make(crank_context *context, const char *specs, int version, metric_plan *plan)
{
    wishes       w = { 0 };
    crank_status status = read_wishes(context, specs, version, &w);
    *plan = (metric_plan){ 0 };
    plan->requests = status == CRANK_OK ? crank_alloc(context, MEASURES, sizeof *plan->requests, "measures") : NULL;
    if (!plan->requests) status = crank_last_status(context);
    for (int i = 0; metric_measures[i] && status == CRANK_OK; i++)
        if (w.wanted[i]) status = fill(context, metric_measures[i], w.params + i, plan);
    if (status == CRANK_OK && !plan->count) status = crank_fail(context, CRANK_USAGE, "no measure was asked for");
    for (int i = 0; i < MEASURES; i++) crank_free(w.params[i]);
    if (status != CRANK_OK) metric_plan_free(plan);
    return status;
}

crank_status metric_plan_check(crank_context *context, const metric_plan *plan, trec_kind kind)
{
    static const char *const formats[] = { [MEASURE_QRELS] = "qrels (-R qrels)", [MEASURE_JG] = "judgments by groups (-R qrels_jg)", [MEASURE_PREFS] = "preferences (-R prefs or qrels_prefs)" };
    measure_family           family = kind == TREC_QRELS ? MEASURE_QRELS : kind == TREC_QRELS_JG ? MEASURE_JG : MEASURE_PREFS;
    for (int64_t i = 0; i < plan->count; i++) {
        const measure *m = plan->requests[i].measure;
        if (m->family != MEASURE_ANY && m->family != family) return crank_fail(context, CRANK_USAGE, "`%s` is a measure of %s, not of %s", m->name, formats[m->family], formats[family]);
    }
    return CRANK_OK;
}

void metric_plan_free(metric_plan *plan)
{
    for (int64_t i = 0; plan->requests && i < plan->count; i++) {
        crank_free(plan->requests[i].text);
        crank_free(plan->requests[i].storage);
        crank_free(plan->requests[i].numbers);
        crank_free(plan->requests[i].pairs);
    }
    crank_free(plan->requests);
    *plan = (metric_plan){ 0 };
}

void metric_value_name(const measure_request *r, int64_t i, char *out, size_t size)
{
    if (r->measure->params == MEASURE_CUTS) snprintf(out, size, "%s_%lld", r->measure->name, (long long)r->numbers[i]);
    else if (r->measure->params == MEASURE_POINTS) snprintf(out, size, "%s_%3.2f", r->measure->name, r->numbers[i]);
    else snprintf(out, size, "%s%s%s", r->measure->name, r->text ? "_" : "", r->text ? r->text : "");
}
