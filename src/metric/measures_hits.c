/* measures_hits.c - measures that read where relevant documents stand (or only how many there are). h_i: 1-based rank of the i-th relevant
 * document found, R: relevant documents of the topic, n: documents retrieved, F: relevant ones among them. A division by 0 gives 0. */
#include <math.h>

#include "metric/measures.h"

#define SMALLEST_MEAN 1e-5 /* values below count as this in a geometric mean */
#define INFAP_EPSILON 1e-5

/* Relevant documents in the first k. */
static int64_t found(const metric_topic *t, int64_t k)
{
    int64_t low = 0, high = t->rel_ret;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (t->hits[middle] < k) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void num_ret(const measure_call *c) { c->out[0] = (double)c->topic->ret; }
static void num_rel(const measure_call *c) { c->out[0] = (double)c->topic->rel; }
static void num_rel_ret(const measure_call *c) { c->out[0] = (double)c->topic->rel_ret; }
static void num_nonrel(const measure_call *c)
{
    const metric_topic *t = c->topic;
    c->out[0] = (double)(t->ret - t->nonpool - t->unjudged - t->rel_ret);
}

/* sum_i i / h_i over hits in the first k */
static double precision_sum(const metric_topic *t, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)(i + 1) / (double)(t->hits[i] + 1);
    return sum;
}

static double average_precision(const metric_topic *t) { return t->rel_ret ? precision_sum(t, t->rel_ret) / (double)t->rel : 0; }
static void   map(const measure_call *c) { c->out[0] = average_precision(c->topic); }
static void   gm_map(const measure_call *c) { c->out[0] = log(fmax(average_precision(c->topic), SMALLEST_MEAN)); }

static void map_cut(const measure_call *c)
{
    const metric_topic *t = c->topic;
    for (int64_t i = 0; i < c->request->count && t->rel; i++)
        c->out[i] = precision_sum(t, found(t, (int64_t)c->request->numbers[i])) / (double)t->rel;
}

static void yaap(const measure_call *c)
{
    double sum = precision_sum(c->topic, c->topic->rel_ret);
    c->out[0] = log((1.0 + sum) / (1.0 + (double)c->topic->rel - sum));
}

static void r_precision(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             look = t->ret < t->rel ? t->ret : t->rel;
    if (look) c->out[0] = (double)found(t, look) / (double)t->rel;
}

static double preference(const metric_topic *t)
{
    int64_t nonrel = 0, hit = 0;
    double  sum = 0, ceiling = (double)(t->nonrel < t->rel ? t->nonrel : t->rel);
    for (int64_t i = 0; i < t->ret && hit < t->rel_ret; i++) {
        if (t->hits[hit] == i) {
            hit++;
            sum += nonrel ? 1.0 - (double)(nonrel < t->rel ? nonrel : t->rel) / ceiling : 1.0;
        } else
            nonrel += t->rels[i] >= 0;
    }
    return t->rel ? sum / (double)t->rel : sum;
}

static void bpref(const measure_call *c) { c->out[0] = preference(c->topic); }
static void gm_bpref(const measure_call *c) { c->out[0] = log(fmax(preference(c->topic), SMALLEST_MEAN)); }

static void inf_ap(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             nonrel = 0, unjudged = 0, hit = 0;
    double              sum = 0;
    for (int64_t i = 0; i < t->ret && hit < t->rel_ret; i++) {
        if (t->hits[hit] != i) {
            nonrel += t->rels[i] >= 0;
            unjudged += t->rels[i] == METRIC_UNJUDGED;
            continue;
        }
        double j = (double)i, judged = (double)(hit + nonrel), rel = (double)hit;
        hit++;
        if (!i) sum += 1.0;
        else sum += 1.0 / (j + 1.0) + (j / (j + 1.0)) * ((judged + (double)unjudged) / j) * ((rel + INFAP_EPSILON) / (judged + 2 * INFAP_EPSILON));
    }
    c->out[0] = t->rel ? sum / (double)t->rel : sum;
}

static void recip_rank(const measure_call *c)
{
    if (c->topic->rel_ret) c->out[0] = 1.0 / (double)(c->topic->hits[0] + 1);
}

static void mrr_cut(const measure_call *c)
{
    for (int64_t i = 0; i < c->request->count; i++)
        if (c->topic->rel_ret && c->topic->hits[0] < c->request->numbers[i]) c->out[i] = 1.0 / (double)(c->topic->hits[0] + 1);
}

static void precision(const measure_call *c)
{
    for (int64_t i = 0; i < c->request->count; i++) c->out[i] = (double)found(c->topic, (int64_t)c->request->numbers[i]) / c->request->numbers[i];
}

static void recall(const measure_call *c)
{
    for (int64_t i = 0; i < c->request->count && c->topic->rel; i++)
        c->out[i] = (double)found(c->topic, (int64_t)c->request->numbers[i]) / (double)c->topic->rel;
}

static void relative_precision(const measure_call *c)
{
    for (int64_t i = 0; i < c->request->count && c->topic->rel; i++)
        c->out[i] = (double)found(c->topic, (int64_t)c->request->numbers[i]) / fmin(c->request->numbers[i], (double)c->topic->rel);
}

static void success(const measure_call *c)
{
    for (int64_t i = 0; i < c->request->count; i++) c->out[i] = found(c->topic, (int64_t)c->request->numbers[i]) ? 1.0 : 0.0;
}

static void unjudged_cut(const measure_call *c)
{
    int64_t i = 0, count = 0;
    for (int64_t k = 0; k < c->request->count; k++) {
        for (; i < c->topic->ret && (double)i < c->request->numbers[k]; i++) count += c->topic->rels[i] < 0;
        c->out[k] = (double)count / c->request->numbers[k];
    }
}

static void judged_cut(const measure_call *c)
{
    int64_t i = 0, count = 0;
    for (int64_t k = 0; k < c->request->count; k++) {
        for (; i < c->topic->ret && (double)i < c->request->numbers[k]; i++) count += c->topic->rels[i] >= 0;
        c->out[k] = (double)count / c->request->numbers[k];
    }
}

/* A share of R as a number of documents: rounded up from .1 on in version 9 (recall measures and Rprec_mult), to the nearest in 10. */
static int64_t share(double part, int64_t rel, bool nearest) { return nearest ? (int64_t)lround(part * (double)rel) : (int64_t)(part * (double)rel + 0.9); }

/* Highest precision from each point on: points are met from the last relevant document to the first, in the order in which they stand. */
static void interpolated(const measure_call *c, double *out)
{
    const metric_topic *t = c->topic;
    int64_t             cut = c->request->count - 1;
    bool                nearest = c->options->version == 10;
    double              best = t->ret ? (double)t->rel_ret / (double)t->ret : 0;
    while (cut >= 0 && share(c->request->numbers[cut], t->rel, nearest) > t->rel_ret) cut--;
    for (int64_t i = t->rel_ret; i > 0; i--) {
        double here = (double)i / (double)(t->hits[i - 1] + 1);
        if (best < here) best = here;
        while (cut >= 0 && share(c->request->numbers[cut], t->rel, nearest) == i) out[cut--] = best;
    }
    while (cut >= 0) out[cut--] = best;
}

static void iprec_at_recall(const measure_call *c) { interpolated(c, c->out); }

static void eleven_points(const measure_call *c)
{
    double  values[METRIC_MAX_PARAMS] = { 0 }, sum = 0;
    int64_t n = c->request->count;
    interpolated(c, values);
    for (int64_t i = n - 1; i >= 0; i--) sum += values[i]; /* in the order of trec_eval */
    c->out[0] = sum / (double)n;
}

static void rprec_mult(const measure_call *c)
{
    const metric_topic *t = c->topic;
    for (int64_t i = 0; i < c->request->count; i++) {
        int64_t cut = share(c->request->numbers[i], t->rel, false);
        if (cut > 0 && t->rel_ret) c->out[i] = (double)found(t, cut) / (double)cut;
    }
}

static void utility(const measure_call *c)
{
    const metric_topic *t = c->topic;
    const double       *p = c->request->numbers;
    if (c->request->count != 4) return;
    c->out[0] = p[0] * (double)t->rel_ret + p[1] * (double)(t->ret - t->rel_ret) + p[2] * (double)(t->rel - t->rel_ret) +
                p[3] * (double)(c->options->collection + t->rel_ret - t->ret - t->rel);
}

static void set_p(const measure_call *c)
{
    if (c->topic->ret) c->out[0] = (double)c->topic->rel_ret / (double)c->topic->ret;
}

static void set_recall(const measure_call *c)
{
    if (c->topic->rel) c->out[0] = (double)c->topic->rel_ret / (double)c->topic->rel;
}

static void set_relative_p(const measure_call *c)
{
    const metric_topic *t = c->topic;
    if (t->ret && t->rel) c->out[0] = (double)t->rel_ret / (double)(t->ret < t->rel ? t->ret : t->rel);
}

static void set_map(const measure_call *c)
{
    const metric_topic *t = c->topic;
    if (t->ret && t->rel) c->out[0] = ((double)t->rel_ret * (double)t->rel_ret) / ((double)t->ret * (double)t->rel);
}

static void set_f(const measure_call *c)
{
    const metric_topic *t = c->topic;
    if (!t->rel_ret) return;
    double p = (double)t->rel_ret / (double)t->ret, r = (double)t->rel_ret / (double)t->rel, x = c->request->numbers[0];
    c->out[0] = (x + 1.0) * p * r / (x * p + r);
}

#define CUTS "5,10,15,20,30,100,200,500,1000"
#define POINTS "0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0"
#define MEASURE(id, name, params, defaults, mean, official, all, set, run, formula) \
    const measure measure_##id = { name, formula, params, defaults, mean, official, all, false, set, run, MEASURE_QRELS, false }

const measure measure_runid = { "runid", "tag of the run's last line", MEASURE_PLAIN, NULL, MEASURE_TEXT, true, true, false, true, NULL, MEASURE_ANY, false };
const measure measure_num_q = { "num_q", "topics averaged over", MEASURE_PLAIN, NULL, MEASURE_SUM, true, true, false, true, NULL, MEASURE_ANY, false };
MEASURE(num_ret, "num_ret", MEASURE_PLAIN, NULL, MEASURE_SUM, true, true, true, num_ret, "n");
MEASURE(num_rel, "num_rel", MEASURE_PLAIN, NULL, MEASURE_SUM, true, true, true, num_rel, "R");
MEASURE(num_rel_ret, "num_rel_ret", MEASURE_PLAIN, NULL, MEASURE_SUM, true, true, true, num_rel_ret, "F");
MEASURE(map, "map", MEASURE_PLAIN, NULL, MEASURE_MEAN, true, true, false, map, "1/R sum_i i/h_i");
MEASURE(gm_map, "gm_map", MEASURE_PLAIN, NULL, MEASURE_GEOMETRIC, true, true, false, gm_map, "geometric mean of max(map, 1e-5)");
MEASURE(r_precision, "Rprec", MEASURE_PLAIN, NULL, MEASURE_MEAN, true, true, false, r_precision, "relevant in the first R / R");
MEASURE(bpref, "bpref", MEASURE_PLAIN, NULL, MEASURE_MEAN, true, true, false, bpref, "1/R sum_i 1 - min(judged nonrelevant before, R) / min(all judged nonrelevant, R)");
MEASURE(recip_rank, "recip_rank", MEASURE_PLAIN, NULL, MEASURE_MEAN, true, true, false, recip_rank, "1/h_1");
MEASURE(iprec_at_recall, "iprec_at_recall", MEASURE_POINTS, POINTS, MEASURE_MEAN, true, true, false, iprec_at_recall, "highest precision at or behind the recall point");
MEASURE(precision, "P", MEASURE_CUTS, CUTS, MEASURE_MEAN, true, true, false, precision, "relevant in the first k / k");
MEASURE(recall, "recall", MEASURE_CUTS, CUTS, MEASURE_MEAN, false, true, false, recall, "relevant in the first k / R");
MEASURE(inf_ap, "infAP", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, true, false, inf_ap, "average precision inferred from a sampled pool");
MEASURE(gm_bpref, "gm_bpref", MEASURE_PLAIN, NULL, MEASURE_GEOMETRIC, false, true, false, gm_bpref, "geometric mean of max(bpref, 1e-5)");
MEASURE(rprec_mult, "Rprec_mult", MEASURE_POINTS, "0.2,0.4,0.6,0.8,1.0,1.2,1.4,1.6,1.8,2.0", MEASURE_MEAN, false, true, false, rprec_mult, "precision in the first x R");
MEASURE(utility, "utility", MEASURE_NUMBERS, "1.0,-1.0,0.0,0.0", MEASURE_MEAN, false, true, true, utility, "p1 F + p2 (n-F) + p3 (R-F) + p4 (N+F-n-R)");
MEASURE(eleven_points, "11pt_avg", MEASURE_NUMBERS, POINTS, MEASURE_MEAN, false, true, false, eleven_points, "mean of iprec_at_recall over the points");
MEASURE(map_cut, "map_cut", MEASURE_CUTS, CUTS, MEASURE_MEAN, false, true, false, map_cut, "1/R sum over h_i <= k of i/h_i");
MEASURE(relative_p, "relative_P", MEASURE_CUTS, CUTS, MEASURE_MEAN, false, true, false, relative_precision, "relevant in the first k / min(k, R)");
MEASURE(success, "success", MEASURE_CUTS, "1,5,10", MEASURE_MEAN, false, true, false, success, "1 when a relevant document is in the first k");
MEASURE(set_p, "set_P", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, true, true, set_p, "F/n");
MEASURE(set_relative_p, "set_relative_P", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, true, true, set_relative_p, "F / min(n, R)");
MEASURE(set_recall, "set_recall", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, true, true, set_recall, "F/R");
MEASURE(set_map, "set_map", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, true, true, set_map, "F F / (n R)");
MEASURE(set_f, "set_F", MEASURE_NUMBERS, "1.0", MEASURE_MEAN, false, true, true, set_f, "(x+1) P R / (x P + R), P = F/n, R = F/R");
MEASURE(num_nonrel, "num_nonrel_judged_ret", MEASURE_PLAIN, NULL, MEASURE_SUM, false, true, false, num_nonrel, "judged nonrelevant documents retrieved");
MEASURE(yaap, "yaap", MEASURE_PLAIN, NULL, MEASURE_MEAN, false, false, false, yaap, "log((1 + S) / (1 + R - S)), S = sum_i i/h_i");
MEASURE(relstring, "relstring", MEASURE_NUMBERS, "10", MEASURE_TEXT, false, true, false, NULL, "levels of the first k documents; - not pooled, . unjudged, > above 9");
MEASURE(mrr_cut, "mrr_cut", MEASURE_CUTS, "10", MEASURE_MEAN, false, false, false, mrr_cut, "1/h_1 when h_1 <= k, else 0");
MEASURE(judged_cut, "judged", MEASURE_CUTS, "10,20,100", MEASURE_MEAN, false, false, false, judged_cut, "judged documents in the first k / k");
const measure measure_unjudged = { "unj", "unjudged documents in the first k / k", MEASURE_CUTS, "5,10,20", MEASURE_MEAN, false, false, true, false, unjudged_cut, MEASURE_QRELS, false };
