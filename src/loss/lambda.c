/* lambda.c - pair losses whose weights come from the present ranking: LambdaRank (Burges et al. 2006; LightGBM's form), the LambdaLoss family
 * (Wang et al. 2018) and LiPO-lambda (Liu et al. 2024).
 *
 *     numerator   sum over pairs y_i > y_j of  delta_ij log(1 + exp(-sigma (s_i - s_j)))
 *     d1, d2      of that sum with delta held fixed
 *
 * r_i: 1-based rank under the scores (ties in the order of the items), G gain, D(r) = 1 / log2(1 + r), G' = G / IDCG (IDCG cut at the
 * truncation; 0: the list teaches nothing).
 *
 *     lambdarank  |G'_i - G'_j| |D_i - D_j|; pairs with one item among the first `truncation`. normalize (LightGBM): delta is divided by
 *                 0.01 + |s_i - s_j| where the scores differ, and the list is multiplied by log2(1 + S) / S, S = 2 sum sigma delta p
 *     lambda_loss, pairs with both items among the first `truncation`, over ln 2:
 *                 ndcg1       G'_i D_i
 *                 ndcg2       |D(|r_i - r_j|) - D(|r_i - r_j| + 1)| |G'_i - G'_j|
 *                 lambdarank  |D_i - D_j| |G'_i - G'_j|
 *                 ndcg2pp     mu ndcg2 + lambdarank
 *     lipo_lambda |G_i - G_j| |1/log(1+r_i) - 1/log(1+r_j)|, natural logarithm, not divided by IDCG unless asked for
 *
 * denominator: lists that have a pair with weight. */
#include <math.h>
#include <string.h>

#include "loss/lists.h"

typedef enum scheme { SCHEME_LAMBDARANK, SCHEME_NDCG1, SCHEME_NDCG2, SCHEME_NDCG2PP } scheme;

typedef struct engine {
    scheme      scheme;
    double      sigma, mu, scale; /* scale: of the whole loss */
    int64_t     truncation;       /* 0: all */
    bool        both, normalize, ideal, discount;
    const char *gain;
    double      log_base;         /* ln of the base of D's logarithm */
} engine;

typedef struct ranking { const int32_t *order; const double *gain, *discount; double spread; } ranking;

static double distance_discount(int64_t r, double log_base) { return log_base / log((double)(1 + r)); }

/* Ranks a and b (0-based), a < b; the item of the higher label is at `winner`. */
static double delta(const engine *e, const ranking *r, int64_t a, int64_t b, int64_t winner)
{
    double gains = fabs(r->gain[r->order[a]] - r->gain[r->order[b]]), swap = gains * fabs(r->discount[a] - r->discount[b]);
    if (e->scheme == SCHEME_LAMBDARANK) return e->discount ? swap : gains;
    if (e->scheme == SCHEME_NDCG1) return r->gain[r->order[winner]] * r->discount[winner];
    double near = fabs(distance_discount(b - a, e->log_base) - distance_discount(b - a + 1, e->log_base)) * gains;
    return e->scheme == SCHEME_NDCG2 ? near : e->mu * near + swap;
}

/* gain [n] <- gains, over the ideal DCG where asked for; discount [n] by rank. False: no gain. spare [n] */
static bool prepare(const engine *e, const list_view *v, double *gain, double *discount, int32_t *order)
{
    double ideal = 0;
    for (int64_t i = 0; i < v->n; i++) {
        gain[i] = strcmp(e->gain, "constant") ? lists_gain(v->y[i], e->gain) : v->y[i];
        discount[i] = e->log_base / log((double)(i + 2));
    }
    if (!e->ideal) return true;
    int64_t cut = e->truncation && e->truncation < v->n ? e->truncation : v->n;
    lists_order(v->y, order, order + v->n, v->n);
    for (int64_t r = 0; r < cut; r++) ideal += gain[order[r]] * discount[r];
    for (int64_t i = 0; i < v->n; i++) gain[i] = ideal > 0 ? gain[i] / ideal : 0;
    return ideal > 0;
}

static double add_pair(const engine *e, list_view *v, const ranking *r, int64_t a, int64_t b, double *loss)
{
    int32_t i = r->order[a], j = r->order[b];
    bool    first = v->y[i] > v->y[j];
    int32_t high = first ? i : j, low = first ? j : i;
    double  margin = v->s[high] - v->s[low], weight = v->w[i] * v->w[j] * e->scale;
    weight *= strcmp(e->gain, "constant") ? delta(e, r, a, b, first ? a : b) : e->discount ? fabs(r->discount[a] - r->discount[b]) : 1;
    if (e->normalize && r->spread > 0) weight /= 0.01 + fabs(margin);
    double p = lists_sigmoid(-e->sigma * margin), push = e->sigma * weight * p, curve = e->sigma * e->sigma * weight * p * (1 - p);
    v->d1[high] -= push;
    v->d1[low] += push;
    v->d2[high] += curve;
    v->d2[low] += curve;
    *loss += weight * lists_softplus(-e->sigma * margin);
    v->denominator = weight > 0 || v->denominator > 0;
    return 2 * push;
}

static void body(list_view *v, const void *options)
{
    const engine *e = options;
    int64_t       n = v->n, cut = e->truncation && e->truncation < n ? e->truncation : n;
    double       *gain = v->spare, *discount = gain + n, loss = 0, pushes = 0;
    if (n < 2 || !prepare(e, v, gain, discount, v->order)) return;
    lists_order(v->s, v->order, v->order + n, n);
    ranking r = { v->order, gain, discount, v->s[v->order[0]] - v->s[v->order[n - 1]] };
    for (int64_t a = 0; a < cut; a++)
        for (int64_t b = a + 1; b < (e->both ? cut : n); b++)
            if (v->y[v->order[a]] != v->y[v->order[b]]) pushes += add_pair(e, v, &r, a, b, &loss);
    double factor = e->normalize && pushes > 0 ? log2(1 + pushes) / pushes : 1;
    for (int64_t i = 0; i < n && factor != 1; i++) v->d1[i] *= factor, v->d2[i] *= factor;
    v->numerator = loss * factor;
}

/* Labels whose gain is beyond f32 would make infinite gradients. */
static crank_status run_engine(crank_context *context, const char *name, const crank_lists *lists, const engine *e, crank_list_result *result)
{
    for (int64_t i = 0; lists->outputs == 1 && i < lists->offsets[lists->lists] && !strcmp(e->gain, "exponential"); i++)
        if (lists->labels[i] > 60 || (e->ideal && lists->labels[i] < 0))
            return crank_fail(context, CRANK_BAD_DATA, "%s: item %lld: label %g has no gain 2^label - 1 (0 to 60); gain: linear takes any label from 0 on", name,
                              (long long)i, (double)lists->labels[i]);
    return lists_run(context, name, lists, e, result, 2, body);
}

typedef struct lambdarank_options { double sigma; int64_t truncation; bool normalize; const char *gain; } lambdarank_options;

static const crank_option lambdarank_table[] = {
    CRANK_FLOAT(lambdarank_options, sigma, 1, 1e-6, 1e6, "steepness of the sigmoid"),
    CRANK_INT(lambdarank_options, truncation, 30, 0, 1e9, "pairs have one item among the first so many; 0: all pairs"),
    CRANK_BOOL(lambdarank_options, normalize, true, "LightGBM's normalisation by score differences and by list"),
    CRANK_CHOICE(lambdarank_options, gain, "exponential", "exponential|linear", "gain of a label: 2^label - 1, or the label"),
    CRANK_END
};

static crank_status run_lambdarank(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result)
{
    const lambdarank_options *o = options;
    engine e = { .scheme = SCHEME_LAMBDARANK, .sigma = o->sigma, .scale = 1, .truncation = o->truncation, .normalize = o->normalize, .ideal = true, .discount = true,
                 .gain = o->gain, .log_base = log(2) };
    return run_engine(context, "lambdarank", lists, &e, result);
}

LIST_OBJECTIVE(lambdarank, "lambdarank", "Burges et al. 2006; LightGBM", "logistic loss of pairs weighted by the change of NDCG when they swap", lambdarank_table,
               sizeof(lambdarank_options), run_lambdarank);

typedef struct lambda_loss_options { const char *scheme, *gain; double sigma, mu; int64_t truncation; } lambda_loss_options;

static const crank_option lambda_loss_table[] = {
    CRANK_CHOICE(lambda_loss_options, scheme, "ndcg2pp", "ndcg1|ndcg2|lambdarank|ndcg2pp", "weight of a pair"),
    CRANK_FLOAT(lambda_loss_options, sigma, 1, 1e-6, 1e6, "steepness of the sigmoid"),
    CRANK_FLOAT(lambda_loss_options, mu, 10, 0, 1e6, "weight of ndcg2 in ndcg2pp"),
    CRANK_INT(lambda_loss_options, truncation, 0, 0, 1e9, "pairs have both items among the first so many; 0: all pairs"),
    CRANK_CHOICE(lambda_loss_options, gain, "exponential", "exponential|linear", "gain of a label: 2^label - 1, or the label"),
    CRANK_END
};

static crank_status run_lambda_loss(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result)
{
    const lambda_loss_options *o = options;
    scheme chosen = !strcmp(o->scheme, "ndcg1") ? SCHEME_NDCG1 : !strcmp(o->scheme, "ndcg2") ? SCHEME_NDCG2 : !strcmp(o->scheme, "ndcg2pp") ? SCHEME_NDCG2PP : SCHEME_LAMBDARANK;
    engine e = { .scheme = chosen, .sigma = o->sigma, .mu = o->mu, .scale = 1 / log(2), .truncation = o->truncation, .both = true, .ideal = true, .discount = true,
                 .gain = o->gain, .log_base = log(2) };
    return run_engine(context, "lambda_loss", lists, &e, result);
}

LIST_OBJECTIVE(lambda_loss, "lambda_loss", "Wang et al. 2018", "bounds of NDCG by weighted pairs: NDCGLoss1, NDCGLoss2, NDCGLoss2++, LambdaRank", lambda_loss_table,
               sizeof(lambda_loss_options), run_lambda_loss);

typedef struct lipo_options { const char *gain, *discount; bool ideal; double log_base; } lipo_options;

static const crank_option lipo_table[] = {
    CRANK_CHOICE(lipo_options, gain, "exponential", "exponential|linear|constant", "gain of a label: 2^label - 1, the label, or difference 1 for every pair"),
    CRANK_CHOICE(lipo_options, discount, "log", "log|constant", "weight by ranks, or 1 for every pair"),
    CRANK_BOOL(lipo_options, ideal, false, "divide by the ideal DCG of the list"),
    CRANK_FLOAT(lipo_options, log_base, 2.718281828459045, 1.0001, 1e6, "base of the discount's logarithm: it scales the loss"),
    CRANK_END
};

static crank_status run_lipo(crank_context *context, const crank_lists *lists, const void *options, crank_list_result *result)
{
    const lipo_options *o = options;
    engine e = { .scheme = SCHEME_LAMBDARANK, .sigma = 1, .scale = 1, .ideal = o->ideal, .discount = !strcmp(o->discount, "log"), .gain = o->gain, .log_base = log(o->log_base) };
    return run_engine(context, "lipo_lambda", lists, &e, result);
}

LIST_OBJECTIVE(lipo_lambda, "lipo_lambda", "arXiv:2402.01878", "LiPO-lambda: logistic loss of pairs weighted by gain and rank differences", lipo_table, sizeof(lipo_options), run_lipo);
