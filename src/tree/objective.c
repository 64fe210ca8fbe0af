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

static const struct {
    const char    *name;
    objective_kind kind;
} kinds[] = { /* the first name of a kind is that of models */
    {"lambdarank", OBJECTIVE_LAMBDARANK}, {"rank:ndcg", OBJECTIVE_LAMBDARANK},
    {"regression", OBJECTIVE_REGRESSION}, {"regression_l2", OBJECTIVE_REGRESSION}, {"l2", OBJECTIVE_REGRESSION}, {"mse", OBJECTIVE_REGRESSION}, {"mean_squared_error", OBJECTIVE_REGRESSION}, {"reg:squarederror", OBJECTIVE_REGRESSION},
    {"binary", OBJECTIVE_BINARY}, {"binary:logistic", OBJECTIVE_BINARY},
    {"multiclass", OBJECTIVE_MULTICLASS}, {"softmax", OBJECTIVE_MULTICLASS}, {"multi:softprob", OBJECTIVE_MULTICLASS}, {"multi:softmax", OBJECTIVE_MULTICLASS},
    {"multiclassova", OBJECTIVE_MULTICLASSOVA}, {"multiclass_ova", OBJECTIVE_MULTICLASSOVA}, {"ova", OBJECTIVE_MULTICLASSOVA}, {"ovr", OBJECTIVE_MULTICLASSOVA},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

const char *objective_name(const objective *o)
{
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].kind == o->kind) return kinds[i].name;
    return o->kind == OBJECTIVE_LIST ? o->options->objective : "custom";
}

bool objective_kind_of(crank_context *context, const char *name, objective_kind *kind, const crank_list_objective **list)
{
    *list = NULL;
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) return *kind = kinds[i].kind, true;
    *kind = OBJECTIVE_LIST;
    if ((*list = crank_list_objective_find(name))) return true;
    const char *names[128];
    size_t      count = 0;
    for (; count < KINDS; count++) names[count] = kinds[count].name;
    for (const crank_list_objective *each; count < 128 && (each = crank_list_objective_at(count - KINDS)); count++) names[count] = each->name;
    const char *near = crank_closest(name, names, count);
    return crank_fail(context, CRANK_USAGE, "no objective `%s` for trees%s%s%s; there are lambdarank, regression, binary, multiclass, multiclassova and the list objectives", name, near ? "; did you mean `" : "",
                      near ? near : "", near ? "`?" : ""), false;
}

static bool has_classes(objective_kind kind) { return kind == OBJECTIVE_MULTICLASS || kind == OBJECTIVE_MULTICLASSOVA; }

int64_t objective_outputs(crank_context *context, const crank_tree_options *options, objective_kind kind)
{
    if (has_classes(kind) && options->num_class < 2)
        return crank_fail(context, CRANK_USAGE, "objective %s needs num_class, the number of classes, from 2 on", options->objective), 0;
    if (!has_classes(kind) && options->num_class != 1)
        return crank_fail(context, CRANK_USAGE, "num_class is %lld, and objective %s learns one score: leave num_class out, or take objective multiclass", (long long)options->num_class, options->objective), 0;
    return options->num_class;
}

bool objective_has_classes(const char *name)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) return has_classes(kinds[i].kind);
    return false;
}

void objective_defaults(crank_tree_options *o)
{
    bool ranks = false;
    for (size_t i = 0; i < KINDS; i++) ranks |= kinds[i].kind == OBJECTIVE_LAMBDARANK && strcmp(kinds[i].name, o->objective) == 0;
    if (o->learning_rate <= 0) o->learning_rate = fmin(0.1, 10 / (double)o->num_iterations);
    if (o->min_data_in_leaf < 0) o->min_data_in_leaf = ranks ? 1 : 20;
    if (o->lambda_l2 < 0) o->lambda_l2 = ranks ? 1 : 0;
}

/* Labels of classes: 0 .. K - 1 */
static bool check_classes(crank_context *context, const crank_tree_data *data, int64_t classes)
{
    for (int64_t i = 0; i < data->rows; i++)
        if (!(data->labels[i] >= 0 && (double)data->labels[i] < (double)classes && data->labels[i] == floorf(data->labels[i])))
            return crank_fail(context, CRANK_BAD_DATA, "row %lld: label %g is no class; with num_class=%lld labels are whole numbers from 0 to %lld", (long long)i + 1, (double)data->labels[i],
                              (long long)classes, (long long)classes - 1), false;
    return true;
}

bool objective_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, objective *o)
{
    *o = (objective){.context = context, .options = options, .data = data, .one = {0, (int32_t)data->rows}};
    o->offsets = data->offsets ? data->offsets : o->one;
    o->queries = data->offsets ? data->queries : 1;
    if (!objective_kind_of(context, options->objective, &o->kind, &o->list) || !(o->outputs = objective_outputs(context, options, o->kind))) return false;
    if (has_classes(o->kind)) return check_classes(context, data, o->outputs);
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

/* scores, g, h [outputs, rows] */
static void class_gradient(const objective *o, const double *scores, float *g, float *h)
{
    const crank_tree_data *d = o->data;
    int64_t                n = d->rows, K = o->outputs;
    double                 a = o->options->sigmoid, factor = (double)K / (double)(K - 1);
#pragma omp parallel for num_threads(crank_threads(o->context)) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double  w = d->weights ? (double)d->weights[i] : 1, top = scores[i], sum = 0;
        int64_t label = (int64_t)d->labels[i];
        for (int64_t k = 1; k < K; k++) top = fmax(top, scores[k * n + i]);
        for (int64_t k = 0; o->kind == OBJECTIVE_MULTICLASS && k < K; k++) sum += exp(scores[k * n + i] - top);
        for (int64_t k = 0; k < K; k++) {
            double s = scores[k * n + i], y = k == label;
            double p = o->kind == OBJECTIVE_MULTICLASS ? exp(s - top) / sum : 1 / (1 + exp(-a * s));
            g[k * n + i] = (float)(o->kind == OBJECTIVE_MULTICLASS ? w * (p - y) : a * w * (p - y));
            h[k * n + i] = (float)(o->kind == OBJECTIVE_MULTICLASS ? factor * w * p * (1 - p) : a * a * w * p * (1 - p));
        }
    }
}

crank_status objective_gradient(objective *o, const double *scores, float *g, float *h)
{
    const crank_tree_data *d = o->data;
    double                 a = o->options->sigmoid;
    if (o->kind == OBJECTIVE_LAMBDARANK) return lambda_gradient(o->context, o->options, &o->lambda, scores, d->weights, g, h);
    if (o->kind == OBJECTIVE_LIST) return list_gradient(o, scores, g, h);
    if (has_classes(o->kind)) return class_gradient(o, scores, g, h), CRANK_OK;
    bool binary = o->kind == OBJECTIVE_BINARY;
#pragma omp parallel for num_threads(crank_threads(o->context)) schedule(static)
    for (int64_t i = 0; i < d->rows; i++) {
        double w = d->weights ? (double)d->weights[i] : 1, p = binary ? 1 / (1 + exp(-a * scores[i])) : 0;
        g[i] = (float)(binary ? a * w * (p - (d->labels[i] > 0)) : w * (scores[i] - (double)d->labels[i]));
        h[i] = (float)(binary ? a * a * w * p * (1 - p) : w);
    }
    return CRANK_OK;
}

double objective_base(const objective *o, int64_t output)
{
    const crank_tree_data *d = o->data;
    bool                   classes = has_classes(o->kind), binary = o->kind == OBJECTIVE_BINARY;
    double                 sum = 0, total = 0;
    if (!o->options->boost_from_average || !(binary || classes || o->kind == OBJECTIVE_REGRESSION)) return 0;
    for (int64_t i = 0; i < d->rows; i++) {
        double w = d->weights ? (double)d->weights[i] : 1, y = (double)d->labels[i];
        sum += w * (classes ? (int64_t)y == output : binary ? y > 0 : y);
        total += w;
    }
    double mean = total > 0 ? sum / total : 0;
    if (o->kind == OBJECTIVE_REGRESSION) return mean;
    mean = fmin(fmax(mean, 1e-15), 1 - 1e-15);
    return o->kind == OBJECTIVE_MULTICLASS ? log(mean) : log(mean / (1 - mean)) / o->options->sigmoid;
}
