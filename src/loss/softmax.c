/* softmax.c - cross-entropy between a target distribution over the list and softmax(s) (ListNet top-1, Cao et al. 2007):
 *
 *     numerator   -M sum_i t_i log p_i,   p = softmax(s), sum t = 1, M the mass of the list
 *     d1_i        M (p_i - t_i),          d2_i = M p_i (1 - p_i)
 *
 *     target      softmax  t_i ~ w_i e^{y_i}, M = 1    (ListNet)
 *                 gain     t_i ~ w_i (2^{y_i} - 1), M = 1
 *                 xendcg   t_i ~ w_i (2^{y_i} - u_i), M = 1, u uniform in [0, 1) by (seed, number of the list)    (XE-NDCG, Bruch 2021)
 *                 label    t_i ~ w_i y_i, M = sum w_i y_i  (softmax cross-entropy: -sum w_i y_i log p_i)
 *
 * denominator: lists with two items or more and a target that is not all 0; with `average: mass` the sum of M. */
#include <math.h>
#include <string.h>

#include "crank/random.h"
#include "loss/lists.h"

typedef struct options { const char *target, *average; int64_t seed; } options;

static const crank_option option_table[] = {
    CRANK_CHOICE(options, target, "softmax", "softmax|gain|xendcg|label", "target distribution: softmax of the labels, their gains 2^label - 1, 2^label less a uniform draw, or the labels"),
    CRANK_CHOICE(options, average, "lists", "lists|mass", "what the sum over lists is divided by"),
    CRANK_INT(options, seed, 0, 0, 1e15, "xendcg: seed of the draws"),
    CRANK_END
};

static void body(list_view *v, const void *opt)
{
    const options *o = opt;
    int64_t        n = v->n;
    double        *t = v->spare, *p = t + n, sum = 0;
    if (n < 2) return;
    bool         drawn = !strcmp(o->target, "xendcg");
    crank_stream stream = crank_stream_make((uint64_t)o->seed, CRANK_RANDOM_DATA, (uint32_t)v->index);
    if (!strcmp(o->target, "softmax")) lists_softmax(v->y, t, n);
    for (int64_t i = 0; i < n; i++) {
        if (!strcmp(o->target, "gain")) t[i] = exp2(v->y[i]) - 1;
        if (drawn) t[i] = exp2(v->y[i]) - (double)crank_draw_uniform(stream, (uint64_t)i);
        if (!strcmp(o->target, "label")) t[i] = v->y[i];
        t[i] *= v->w[i];
        if (t[i] < 0) v->problem = "a negative label makes no distribution; target: softmax takes any";
        if (!isfinite(t[i])) v->problem = "a label is too large for its gain";
        sum += t[i];
    }
    if (v->problem || !(sum > 0)) return;
    double mass = !strcmp(o->target, "label") ? sum : 1, normalizer = lists_softmax(v->s, p, n);
    for (int64_t i = 0; i < n; i++) {
        double part = t[i] / sum;
        if (part > 0) v->numerator -= mass * part * (v->s[i] - normalizer);
        v->d1[i] = mass * (p[i] - part);
        v->d2[i] = mass * p[i] * (1 - p[i]);
    }
    v->denominator = !strcmp(o->average, "mass") ? mass : 1;
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    return lists_run(context, "listnet", lists, opt, result, 2, body);
}

LIST_OBJECTIVE(listnet, "listnet", "Cao et al. 2007", "cross-entropy between the labels' distribution and softmax of the scores (ListNet, softmax)", option_table, sizeof(options), run);
