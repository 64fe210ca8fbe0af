/* lambda.c - LambdaRank's gradients for all queries. */
#include "tree/lambda.h"

#include <stdlib.h>

#include "tree/objective.h"

static lambda_pairs *best_pairs(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return lambda_pairs_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? lambda_pairs_avx2 : lambda_pairs_plain;
}

static bool before(const double *score, int32_t a, int32_t b) { return score[a] > score[b] || (score[a] == score[b] && a < b); }

static void merge_sort(const double *score, int32_t *order, int32_t *spare, int n)
{
    for (int width = 1; width < n; width *= 2) {
        for (int from = 0; from < n; from += 2 * width) {
            int middle = from + width < n ? from + width : n, end = middle + width < n ? middle + width : n;
            for (int a = from, b = middle, k = from; k < end; k++) spare[k] = a < middle && (b >= end || before(score, order[a], order[b])) ? order[a++] : order[b++];
        }
        memcpy(order, spare, (size_t)n * sizeof *order);
    }
}

void sort_places(const double *score, int32_t *order, int32_t *spare, int n)
{
    int64_t moves = 0, most = 4 * (int64_t)n + 64;
    for (int i = 1; i < n; i++) {
        int32_t item = order[i];
        int     j = i;
        for (; j > 0 && before(score, item, order[j - 1]); j--) order[j] = order[j - 1];
        order[j] = item;
        if ((moves += i - j) > most) { /* far from sorted */
            merge_sort(score, order, spare, n);
            return;
        }
    }
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* 1 / IDCG@T of gains; 0 where none is positive */
static double inverse_best(const float *gain, float *spare, int n, int64_t truncation)
{
    double sum = 0;
    memcpy(spare, gain, (size_t)n * sizeof *spare);
    qsort(spare, (size_t)n, sizeof *spare, descending);
    for (int r = 0; r < n && r < truncation && spare[r] > 0; r++) sum += (double)spare[r] / log2(2.0 + r);
    return sum > 0 ? 1 / sum : 0;
}

bool lambda_open(crank_context *context, const crank_tree_options *o, const crank_tree_data *data, const int32_t *offsets, int64_t queries, lambda_data *l)
{
    *l = (lambda_data){.offsets = offsets, .queries = queries};
    for (int64_t q = 0; q < queries; q++)
        if (offsets[q + 1] - offsets[q] > l->longest) l->longest = offsets[q + 1] - offsets[q];
    l->gain = label_gains(context, o, data);
    l->inverse_best = crank_alloc(context, (size_t)queries + 1, sizeof *l->inverse_best, "queries");
    l->discount = crank_alloc(context, (size_t)l->longest + 16, sizeof *l->discount, "discounts");
    l->order = crank_alloc(context, (size_t)data->rows + 1, sizeof *l->order, "the order of items");
    float *spare = crank_alloc(context, (size_t)l->longest + 1, sizeof *spare, "gains");
    bool   good = l->gain && l->inverse_best && l->discount && l->order && spare;
    for (int64_t r = 0; good && r < l->longest; r++) l->discount[r] = (float)(1 / log2(2.0 + (double)r));
    for (int64_t q = 0; good && q < queries; q++) {
        int n = offsets[q + 1] - offsets[q];
        l->inverse_best[q] = inverse_best(l->gain + offsets[q], spare, n, o->lambdarank_truncation_level);
        for (int i = 0; i < n; i++) l->order[offsets[q] + i] = i;
    }
    crank_free(spare);
    return good;
}

void lambda_close(lambda_data *l)
{
    crank_free(l->gain);
    crank_free(l->inverse_best);
    crank_free(l->discount);
    crank_free(l->order);
    *l = (lambda_data){0};
}

enum { ARRAYS = 6, PADDING = 32 };

/* One query; work [ARRAYS * width], width a multiple of 16 above the longest query */
static void one_query(const crank_tree_options *o, lambda_data *l, int64_t query, lambda_pairs *pairs, const double *scores, float *work, int32_t *spare, int64_t width, float *g, float *h)
{
    int64_t first = l->offsets[query];
    int     n = (int)(l->offsets[query + 1] - first), padded = (n + 15) / 16 * 16;
    int32_t *order = l->order + first;
    float   *score = work, *gain = score + width, *discount = gain + width, *place = discount + width, *sorted_g = place + width, *sorted_h = sorted_g + width;
    if (n < 2 || l->inverse_best[query] == 0) {
        memset(g + first, 0, (size_t)n * sizeof *g);
        memset(h + first, 0, (size_t)n * sizeof *h);
        return;
    }
    sort_places(scores + first, order, spare, n);
    for (int i = 0; i < padded; i++) {
        score[i] = i < n ? (float)scores[first + order[i]] : 0;
        gain[i] = i < n ? l->gain[first + order[i]] : 0;
        discount[i] = i < n ? l->discount[i] : 0;
        place[i] = i < n ? (float)i : -1;
        sorted_g[i] = sorted_h[i] = 0;
    }
    bool         norm = o->lambdarank_norm;
    lambda_query q = {.score = score, .gain = gain, .discount = discount, .place = place, .g = sorted_g, .h = sorted_h, .n = n,
                      .truncation = o->lambdarank_truncation_level < n ? (int)o->lambdarank_truncation_level : n, .slope = (float)o->sigmoid,
                      .inverse_best = (float)l->inverse_best[query], .divide = norm && scores[first + order[0]] != scores[first + order[n - 1]]};
    double sum = pairs(&q);
    float  factor = norm && sum > 0 ? (float)(log2(1 + sum) / sum) : 1;
    for (int i = 0; i < n; i++) {
        g[first + order[i]] = sorted_g[i] * factor;
        h[first + order[i]] = sorted_h[i] * factor;
    }
}

crank_status lambda_gradient(crank_context *context, const crank_tree_options *o, lambda_data *l, const double *scores, const float *weights, float *g, float *h)
{
    lambda_pairs *pairs = best_pairs();
    int64_t       width = (l->longest + PADDING) / 16 * 16;
    int           threads = crank_threads(context);
    float        *work = crank_alloc(context, (size_t)threads, (size_t)width * ARRAYS * sizeof *work, "pairs of a query");
    int32_t      *spare = crank_alloc(context, (size_t)threads, (size_t)width * sizeof *spare, "the order of a query");
    if (work && spare) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int t = 0; t < threads; t++) /* queries are shared out in runs: neighbours have neighbouring rows */
            for (int64_t q = l->queries * t / threads; q < l->queries * (t + 1) / threads; q++)
                one_query(o, l, q, pairs, scores, work + (size_t)t * (size_t)width * ARRAYS, spare + (size_t)t * (size_t)width, width, g, h);
        for (int64_t i = 0, rows = l->offsets[l->queries]; weights && i < rows; i++) {
            g[i] *= weights[i];
            h[i] *= weights[i];
        }
    }
    crank_status status = work && spare ? CRANK_OK : CRANK_FAILED;
    crank_free(work);
    crank_free(spare);
    return status;
}

void lambda_reference(const double *score, const float *gain, int n, int truncation, double slope, bool norm, double *g, double *h)
{
    int32_t *order = malloc(2 * (size_t)n * sizeof *order + 1);
    float   *spare = malloc((size_t)n * sizeof *spare + 1);
    for (int i = 0; i < n && order && spare; i++) order[i] = i, g[i] = h[i] = 0;
    if (order && spare) sort_places(score, order, order + n, n);
    double best = order && spare ? inverse_best(gain, spare, n, truncation) : 0, sum = 0;
    for (int i = 0; best > 0 && i < n && i < truncation; i++)
        for (int j = i + 1; j < n; j++) {
            int a = order[i], b = order[j], high = gain[a] > gain[b] ? a : b, low = high == a ? b : a;
            if (gain[a] == gain[b]) continue;
            double d = ((double)gain[high] - (double)gain[low]) * fabs(1 / log2(2.0 + i) - 1 / log2(2.0 + j)) * best, ds = score[high] - score[low];
            if (norm && score[order[0]] != score[order[n - 1]]) d /= 0.01 + fabs(ds);
            double p = 1 / (1 + exp(slope * ds)), lambda = slope * d * p;
            g[high] -= lambda;
            g[low] += lambda;
            h[high] += slope * lambda * (1 - p);
            h[low] += slope * lambda * (1 - p);
            sum += 2 * lambda;
        }
    for (int i = 0; norm && sum > 0 && i < n; i++) {
        g[i] *= log2(1 + sum) / sum;
        h[i] *= log2(1 + sum) / sum;
    }
    free(order);
    free(spare);
}
