/* models.c - click models with the estimators of PyClick: each parameter is a ratio of counts that starts as 1/2.
 *
 *   pbm      P(c) = a_{q,d} e_i. EM: a shown item adds 1 to both denominators; a click adds 1 to both numerators, no click
 *            (1-e) a / (1 - e a) to a's and (1-a) e / (1 - e a) to e's
 *   ubm      the same with e of the place and the place of the click before
 *   trust    P(c) = e_i (u_i a + v_i (1 - a)): users who examine place i click on a relevant item with u_i, on another with v_i (Agarwal et
 *            al. 2019). EM over examination and relevance. The log tells b_i = e_i (u_i - v_i) and d_i = e_i v_i up to one line: a may be
 *            a = p + q a' instead; orders, P(c) and the form b_i a + d_i are found
 *   cascade  a = clicks / sessions in which no click stands before the item
 *   dcm      a = clicks / sessions that show the item at or before the last click; continuation_i = share of clicks at place i that
 *            are not the last of their session
 *   sdbn     a as dcm; satisfaction = last clicks / clicks; relevance = a satisfaction */
#include <math.h>
#include <string.h>

#include "click/click.h"

#define MOST (1 - 1e-6)

typedef struct ratio { double hits, trials; } ratio;
static double value_of(const ratio *r) { return fmin(r->hits / r->trials, MOST); }
static void   start(ratio *r, int64_t n)
{
    for (int64_t i = 0; i < n; i++) r[i] = (ratio){1, 2};
}

void click_model_free(click_model *model)
{
    crank_free(model->relevance), crank_free(model->curve), crank_free(model->trust);
    *model = (click_model){0};
}

static int64_t last_click(const click_log *log, int64_t s)
{
    for (int64_t i = log->starts[s + 1]; i-- > log->starts[s];)
        if (log->click[i]) return i;
    return -1;
}

/* ---- EM of pbm and ubm ---- */

typedef struct em {
    const click_log *log;
    bool             ubm;
    double          *a, *e;     /* [items], [contexts, places] or [places, places + 1] */
    ratio           *ra, *re;
    int64_t          curves;
    double           likelihood;
} em;

/* The examination parameter of an item: of its context and place, or of its place and that of the click before (0: none). */
static int64_t cell(const em *m, int64_t s, int64_t i, int64_t before)
{
    return m->ubm ? m->log->place[i] * (m->log->places + 1) + (before < 0 ? 0 : m->log->place[before] + 1) : m->log->context[s] * m->log->places + m->log->place[i];
}

static void em_pass(em *m)
{
    const click_log *log = m->log;
    start(m->ra, log->items);
    start(m->re, m->curves);
    m->likelihood = 0;
    for (int64_t s = 0; s < log->sessions; s++) {
        int64_t before = -1;
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            int64_t k = cell(m, s, i, before);
            double  a = m->a[log->item[i]], e = m->e[k], none = 1 - e * a;
            ratio  *ra = m->ra + log->item[i], *re = m->re + k;
            ra->trials++, re->trials++;
            if (log->click[i]) {
                ra->hits++, re->hits++;
                before = i;
                m->likelihood += log1p(e * a - 1);
            } else {
                ra->hits += (1 - e) * a / none;
                re->hits += (1 - a) * e / none;
                m->likelihood += log1p(-e * a);
            }
        }
    }
    for (int64_t i = 0; i < log->items; i++) m->a[i] = value_of(m->ra + i);
    for (int64_t k = 0; k < m->curves; k++) m->e[k] = value_of(m->re + k);
}

static crank_status fit_em(crank_context *context, const click_log *log, bool ubm, int64_t iterations, click_model *model)
{
    em m = {.log = log, .ubm = ubm, .curves = ubm ? log->places * (log->places + 1) : log->contexts * log->places};
    m.a = model->relevance;
    m.e = crank_alloc(context, (size_t)m.curves + 1, sizeof *m.e, "examination");
    m.ra = crank_alloc(context, (size_t)log->items + 1, sizeof *m.ra, "counts");
    m.re = crank_alloc(context, (size_t)m.curves + 1, sizeof *m.re, "counts");
    if (m.e && m.ra && m.re) {
        for (int64_t i = 0; i < log->items; i++) m.a[i] = 0.5;
        for (int64_t k = 0; k < m.curves; k++) m.e[k] = 0.5;
        for (int64_t it = 0; it < iterations; it++) em_pass(&m);
        model->likelihood = m.likelihood / (double)log->sessions;
        /* ubm: examination of a place before any click */
        for (int64_t k = 0; k < (ubm ? log->places : m.curves); k++) model->curve[k] = ubm ? m.e[k * (log->places + 1)] : m.e[k];
    }
    crank_status status = m.e && m.ra && m.re ? CRANK_OK : CRANK_FAILED;
    crank_free(m.e), crank_free(m.ra), crank_free(m.re);
    return status;
}

/* ---- EM of trust ---- */

/* Parameters of one context and place. */
typedef struct trusting { double examined, right, wrong; } trusting;

typedef struct trust_sums { double shown, examined, relevant, relevant_clicks, other, other_clicks; } trust_sums;

/* One line: posteriors of (examined and relevant, examined and not, relevant) given the click. */
static double trust_line(const trusting *t, double a, bool click, trust_sums *sums, ratio *relevance)
{
    double yes = t->examined * t->right * a, no = t->examined * t->wrong * (1 - a), p = yes + no;
    sums->shown++;
    relevance->trials++;
    if (click) {
        double share = yes / p;
        sums->examined++;
        sums->relevant += share, sums->relevant_clicks += share;
        sums->other += 1 - share, sums->other_clicks += 1 - share;
        relevance->hits += share;
        return log(p);
    }
    double seen = t->examined * (1 - t->right) * a / (1 - p), passed = t->examined * (1 - t->wrong) * (1 - a) / (1 - p);
    sums->examined += seen + passed;
    sums->relevant += seen, sums->other += passed;
    relevance->hits += seen + (1 - t->examined) * a / (1 - p);
    return log1p(-p);
}

static double between(double x) { return fmin(fmax(x, 1e-6), MOST); }

static void trust_pass(const click_log *log, trusting *t, trust_sums *sums, ratio *r, double *a, double *likelihood)
{
    int64_t cells = log->contexts * log->places;
    memset(sums, 0, (size_t)cells * sizeof *sums);
    start(r, log->items);
    *likelihood = 0;
    for (int64_t s = 0; s < log->sessions; s++)
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            int64_t k = log->context[s] * log->places + log->place[i];
            *likelihood += trust_line(t + k, a[log->item[i]], log->click[i], sums + k, r + log->item[i]);
        }
    for (int64_t i = 0; i < log->items; i++) a[i] = between(value_of(r + i));
    for (int64_t k = 0; k < cells; k++) { /* each a ratio of counts that starts as 1/2 */
        t[k].examined = between((1 + sums[k].examined) / (2 + sums[k].shown));
        t[k].right = between((1 + sums[k].relevant_clicks) / (2 + sums[k].relevant));
        t[k].wrong = between((1 + sums[k].other_clicks) / (2 + sums[k].other));
    }
}

/* curve: examination; trust [contexts, places, 2]: b and d. */
static crank_status fit_trust(crank_context *context, const click_log *log, int64_t iterations, click_model *model)
{
    size_t      cells = (size_t)(log->contexts * log->places);
    trusting   *t = crank_alloc(context, cells + 1, sizeof *t, "trust of places");
    trust_sums *sums = crank_alloc(context, cells + 1, sizeof *sums, "counts");
    ratio      *r = crank_alloc(context, (size_t)log->items + 1, sizeof *r, "counts");
    model->trust = crank_alloc(context, 2 * cells + 1, sizeof *model->trust, "trust of places");
    crank_status status = t && sums && r && model->trust ? CRANK_OK : CRANK_FAILED;
    for (size_t k = 0; status == CRANK_OK && k < cells; k++) t[k] = (trusting){0.5, 0.9, 0.1}; /* apart: equal ones would stay equal */
    for (int64_t i = 0; status == CRANK_OK && i < log->items; i++) model->relevance[i] = 0.5;
    for (int64_t it = 0; status == CRANK_OK && it < iterations; it++) trust_pass(log, t, sums, r, model->relevance, &model->likelihood);
    for (size_t k = 0; status == CRANK_OK && k < cells; k++) {
        model->curve[k] = t[k].examined;
        model->trust[2 * k] = t[k].examined * (t[k].right - t[k].wrong), model->trust[2 * k + 1] = t[k].examined * t[k].wrong;
    }
    model->likelihood /= (double)log->sessions;
    crank_free(t), crank_free(sums), crank_free(r);
    return status;
}

/* ---- counts of cascade, dcm and sdbn ---- */

typedef struct counts {
    ratio *a, *satisfied, *go_on; /* [items], [items], [places] */
} counts;

static void count_session(const click_log *log, int64_t s, bool cascade, counts *c)
{
    int64_t last = last_click(log, s), end = log->starts[s + 1];
    bool    clicked = false;
    for (int64_t i = log->starts[s]; i < end; i++) {
        bool seen = cascade ? !clicked : last < 0 || i <= last;
        if (!seen) break;
        c->a[log->item[i]].trials++;
        if (!log->click[i]) continue;
        clicked = true;
        c->a[log->item[i]].hits++;
        c->satisfied[log->item[i]].trials++;
        c->go_on[log->place[i]].trials++;
        if (i == last) c->satisfied[log->item[i]].hits++;
        else c->go_on[log->place[i]].hits++;
    }
}

/* Log likelihood of a session: every click and every skip up to where the user stopped. */
static double session_likelihood(const click_log *log, int64_t s, const char *kind, const counts *c)
{
    int64_t end = log->starts[s + 1];
    double  sum = 0, seen = 1; /* seen: probability that the item is examined, given the clicks before */
    for (int64_t i = log->starts[s]; i < end; i++) {
        double a = value_of(c->a + log->item[i]), p = fmin(fmax(seen * a, 1e-6), MOST);
        sum += log1p(log->click[i] ? p - 1 : -p);
        if (log->click[i]) seen = !strcmp(kind, "cascade") ? 0 : !strcmp(kind, "dcm") ? value_of(c->go_on + log->place[i]) : 1 - value_of(c->satisfied + log->item[i]);
        else seen = seen * (1 - a) / fmax(1 - seen * a, 1e-12);
    }
    return sum;
}

static crank_status fit_counts(crank_context *context, const click_log *log, const char *kind, click_model *model)
{
    size_t items = (size_t)log->items + 1;
    counts c = {.a = crank_alloc(context, 2 * items, sizeof *c.a, "counts"), .go_on = crank_alloc(context, (size_t)log->places + 1, sizeof *c.go_on, "counts")};
    if (c.a && c.go_on) {
        c.satisfied = c.a + items;
        start(c.a, log->items), start(c.satisfied, log->items), start(c.go_on, log->places);
        for (int64_t s = 0; s < log->sessions; s++) count_session(log, s, !strcmp(kind, "cascade"), &c);
        for (int64_t i = 0; i < log->items; i++) model->relevance[i] = value_of(c.a + i) * (!strcmp(kind, "sdbn") ? value_of(c.satisfied + i) : 1);
        for (int64_t k = 0; model->curve && k < log->places; k++) model->curve[k] = value_of(c.go_on + k);
        for (int64_t s = 0; s < log->sessions; s++) model->likelihood += session_likelihood(log, s, kind, &c) / (double)log->sessions;
    }
    crank_status status = c.a && c.go_on ? CRANK_OK : CRANK_FAILED;
    crank_free(c.a), crank_free(c.go_on);
    return status;
}

crank_status click_model_fit(crank_context *context, const click_log *log, const char *kind, int64_t iterations, click_model *model)
{
    static const char *const kinds[] = {"pbm", "ubm", "cascade", "dcm", "sdbn", "trust"};
    int                      k = 0;
    while (k < 6 && strcmp(kind, kinds[k])) k++;
    if (k == 6) return crank_fail(context, CRANK_USAGE, "`%s` is no click model: pbm, ubm, cascade, dcm, sdbn or trust", kind);
    *model = (click_model){.items = log->items, .places = log->places, .contexts = k == 0 || k == 5 ? log->contexts : 1};
    model->relevance = crank_alloc(context, (size_t)log->items + 1, sizeof *model->relevance, "a click model");
    bool curve = k == 0 || k == 1 || k == 3 || k == 5;
    if (curve) model->curve = crank_alloc(context, (size_t)(model->contexts * model->places) + 1, sizeof *model->curve, "a click model");
    crank_status status = model->relevance && (!curve || model->curve) ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) status = k < 2 ? fit_em(context, log, k == 1, iterations, model) : k == 5 ? fit_trust(context, log, iterations, model) : fit_counts(context, log, kind, model);
    if (status != CRANK_OK) click_model_free(model);
    return status;
}
