/* hinge.c - the hinge loss of ordered pairs (RankSVM, Joachims 2002; SLiC's normalised form), in O(n log n):
 *
 *     numerator   sum over pairs y_i > y_j of  w_i w_j max(0, margin - (s_i - s_j))^power,   power 1 or 2
 *
 * Winners are taken by falling score; a Fenwick tree over the ranks of labels holds sums of w, w s and w s^2 of the items whose score is above
 * s_i - margin, so that one walk gives a winner the sums of all its losers. A second sweep, by rising score, serves the losers.
 * denominator: lists that have a pair with weight, or with `average: pairs` the sum of w_i w_j. d2 is 0 for power 1. */
#include <math.h>
#include <string.h>

#include "loss/lists.h"

typedef struct options { double margin; int64_t power; const char *average; } options;

static const crank_option option_table[] = {
    CRANK_FLOAT(options, margin, 1, 0, 1e9, "difference of scores from which a pair costs nothing"),
    CRANK_INT(options, power, 1, 1, 2, "1: hinge, 2: squared hinge"),
    CRANK_CHOICE(options, average, "lists", "lists|pairs", "what the sum over pairs is divided by"),
    CRANK_END
};

typedef struct sums { double w, s, ss; } sums; /* of w, w s, w s^2 */

/* Sums over label ranks 1 .. at. */
static sums tree_sum(const double *tree, int64_t at)
{
    sums t = { 0 };
    for (; at > 0; at -= at & -at) t.w += tree[3 * at], t.s += tree[3 * at + 1], t.ss += tree[3 * at + 2];
    return t;
}

static void tree_add(double *tree, int64_t size, int64_t at, double w, double s)
{
    for (; at <= size; at += at & -at) {
        tree[3 * at] += w;
        tree[3 * at + 1] += w * s;
        tree[3 * at + 2] += w * s * s;
    }
}

/* rank[i]: 1-based place of the label among the distinct ones, ascending. Returns their number. */
static int64_t label_ranks(const list_view *v, int32_t *rank, int32_t *order)
{
    int64_t levels = 0;
    lists_order(v->y, order, order + v->n, v->n);
    for (int64_t k = v->n - 1; k >= 0; k--) {
        levels += k == v->n - 1 || v->y[order[k]] != v->y[order[k + 1]];
        rank[order[k]] = (int32_t)levels;
    }
    return levels;
}

/* What item i, at distance t = margin -+ s_i, gets from the other side: losers lie above s_i - margin, winners below s_i + margin. */
static void take(list_view *v, const options *o, int64_t i, sums t, bool winner)
{
    double w = v->w[i], side = winner ? -1 : 1, base = o->margin + side * v->s[i]; /* loss of a pair: base + (-side) s_other */
    double cross = -side;
    if (o->power == 1) {
        v->d1[i] += side * w * t.w;
        if (winner) v->numerator += w * (base * t.w + cross * t.s);
        return;
    }
    v->d1[i] += side * 2 * w * (base * t.w + cross * t.s);
    v->d2[i] += 2 * w * t.w;
    if (winner) v->numerator += w * (base * base * t.w + 2 * base * cross * t.s + t.ss);
}

static sums minus(sums a, sums b) { return (sums){ a.w - b.w, a.s - b.s, a.ss - b.ss }; }

static void body(list_view *v, const void *opt)
{
    const options *o = opt;
    int64_t        n = v->n, added;
    int32_t       *order = v->order, *rank = order + 2 * n;
    if (n < 2) return;
    int64_t levels = label_ranks(v, rank, order);
    double *tree = v->spare, pairs = 0; /* [3 (levels + 1)] */
    if (levels < 2) return;
    lists_order(v->s, order, order + n, n);
    memset(tree, 0, (size_t)(3 * (levels + 1)) * sizeof *tree);
    added = 0;
    for (int64_t k = 0; k < n; k++) { /* winners by falling score: losers above s_i - margin */
        int32_t i = order[k];
        for (; added < n && o->margin - (v->s[i] - v->s[order[added]]) > 0; added++) tree_add(tree, levels, rank[order[added]], v->w[order[added]], v->s[order[added]]);
        take(v, o, i, tree_sum(tree, rank[i] - 1), true);
    }
    memset(tree, 0, (size_t)(3 * (levels + 1)) * sizeof *tree);
    added = n - 1;
    for (int64_t k = n - 1; k >= 0; k--) { /* losers by rising score: winners below s_i + margin */
        int32_t i = order[k];
        for (; added >= 0 && o->margin - (v->s[order[added]] - v->s[i]) > 0; added--) tree_add(tree, levels, rank[order[added]], v->w[order[added]], v->s[order[added]]);
        take(v, o, i, minus(tree_sum(tree, levels), tree_sum(tree, rank[i])), false);
    }
    memset(tree, 0, (size_t)(3 * (levels + 1)) * sizeof *tree);
    for (int64_t i = 0; i < n; i++) tree_add(tree, levels, rank[i], v->w[i], 0);
    for (int64_t i = 0; i < n; i++) pairs += v->w[i] * tree_sum(tree, rank[i] - 1).w;
    v->denominator = !strcmp(o->average, "pairs") ? pairs : pairs > 0;
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    return lists_run(context, "pair_hinge", lists, opt, result, 6, body);
}

LIST_OBJECTIVE(pair_hinge, "pair_hinge", "Joachims 2002", "hinge loss of ordered pairs (RankSVM, SLiC)", option_table, sizeof(options), run);
