/* rank_clicks_eval.c - crank rank eval --clicks LOG MODEL DATA: what a ranker is worth by clicks on another order, against that order or a
 * second model. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/rank.h"
#include "rank/rank.h"

/* Scores of a model of any kind: [rows] */
static crank_status score_trees(cli_call *cli, const char *path, const letor_set *set, float *scores)
{
    crank_tree_data rows;
    crank_trees    *trees = crank_trees_load(cli->context, path);
    double         *values = trees ? crank_alloc(cli->context, (size_t)set->rows + 1, (size_t)crank_trees_outputs(trees) * sizeof *values, "scores") : NULL;
    crank_status    status = values ? rank_tree_data(cli->context, set, path, &rows) : crank_last_status(cli->context);
    if (status == CRANK_OK && crank_trees_outputs(trees) != 1) status = crank_fail(cli->context, CRANK_USAGE, "%s gives %lld scores a row: a ranker gives one", path, (long long)crank_trees_outputs(trees));
    if (status == CRANK_OK) status = crank_trees_predict(cli->context, trees, &rows, true, values);
    for (int64_t i = 0; status == CRANK_OK && i < set->rows; i++) scores[i] = (float)values[i];
    crank_free(values);
    crank_trees_free(trees);
    return status;
}

static float *scores_of(cli_call *cli, const char *path, const letor_set *set)
{
    float       *scores = crank_alloc(cli->context, (size_t)set->rows + 1, sizeof *scores, "scores");
    rank_net    *net = scores && rank_net_is(path) ? rank_net_load(cli->context, path) : NULL;
    crank_status status = !scores ? CRANK_FAILED : net ? rank_net_scores(net, set, scores) : rank_net_is(path) ? crank_last_status(cli->context) : score_trees(cli, path, set, scores);
    rank_net_free(net);
    if (status == CRANK_OK) return scores;
    crank_free(scores);
    return NULL;
}

/* ---- eval ---- */

typedef struct evaluation {
    letor_set      *set;
    click_log      *log;
    click_curve    *curve;
    float          *scores, *against; /* against NULL: the order shown */
    click_earned   *a, *b;            /* [log->queries] */
    click_intervals spread;
} evaluation;

static crank_status open_evaluation(cli_call *cli, letor_options *data, evaluation *e)
{
    const rank_flags  *o = cli->options;
    const rank_section section = {"data", letor_option_table, data};
    if (cli->word_count < 3 || !o->clicks) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank eval --clicks LOG --propensity FILE MODEL DATA");
    if (!o->propensity)
        return crank_fail(cli->context, CRANK_USAGE, "eval weighs clicks by the examination of their places: --propensity FILE (crank rank propensity makes one; {\"propensity\": [1]} weighs all alike)");
    crank_status status = rank_read_words(cli, 3, &section, 1, NULL);
    if (status != CRANK_OK) return status;
    bool good = (e->curve = rank_clicks_known(cli)) && (e->set = letor_read(cli->context, cli->words[2], data)) && (e->log = click_log_read(cli->context, o->clicks, e->set)) &&
                (e->scores = scores_of(cli, cli->words[1], e->set)) && (!o->against || (e->against = scores_of(cli, o->against, e->set)));
    if (!good) return crank_last_status(cli->context);
    e->a = crank_alloc(cli->context, (size_t)e->log->queries + 1, sizeof *e->a, "clicks by query");
    e->b = crank_alloc(cli->context, (size_t)e->log->queries + 1, sizeof *e->b, "clicks by query");
    return e->a && e->b ? CRANK_OK : CRANK_FAILED;
}

static json_t *json_of(double value, click_interval in, double against, click_interval less)
{
    return json_pack("{s:f, s:[f,f], s:f, s:f, s:[f,f]}", "value", value, "interval", in.low, in.high, "against", against, "difference", value - against, "difference_interval", less.low, less.high);
}

static crank_status print_evaluation(cli_call *cli, const evaluation *e)
{
    const rank_flags *o = cli->options;
    click_estimate    a = click_estimate_of(e->a, NULL, e->log->queries), b = click_estimate_of(e->b, NULL, e->log->queries);
    const char       *other = o->against ? o->against : "the order shown";
    char              cut[32] = "";
    if (o->at) snprintf(cut, sizeof cut, "@%lld", (long long)o->at);
    if (!cli->common.json) {
        printf("%.0f sessions, %.0f clicks, effective sample size %.1f\n", a.sessions, a.clicks, a.effective);
        printf("IPS DCG%s    %.6f [%.6f, %.6f]   %s %.6f   difference %+.6f [%+.6f, %+.6f]\n", cut, a.ips, e->spread.ips.low, e->spread.ips.high, other, b.ips, a.ips - b.ips,
               e->spread.ips_less.low, e->spread.ips_less.high);
        printf("SNIPS DCG%s  %.6f [%.6f, %.6f]   %s %.6f   difference %+.6f [%+.6f, %+.6f]\n", cut, a.snips, e->spread.snips.low, e->spread.snips.high, other, b.snips, a.snips - b.snips,
               e->spread.snips_less.low, e->spread.snips_less.high);
        return CRANK_OK;
    }
    json_t *root = json_pack("{s:s, s:s, s:f, s:f, s:f, s:I, s:f, s:o, s:o}", "model", cli->words[1], "against", other, "sessions", a.sessions, "clicks", a.clicks, "effective_sample_size",
                             a.effective, "at", (json_int_t)o->at, "most", o->most, "ips", json_of(a.ips, e->spread.ips, b.ips, e->spread.ips_less), "snips",
                             json_of(a.snips, e->spread.snips, b.snips, e->spread.snips_less));
    char *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

crank_status rank_clicks_verb_eval(cli_call *cli, letor_options *data)
{
    const rank_flags      *o = cli->options;
    click_estimate_options how = {.most = o->most, .at = o->at, .whole = o->whole};
    evaluation             e = {0};
    crank_status           status = open_evaluation(cli, data, &e);
    if (status == CRANK_OK) status = click_earn(cli->context, e.log, e.set, e.scores, e.curve, &how, e.a);
    if (status == CRANK_OK) status = click_earn(cli->context, e.log, e.set, e.against, e.curve, &how, e.b);
    if (status == CRANK_OK) status = click_bootstrap(cli->context, e.a, e.b, e.log->queries, o->resamples, 1, &e.spread);
    if (status == CRANK_OK) status = print_evaluation(cli, &e);
    crank_free(e.scores), crank_free(e.against), crank_free(e.a), crank_free(e.b);
    click_curve_free(e.curve);
    click_log_free(e.log);
    letor_free(e.set);
    return status;
}
