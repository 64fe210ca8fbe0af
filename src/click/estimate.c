/* estimate.c - counterfactual DCG of a ranker from clicks on another one's order: IPS, SNIPS, and their bootstrap by query (Joachims et al.
 * 2017, arXiv:1608.04468; self-normalised: Swaminathan & Joachims 2015). Equations in click.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "click/click.h"
#include "crank/metric.h"

/* ---- sums by query ---- */

typedef struct ranks {
    float   *scores;
    int32_t *order, *rank; /* rank: of the items of a session, from 0, or [rows] of the set */
    int64_t  room;
} ranks;

static void put_ranks(const ranks *r, const float *scores, int64_t n, int32_t *rank)
{
    crank_rank_order(scores, r->order, r->order + n, n);
    for (int64_t i = 0; i < n; i++) rank[r->order[i]] = (int32_t)i;
}

static crank_status open_ranks(crank_context *context, const click_log *log, const letor_set *set, const click_estimate_options *how, const float *scores, ranks *r)
{
    r->room = 1;
    for (int64_t s = 0; s < log->sessions; s++)
        if (log->starts[s + 1] - log->starts[s] > r->room) r->room = log->starts[s + 1] - log->starts[s];
    for (int64_t q = 0; how->whole && q < set->queries; q++)
        if (set->offsets[q + 1] - set->offsets[q] > r->room) r->room = set->offsets[q + 1] - set->offsets[q];
    r->scores = crank_alloc(context, (size_t)r->room, sizeof *r->scores, "scores of a session");
    r->order = crank_alloc(context, 2 * (size_t)r->room, sizeof *r->order, "an order");
    r->rank = crank_alloc(context, (size_t)(how->whole ? set->rows : r->room) + 1, sizeof *r->rank, "ranks");
    if (!r->scores || !r->order || !r->rank) return CRANK_FAILED;
    for (int64_t i = 0; scores && i < log->items; i++)
        if (isnan(scores[i])) return crank_fail(context, CRANK_BAD_DATA, "item %lld has a score that is no number", (long long)i + 1);
    for (int64_t q = 0; how->whole && scores && q < set->queries; q++)
        put_ranks(r, scores + set->offsets[q], set->offsets[q + 1] - set->offsets[q], r->rank + set->offsets[q]);
    return CRANK_OK;
}

static double discount(int64_t rank, int64_t at) { return at > 0 && rank >= at ? 0 : 1 / log2((double)rank + 2); }

static void earn_session(const click_log *log, int64_t s, const float *scores, const click_curve *curve, const click_estimate_options *how, const ranks *r, click_earned *out)
{
    int64_t first = log->starts[s], n = log->starts[s + 1] - first;
    bool    own = scores && !how->whole; /* ranks inside the session */
    for (int64_t i = 0; own && i < n; i++) r->scores[i] = scores[log->item[first + i]];
    if (own) put_ranks(r, r->scores, n, r->rank);
    out->sessions++;
    for (int64_t i = 0; i < n; i++) {
        if (!log->click[first + i]) continue;
        double  weight = click_curve_at(curve, log->context[s], 0) / click_curve_at(curve, log->context[s], log->place[first + i]);
        int64_t rank = own ? r->rank[i] : scores ? r->rank[log->item[first + i]] : how->whole ? log->place[first + i] : i;
        if (how->most > 0) weight = fmin(weight, how->most);
        out->gain += weight * discount(rank, how->at);
        out->weight += weight;
        out->squares += weight * weight;
        out->clicks++;
    }
}

crank_status click_earn(crank_context *context, const click_log *log, const letor_set *set, const float *scores, const click_curve *curve, const click_estimate_options *how,
                        click_earned *out)
{
    ranks        r = {0};
    crank_status status = open_ranks(context, log, set, how, scores, &r);
    memset(out, 0, (size_t)log->queries * sizeof *out);
    for (int64_t s = 0; status == CRANK_OK && s < log->sessions; s++) earn_session(log, s, scores, curve, how, &r, out + log->query[s]);
    crank_free(r.scores), crank_free(r.order), crank_free(r.rank);
    return status;
}

click_estimate click_estimate_of(const click_earned *earned, const int32_t *drawn, int64_t queries)
{
    click_earned all = {0};
    for (int64_t q = 0; q < queries; q++) {
        double times = drawn ? drawn[q] : 1;
        all.sessions += times * earned[q].sessions, all.gain += times * earned[q].gain, all.weight += times * earned[q].weight;
        all.squares += times * earned[q].squares, all.clicks += times * earned[q].clicks;
    }
    return (click_estimate){.ips = all.sessions > 0 ? all.gain / all.sessions : 0, .snips = all.weight > 0 ? all.gain / all.weight : 0,
                            .effective = all.squares > 0 ? all.weight * all.weight / all.squares : 0, .sessions = all.sessions, .clicks = all.clicks};
}

/* ---- bootstrap ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The 2.5 and 97.5 percentiles of values [n], which are sorted; between two values on the line through them. */
static click_interval interval(double *values, int64_t n)
{
    double ends[2];
    qsort(values, (size_t)n, sizeof *values, by_value);
    for (int e = 0; e < 2; e++) {
        double  at = (e ? 0.975 : 0.025) * (double)(n - 1);
        int64_t below = (int64_t)at, above = below + 1 < n ? below + 1 : below;
        ends[e] = values[below] + (at - (double)below) * (values[above] - values[below]);
    }
    return (click_interval){ends[0], ends[1]};
}

crank_status click_bootstrap(crank_context *context, const click_earned *a, const click_earned *b, int64_t queries, int64_t resamples, uint64_t seed, click_intervals *out)
{
    int64_t *known = crank_alloc(context, (size_t)queries + 1, sizeof *known, "queries of the log"), count = 0;
    int32_t *drawn = crank_alloc(context, (size_t)queries + 1, sizeof *drawn, "queries drawn");
    double  *values = crank_alloc(context, 4 * (size_t)resamples, sizeof *values, "resampled values");
    if (known && drawn && values) {
        for (int64_t q = 0; q < queries; q++)
            if (a[q].sessions > 0) known[count++] = q;
        for (int64_t k = 0; k < resamples; k++) {
            crank_stream stream = crank_stream_make(seed, CRANK_RANDOM_SAMPLE, (uint32_t)k);
            memset(drawn, 0, (size_t)queries * sizeof *drawn);
            for (int64_t i = 0; i < count; i++) drawn[known[crank_draw_below(stream, (uint64_t)i, (uint64_t)count)]]++;
            click_estimate x = click_estimate_of(a, drawn, queries), y = click_estimate_of(b, drawn, queries);
            values[k] = x.ips, values[resamples + k] = x.snips;
            values[2 * resamples + k] = x.ips - y.ips, values[3 * resamples + k] = x.snips - y.snips;
        }
        *out = (click_intervals){interval(values, resamples), interval(values + resamples, resamples), interval(values + 2 * resamples, resamples), interval(values + 3 * resamples, resamples)};
    }
    crank_status status = known && drawn && values ? CRANK_OK : CRANK_FAILED;
    crank_free(known), crank_free(drawn), crank_free(values);
    return status;
}
