/* list.c - measures of scored lists for learning to rank (crank/metric.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crank/metric.h"

/* Merge sort; runs of 8 by insertion. */
static void sort(const float *scores, int32_t *order, int32_t *spare, int64_t n)
{
    if (n <= 8) {
        for (int64_t i = 1; i < n; i++)
            for (int64_t j = i; j > 0 && scores[order[j]] > scores[order[j - 1]]; j--) {
                int32_t swap = order[j];
                order[j] = order[j - 1];
                order[j - 1] = swap;
            }
        return;
    }
    int64_t half = n / 2, left = 0, right = half, out = 0;
    sort(scores, order, spare, half);
    sort(scores, order + half, spare, n - half);
    memcpy(spare, order, (size_t)half * sizeof *order);
    while (left < half && right < n) {
        bool second = scores[order[right]] > scores[spare[left]];
        order[out++] = second ? order[right++] : spare[left++];
    }
    while (left < half) order[out++] = spare[left++];
}

void crank_rank_order(const float *scores, int32_t *order, int32_t *spare, int64_t n)
{
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    sort(scores, order, spare, n);
}

static double gain_of(float label, crank_gain gain) { return label <= 0 ? 0 : gain == CRANK_GAIN_LINEAR ? (double)label : exp2((double)label) - 1; }

static double discount_of(int64_t rank, crank_discount discount) /* rank from 1 */
{
    if (discount == CRANK_DISCOUNT_LETOR) return rank <= 2 ? 1 : 1 / log2((double)rank);
    return 1 / log2(1 + (double)rank);
}

static double dcg_in(const int32_t *order, const float *labels, int64_t k, crank_gain gain, crank_discount discount)
{
    double sum = 0;
    for (int64_t r = 0; r < k; r++) sum += gain_of(labels[order[r]], gain) * discount_of(r + 1, discount);
    return sum;
}

double crank_ideal_dcg(const float *labels, int64_t n, int64_t k, crank_gain gain, crank_discount discount)
{
    int32_t *order = malloc((size_t)(n > 0 ? n : 1) * 2 * sizeof *order);
    if (!order) return -1;
    crank_rank_order(labels, order, order + n, n);
    double sum = dcg_in(order, labels, k > 0 && k < n ? k : n, gain, discount);
    free(order);
    return sum;
}

typedef enum which { NDCG, DCG, MAP, MRR, ERR, PRECISION, RECALL, NONE } which;

typedef struct list_view {
    const float   *labels;
    const int32_t *order, *ideal;
    int64_t        n, k; /* k <= n items count */
    int64_t        cut;  /* as asked for; 0: all */
} list_view;

static double expected_reciprocal_rank(const list_view *l, double max_label)
{
    double sum = 0, left = 1;
    for (int64_t r = 0; r < l->k; r++) {
        double stop = fmin(1, gain_of(l->labels[l->order[r]], CRANK_GAIN_EXPONENTIAL) / exp2(max_label));
        sum += left * stop / (double)(r + 1);
        left *= 1 - stop;
    }
    return sum;
}

/* map, mrr, precision and recall */
static double binary(which measure, const list_view *l, double relevant)
{
    int64_t hits = 0, all = 0;
    double  sum = 0;
    for (int64_t i = 0; i < l->n; i++) all += l->labels[i] >= relevant;
    for (int64_t r = 0; r < l->k; r++) {
        if (!(l->labels[l->order[r]] >= relevant)) continue;
        hits++;
        if (measure == MRR) return 1 / (double)(r + 1);
        sum += (double)hits / (double)(r + 1);
    }
    if (measure == MRR || !all) return 0;
    if (measure == RECALL) return (double)hits / (double)all;
    if (measure == PRECISION) return (double)hits / (double)(l->cut ? l->cut : l->n);
    return sum / (double)(l->cut && l->cut < all ? l->cut : all);
}

static bool has_relevant(which measure, const list_view *l, const crank_metric_options *o)
{
    bool gains = measure == NDCG || measure == DCG || measure == ERR;
    return l->n > 0 && (gains ? l->labels[l->ideal[0]] > 0 : l->labels[l->ideal[0]] >= o->relevant);
}

static double value_of(which measure, const list_view *l, const crank_metric_options *o)
{
    if (!has_relevant(measure, l, o)) return measure == DCG || o->empty == CRANK_EMPTY_ZERO ? 0 : o->empty == CRANK_EMPTY_ONE ? 1 : (double)NAN;
    if (measure == ERR) return expected_reciprocal_rank(l, o->max_label);
    if (measure != NDCG && measure != DCG) return binary(measure, l, o->relevant);
    double dcg = dcg_in(l->order, l->labels, l->k, o->gain, o->discount);
    return measure == DCG ? dcg : dcg / dcg_in(l->ideal, l->labels, l->k, o->gain, o->discount);
}

static which parse(const char *name, int64_t *cut)
{
    static const char *const names[] = { "ndcg", "dcg", "map", "mrr", "err", "p", "recall" };
    const char              *at = strchr(name, '@');
    size_t                   length = at ? (size_t)(at - name) : strlen(name);
    char                    *end = NULL;
    *cut = at ? strtol(at + 1, &end, 10) : 0;
    if (at && (*cut < 1 || *cut > INT32_MAX || *end || end == at + 1)) return NONE;
    for (int i = 0; i < NONE; i++)
        if (strlen(names[i]) == length && !memcmp(names[i], name, length)) return (which)i;
    return NONE;
}

static crank_status check(crank_context *context, int64_t lists, const int32_t *offsets, const float *scores, const float *labels)
{
    for (int64_t l = 0; l < lists; l++)
        if (offsets[l + 1] < offsets[l]) return crank_fail(context, CRANK_BAD_DATA, "list %lld ends before it starts", (long long)l);
    for (int64_t i = offsets[0]; i < offsets[lists]; i++)
        if (isnan(scores[i]) || isnan(labels[i])) return crank_fail(context, CRANK_BAD_DATA, "item %lld: its %s is NaN", (long long)i, isnan(scores[i]) ? "score" : "label");
    return CRANK_OK;
}

crank_status crank_metric(crank_context *context, const char *measure, const crank_metric_options *options, int64_t lists, const int32_t *offsets,
                          const float *scores, const float *labels, const float *list_weights, double *mean, int64_t *counted, double *each)
{
    crank_metric_options o = options ? *options : (crank_metric_options){ 0 };
    int64_t              cut;
    which                kind = parse(measure, &cut);
    if (o.relevant == 0) o.relevant = 1;
    if (o.max_label == 0) o.max_label = 4;
    if (kind == NONE) return crank_fail(context, CRANK_USAGE, "`%s` is no measure: ndcg, dcg, map, mrr, err, p or recall, with @K or without", measure);
    crank_status status = check(context, lists, offsets, scores, labels);
    if (status != CRANK_OK) return status;
    int32_t *memory = crank_alloc(context, (size_t)(offsets[lists] - offsets[0] + 1), 4 * sizeof *memory, "orders of lists");
    double  *values = crank_alloc(context, (size_t)(lists + 1), sizeof *values, "values of lists");
    if (memory && values) {
#pragma omp parallel for schedule(dynamic, 16) num_threads(crank_threads(context))
        for (int64_t l = 0; l < lists; l++) {
            int64_t  first = offsets[l], n = offsets[l + 1] - first;
            int32_t *order = memory + 4 * (first - offsets[0]);
            crank_rank_order(scores + first, order, order + 2 * n, n);
            crank_rank_order(labels + first, order + n, order + 2 * n, n);
            list_view view = { labels + first, order, order + n, n, cut && cut < n ? cut : n, cut };
            values[l] = value_of(kind, &view, &o);
        }
        double  sum = 0, weight = 0;
        int64_t count = 0;
        for (int64_t l = 0; l < lists; l++) {
            if (each) each[l] = values[l];
            if (isnan(values[l])) continue;
            double w = list_weights ? (double)list_weights[l] : 1;
            sum += w * values[l];
            weight += w;
            count++;
        }
        *mean = weight > 0 ? sum / weight : 0;
        if (counted) *counted = count;
    }
    status = memory && values ? CRANK_OK : CRANK_FAILED;
    crank_free(memory);
    crank_free(values);
    return status;
}
