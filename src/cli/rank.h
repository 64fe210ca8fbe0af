/* rank.h - what the parts of `crank rank` share: the verb's options, the words behind an action, and scores written out. */
#ifndef CRANK_CLI_RANK_H
#define CRANK_CLI_RANK_H

#include "cli/cli.h"
#include "crank/tree.h"
#include "data/letor.h"
#include "rank/unbiased.h"

typedef struct rank_flags {
    const char *out, *valid, *init, *tag, *html, *clicks, *propensity, *relevance, *against;
    int64_t     rounds, folds, at, resamples;
    double      most;
    bool        trec, raw, shuffled, shap, online, whole;
} rank_flags;

/* One section of words "PREFIX.key=value". */
typedef struct rank_section {
    const char         *prefix; /* "fit" */
    const crank_option *table;
    void               *options;
} rank_section;
/* The value of the word "NAME=.." behind the first `first` words, or NULL. */
const char  *rank_word(const cli_call *cli, int first, const char *name);
/* Sets every word behind `first`; "model" and what `skip` names ("loss.", "optim.") is left to the caller. */
crank_status rank_read_words(cli_call *cli, int first, const rank_section *sections, int count, const char *const *skip);

/* Scores [rows, outputs] as lines (--json: objects), or as a TREC run with --trec, to --out or standard output. */
crank_status rank_write_scores(cli_call *cli, const letor_set *set, const double *scores, int64_t outputs);

/* Trees: rank_tree*.c. */
crank_status rank_tree_words(cli_call *cli, int first, crank_tree_options *tree, letor_options *data); /* tree.KEY (unless NULL) and data.KEY */
crank_status rank_tree_data(crank_context *context, const letor_set *set, const char *path, crank_tree_data *out); /* shares the set's arrays */
crank_status rank_tree_verb_fit(cli_call *cli, crank_tree_options *tree, letor_options *data);
crank_status rank_tree_verb_predict(cli_call *cli, letor_options *data);
crank_status rank_tree_verb_explain(cli_call *cli, letor_options *data);
crank_status rank_tree_verb_cv(cli_call *cli, crank_tree_options *tree, letor_options *data);
crank_status rank_tree_verb_export(cli_call *cli);
/* A page of the fitted model; valid may be NULL. measures [count]: of validation after each tree, NaN: none */
crank_status rank_tree_page(cli_call *cli, const char *path, const crank_trees *trees, const crank_tree_options *options, const crank_tree_data *train, const crank_tree_data *valid, const double *measures, size_t count);

/* Clicks: rank_clicks.c. */
struct rank_net *rank_clicks_fit(cli_call *cli, rank_fit *how, const unbiased_options *options, const letor_set *train, const letor_set *valid);
crank_status     rank_clicks_relevance(cli_call *cli, letor_set **set); /* --relevance: labels from --clicks */
crank_status     rank_relevance_of(cli_call *cli, letor_set **set, const click_log *log);
crank_status     rank_clicks_regression_em(cli_call *cli, const letor_set *set, const click_log *log, float *relevance); /* [rows] */
click_curve     *rank_clicks_known(cli_call *cli);                      /* --propensity */
crank_status     rank_clicks_verb_eval(cli_call *cli, letor_options *data);
crank_status     rank_clicks_verb_propensity(cli_call *cli);
crank_status     rank_clicks_verb_simulate(cli_call *cli, letor_options *data);

/* Folds by query: rank_cv.c. `learn` scores the lists held out by what it learns from the others (and their sessions; NULL without
 * --clicks); it may replace *train. */
typedef crank_status rank_cv_fit(void *user, letor_set **train, const click_log *log, const letor_set *held, float *scores);
crank_status rank_cv(cli_call *cli, const letor_set *set, uint64_t seed, const char *measure, rank_cv_fit *learn, void *user);
crank_status rank_cv_trees(cli_call *cli, crank_tree_options *tree, letor_options *data);

/* The rankers that are no trees: rank_net.c. */
crank_status rank_net_verb_cv(cli_call *cli);
crank_status rank_net_verb_fit(cli_call *cli);
crank_status rank_net_verb_predict(cli_call *cli, letor_options *data);
crank_status rank_net_verb_explain(cli_call *cli);
#endif
