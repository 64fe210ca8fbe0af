/* lists.c - lists on all threads, and the few functions of scores that objectives share. */
#include "loss/lists.h"

#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

double lists_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

double lists_sigmoid(double x)
{
    double e = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

double lists_gain(double label, const char *gain) { return !strcmp(gain, "exponential") ? exp2(label) - 1 : label; }

double lists_softmax(const double *s, double *p, int64_t n)
{
    double high = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) high = fmax(high, s[i]);
    for (int64_t i = 0; i < n; i++) sum += p[i] = exp(s[i] - high);
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
    return high + log(sum);
}

static void sort(const double *key, int32_t *order, int32_t *spare, int64_t n)
{
    if (n <= 8) {
        for (int64_t i = 1; i < n; i++)
            for (int64_t j = i; j > 0 && key[order[j]] > key[order[j - 1]]; j--) {
                int32_t swap = order[j];
                order[j] = order[j - 1];
                order[j - 1] = swap;
            }
        return;
    }
    int64_t half = n / 2, left = 0, right = half, out = 0;
    sort(key, order, spare, half);
    sort(key, order + half, spare, n - half);
    memcpy(spare, order, (size_t)half * sizeof *order);
    while (left < half && right < n) {
        bool second = key[order[right]] > key[spare[left]];
        order[out++] = second ? order[right++] : spare[left++];
    }
    while (left < half) order[out++] = spare[left++];
}

void lists_order(const double *key, int32_t *order, int32_t *spare, int64_t n)
{
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    sort(key, order, spare, n);
}

static crank_status check(crank_context *context, const char *name, const crank_lists *lists, int64_t *longest)
{
    if (lists->outputs != 1) return crank_fail(context, CRANK_USAGE, "%s takes one score an item, not %lld", name, (long long)lists->outputs);
    *longest = 1;
    for (int64_t l = 0; l < lists->lists; l++) {
        int64_t n = (int64_t)lists->offsets[l + 1] - lists->offsets[l];
        if (n < 0) return crank_fail(context, CRANK_BAD_DATA, "%s: list %lld ends before it starts", name, (long long)l);
        if (n > *longest) *longest = n;
    }
    for (int64_t l = 0; l < lists->lists; l++)
        for (int64_t i = lists->offsets[l]; i < lists->offsets[l + 1]; i++)
            if (!isfinite(lists->scores[i]) || !isfinite(lists->labels[i]))
                return crank_fail(context, CRANK_BAD_DATA, "%s: list %lld, item %lld: its %s is not finite", name, (long long)l, (long long)(i - lists->offsets[l]),
                                  isfinite(lists->scores[i]) ? "label" : "score");
    return CRANK_OK;
}

/* [5 + doubles] numbers an item for each thread. */
static void run_list(const crank_lists *lists, int64_t l, const void *options, crank_list_result *result, double *numbers, int32_t *order, list_body *body, list_view *v)
{
    int64_t first = lists->offsets[l], n = lists->offsets[l + 1] - first;
    double *s = numbers, *y = s + n, *w = y + n;
    *v = (list_view){ .n = n, .index = l, .s = s, .y = y, .w = w, .d1 = w + n, .d2 = w + 2 * n, .spare = w + 3 * n, .order = order, .second = result->d2 != NULL };
    for (int64_t i = 0; i < n; i++) {
        s[i] = (double)lists->scores[first + i];
        y[i] = (double)lists->labels[first + i];
        w[i] = lists->weights ? (double)lists->weights[first + i] : 1;
        v->d1[i] = v->d2[i] = 0;
    }
    body(v, options);
    for (int64_t i = 0; i < n; i++) {
        result->d1[first + i] = (float)v->d1[i];
        if (result->d2) result->d2[first + i] = (float)fmax(v->d2[i], 0);
    }
}

crank_status lists_run(crank_context *context, const char *name, const crank_lists *lists, const void *options, crank_list_result *result, int64_t doubles, list_body *body)
{
    int64_t      longest;
    crank_status status = check(context, name, lists, &longest);
    if (status != CRANK_OK) return status;
    int         threads = crank_threads(context) < lists->lists ? crank_threads(context) : (int)(lists->lists ? lists->lists : 1);
    size_t      each = (size_t)(longest * (5 + doubles));
    double     *numbers = crank_alloc(context, (size_t)threads, each * sizeof *numbers, "numbers of a list");
    int32_t    *orders = crank_alloc(context, (size_t)threads, (size_t)longest * 4 * sizeof *orders, "orders of a list");
    list_view  *views = crank_alloc(context, (size_t)lists->lists + 1, sizeof *views, "lists");
    const char *problem = NULL;
    int64_t     at = 0;
    if (numbers && orders && views) {
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
            size_t own = 0;
#ifdef _OPENMP
            own = (size_t)omp_get_thread_num();
#endif
#pragma omp for schedule(dynamic, 4)
            for (int64_t l = 0; l < lists->lists; l++)
                run_list(lists, l, options, result, numbers + own * each, orders + own * (size_t)longest * 4, body, views + l);
        }
        result->numerator = result->denominator = 0;
        for (int64_t l = 0; l < lists->lists; l++) {
            result->numerator += views[l].numerator;
            result->denominator += views[l].denominator;
            if (views[l].problem && !problem) problem = views[l].problem, at = l;
        }
    }
    status = numbers && orders && views ? CRANK_OK : CRANK_FAILED;
    if (problem) status = crank_fail(context, CRANK_BAD_DATA, "%s: list %lld: %s", name, (long long)at, problem);
    crank_free(numbers);
    crank_free(orders);
    crank_free(views);
    return status;
}

crank_tensor *lists_record(crank_graph *graph, const crank_scores *scores, const void *options)
{
    (void)options;
    crank_tensor *outputs = scores->outputs; /* [s, 1] */
    if (outputs->dims[1] != 1)
        return crank_graph_error(graph, CRANK_USAGE, "a ranking objective needs a head of one output (model.labels: 1); this one has %lld", (long long)outputs->dims[1]);
    return outputs;
}
