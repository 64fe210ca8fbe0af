/* rank_clicks_em.c - relevance by regression-EM with boosted trees (Wang et al. 2018): what an item's features say of its relevance helps the
 * click model, so that items with few sessions are not judged by them alone.
 *
 *     g = sigmoid(trees(x)), e examination by place.  E: no click: P(r) = (1-e) g / (1 - e g), P(o) = e (1-g) / (1 - e g); a click: both 1
 *     M: trees of the logistic loss on each item's mean P(r), weighed by its lines; e = mean P(o) of the place */
#include <math.h>

#include "cli/rank.h"

enum { ROUNDS = 8, TREES = 40 };

typedef struct em {
    cli_call           *cli;
    const letor_set    *set;
    const click_log    *log;
    crank_tree_options *tree;
    crank_tree_data     rows; /* of the set; its labels and weights are those below */
    double             *raw, *examined, *lines, *sums; /* [rows]; [contexts, places] with sums of P(o) and counts behind */
    float              *relevance, *weight;            /* [rows] */
} em;

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static void expect(em *m)
{
    const click_log *log = m->log;
    int64_t          cells = log->contexts * log->places;
    double          *seen = m->examined + cells, *shown = seen + cells;
    for (int64_t k = 0; k < cells; k++) seen[k] = shown[k] = 0;
    for (int64_t i = 0; i < m->set->rows; i++) m->sums[i] = m->lines[i] = 0;
    for (int64_t s = 0; s < log->sessions; s++)
        for (int64_t i = log->starts[s]; i < log->starts[s + 1]; i++) {
            int64_t k = log->context[s] * log->places + log->place[i];
            double  g = sigmoid(m->raw[log->item[i]]), e = m->examined[k], none = fmax(1 - e * g, 1e-12);
            m->sums[log->item[i]] += log->click[i] ? 1 : (1 - e) * g / none;
            m->lines[log->item[i]]++;
            seen[k] += log->click[i] ? 1 : e * (1 - g) / none;
            shown[k]++;
        }
    for (int64_t k = 0; k < cells; k++)
        if (shown[k] > 0) m->examined[k] = fmin(fmax(seen[k] / shown[k], 1e-6), 1 - 1e-6);
    for (int64_t i = 0; i < m->set->rows; i++) {
        m->relevance[i] = m->lines[i] > 0 ? (float)(m->sums[i] / m->lines[i]) : 0;
        m->weight[i] = (float)m->lines[i];
    }
}

static crank_status maximise(em *m)
{
    crank_trees *trees = crank_trees_fit(m->cli->context, m->tree, &m->rows, NULL, NULL, NULL, NULL);
    crank_status status = trees ? crank_trees_predict(m->cli->context, trees, &m->rows, true, m->raw) : crank_last_status(m->cli->context);
    crank_trees_free(trees);
    return status;
}

static crank_status open(em *m)
{
    crank_context *context = m->cli->context;
    size_t         rows = (size_t)m->set->rows + 1, cells = (size_t)(m->log->contexts * m->log->places);
    m->raw = crank_alloc(context, rows, sizeof *m->raw, "scores");
    m->sums = crank_alloc(context, rows, sizeof *m->sums, "relevance");
    m->lines = crank_alloc(context, rows, sizeof *m->lines, "relevance");
    m->weight = crank_alloc(context, rows, sizeof *m->weight, "weights");
    m->examined = crank_alloc(context, 3 * cells + 1, sizeof *m->examined, "examination");
    m->tree = crank_options_new(context, crank_trees_options(), sizeof *m->tree);
    if (!m->raw || !m->sums || !m->lines || !m->weight || !m->examined || !m->tree) return CRANK_FAILED;
    for (size_t k = 0; k < cells; k++) m->examined[k] = 0.9;
    crank_status status = crank_options_set(context, crank_trees_options(), m->tree, "objective", "point_logistic", "regression-EM");
    m->tree->num_iterations = TREES;
    if (status == CRANK_OK) status = rank_tree_data(context, m->set, m->cli->words[1], &m->rows);
    m->rows.labels = m->relevance, m->rows.weights = m->weight, m->rows.init = NULL;
    return status;
}

crank_status rank_clicks_regression_em(cli_call *cli, const letor_set *set, const click_log *log, float *relevance)
{
    em           m = {.cli = cli, .set = set, .log = log, .relevance = relevance};
    crank_status status = open(&m);
    for (int round = 0; status == CRANK_OK && round < ROUNDS; round++) {
        expect(&m);
        status = maximise(&m);
    }
    if (status == CRANK_OK) expect(&m);
    crank_free(m.raw), crank_free(m.sums), crank_free(m.lines), crank_free(m.weight), crank_free(m.examined);
    crank_options_free(m.tree);
    return status;
}
