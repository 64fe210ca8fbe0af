/* approx_ndcg.c - NDCG with smooth ranks (Qin et al. 2010; Bruch et al. 2019):
 *
 *     pos_i      1 + sum_{j != i} q_ij,   q_ij = sigma(-alpha (s_i - s_j))
 *     numerator  W (1 - sum_i g_i / log2(1 + pos_i)),   g_i = (2^{y_i} - 1) / IDCG, W the mean weight of the list
 *
 * With e_ij = alpha q (1-q), h_ij = alpha^2 q (1-q) (1-2q) and f_i(pos) = -g_i / log2(1 + pos):
 *
 *     d1_i       -f_i' sum_j e_ij + sum_j f_j' e_ji
 *     d2_i       f_i'' (sum_j e_ij)^2 + f_i' sum_j h_ij' + sum_j [f_j'' e_ji^2 + f_j' h_ji]      (negative: 0)
 *
 * where h_ij' is the second derivative of q_ij by s_i, the same as by s_j. O(n^2): rows of q are made again in each of the two passes, so that
 * nothing of size n^2 is stored. denominator: lists with a gain. */
#include <math.h>

#include "loss/lists.h"

typedef struct options { double alpha; } options;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, alpha, 1, 1e-6, 1e6, "steepness: 1 over the temperature"),
    CRANK_END
};

/* gain [n] over the ideal DCG; false: no gain */
static bool gains(list_view *v, double *gain)
{
    double ideal = 0, weight = 0;
    for (int64_t i = 0; i < v->n; i++) {
        gain[i] = exp2(v->y[i]) - 1;
        weight += v->w[i] / (double)v->n;
        if (v->y[i] < 0 || v->y[i] > 60) v->problem = "a label has no gain 2^label - 1 (0 to 60)";
    }
    if (v->problem) return false;
    lists_order(v->y, v->order, v->order + v->n, v->n);
    for (int64_t r = 0; r < v->n; r++) ideal += gain[v->order[r]] / log2((double)(r + 2));
    for (int64_t i = 0; i < v->n; i++) gain[i] *= ideal > 0 ? weight / ideal : 0;
    if (!(ideal > 0) || weight == 0) return false;
    v->numerator = weight;
    v->denominator = 1;
    return true;
}

static void body(list_view *v, const void *opt)
{
    const options *o = opt;
    int64_t        n = v->n;
    double        *gain = v->spare, alpha = o->alpha;
    if (n < 2 || !gains(v, gain)) return;
    for (int64_t i = 0; i < n; i++) {
        if (gain[i] == 0) continue;
        double pos = 1, steps = 0, bends = 0;
        for (int64_t j = 0; j < n; j++) {
            if (j == i) continue;
            double q = lists_sigmoid(alpha * (v->s[j] - v->s[i])), e = alpha * q * (1 - q);
            pos += q;
            steps += e;
            bends += alpha * e * (1 - 2 * q);
        }
        double x = log1p(pos), ln2 = log(2), f1 = gain[i] * ln2 / (x * x * (1 + pos)), f2 = -gain[i] * ln2 * (x + 2) / (x * x * x * (1 + pos) * (1 + pos));
        v->numerator -= gain[i] * ln2 / x;
        v->d1[i] -= f1 * steps;
        v->d2[i] += f2 * steps * steps + f1 * bends;
        for (int64_t j = 0; j < n; j++) {
            if (j == i) continue;
            double q = lists_sigmoid(alpha * (v->s[j] - v->s[i])), e = alpha * q * (1 - q);
            v->d1[j] += f1 * e;
            v->d2[j] += f2 * e * e + f1 * alpha * e * (1 - 2 * q);
        }
    }
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    return lists_run(context, "approx_ndcg", lists, opt, result, 1, body);
}

LIST_OBJECTIVE(approx_ndcg, "approx_ndcg", "Qin et al. 2010", "1 - NDCG with ranks made of sigmoids", option_table, sizeof(options), run);
