/* measure.c - how good rows held out are scored: NDCG of metric/, or the mean loss.
 *
 * NDCG takes the gains of the option label_gain (metric/ sees them as linear ones) and leaves out queries without an item of gain. The
 * losses are those that are learned: squared, logistic, -log softmax of the row's class, or summed over the classes one against the rest. */
#include <stdio.h>

#include "crank/metric.h"
#include "tree/objective.h"
#include "tree/shared.h"

bool measure_is_ndcg(const crank_tree_options *options, const crank_tree_data *data) { return data->offsets && !objective_has_classes(options->objective); }

bool measure_open(crank_context *context, const crank_tree_options *options, const crank_tree_data *data, measure *m)
{
    const crank_list_objective *list;
    *m = (measure){.context = context, .options = options, .data = data};
    if (!objective_kind_of(context, options->objective, &m->kind, &list) || !(m->outputs = objective_outputs(context, options, m->kind))) return false;
    if (!data->offsets && (m->kind == OBJECTIVE_LAMBDARANK || m->kind == OBJECTIVE_LIST))
        return crank_fail(context, CRANK_BAD_DATA, "the validation data name no queries, and objective %s is measured by NDCG: write qid:N in SVMlight lines, name a table's column with data.query=COLUMN, or put the sizes into DATA.query", options->objective), false;
    for (int64_t i = 0; m->outputs > 1 && i < data->rows; i++)
        if (!(data->labels[i] >= 0 && (double)data->labels[i] < (double)m->outputs && data->labels[i] == floorf(data->labels[i])))
            return crank_fail(context, CRANK_BAD_DATA, "validation row %lld: label %g is no class from 0 to %lld", (long long)i + 1, (double)data->labels[i], (long long)m->outputs - 1), false;
    m->more_is_better = measure_is_ndcg(options, data);
    if (!m->more_is_better) return true;
    snprintf(m->name, sizeof m->name, "ndcg@%lld", (long long)options->eval_at);
    m->gain = label_gains(context, options, data);
    m->scores = crank_alloc(context, (size_t)data->rows + 1, sizeof *m->scores, "scores of validation");
    return m->gain && m->scores;
}

void measure_close(measure *m)
{
    crank_free(m->gain);
    crank_free(m->scores);
}

/* log(1 + e^-x) */
static double log_loss(double x) { return x > 0 ? log1p(exp(-x)) : log1p(exp(x)) - x; }

static double class_loss(const measure *m, const double *scores, int64_t i)
{
    int64_t n = m->data->rows, label = (int64_t)m->data->labels[i];
    double  top = scores[i], sum = 0;
    for (int64_t k = 1; k < m->outputs; k++) top = fmax(top, scores[k * n + i]);
    for (int64_t k = 0; k < m->outputs; k++) {
        double s = scores[k * n + i];
        sum += m->kind == OBJECTIVE_MULTICLASS ? exp(s - top) : log_loss(m->options->sigmoid * (k == label ? s : -s));
    }
    return m->kind == OBJECTIVE_MULTICLASS ? log(sum) + top - scores[label * n + i] : sum;
}

static double mean_loss(const measure *m, const double *scores)
{
    double sum = 0, total = 0, a = m->options->sigmoid;
    for (int64_t i = 0; i < m->data->rows; i++) {
        double w = m->data->weights ? (double)m->data->weights[i] : 1, y = (double)m->data->labels[i], s = scores[i];
        sum += w * (m->outputs > 1 ? class_loss(m, scores, i) : m->kind == OBJECTIVE_BINARY ? log_loss(a * (y > 0 ? s : -s)) : (s - y) * (s - y));
        total += w;
    }
    return total > 0 ? sum / total : NAN;
}

double measure_of(measure *m, const double *scores)
{
    if (!m->more_is_better) return mean_loss(m, scores);
    const crank_metric_options how = {.gain = CRANK_GAIN_LINEAR, .empty = CRANK_EMPTY_SKIP};
    double                     mean;
    int64_t                    counted;
    for (int64_t i = 0; i < m->data->rows; i++) m->scores[i] = (float)scores[i];
    if (crank_metric(m->context, m->name, &how, m->data->queries, m->data->offsets, m->scores, m->gain, NULL, &mean, &counted, NULL) != CRANK_OK || !counted) return NAN;
    return mean;
}
