/* measures_groups.c - measures of judgments by groups. f, p: preferences of a group that are fulfilled, and possible; *_ret counts pairs whose
 * documents are both retrieved, *_imp those with one at least, the others all (a pair without any counts as failed). */
#include <string.h>

#include "metric/groups.h"
#include "metric/measures.h"

typedef struct sums { int64_t fulfilled, possible; } sums;
typedef enum reach { RET, IMP, ALL } reach;

static sums sums_of(const group_counts *c, reach r)
{
    return (sums){c->fulfilled_ret + (r >= IMP ? c->fulfilled_imp : 0), c->possible_ret + (r >= IMP ? c->possible_imp : 0) + (r == ALL ? c->none : 0)};
}

static sums all_groups(const measure_call *c, reach r)
{
    sums all = {0};
    for (int64_t g = 0; g < c->groups->count; g++) {
        sums one = sums_of(c->groups->counts + g, r);
        all.fulfilled += one.fulfilled, all.possible += one.possible;
    }
    return all;
}

static void num_possible(const measure_call *c) { c->out[0] = (double)all_groups(c, ALL).possible; }
static void num_fulfilled(const measure_call *c) { c->out[0] = (double)all_groups(c, ALL).fulfilled; }
static void num_fulfilled_ret(const measure_call *c) { c->out[0] = (double)all_groups(c, RET).fulfilled; }

static void simple(const measure_call *c, reach r)
{
    sums s = all_groups(c, r);
    if (s.possible) c->out[0] = (double)s.fulfilled / (double)s.possible;
}

static void average(const measure_call *c, reach r)
{
    double sum = 0;
    for (int64_t g = 0; g < c->groups->count; g++) {
        sums s = sums_of(c->groups->counts + g, r);
        if (s.possible) sum += (double)s.fulfilled / (double)s.possible;
    }
    if (sum > 0) c->out[0] = sum / (double)c->groups->count;
}

static void pairs(const measure_call *c, reach r)
{
    const pair_counts *p = &c->groups->pairs;
    int64_t            n = p->ret + (r >= IMP ? p->imp : 0) + (r == ALL ? p->none : 0);
    if (n) c->out[0] = (r == RET ? p->sum_ret : p->sum_imp) / (double)n;
}

/* A group without any preference is 0 / 0 and takes the topic's value with it: 0, as in trec_eval. */
static void average_rnonrel(const measure_call *c)
{
    double sum = 0;
    for (int64_t g = 0; g < c->groups->count; g++) sum += c->groups->counts[g].rnonrel;
    if (sum > 0) c->out[0] = sum / (double)c->groups->count;
}

static void average_rnonrel_ret(const measure_call *c)
{
    double sum = 0;
    for (int64_t g = 0; g < c->groups->count; g++) sum += c->groups->counts[g].rnonrel_ret;
    if (sum > 0) c->out[0] = sum / (double)c->groups->count;
}

static void simple_all(const measure_call *c) { simple(c, ALL); }
static void simple_ret(const measure_call *c) { simple(c, RET); }
static void simple_imp(const measure_call *c) { simple(c, IMP); }
static void average_all(const measure_call *c) { average(c, ALL); }
static void average_ret(const measure_call *c) { average(c, RET); }
static void average_imp(const measure_call *c) { average(c, IMP); }
static void pairs_all(const measure_call *c) { pairs(c, ALL); }
static void pairs_ret(const measure_call *c) { pairs(c, RET); }
static void pairs_imp(const measure_call *c) { pairs(c, IMP); }

/* The plain measure on each group's judgments, averaged. */
static void over_groups(const measure_call *c, const measure *plain)
{
    double values[METRIC_MAX_PARAMS];
    for (int64_t g = 0; g < c->groups->count; g++) {
        measure_call one = *c;
        memset(values, 0, (size_t)c->request->values * sizeof *values);
        one.topic = c->groups->topics + g, one.out = values;
        plain->run(&one);
        for (int64_t v = 0; v < c->request->values; v++) c->out[v] += values[v];
    }
    for (int64_t v = 0; v < c->request->values && c->groups->count > 1; v++) c->out[v] /= (double)c->groups->count;
}

extern const measure measure_map, measure_precision, measure_rprec_mult;
static void map_avgjg(const measure_call *c) { over_groups(c, &measure_map); }
static void p_avgjg(const measure_call *c) { over_groups(c, &measure_precision); }
static void rprec_mult_avgjg(const measure_call *c) { over_groups(c, &measure_rprec_mult); }

#define PREFS(symbol, title, what, how, function, short_list) \
    const measure measure_##symbol = {.name = title, .formula = what, .mean = how, .family = MEASURE_PREFS, .prefs = short_list, .run = function}

PREFS(prefs_num_poss, "prefs_num_prefs_poss", "preferences", MEASURE_SUM, num_possible, true);
PREFS(prefs_num_ful, "prefs_num_prefs_ful", "preferences fulfilled", MEASURE_SUM, num_fulfilled, true);
PREFS(prefs_num_ful_ret, "prefs_num_prefs_ful_ret", "preferences fulfilled by two documents retrieved", MEASURE_SUM, num_fulfilled_ret, true);
PREFS(prefs_simp, "prefs_simp", "f / p over all groups", MEASURE_MEAN, simple_all, true);
PREFS(prefs_pair, "prefs_pair", "mean over document pairs of fulfilled / all of the pair", MEASURE_MEAN, pairs_all, true);
PREFS(prefs_avgjg, "prefs_avgjg", "mean over groups of f / p", MEASURE_MEAN, average_all, true);
PREFS(prefs_avgjg_rnonrel, "prefs_avgjg_Rnonrel", "the same with as many nonrelevant documents as relevant ones", MEASURE_MEAN, average_rnonrel, false);
PREFS(prefs_simp_ret, "prefs_simp_ret", "prefs_simp of pairs that are retrieved", MEASURE_MEAN, simple_ret, false);
PREFS(prefs_pair_ret, "prefs_pair_ret", "prefs_pair of pairs that are retrieved", MEASURE_MEAN, pairs_ret, false);
PREFS(prefs_avgjg_ret, "prefs_avgjg_ret", "prefs_avgjg of pairs that are retrieved", MEASURE_MEAN, average_ret, false);
PREFS(prefs_avgjg_rnonrel_ret, "prefs_avgjg_Rnonrel_ret", "prefs_avgjg_Rnonrel of pairs that are retrieved", MEASURE_MEAN, average_rnonrel_ret, false);
PREFS(prefs_simp_imp, "prefs_simp_imp", "prefs_simp of pairs with one retrieved at least", MEASURE_MEAN, simple_imp, false);
PREFS(prefs_pair_imp, "prefs_pair_imp", "prefs_pair of pairs with one retrieved at least", MEASURE_MEAN, pairs_imp, false);
PREFS(prefs_avgjg_imp, "prefs_avgjg_imp", "prefs_avgjg of pairs with one retrieved at least", MEASURE_MEAN, average_imp, false);

const measure measure_map_avgjg = {.name = "map_avgjg", .formula = "mean over groups of map", .family = MEASURE_JG, .run = map_avgjg};
const measure measure_p_avgjg = {.name = "P_avgjg", .formula = "mean over groups of P", .params = MEASURE_CUTS, .defaults = "5,10,15,20,30,100,200,500,1000", .family = MEASURE_JG, .run = p_avgjg};
const measure measure_rprec_mult_avgjg = {.name = "Rprec_mult_avgjg", .formula = "mean over groups of Rprec_mult", .params = MEASURE_POINTS,
                                          .defaults = "0.2,0.4,0.6,0.8,1.0,1.2,1.4,1.6,1.8,2.0", .family = MEASURE_JG, .run = rprec_mult_avgjg};
