/* listmle.c - likelihood of the label order under Plackett and Luce (ListMLE, Xia et al. 2008; p-ListMLE, Lan et al. 2014; the list form of DPO):
 *
 *     numerator   sum_k a_k [ log C_k - s_k ],   k: place in the order of falling labels, C_k = sum_{j >= k} e^{s_j}
 *     d1_i        e^{s_i} sum_{k <= pos i} a_k / C_k - a_{pos i}
 *     d2_i        e^{s_i} sum_{k <= pos i} a_k / C_k - e^{2 s_i} sum_{k <= pos i} a_k / C_k^2
 *
 *     a_k         w_k (the weight of the item at place k), times 1, or 2^{n-k} - 1 (p-ListMLE: lists up to 100 items), or 1 / log2(1 + k)
 *
 * Equal labels: in the order of the items, or shuffled by a stream of (seed, number of the list). `top`: only the first so many places.
 * denominator: lists of two items or more. O(n log n); sums are kept as logarithms relative to the largest score behind the place. */
#include <math.h>
#include <string.h>

#include "crank/random.h"
#include "loss/lists.h"

typedef struct options { const char *places, *ties; int64_t top, seed; } options;

static const crank_option option_table[] = {
    CRANK_CHOICE(options, places, "equal", "equal|exponential|log", "weight of place k: 1, 2^(n-k) - 1 (p-ListMLE), 1 / log2(1+k)"),
    CRANK_CHOICE(options, ties, "order", "order|shuffle", "equal labels: in the order of the items, or shuffled"),
    CRANK_INT(options, top, 0, 0, 1e9, "places that count; 0: all"),
    CRANK_INT(options, seed, 0, 0, 1e15, "seed of the shuffle"),
    CRANK_END
};

static void shuffle_ties(const list_view *v, int32_t *order, uint64_t seed)
{
    crank_stream stream = crank_stream_make(seed, CRANK_RANDOM_DATA, (uint32_t)v->index);
    for (int64_t from = 0, to; from < v->n; from = to) {
        for (to = from + 1; to < v->n && v->y[order[to]] == v->y[order[from]];) to++;
        for (int64_t i = from; i + 1 < to; i++) {
            int64_t j = i + (int64_t)crank_draw_below(stream, (uint64_t)i, (uint64_t)(to - i));
            int32_t swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
    }
}

static double place_weight(const options *o, int64_t k, int64_t n) /* k from 0 */
{
    if (!strcmp(o->places, "exponential")) return exp2((double)(n - 1 - k)) - 1;
    return !strcmp(o->places, "log") ? 1 / log2((double)(k + 2)) : 1;
}

static void body(list_view *v, const void *opt)
{
    const options *o = opt;
    int64_t        n = v->n, places = o->top && o->top < n ? o->top : n;
    double        *behind = v->spare, high = -INFINITY, sum = 0, once = 0, twice = 0; /* behind[k] = log C_k */
    if (n < 2) return;
    if (n > 100 && !strcmp(o->places, "exponential")) {
        v->problem = "more than 100 items: their weights 2^(n-k) - 1 are beyond f32; places: log has no limit";
        return;
    }
    lists_order(v->y, v->order, v->order + n, n);
    if (!strcmp(o->ties, "shuffle")) shuffle_ties(v, v->order, (uint64_t)o->seed);
    for (int64_t k = n - 1; k >= 0; k--) {
        double s = v->s[v->order[k]];
        if (s > high) sum = sum * exp(high - s) + 1, high = s;
        else sum += exp(s - high);
        behind[k] = high + log(sum);
    }
    high = behind[0]; /* once = sum a e^{high - log C}, twice = sum a e^{2 (high - log C)}: C falls, so exponents rise with the place */
    for (int64_t k = 0; k < n; k++) {
        int32_t i = v->order[k];
        double  a = k < places ? v->w[i] * place_weight(o, k, n) : 0;
        if (behind[k] < high - 300) { /* sums are carried over to a nearer reference before they overflow */
            once *= exp(behind[k] - high);
            twice *= exp(2 * (behind[k] - high));
            high = behind[k];
        }
        once += a * exp(high - behind[k]);
        twice += a * exp(2 * (high - behind[k]));
        double e = exp(v->s[i] - high);
        v->d1[i] = e * once - a;
        v->d2[i] = e * once - e * e * twice;
        v->numerator += a * (behind[k] - v->s[i]);
    }
    v->denominator = 1;
}

static crank_status run(crank_context *context, const crank_lists *lists, const void *opt, crank_list_result *result)
{
    return lists_run(context, "listmle", lists, opt, result, 1, body);
}

LIST_OBJECTIVE(listmle, "listmle", "Xia et al. 2008", "likelihood of the label order under Plackett-Luce (ListMLE, p-ListMLE, DPO-PL)", option_table, sizeof(options), run);
