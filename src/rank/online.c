/* online.c - orders, preferences and drafts of online learners (online.h). */
#include "rank/online.h"

#include <math.h>
#include <string.h>

#include "crank/metric.h"

bool online_is(const char *method) { return !strcmp(method, "pdgd") || !strcmp(method, "dbgd"); }

/* Gumbel keys: sorted, tau s - log(-log u) is an order drawn without replacement from softmax(tau s). */
void online_draw_order(crank_stream stream, const float *scores, double tau, int64_t n, float *keys, int32_t *order, int32_t *spare)
{
    for (int64_t i = 0; i < n; i++) {
        double u = (double)crank_draw_uniform(stream, (uint64_t)i) + 0x1p-25;
        keys[i] = (float)(tau * (double)scores[i] - log(-log(u)));
    }
    crank_rank_order(keys, order, spare, n);
}

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

/* log P(R) - log P(R*) for places a < b. The terms of places up to a and behind b are the same in both; at a place i between, what is left to
 * draw from holds the item of a instead of that of b. Every sum is of what remains, so that none is a difference. e [n]: e^{tau s} by place. */
static double log_ratio(const double *e, int64_t n, int64_t a, int64_t b)
{
    double rest = 0, ratio = 0; /* rest: e of the places from i on, b's left out */
    for (int64_t i = n; i-- > a + 1;) {
        if (i != b) rest += e[i];
        if (i <= b) ratio += log((rest + e[a]) / (rest + e[b]));
    }
    return ratio;
}

double online_pairs(const float *scores, double tau, int64_t n, const int32_t *order, int64_t depth, const uint8_t *clicks, double *e, float *d1)
{
    double loss = 0, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) high = fmax(high, tau * (double)scores[i]);
    for (int64_t i = 0; i < n; i++) e[i] = fmax(exp(tau * (double)scores[order[i]] - high), 1e-300);
    for (int64_t l = 0; l < depth; l++)
        for (int64_t k = 0; clicks[l] && k < depth && k <= l + 1; k++) {
            if (clicks[k]) continue;
            int32_t won = order[l], lost = order[k];
            double  weight = sigmoid(-log_ratio(e, n, k < l ? k : l, k < l ? l : k));
            double  p = sigmoid((double)scores[won] - (double)scores[lost]), slope = weight * p * (1 - p);
            loss -= weight * p;
            d1[won] -= (float)slope;
            d1[lost] += (float)slope;
        }
    return loss;
}

void online_team_draft(crank_stream stream, const int32_t *orders, int64_t rankers, int64_t n, int64_t depth, bool *taken, int32_t *list, int32_t *team)
{
    int64_t turn = rankers, next[ONLINE_MOST_RANKERS] = {0};
    int32_t order[ONLINE_MOST_RANKERS];
    memset(taken, 0, (size_t)n * sizeof *taken);
    for (int64_t i = 0; i < depth; i++, turn++) {
        if (turn >= rankers) {
            turn = 0;
            for (int32_t r = 0; r < rankers; r++) order[r] = r;
        }
        int64_t drawn = turn + (int64_t)crank_draw_below(stream, (uint64_t)i, (uint64_t)(rankers - turn));
        int32_t ranker = order[drawn];
        order[drawn] = order[turn];
        while (taken[orders[ranker * n + next[ranker]]]) next[ranker]++;
        list[i] = orders[ranker * n + next[ranker]];
        team[i] = ranker;
        taken[list[i]] = true;
    }
}
