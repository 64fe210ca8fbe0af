/* neural_ndcg.c - NDCG of a relaxed permutation (NeuralNDCG, Pobrotyn and Bialobrzeski 2021; NeuralSort, Grover et al. 2019):
 *
 *     P_k.       softmax_j(((n + 1 - 2k) s_j - sum_i |s_j - s_i|) / tau),   k = 1 .. n
 *     P          <- Sinkhorn: columns, then rows, are divided by their sums until all sums are 1 +- tolerance, at most `rounds` times
 *     numerator  W (1 - sum_k D(k) (P g)_k),   g_i = (2^{y_i} - 1) / IDCG, W the mean weight of the list
 *     transposed: the same sum, rows normalised before columns
 *
 * Reverse pass: a division by a sum c_j has P' = P / c, dP = (dP' - sum dP' P') / c, so P is taken back from P' by c and only the sums are kept.
 * The list costs O(n^2 rounds) time and n (n + 2 rounds) numbers. It has no cheap second derivative: callers that ask for d2 are refused.
 * denominator: lists with a gain. */
#include <math.h>
#include <string.h>

#include "loss/lists.h"

typedef struct options { double tau, tolerance; int64_t rounds, longest; bool transposed; } options;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, tau, 1, 1e-6, 1e6, "temperature"),
    CRANK_INT(options, rounds, 50, 0, 1000, "most Sinkhorn rounds"),
    CRANK_FLOAT(options, tolerance, 1e-6, 0, 1, "Sinkhorn stops when all sums are this near to 1"),
    CRANK_BOOL(options, transposed, false, "rows before columns"),
    CRANK_INT(options, longest, 2000, 2, 10000, "longer lists are refused: memory grows with the square"),
    CRANK_END
};

static double sign(double x) { return (x > 0) - (x < 0); }

/* p [n, n] */
static void relaxed_sort(const list_view *v, double tau, double *p, double *spread)
{
    int64_t n = v->n;
    for (int64_t j = 0; j < n; j++) {
        spread[j] = 0;
        for (int64_t i = 0; i < n; i++) spread[j] += fabs(v->s[j] - v->s[i]);
    }
    for (int64_t k = 0; k < n; k++) {
        double *row = p + k * n;
        for (int64_t j = 0; j < n; j++) row[j] = ((double)(n - 1 - 2 * k) * v->s[j] - spread[j]) / tau;
        lists_softmax(row, row, n);
    }
}

/* Divides by the sums of rows or columns, which are kept in sums [n]. */
static void divide(double *p, int64_t n, bool rows, double *sums)
{
    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++) sums[rows ? k : j] += p[k * n + j];
    for (int64_t i = 0; i < n; i++) sums[i] = fmax(sums[i], 1e-10);
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++) p[k * n + j] /= sums[rows ? k : j];
}

/* d [n, n]: gradient by the divided p -> by p before; p goes back too. */
static void divide_back(double *p, double *d, int64_t n, bool rows, const double *sums, double *dots)
{
    memset(dots, 0, (size_t)n * sizeof *dots);
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++) dots[rows ? k : j] += d[k * n + j] * p[k * n + j];
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++) {
            int64_t at = rows ? k : j;
            d[k * n + j] = (d[k * n + j] - (sums[at] > 1e-10 ? dots[at] : 0)) / sums[at];
            p[k * n + j] *= sums[at];
        }
}

static bool settled(const double *p, int64_t n, double tolerance, double *columns)
{
    double worst = 0;
    memset(columns, 0, (size_t)n * sizeof *columns);
    for (int64_t k = 0; k < n; k++) {
        double row = 0;
        for (int64_t j = 0; j < n; j++) row += p[k * n + j], columns[j] += p[k * n + j];
        worst = fmax(worst, fabs(row - 1));
    }
    for (int64_t j = 0; j < n; j++) worst = fmax(worst, fabs(columns[j] - 1));
    return worst < tolerance;
}

/* d [n, n]: gradient by the relaxed sort -> d1; p [n, n] is the relaxed sort again. */
static void sort_back(list_view *v, double tau, const double *p, const double *d)
{
    int64_t n = v->n;
    for (int64_t k = 0; k < n; k++) {
        const double *row = p + k * n, *g = d + k * n;
        double        dot = 0;
        for (int64_t j = 0; j < n; j++) dot += row[j] * g[j];
        for (int64_t j = 0; j < n; j++) {
            double to = row[j] * (g[j] - dot) / tau;
            v->d1[j] += (double)(n - 1 - 2 * k) * to;
            v->d2[j] += to; /* by spread_j, with the other sign; d2 is free: it is never given out */
        }
    }
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < n; i++) v->d1[j] -= (v->d2[j] + v->d2[i]) * sign(v->s[j] - v->s[i]);
}

/* gain [n] over the ideal DCG; the mean weight of the list, 0: nothing to learn */
static double gains(list_view *v, double *gain)
{
    double ideal = 0, weight = 0;
    for (int64_t i = 0; i < v->n; i++) {
        gain[i] = exp2(v->y[i]) - 1;
        weight += v->w[i] / (double)v->n;
        if (v->y[i] < 0 || v->y[i] > 60) v->problem = "a label has no gain 2^label - 1 (0 to 60)";
    }
    lists_order(v->y, v->order, v->order + v->n, v->n);
    for (int64_t r = 0; r < v->n; r++) ideal += gain[v->order[r]] / log2((double)(r + 2));
    for (int64_t i = 0; i < v->n; i++) gain[i] *= ideal > 0 ? weight / ideal : 0;
    return v->problem || !(ideal > 0) ? 0 : weight;
}

/* spare: p, d [n, n], gain, dots [n], sums [2 rounds, n] */
static void body(list_view *v, const void *opt)
{
    const options *o = opt;
    int64_t        n = v->n, done = 0;
    if (n < 2) return;
    double *p = v->spare, *d = p + n * n, *gain = d + n * n, *dots = gain + n, *sums = dots + n, weight = gains(v, gain);
    if (weight == 0) return;
    relaxed_sort(v, o->tau, p, dots);
    while (done < o->rounds && !settled(p, n, o->tolerance, dots)) {
        divide(p, n, o->transposed, sums + 2 * done * n);
        divide(p, n, !o->transposed, sums + (2 * done + 1) * n);
        done++;
    }
    v->numerator = weight;
    v->denominator = 1;
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++) {
            d[k * n + j] = -gain[j] / log2((double)(k + 2));
            v->numerator += d[k * n + j] * p[k * n + j];
        }
    while (done-- > 0) {
        divide_back(p, d, n, !o->transposed, sums + (2 * done + 1) * n, dots);
        divide_back(p, d, n, o->transposed, sums + 2 * done * n, dots);
    }
    sort_back(v, o->tau, p, d);
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    const options *o = opt;
    int64_t        longest = 0;
    if (result->d2) return crank_fail(context, CRANK_USAGE, "neural_ndcg has no second derivative: trees cannot learn from it; approx_ndcg has one");
    for (int64_t l = 0; l < lists->lists; l++)
        if (lists->offsets[l + 1] - (int64_t)lists->offsets[l] > longest) longest = lists->offsets[l + 1] - (int64_t)lists->offsets[l];
    if (longest > o->longest) return crank_fail(context, CRANK_USAGE, "neural_ndcg: a list of %lld items is longer than the option longest: %lld", (long long)longest, (long long)o->longest);
    return lists_run(context, "neural_ndcg", lists, o, result, 2 * longest + 2 * o->rounds + 2, body);
}

LIST_OBJECTIVE(neural_ndcg, "neural_ndcg", "Pobrotyn and Bialobrzeski 2021", "1 - NDCG of a relaxed permutation", option_table, sizeof(options), run);
