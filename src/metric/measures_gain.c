/* measures_gain.c - measures of graded relevance. g_i: gain of the document at rank i; in the ideal ranking all judged documents stand in
 * the order of falling gain. log is base 2 unless said otherwise.
 *
 *     dcg = sum_i g_i / log(1+i)       ndcg = dcg / ideal dcg, 0 where the ideal is 0
 *
 * The gain of a level is the level itself (TREC), 2^level - 1 in the measures named `_exp`, or given by `level=gain` parameters.
 * ndcg and ideal are not cut; ndcg_cut cuts both. The level from which documents are relevant (-l) plays no part. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metric/measures.h"

static bool level_of(const char *name, int64_t *level)
{
    char *end;
    *level = strtol(name, &end, 10);
    return end != name && !*end;
}

static int by_gain(const void *left, const void *right)
{
    const measure_level *a = left, *b = right;
    return a->gain < b->gain ? -1 : a->gain > b->gain ? 1 : a->level < b->level ? -1 : a->level > b->level;
}

/* Levels that occur and levels that were given a gain, by rising gain. */
static int64_t gains(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             n = 0, given;
    for (int64_t i = 0; i < c->request->count; i++)
        if (level_of(c->request->pairs[i].name, &given)) c->levels[n++] = (measure_level){ given, 0, c->request->pairs[i].value };
    int64_t pairs = n;
    for (int64_t level = 0; level < t->levels; level++) {
        int64_t k = 0;
        while (k < pairs && c->levels[k].level != level) k++;
        if (k < pairs) c->levels[k].count = t->level_counts[level];
        else if (t->level_counts[level]) c->levels[n++] = (measure_level){ level, t->level_counts[level], (double)level };
    }
    if (pairs) qsort(c->levels, (size_t)n, sizeof *c->levels, by_gain);
    return n;
}

static double gain_of(const measure_call *c, int64_t n, int32_t rel)
{
    if (!c->request->count) return rel > 0 ? (double)rel : 0;
    for (int64_t i = 0; i < n; i++)
        if (c->levels[i].level == rel) return c->levels[i].gain;
    return 0;
}

/* log2 of a whole number. */
static double log_of(const measure_call *c, int64_t i) { return i < c->log_count ? c->logs[i] : log2((double)i); }

/* Walks the ideal ranking: gains that are not positive end it. */
typedef struct walk { const measure_level *levels; int64_t at, used; double gain; } walk;

static walk walk_start(const measure_call *c, int64_t n) { return (walk){ c->levels, n - 1, 0, n ? c->levels[n - 1].gain : 0 }; }

static void walk_next(walk *w)
{
    w->used++;
    while (w->at >= 0 && w->used > w->levels[w->at].count) {
        w->used = 1;
        w->at--;
        w->gain = w->at >= 0 ? w->levels[w->at].gain : 0;
    }
}

/* Sums of a topic: dcg, ideal dcg, and the ratios at relevant documents that ndcg_rel adds up. */
typedef struct gain_sums { double dcg, ideal, rel_sum; int64_t rel, rel_ret; } gain_sums;

static gain_sums walk_both(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             n = gains(c), i = 0;
    walk                w = walk_start(c, n);
    gain_sums           s = { 0 };
    for (; i < t->ret || w.gain > 0; i++) {
        bool   ideal = w.gain > 0;
        double gain = i < t->ret ? gain_of(c, n, t->rels[i]) : 0;
        if (ideal) walk_next(&w);
        if (gain == 0 && !ideal) continue;
        double discount = log_of(c, i + 2);
        if (gain != 0) s.dcg += gain / discount;
        if (ideal && w.gain > 0) s.rel++, s.ideal += w.gain / discount;
        if (gain > 0) s.rel_sum += s.dcg / s.ideal, s.rel_ret++;
    }
    return s;
}

static void ndcg(const measure_call *c)
{
    gain_sums s = walk_both(c);
    if (s.ideal > 0) c->out[0] = s.dcg / s.ideal;
}

static void dcg(const measure_call *c) { c->out[0] = walk_both(c).dcg; }
static void ideal_dcg(const measure_call *c) { c->out[0] = walk_both(c).ideal; }

static void ndcg_rel(const measure_call *c)
{
    gain_sums s = walk_both(c);
    if (!(s.ideal > 0)) return;
    double sum = s.rel_sum + (double)(s.rel - s.rel_ret) * s.dcg / s.ideal;
    if (sum > 0) c->out[0] = sum / (double)s.rel;
}

/* Documents behind the end of the ideal ranking: their ratio counts once more, as one further step. */
static void r_ndcg(const measure_call *c)
{
    const metric_topic *t = c->topic;
    if (!t->rel) return;
    int64_t n = gains(c), i = 0, steps = 0;
    walk    w = walk_start(c, n);
    double  old = w.gain, found = 0, ideal = 0, sum = 0;
    for (; w.gain > 0; i++) {
        double gain = i < t->ret ? gain_of(c, n, t->rels[i]) : 0, discount = log_of(c, i + 2);
        walk_next(&w);
        if (old != w.gain) { /* a step: the ratio before this rank */
            if (ideal > 0) sum += found / ideal, steps++;
            old = w.gain;
        }
        if (gain != 0) found += gain / discount;
        if (w.gain > 0) ideal += w.gain / discount;
    }
    if (i < t->ret) {
        for (; i < t->ret; i++) {
            double gain = gain_of(c, n, t->rels[i]);
            if (gain != 0) found += gain / log_of(c, i + 2);
        }
        if (ideal > 0) sum += found / ideal, steps++;
    }
    if (steps) c->out[0] = sum / (double)steps;
}

/* g_i / log(2 + cost - gain so far), cost = the ideal gain so far, at least 1 a rank; divided by the whole ideal gain */
static void normalized_gain(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             n = gains(c), i = 0;
    walk                w = walk_start(c, n);
    double              sum = 0, cost = 0, total = 0, ideal = 0;
    for (; i < t->ret || w.gain > 0; i++) {
        double gain = i < t->ret ? gain_of(c, n, t->rels[i]) : 0;
        bool   open = w.gain > 0;
        if (open) walk_next(&w);
        if (open && w.gain > 0) ideal += w.gain;
        total += gain;
        cost += open && w.gain >= 1 ? w.gain : 1;
        if (gain != 0) sum += gain / log2(2 + cost - total);
    }
    if (ideal > 0) c->out[0] = sum / ideal;
}

static void bin_g(const measure_call *c)
{
    const metric_topic *t = c->topic;
    double              sum = 0;
    for (int64_t i = 0; i < t->rel_ret; i++) sum += 1.0 / log_of(c, 2 + t->hits[i] - i);
    if (t->rel_ret) c->out[0] = sum / (double)t->rel;
}

/* Jarvelin and Kekalainen: no discount at the first rank, log(i) from the second on; version 9 rounds the ideal's logarithm to f32. */
static void ndcg_p(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             n = gains(c), i = 0;
    walk                w = walk_start(c, n);
    double              sum = 0, ideal = 0;
    for (; i < t->ret; i++) {
        double gain = gain_of(c, n, t->rels[i]);
        if (gain != 0) sum += i ? gain / log_of(c, i + 1) : gain;
    }
    for (i = 0; w.gain > 0; i++) {
        walk_next(&w);
        if (!(w.gain > 0)) break;
        double discount = i ? log_of(c, i + 1) : 1;
        ideal += w.gain / (c->options->version == 9 ? (double)(float)discount : discount);
    }
    if (t->rel_ret && ideal > 0) c->out[0] = sum / ideal;
}

/* Both sums cut at k, gain of a level from `exponential`. */
static void cut_ndcg(const measure_call *c, bool exponential)
{
    const metric_topic *t = c->topic;
    int64_t             cuts = c->request->count, cut = 0, i = 0, level = t->levels - 1, used = 0;
    double              sum = 0;
    for (; cut < cuts; cut++) {
        for (; i < t->ret && (double)i < c->request->numbers[cut]; i++)
            if (t->rels[i] > 0) sum += (exponential ? exp2((double)t->rels[i]) - 1 : (double)t->rels[i]) / log_of(c, i + 2);
        c->out[cut] = sum;
    }
    sum = 0;
    for (cut = 0, i = 0; cut < cuts; cut++) {
        for (; (double)i < c->request->numbers[cut]; i++) {
            used++;
            while (level > 0 && used > t->level_counts[level]) level--, used = 1;
            if (level <= 0) break;
            sum += (exponential ? exp2((double)level) - 1 : (double)level) / log_of(c, i + 2);
        }
        if (sum > 0) c->out[cut] /= sum;
    }
}

static void ndcg_cut(const measure_call *c) { cut_ndcg(c, false); }
static void ndcg_exp_cut(const measure_call *c) { cut_ndcg(c, true); }

static void ndcg_exp(const measure_call *c)
{
    double          all = (double)INT32_MAX;
    measure_request request = *c->request;
    measure_call    whole = *c;
    request.count = 1;
    request.numbers = &all;
    whole.request = &request;
    cut_ndcg(&whole, true);
}

/* sum_r R_r/r prod_{q<r} (1 - R_q), R = (2^g - 1) / 2^max (Chapelle et al. 2009) */
static void err(const measure_call *c)
{
    const metric_topic *t = c->topic;
    double              sum = 0, left = 1, whole = exp2((double)c->options->max_grade);
    int64_t             i = 0;
    for (int64_t cut = 0; cut < c->request->count; cut++) {
        for (; i < t->ret && (double)i < c->request->numbers[cut]; i++) {
            if (t->rels[i] <= 0) continue;
            double stop = fmin(1, (exp2((double)t->rels[i]) - 1) / whole);
            sum += left * stop / (double)(i + 1);
            left *= 1 - stop;
        }
        c->out[cut] = sum;
    }
}

static double persistence(const measure_call *c)
{
    double p = 0.9;
    for (int64_t i = 0; i < c->request->count; i++)
        if (!strcmp(c->request->pairs[i].name, "p")) p = c->request->pairs[i].value;
    return p;
}

/* (1-p) sum_i p^(i-1) g_i; gains outside 0..1 are brought there by the smallest (at most 0) and largest of the topic */
static void rbp(const measure_call *c)
{
    const metric_topic *t = c->topic;
    int64_t             n = gains(c);
    double              p = persistence(c), weight = 1, sum = 0, low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        if (c->levels[i].gain < low) low = c->levels[i].gain;
        if (c->levels[i].gain > high) high = c->levels[i].gain;
    }
    bool scaled = low < 0 || high > 1;
    for (int64_t i = 0; i < t->ret; i++, weight *= p) {
        double gain = gain_of(c, n, t->rels[i]);
        if (scaled && t->rels[i] >= 0) gain = (gain - low) / (high - low);
        if (gain != 0) sum += gain * weight;
    }
    c->out[0] = (1.0 - p) * sum;
}

/* What rbp could gain at most: unjudged documents and those behind the end have full gain. */
static void rbp_resid(const measure_call *c)
{
    const metric_topic *t = c->topic;
    double              p = persistence(c), weight = 1, sum = 0;
    int64_t             unjudged = 0;
    for (int64_t i = 0; i < t->ret; i++, weight *= p)
        if (t->rels[i] < 0) unjudged++, sum += weight;
    if (unjudged) c->out[0] = weight + (1 - p) * sum;
}

#define CUTS "5,10,15,20,30,100,200,500,1000"
#define MEASURE(id, name, params, defaults, all, ten, run, formula) \
    const measure measure_##id = { name, formula, params, defaults, MEASURE_MEAN, false, all, ten, false, run, MEASURE_QRELS, false }

MEASURE(bin_g, "binG", MEASURE_PLAIN, NULL, true, false, bin_g, "1/R sum over hits of 1 / log(2 + nonrelevant before)");
MEASURE(g, "G", MEASURE_PAIRS, NULL, true, false, normalized_gain, "sum_i g_i / log(2 + cost_i - gain so far) / ideal gain");
MEASURE(dcg, "dcg", MEASURE_PAIRS, NULL, false, false, dcg, "sum_i g_i / log(1+i)");
MEASURE(ideal_dcg, "ideal_dcg", MEASURE_PAIRS, NULL, false, false, ideal_dcg, "dcg of the ideal ranking");
MEASURE(ndcg, "ndcg", MEASURE_PAIRS, NULL, true, false, ndcg, "dcg / ideal dcg");
MEASURE(ndcg_rel, "ndcg_rel", MEASURE_PAIRS, NULL, true, false, ndcg_rel, "mean of dcg_i / ideal dcg_i over relevant documents");
MEASURE(r_ndcg, "Rndcg", MEASURE_PAIRS, NULL, true, false, r_ndcg, "mean of dcg_i / ideal dcg_i over the steps of the ideal gain");
MEASURE(ndcg_cut, "ndcg_cut", MEASURE_CUTS, CUTS, true, false, ndcg_cut, "dcg_k / ideal dcg_k");
MEASURE(ndcg_p, "ndcg_p", MEASURE_PAIRS, NULL, false, false, ndcg_p, "as ndcg, discount max(1, log(i))");
MEASURE(rbp, "rbp", MEASURE_PAIRS, NULL, false, true, rbp, "(1-p) sum_i p^(i-1) g_i, p = 0.9");
MEASURE(rbp_resid, "rbp_resid", MEASURE_PAIRS, NULL, false, true, rbp_resid, "p^n + (1-p) sum over unjudged of p^(i-1); 0 when all are judged");
MEASURE(ndcg_exp, "ndcg_exp", MEASURE_PLAIN, NULL, false, false, ndcg_exp, "ndcg with gains 2^level - 1 (LETOR, LightGBM)");
MEASURE(ndcg_exp_cut, "ndcg_exp_cut", MEASURE_CUTS, "1,3,5,10,20", false, false, ndcg_exp_cut, "ndcg_cut with gains 2^level - 1");
MEASURE(err, "err", MEASURE_CUTS, "5,10,20", false, false, err, "sum_r R_r/r prod_{q<r} (1-R_q), R = (2^g - 1) / 2^max");
