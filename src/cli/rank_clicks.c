/* rank_clicks.c - crank rank with clicks: fit --clicks LOG, propensity (examination curves), simulate (click logs of made-up users). */
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "cli/rank.h"
#include "rank/unbiased.h"

/* ---- fit --clicks ---- */

click_curve *rank_clicks_known(cli_call *cli)
{
    const rank_flags *o = cli->options;
    return o->propensity ? click_curve_read(cli->context, o->propensity) : NULL;
}

static crank_status print_curve(cli_call *cli, const click_curve *curve)
{
    char *text = cli->common.json ? click_curve_text(cli->context, curve) : NULL;
    if (cli->common.json && !text) return CRANK_FAILED;
    if (text) puts(text);
    for (int64_t g = 0; !text && g < curve->contexts; g++)
        for (int64_t i = 0; i < curve->places; i++) {
            if (curve->contexts > 1) printf("%lld\t", (long long)g);
            printf("%lld\t%.4f\n", (long long)i + 1, curve->value[g * curve->places + i] / curve->value[g * curve->places]);
        }
    crank_free(text);
    return CRANK_OK;
}

/* The labels become relevance estimated from the log, and rows that were never shown go. */
crank_status rank_relevance_of(cli_call *cli, letor_set **set, const click_log *log)
{
    const rank_flags *o = cli->options;
    click_curve      *known = rank_clicks_known(cli);
    float            *relevance = crank_alloc(cli->context, (size_t)(*set)->rows + 1, sizeof *relevance, "relevance");
    bool             *keep = relevance ? crank_alloc(cli->context, (size_t)(*set)->rows + 1, sizeof *keep, "relevance") : NULL;
    bool              rate = !strcmp(o->relevance, "rate"), ipw = !strcmp(o->relevance, "ipw");
    crank_status      status = keep && (known || !o->propensity) ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && ipw && !known) status = crank_fail(cli->context, CRANK_USAGE, "--relevance ipw needs --propensity FILE (crank rank propensity makes one)");
    if (status == CRANK_OK && (rate || ipw)) status = click_rates(cli->context, log, ipw ? known : NULL, 0, relevance);
    else if (status == CRANK_OK && !strcmp(o->relevance, "regression-em")) status = rank_clicks_regression_em(cli, *set, log, relevance);
    else if (status == CRANK_OK) {
        click_model model;
        status = click_model_fit(cli->context, log, o->relevance, 50, &model);
        for (int64_t i = 0; status == CRANK_OK && i < (*set)->rows; i++) relevance[i] = (float)model.relevance[i];
        if (status == CRANK_OK) click_model_free(&model);
    }
    letor_set *part = NULL;
    if (status == CRANK_OK) {
        memcpy((*set)->labels, relevance, (size_t)(*set)->rows * sizeof *relevance);
        for (int64_t i = 0; i < log->shown; i++) keep[log->item[i]] = true;
        part = rank_take(cli->context, *set, NULL, (*set)->queries, keep);
        status = part ? CRANK_OK : CRANK_FAILED;
    }
    if (part) letor_free(*set), *set = part;
    crank_free(relevance), crank_free(keep);
    click_curve_free(known);
    return status;
}

crank_status rank_clicks_relevance(cli_call *cli, letor_set **set)
{
    const rank_flags *o = cli->options;
    click_log        *log = click_log_read(cli->context, o->clicks, *set);
    crank_status      status = log ? rank_relevance_of(cli, set, log) : crank_last_status(cli->context);
    click_log_free(log);
    return status;
}

rank_net *rank_clicks_fit(cli_call *cli, rank_fit *how, const unbiased_options *options, const letor_set *train, const letor_set *valid)
{
    const rank_flags *o = cli->options;
    click_curve      *known = rank_clicks_known(cli);
    click_log        *log = known || !o->propensity ? click_log_read(cli->context, o->clicks, train) : NULL;
    rank_net         *net = log ? unbiased_fit(cli->context, how, options, train, log, known, valid, NULL) : NULL;
    click_curve_free(known);
    click_log_free(log);
    return net;
}

/* ---- propensity ---- */

static click_curve *curve_of_model(cli_call *cli, const click_log *log, const char *kind)
{
    click_model  model;
    click_curve *curve = NULL;
    if (!strcmp(kind, "random")) return click_curve_of_random(cli->context, log);
    if (strcmp(kind, "pbm") && strcmp(kind, "ubm")) {
        crank_fail(cli->context, CRANK_USAGE, "model=%s: pbm, ubm (before any click), random (sessions in random order), or with DATA dla, regression-em, pair-debias", kind);
        return NULL;
    }
    if (click_model_fit(cli->context, log, kind, 50, &model) != CRANK_OK) return NULL;
    curve = click_curve_new(cli->context, model.contexts, model.places);
    for (int64_t k = 0; curve && k < model.contexts * model.places; k++) curve->value[k] = model.curve[k] / model.curve[k / model.places * model.places];
    click_model_free(&model);
    return curve;
}

typedef struct learning {
    rank_options     *ranker;
    unbiased_options *clicks;
    letor_options    *data;
    letor_set        *set;
} learning;

static click_curve *curve_of_learning(cli_call *cli, learning *l, const click_log *log, const char *kind)
{
    click_curve *curve = NULL;
    rank_fit     how = {.options = l->ranker};
    if (crank_options_set(cli->context, unbiased_option_table, l->clicks, "method", kind, "command line") != CRANK_OK) return NULL;
    rank_net *net = unbiased_fit(cli->context, &how, l->clicks, l->set, log, NULL, NULL, &curve);
    rank_net_free(net);
    return curve;
}

crank_status rank_clicks_verb_propensity(cli_call *cli)
{
    const rank_flags *o = cli->options;
    const char       *kind = rank_word(cli, 2, "model");
    bool              joined = cli->word_count > 2 && !strchr(cli->words[2], '=');
    learning          l = {crank_options_new(cli->context, rank_option_table, sizeof *l.ranker), crank_options_new(cli->context, unbiased_option_table, sizeof *l.clicks),
                           crank_options_new(cli->context, letor_option_table, sizeof *l.data), NULL};
    crank_status      status = l.ranker && l.clicks && l.data ? CRANK_OK : CRANK_FAILED;
    const rank_section sections[] = {{"data", letor_option_table, l.data}, {"fit", rank_option_table, l.ranker}, {"clicks", unbiased_option_table, l.clicks}};
    if (status == CRANK_OK) status = rank_read_words(cli, joined ? 3 : 2, sections, 3, NULL);
    if (!kind) kind = joined ? "dla" : "pbm";
    if (status == CRANK_OK && joined && !(l.set = letor_read(cli->context, cli->words[2], l.data))) status = crank_last_status(cli->context);
    click_log   *log = status == CRANK_OK ? click_log_read(cli->context, cli->words[1], l.set) : NULL;
    bool         learns = l.set && (!strcmp(kind, "dla") || !strcmp(kind, "regression-em") || !strcmp(kind, "pair-debias"));
    click_curve *curve = !log ? NULL : learns ? curve_of_learning(cli, &l, log, kind) : curve_of_model(cli, log, kind);
    if (status == CRANK_OK) status = curve ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && o->out) status = click_curve_write(cli->context, o->out, curve);
    if (status == CRANK_OK) status = print_curve(cli, curve);
    click_curve_free(curve);
    click_log_free(log);
    letor_free(l.set);
    crank_options_free(l.ranker), crank_options_free(l.clicks), crank_options_free(l.data);
    return status;
}

/* ---- simulate ---- */

crank_status rank_clicks_verb_simulate(cli_call *cli, letor_options *data)
{
    const rank_flags  *o = cli->options;
    click_simulator   *users = crank_options_new(cli->context, click_simulator_table, sizeof *users);
    const rank_section sections[] = {{"data", letor_option_table, data}, {"user", click_simulator_table, users}};
    crank_status       status = users ? rank_read_words(cli, 2, sections, 2, NULL) : CRANK_FAILED;
    if (status == CRANK_OK && !o->out) status = crank_fail(cli->context, CRANK_USAGE, "crank rank simulate needs --out LOG");
    letor_set *set = status == CRANK_OK ? letor_read(cli->context, cli->words[1], data) : NULL;
    rank_net  *net = set && o->init ? rank_net_load(cli->context, o->init) : NULL;
    float     *order = net ? crank_alloc(cli->context, (size_t)set->rows + 1, sizeof *order, "scores") : NULL;
    if (status == CRANK_OK) status = set && (order || !o->init) ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && !set->offsets) status = crank_fail(cli->context, CRANK_BAD_DATA, "%s: clicks need queries", cli->words[1]);
    if (status == CRANK_OK && net) status = rank_net_scores(net, set, order);
    click_log *log = status == CRANK_OK ? unbiased_simulate(cli->context, set, users, order, o->shuffled, 0, o->rounds) : NULL;
    if (status == CRANK_OK) status = log ? click_log_write(cli->context, o->out, log, set) : crank_last_status(cli->context);
    if (status == CRANK_OK) printf("%s: %lld sessions, %lld items shown\n", o->out, (long long)log->sessions, (long long)log->shown);
    click_log_free(log);
    crank_free(order);
    rank_net_free(net);
    letor_free(set);
    crank_options_free(users);
    return status;
}
