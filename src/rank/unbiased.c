/* unbiased.c - one step of learning from clicks: the losses of unbiased.h, and the examination that is learnt beside. */
#include "rank/online.h"

#include <math.h>
#include <string.h>

const crank_option unbiased_option_table[] = {
    CRANK_CHOICE(unbiased_options, method, "dla", "naive|ipw|dla|regression-em|pair-debias|labels|pdgd|dbgd", "how the bias of the place is met; pdgd and dbgd learn online alone"),
    CRANK_CHOICE(unbiased_options, loss, "softmax", "softmax|pairwise|pointwise", "of clicked items; softmax is the one whose dual is proven"),
    CRANK_CHOICE(unbiased_options, logits, "softmax", "softmax|sigmoid", "dla: ratios of e^p, or of sigmoid(p - mean p)"),
    CRANK_FLOAT(unbiased_options, propensity_rate, 1e-2, 0, 1e3, "dla: learning rate of p (Adam)"),
    CRANK_FLOAT(unbiased_options, most, 0, 0, 1e9, "largest weight of a click; 0: any"),
    CRANK_FLOAT(unbiased_options, tau, 0.05, 0, 1, "regression-em, pair-debias: share of the new estimate"),
    CRANK_FLOAT(unbiased_options, power, 1, 0, 100, "pair-debias: regularisation of the ratios"),
    CRANK_BOOL(unbiased_options, online, false, "simulated users see the ranker's own order"),
    CRANK_INT(unbiased_options, refresh, 1, 1, 1000000, "online: epochs between two orders"),
    CRANK_FLOAT(unbiased_options, temperature, 1, 1e-6, 1e6, "pdgd: orders are drawn from softmax(temperature * score)"),
    CRANK_INT(unbiased_options, candidates, 1, 1, 32, "dbgd: rankers drawn around the own one, whose orders are multileaved"),
    CRANK_FLOAT(unbiased_options, delta, 1, 1e-9, 1e9, "dbgd: distance of the candidates from the own weights"),
    CRANK_END
};

typedef enum method { NAIVE, IPW, DLA, REGRESSION_EM, PAIR_DEBIAS, LABELS } method;
typedef enum local { SOFTMAX, PAIRWISE, POINTWISE } local;

struct unbiased {
    crank_context   *context;
    rank_net        *net;
    rank_trainer    *trainer;
    unbiased_options options; /* without its texts */
    method           method;
    local            local;
    bool             sigmoid;
    double           clip, rate; /* rate: of the ranker before its schedule */
    int64_t          contexts, places, cells;
    double          *p;       /* [contexts, places]: logits; examination under regression-em; t+ under pair-debias */
    double          *other;   /* t- */
    double          *g, *m, *v, *sums, *counts; /* [cells] */
    int64_t          steps;
    /* the batch */
    float           *x, *scores, *d1, *spare;
    int32_t         *offsets;
    int64_t         *used;    /* sessions of the batch that teach */
    int64_t          row_room, list_room;
    double          *s, *w, *soft; /* [longest] */
    int64_t          longest;
};

unbiased *unbiased_new(rank_net *net, const unbiased_options *options, const char *optimizer, const void *optimizer_options, const click_curve *curve, int64_t contexts, int64_t places)
{
    static const char *const methods[] = {"naive", "ipw", "dla", "regression-em", "pair-debias", "labels"}, *const losses[] = {"softmax", "pairwise", "pointwise"};
    crank_context           *context = rank_net_context(net);
    if (online_is(options->method)) {
        crank_fail(context, CRANK_USAGE, "%s learns from users who answer what it shows: --online", options->method);
        return NULL;
    }
    unbiased                *u = crank_alloc(context, 1, sizeof *u, "a learner of clicks");
    if (!u) return NULL;
    *u = (unbiased){.context = context, .net = net, .options = *options, .contexts = contexts, .places = places, .cells = contexts * places, .clip = rank_net_options(net)->clip, .rate = rank_net_options(net)->rate,
                    .sigmoid = !strcmp(options->logits, "sigmoid")};
    for (int i = 0; i < 6; i++)
        if (!strcmp(options->method, methods[i])) u->method = (method)i;
    for (int i = 0; i < 3; i++)
        if (!strcmp(options->loss, losses[i])) u->local = (local)i;
    u->p = crank_alloc(context, 7 * (size_t)u->cells, sizeof *u->p, "examination");
    u->trainer = u->p ? rank_trainer_new(net, optimizer, optimizer_options) : NULL;
    if (u->trainer && u->method == IPW && (!curve || curve->places < places)) {
        crank_fail(context, CRANK_USAGE, "ipw needs the examination of %lld places%s", (long long)places, curve ? ", the curve that is given has fewer" : ": --propensity FILE");
        rank_trainer_free(u->trainer);
        u->trainer = NULL;
    }
    if (!u->trainer) {
        crank_free(u->p), crank_free(u);
        return NULL;
    }
    u->other = u->p + u->cells, u->g = u->other + u->cells, u->m = u->g + u->cells, u->v = u->m + u->cells, u->sums = u->v + u->cells, u->counts = u->sums + u->cells;
    for (int64_t k = 0; k < u->cells; k++) {
        u->p[k] = u->method == PAIR_DEBIAS ? 1 : u->method == REGRESSION_EM ? 0.9 : 0;
        u->other[k] = 1;
        if (curve && (u->method == IPW || u->method == DLA)) u->p[k] = log(click_curve_at(curve, k / places, k % places) / click_curve_at(curve, k / places, 0));
    }
    return u;
}

void unbiased_free(unbiased *u)
{
    if (!u) return;
    rank_trainer_free(u->trainer);
    crank_free(u->p), crank_free(u->x), crank_free(u->scores), crank_free(u->d1), crank_free(u->spare), crank_free(u->offsets), crank_free(u->used), crank_free(u->s);
    crank_free(u);
}

click_curve *unbiased_curve(const unbiased *u, crank_context *context)
{
    click_curve *curve = click_curve_new(context, u->contexts, u->places);
    for (int64_t k = 0; curve && k < u->cells; k++) {
        double first = u->p[k / u->places * u->places];
        curve->value[k] = u->method == REGRESSION_EM || u->method == PAIR_DEBIAS ? u->p[k] / first : exp(u->p[k] - first);
        curve->value[k] = fmax(curve->value[k], 1e-6);
    }
    return curve;
}

/* ---- losses of one session: s [n], weights w [n] -> d1 [n]; returns the numerator ---- */

static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static double softmax(const double *s, int64_t n, double *out)
{
    double high = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) high = fmax(high, s[i]);
    for (int64_t i = 0; i < n; i++) sum += out[i] = exp(s[i] - high);
    for (int64_t i = 0; i < n; i++) out[i] /= sum;
    return high + log(sum);
}

static double softmax_loss(const double *s, const double *w, int64_t n, double *soft, float *d1)
{
    double all = 0, loss = 0, normalizer = softmax(s, n, soft);
    for (int64_t i = 0; i < n; i++) all += w[i], loss += w[i] * (normalizer - s[i]);
    for (int64_t i = 0; i < n; i++) d1[i] = (float)(all * soft[i] - w[i]);
    return loss;
}

static double pairwise_loss(const double *s, const double *w, int64_t n, float *d1)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; w[i] > 0 && j < n; j++) {
            if (w[j] > 0) continue;
            double share = w[i] * sigmoid(s[j] - s[i]);
            loss += w[i] * softplus(s[j] - s[i]);
            d1[i] -= (float)share;
            d1[j] += (float)share;
        }
    return loss;
}

static double pointwise_loss(const double *s, const double *w, int64_t n, float *d1)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        loss += w[i] > 0 ? w[i] * softplus(-s[i]) : softplus(s[i]);
        d1[i] = (float)(w[i] > 0 ? -w[i] * sigmoid(-s[i]) : sigmoid(s[i]));
    }
    return loss;
}

/* ---- weights ---- */

typedef struct session { int64_t first, n, group; const int32_t *item, *place; const uint8_t *click; } session;

static session session_of(const click_log *log, int64_t s)
{
    int64_t first = log->starts[s];
    return (session){first, log->starts[s + 1] - first, log->context[s], log->item + first, log->place + first, log->click + first};
}

static double limited(const unbiased *u, double weight) { return u->options.most > 0 ? fmin(weight, u->options.most) : weight; }

/* sum of e^{a_1} / e^{a_i} over clicks, in w; under sigmoid logits the ratio of sigmoid(a - mean a). `reference` is a of place 1. */
static double inverse_weights(const unbiased *u, const session *v, const double *a, double reference, double *w)
{
    double mean = 0, sum = 0;
    for (int64_t i = 0; i < v->n; i++) mean += a[i] / (double)v->n;
    for (int64_t i = 0; i < v->n; i++) {
        double ratio = u->sigmoid ? sigmoid(reference - mean) / fmax(sigmoid(a[i] - mean), 1e-6) : exp(fmin(reference - a[i], -log(1e-6)));
        w[i] = v->click[i] ? limited(u, ratio) : 0;
        sum += w[i];
    }
    return sum;
}

/* The dual loss: adds its gradient by p to u->g and gives the sum of its weights. */
static double dual(unbiased *u, const session *v, const double *s, double *p, double *w, double *soft)
{
    double        sum = inverse_weights(u, v, s, s[0], w);
    const double *row = u->p + v->group * u->places;
    for (int64_t i = 0; i < v->n; i++) p[i] = row[v->place[i]];
    softmax(p, v->n, soft);
    for (int64_t i = 0; i < v->n; i++) u->g[v->group * u->places + v->place[i]] += sum * soft[i] - w[i];
    return sum;
}

/* Adam on p, with the norm of the gradient limited as that of the ranker's; the rate falls as the ranker's does. */
static void move_propensity(unbiased *u, double denominator, double rate)
{
    double norm = 0, t = (double)++u->steps;
    for (int64_t k = 0; k < u->cells; k++) norm += u->g[k] * u->g[k];
    norm = sqrt(norm) / denominator;
    double factor = (u->clip > 0 && norm > u->clip ? u->clip / norm : 1) / denominator;
    for (int64_t k = 0; k < u->cells; k++) {
        double g = u->g[k] * factor;
        u->m[k] = 0.9 * u->m[k] + 0.1 * g;
        u->v[k] = 0.999 * u->v[k] + 0.001 * g * g;
        u->p[k] -= rate * (u->m[k] / (1 - pow(0.9, t))) / (sqrt(u->v[k] / (1 - pow(0.999, t))) + 1e-8);
        u->g[k] = 0;
    }
}

/* ---- methods ---- */

static double weigh(const unbiased *u, const letor_set *set, const session *v, double *p, double *w)
{
    const double *row = u->p + v->group * u->places;
    double        sum = 0;
    if (u->method == IPW || u->method == DLA) {
        for (int64_t i = 0; i < v->n; i++) p[i] = row[v->place[i]];
        return inverse_weights(u, v, p, row[0], w);
    }
    for (int64_t i = 0; i < v->n; i++) sum += w[i] = u->method == LABELS ? exp2(fmax((double)set->labels[v->item[i]], 0)) - 1 : v->click[i];
    return sum;
}

/* schedule: the factor on both learning rates. */
static void weighted_step(unbiased *u, const letor_set *set, const click_log *log, int64_t lists, double schedule, double *numerator, double *denominator)
{
    double dual_weights = 0;
    for (int64_t l = 0; l < lists; l++) {
        session v = session_of(log, u->used[l]);
        float  *d1 = u->d1 + u->offsets[l];
        double *p = u->soft + u->longest;
        for (int64_t i = 0; i < v.n; i++) u->s[i] = (double)u->scores[u->offsets[l] + i];
        double sum = weigh(u, set, &v, p, u->w);
        *denominator += u->local == POINTWISE ? (double)v.n : sum;
        *numerator += u->local == SOFTMAX ? softmax_loss(u->s, u->w, v.n, u->soft, d1) : u->local == PAIRWISE ? pairwise_loss(u->s, u->w, v.n, d1) : pointwise_loss(u->s, u->w, v.n, d1);
        if (u->method == DLA) dual_weights += dual(u, &v, u->s, p, u->w, u->soft);
    }
    if (dual_weights > 0) move_propensity(u, dual_weights, u->options.propensity_rate * schedule);
}

static void regression_step(unbiased *u, const click_log *log, int64_t lists, double *numerator, double *denominator)
{
    memset(u->sums, 0, 2 * (size_t)u->cells * sizeof *u->sums);
    for (int64_t l = 0; l < lists; l++) {
        session v = session_of(log, u->used[l]);
        for (int64_t i = 0; i < v.n; i++) {
            int64_t k = v.group * u->places + v.place[i];
            double  s = (double)u->scores[u->offsets[l] + i], gamma = sigmoid(s), e = u->p[k], none = fmax(1 - e * gamma, 1e-12);
            double  relevant = v.click[i] ? 1 : (1 - e) * gamma / none, examined = v.click[i] ? 1 : e * (1 - gamma) / none;
            u->d1[u->offsets[l] + i] = (float)(gamma - relevant);
            *numerator += softplus(s) - relevant * s;
            u->sums[k] += examined;
            u->counts[k]++;
        }
        *denominator += (double)v.n;
    }
    for (int64_t k = 0; k < u->cells; k++)
        if (u->counts[k] > 0) u->p[k] = fmax((1 - u->options.tau) * u->p[k] + u->options.tau * u->sums[k] / u->counts[k], 1e-6);
}

static void new_ratios(const unbiased *u, double *t, const double *sums)
{
    for (int64_t k = 0; k < u->cells; k++) {
        double first = sums[k / u->places * u->places];
        if (first > 0) t[k] = fmax((1 - u->options.tau) * t[k] + u->options.tau * pow(sums[k] / first, 1 / (u->options.power + 1)), 1e-6);
    }
}

static void pair_step(unbiased *u, const click_log *log, int64_t lists, double *numerator, double *denominator)
{
    memset(u->sums, 0, 2 * (size_t)u->cells * sizeof *u->sums); /* sums: of t+, counts: of t- */
    for (int64_t l = 0; l < lists; l++) {
        session       v = session_of(log, u->used[l]);
        const float  *s = u->scores + u->offsets[l];
        float        *d1 = u->d1 + u->offsets[l];
        int64_t       row = v.group * u->places;
        for (int64_t i = 0; i < v.n; i++)
            for (int64_t j = 0; v.click[i] && j < v.n; j++) {
                if (v.click[j]) continue;
                int64_t a = row + v.place[i], b = row + v.place[j];
                double  margin = (double)s[i] - (double)s[j], loss = softplus(-margin), weight = limited(u, 1 / (u->p[a] * u->other[b])), share = weight * sigmoid(-margin);
                *numerator += weight * loss;
                d1[i] -= (float)share;
                d1[j] += (float)share;
                u->sums[a] += loss / u->other[b];
                u->counts[b] += loss / u->p[a];
            }
        *denominator += 1;
    }
    new_ratios(u, u->p, u->sums);
    new_ratios(u, u->other, u->counts);
}

/* ---- a step ---- */

static bool make_room(unbiased *u, int64_t rows, int64_t lists, int64_t longest, int64_t columns)
{
    int64_t known = rank_net_scaler(u->net)->columns;
    if (rows > u->row_room) {
        crank_free(u->x), crank_free(u->scores), crank_free(u->d1), crank_free(u->spare);
        u->row_room = rows + rows / 4;
        u->x = crank_alloc(u->context, (size_t)u->row_room, (size_t)known * sizeof *u->x, "a batch");
        u->scores = crank_alloc(u->context, (size_t)u->row_room, sizeof *u->scores, "a batch");
        u->d1 = crank_alloc(u->context, (size_t)u->row_room, sizeof *u->d1, "a batch");
        u->spare = crank_alloc(u->context, (size_t)(columns > known ? columns : known) + 1, sizeof *u->spare, "a row");
    }
    if (lists > u->list_room) {
        crank_free(u->offsets), crank_free(u->used);
        u->list_room = lists;
        u->offsets = crank_alloc(u->context, (size_t)lists + 1, sizeof *u->offsets, "a batch");
        u->used = crank_alloc(u->context, (size_t)lists + 1, sizeof *u->used, "a batch");
    }
    if (longest > u->longest) {
        crank_free(u->s);
        u->longest = longest;
        u->s = crank_alloc(u->context, 4 * (size_t)longest, sizeof *u->s, "a session");
        u->w = u->s + longest, u->soft = u->w + longest;
    }
    return u->x && u->scores && u->d1 && u->spare && u->offsets && u->used && u->s;
}

static bool teaches(const unbiased *u, const letor_set *set, const session *v)
{
    bool some = u->method == REGRESSION_EM;
    for (int64_t i = 0; !some && i < v->n; i++) some = u->method == LABELS ? set->labels[v->item[i]] > 0 : v->click[i];
    return some && v->n > 0;
}

crank_status unbiased_step(unbiased *u, const letor_set *set, const click_log *log, const int64_t *sessions, int64_t count, double rate, double *loss)
{
    const rank_scaler *scaler = rank_net_scaler(u->net);
    int64_t            rows = 1, longest = 1, lists = 0, n = 0;
    double             numerator = 0, denominator = 0;
    *loss = 0;
    for (int64_t k = 0; k < count; k++) {
        session v = session_of(log, sessions[k]);
        rows += v.n;
        if (v.n > longest) longest = v.n;
    }
    if (!make_room(u, rows, count, longest, set->columns)) return CRANK_FAILED;
    for (int64_t k = 0; k < count; k++) {
        session v = session_of(log, sessions[k]);
        if (!teaches(u, set, &v)) continue;
        u->used[lists] = sessions[k];
        u->offsets[lists++] = (int32_t)n;
        for (int64_t i = 0; i < v.n; i++, n++) rank_row(scaler, set, v.item[i], u->spare, u->x + n * scaler->columns);
    }
    u->offsets[lists] = (int32_t)n;
    if (!lists) return CRANK_OK;
    crank_status status = rank_trainer_forward(u->trainer, &(rank_batch){n, lists, u->offsets, u->x}, u->scores);
    if (status != CRANK_OK) return status;
    memset(u->d1, 0, (size_t)n * sizeof *u->d1);
    if (u->method == REGRESSION_EM) regression_step(u, log, lists, &numerator, &denominator);
    else if (u->method == PAIR_DEBIAS) pair_step(u, log, lists, &numerator, &denominator);
    else weighted_step(u, set, log, lists, u->rate > 0 ? rate / u->rate : 1, &numerator, &denominator);
    if (!isfinite(numerator)) return crank_fail(u->context, CRANK_FAILED, "the loss of the clicks is not finite; a lower fit.rate or clicks.most helps");
    *loss = denominator > 0 ? numerator / denominator : 0;
    return rank_trainer_backward(u->trainer, u->d1, denominator, rate);
}
