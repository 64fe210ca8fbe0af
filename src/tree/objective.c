/* objective.c - objectives of boosted trees. */
#include "tree/objective.h"

#include <stdlib.h>

/* The gains that the option lists -> malloc'd; *count of them. NULL with *count 0: the default 2^label - 1. */
static double *gain_list(crank_context *context, const crank_tree_options *o, int64_t *count, bool *good)
{
    char        word[64], *stop;
    const char *cursor = o->label_gain;
    double     *list = NULL;
    *count = 0;
    *good = true;
    if (!cursor) return NULL;
    list = crank_alloc(context, strlen(cursor) + 1, sizeof *list, "label gains");
    *good = list != NULL;
    while (*good && crank_list_next(&cursor, word, sizeof word, NULL, 0)) {
        list[*count] = strtod(word, &stop);
        if (*stop || !isfinite(list[*count])) {
            crank_fail(context, CRANK_USAGE, "label_gain: `%s` is no number", word);
            *good = false;
        }
        ++*count;
    }
    return list;
}

float *label_gains(crank_context *context, const crank_tree_options *o, const crank_tree_data *data)
{
    int64_t count;
    bool    good;
    double *list = gain_list(context, o, &count, &good);
    float  *gain = good ? crank_alloc(context, (size_t)data->rows + 1, sizeof *gain, "gains") : NULL;
    for (int64_t i = 0; gain && i < data->rows; i++) {
        double label = (double)data->labels[i];
        bool   fits = list ? label >= 0 && label < (double)count && label == floor(label) : label >= 0 && label <= 31;
        if (fits) {
            gain[i] = (float)(list ? list[(int64_t)label] : exp2(label) - 1);
            continue;
        }
        crank_fail(context, CRANK_BAD_DATA, "row %lld: label %g has no gain; labels must be %s from 0 to %lld%s", (long long)i + 1, label, list ? "whole numbers" : "numbers",
                   list ? (long long)count - 1 : 31LL, list ? " (option label_gain)" : "");
        crank_free(gain);
        gain = NULL;
    }
    crank_free(list);
    return gain;
}

static bool kind_of(crank_context *context, const char *name, objective_kind *kind, const crank_list_objective **list)
{
    static const struct {
        const char    *name;
        objective_kind kind;
    } kinds[] = {{"lambdarank", OBJECTIVE_LAMBDARANK}, {"rank:ndcg", OBJECTIVE_LAMBDARANK}, {"regression", OBJECTIVE_REGRESSION}, {"l2", OBJECTIVE_REGRESSION}, {"mse", OBJECTIVE_REGRESSION},
                 {"mean_squared_error", OBJECTIVE_REGRESSION}, {"reg:squarederror", OBJECTIVE_REGRESSION}, {"binary", OBJECTIVE_BINARY}, {"binary:logistic", OBJECTIVE_BINARY}};
    *list = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) return *kind = kinds[i].kind, true;
    *kind = OBJECTIVE_LIST;
    if ((*list = crank_list_objective_find(name))) return true;
    const char *names[128] = {"lambdarank", "regression", "binary"};
    size_t      count = 3;
    for (const crank_list_objective *each; count < 128 && (each = crank_list_objective_at(count - 3)); count++) names[count] = each->name;
    const char *near = crank_closest(name, names, count);
    return crank_fail(context, CRANK_USAGE, "no objective `%s` for trees%s%s%s; there are lambdarank, regression, binary and the list objectives", name, near ? "; did you mean `" : "",
                      near ? near : "", near ? "`?" : ""), false;
}

bool objective_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, objective *o)
{
    *o = (objective){.context = context, .options = options, .data = data, .one = {0, (int32_t)data->rows}};
    o->offsets = data->offsets ? data->offsets : o->one;
    o->queries = data->offsets ? data->queries : 1;
    if (!kind_of(context, options->objective, &o->kind, &o->list)) return false;
    if (!data->offsets && (o->kind == OBJECTIVE_LAMBDARANK || o->list))
        return crank_fail(context, CRANK_BAD_DATA, "objective %s learns from lists, and the data name no queries: write qid:N in SVMlight lines, name a table's column with data.query=COLUMN, or put the sizes into DATA.query", options->objective), false;
    if (o->kind == OBJECTIVE_LAMBDARANK) return lambda_open(context, options, data, o->offsets, o->queries, &o->lambda);
    if (!o->list) return true;
    if (o->list->options && !(o->list_options = crank_options_new(context, o->list->options, o->list->options_size))) return false;
    return (o->scores = crank_alloc(context, (size_t)data->rows + 1, sizeof *o->scores, "scores")) != NULL;
}

void objective_close(objective *o)
{
    lambda_close(&o->lambda);
    crank_options_free(o->list_options);
    crank_free(o->scores);
}

static crank_status list_gradient(objective *o, const double *scores, float *g, float *h)
{
    for (int64_t i = 0; i < o->data->rows; i++) o->scores[i] = (float)scores[i];
    crank_lists       lists = {.lists = o->queries, .outputs = 1, .offsets = o->offsets, .scores = o->scores, .labels = o->data->labels, .weights = o->data->weights};
    crank_list_result result = {.d1 = g, .d2 = h};
    crank_status      status = o->list->run(o->context, &lists, o->list_options, &result);
    if (status != CRANK_OK) return crank_fail_in(o->context, "objective %s", o->list->name);
    for (int64_t i = 0; i < o->data->rows; i++)
        if (!isfinite(g[i]) || !isfinite(h[i]) || h[i] < 0) return crank_fail(o->context, CRANK_FAILED, "objective %s: row %lld: its gradient is not finite, or its second derivative negative", o->list->name, (long long)i + 1);
    return CRANK_OK;
}

crank_status objective_gradient(objective *o, const double *scores, float *g, float *h)
{
    const crank_tree_data *d = o->data;
    double                 a = o->options->sigmoid;
    if (o->kind == OBJECTIVE_LAMBDARANK) return lambda_gradient(o->context, o->options, &o->lambda, scores, d->weights, g, h);
    if (o->kind == OBJECTIVE_LIST) return list_gradient(o, scores, g, h);
    bool binary = o->kind == OBJECTIVE_BINARY;
#pragma omp parallel for num_threads(crank_threads(o->context)) schedule(static)
    for (int64_t i = 0; i < d->rows; i++) {
        double w = d->weights ? (double)d->weights[i] : 1, p = binary ? 1 / (1 + exp(-a * scores[i])) : 0;
        g[i] = (float)(binary ? a * w * (p - (d->labels[i] > 0)) : w * (scores[i] - (double)d->labels[i]));
        h[i] = (float)(binary ? a * a * w * p * (1 - p) : w);
    }
    return CRANK_OK;
}

double objective_base(const objective *o)
{
    const crank_tree_data *d = o->data;
    bool                   binary = o->kind == OBJECTIVE_BINARY;
    double                 sum = 0, total = 0;
    if (!o->options->boost_from_average || (!binary && o->kind != OBJECTIVE_REGRESSION)) return 0;
    for (int64_t i = 0; i < d->rows; i++) {
        double w = d->weights ? (double)d->weights[i] : 1;
        sum += w * (binary ? d->labels[i] > 0 : (double)d->labels[i]);
        total += w;
    }
    double mean = total > 0 ? sum / total : 0;
    if (!binary) return mean;
    mean = fmin(fmax(mean, 1e-15), 1 - 1e-15);
    return log(mean / (1 - mean)) / o->options->sigmoid;
}

/* ---- validation ---- */

/* DCG@k of places in that order */
static double dcg(const float *gain, const int32_t *order, int n, int64_t k)
{
    double sum = 0;
    for (int r = 0; r < n && r < k; r++) sum += (double)gain[order[r]] / log2(2.0 + r);
    return sum;
}

bool measure_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, measure *m)
{
    const crank_list_objective *list;
    *m = (measure){.context = context, .options = options, .data = data, .one = {0, (int32_t)data->rows}};
    m->offsets = data->offsets ? data->offsets : m->one;
    m->queries = data->offsets ? data->queries : 1;
    if (!kind_of(context, options->objective, &m->kind, &list)) return false;
    m->more_is_better = data->offsets != NULL;
    if (!m->more_is_better) return true;
    m->gain = label_gains(context, options, data);
    m->ideal = crank_alloc(context, (size_t)m->queries + 1, sizeof *m->ideal, "queries");
    m->value = crank_alloc(context, (size_t)m->queries + 1, sizeof *m->value, "queries");
    if (!m->gain || !m->ideal || !m->value) return false;
    double *scores = crank_alloc(context, (size_t)data->rows + 1, sizeof *scores, "ideal scores");
    if (!scores) return false;
    for (int64_t i = 0; i < data->rows; i++) scores[i] = (double)m->gain[i];
    for (int64_t q = 0; q < m->queries; q++) m->ideal[q] = 1;
    measure_of(m, scores);
    memcpy(m->ideal, m->value, (size_t)m->queries * sizeof *m->ideal);
    crank_free(scores);
    return true;
}

void measure_close(measure *m)
{
    crank_free(m->gain);
    crank_free(m->ideal);
    crank_free(m->value);
}

static double mean_loss(const measure *m, const double *scores)
{
    double sum = 0, total = 0, a = m->options->sigmoid;
    for (int64_t i = 0; i < m->data->rows; i++) {
        double w = m->data->weights ? (double)m->data->weights[i] : 1, y = (double)m->data->labels[i], s = scores[i];
        double margin = a * (y > 0 ? s : -s);
        sum += w * (m->kind == OBJECTIVE_BINARY ? (margin > 0 ? log1p(exp(-margin)) : log1p(exp(margin)) - margin) : (s - y) * (s - y));
        total += w;
    }
    return total > 0 ? sum / total : NAN;
}

/* NDCG: the mean over queries that have an item with gain. */
double measure_of(measure *m, const double *scores)
{
    if (!m->more_is_better) return mean_loss(m, scores);
    int64_t longest = 0;
    for (int64_t q = 0; q < m->queries; q++)
        if (m->offsets[q + 1] - m->offsets[q] > longest) longest = m->offsets[q + 1] - m->offsets[q];
    int      threads = crank_threads(m->context);
    int32_t *order = crank_alloc(m->context, (size_t)threads, 2 * ((size_t)longest + 1) * sizeof *order, "the order of items");
    if (!order) return NAN;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        int32_t *mine = order + (size_t)t * 2 * ((size_t)longest + 1);
        for (int64_t q = m->queries * t / threads; q < m->queries * (t + 1) / threads; q++) {
            int n = m->offsets[q + 1] - m->offsets[q];
            for (int i = 0; i < n; i++) mine[i] = i;
            sort_places(scores + m->offsets[q], mine, mine + longest + 1, n);
            m->value[q] = m->ideal[q] > 0 ? dcg(m->gain + m->offsets[q], mine, n, m->options->eval_at) / m->ideal[q] : 0;
        }
    }
    crank_free(order);
    double  sum = 0;
    int64_t count = 0;
    for (int64_t q = 0; q < m->queries; q++)
        if (m->ideal[q] > 0) sum += m->value[q], count++;
    return count ? sum / (double)count : NAN;
}
