/* rank.c - crank rank: rankers of feature vectors: fit, predict, explain, eval, cv, export. Boosted trees are in rank_tree.c; the others in rank_net.c. */
#include <string.h>

#include "cli/rank.h"
#include "rank/rank.h"

static const crank_option option_table[] = {
    CRANK_STRING(rank_flags, out, NULL, "fit, export: where the model goes; predict: where the scores go (default: standard output)"),
    CRANK_STRING(rank_flags, valid, NULL, "fit: data held out, for NDCG and early stopping"),
    CRANK_STRING(rank_flags, init, NULL, "fit: learning goes on from this model; simulate: the ranker (no trees) whose order users see"),
    CRANK_STRING(rank_flags, clicks, NULL, "fit, cv: a click log, joined with DATA by query and document, to learn from instead of labels; eval: to judge by"),
    CRANK_STRING(rank_flags, propensity, NULL, "fit, eval, cv: examination by place, as crank rank propensity writes it"),
    CRANK_CHOICE(rank_flags, relevance, "none", "none|rate|ipw|regression-em|pbm|ubm|trust|cascade|dcm|sdbn", "fit: labels are estimated from --clicks first; any model then learns from them"),
    CRANK_INT(rank_flags, rounds, 1, 1, 1000000, "simulate: sessions of each query"),
    CRANK_BOOL(rank_flags, shuffled, false, "simulate: items in random order"),
    CRANK_STRING(rank_flags, tag, "crank", "predict: name of the run in a TREC file"),
    CRANK_STRING(rank_flags, html, NULL, "fit: a page with the curve of validation and the columns by gain (trees)"),
    CRANK_BOOL(rank_flags, trec, false, "predict: write a TREC run (query Q0 document rank score tag)"),
    CRANK_BOOL(rank_flags, raw, false, "predict: sums of leaves, not through the objective's link"),
    CRANK_BOOL(rank_flags, shap, false, "explain: what each column adds to the scores of DATA (Shapley values); --out writes those of every row"),
    CRANK_INT(rank_flags, folds, 5, 2, 1000000, "cv: parts of the queries, each held out once"),
    CRANK_BOOL(rank_flags, online, false, "fit: learn from users (user.KEY, by the labels of DATA) who click on what the ranker shows"),
    CRANK_STRING(rank_flags, against, NULL, "eval: a second model to compare with, instead of the order shown"),
    CRANK_INT(rank_flags, at, 10, 0, 1000000, "eval, cv on clicks: DCG of the first ranks; 0: of all"),
    CRANK_FLOAT(rank_flags, most, 20, 0, 1e9, "eval, cv on clicks: largest weight of a click; 0: any"),
    CRANK_BOOL(rank_flags, whole, false, "eval, cv on clicks: ranks among all items of the query, not among those of the session"),
    CRANK_INT(rank_flags, resamples, 1000, 20, 1000000, "eval: draws of the queries behind the intervals"),
    CRANK_END
};

/* Whether the word model= names a ranker that is no tree. */
static crank_status is_no_tree(cli_call *cli, bool *net)
{
    static const char *const models[] = {"tree", "linear", "mlp", "attention", "coordinate-ascent"};
    enum { MODELS = sizeof models / sizeof *models };
    const char *model = rank_word(cli, 2, "model");
    int         i = 0;
    while (model && i < MODELS && strcmp(models[i], model) != 0) i++;
    *net = i > 0;
    if (i == MODELS) return crank_fail(cli->context, CRANK_USAGE, "there is no model `%s`; model= is one of tree, linear, mlp, attention and coordinate-ascent", model);
    return CRANK_OK;
}

static crank_status fit(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    bool         net;
    crank_status status = is_no_tree(cli, &net);
    return status != CRANK_OK ? status : net ? rank_net_verb_fit(cli) : rank_tree_verb_fit(cli, tree, data);
}

static crank_status cv(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    const rank_flags *o = cli->options;
    bool              net;
    crank_status      status = is_no_tree(cli, &net);
    if (status != CRANK_OK) return status;
    return net ? rank_net_verb_cv(cli) : o->clicks ? rank_cv_trees(cli, tree, data) : rank_tree_verb_cv(cli, tree, data);
}

static bool is_net(const cli_call *cli) { return rank_net_is(cli->words[1]); }

static crank_status run(cli_call *cli)
{
    const char         *action = cli->words[0];
    crank_tree_options *tree = crank_options_new(cli->context, crank_trees_options(), sizeof *tree);
    letor_options      *data = crank_options_new(cli->context, letor_option_table, sizeof *data);
    crank_status        status = tree && data ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        if (strcmp(action, "fit") == 0) status = fit(cli, tree, data);
        else if (strcmp(action, "predict") == 0) status = is_net(cli) ? rank_net_verb_predict(cli, data) : rank_tree_verb_predict(cli, data);
        else if (strcmp(action, "explain") == 0) status = is_net(cli) ? rank_net_verb_explain(cli) : rank_tree_verb_explain(cli, data);
        else if (strcmp(action, "eval") == 0) status = rank_clicks_verb_eval(cli, data);
        else if (strcmp(action, "cv") == 0) status = cv(cli, tree, data);
        else if (strcmp(action, "export") == 0) status = rank_tree_verb_export(cli);
        else if (strcmp(action, "propensity") == 0) status = rank_clicks_verb_propensity(cli);
        else if (strcmp(action, "simulate") == 0) status = rank_clicks_verb_simulate(cli, data);
        else status = crank_fail(cli->context, CRANK_USAGE, "crank rank has no action `%s`; there are fit, predict, explain, eval, cv, export, propensity and simulate", action);
    }
    crank_options_free(tree);
    crank_options_free(data);
    return status;
}

const cli_verb verb_rank = {
    .name = "rank",
    .usage = "fit DATA --out MODEL [--valid DATA] [model=tree|linear|mlp|attention|coordinate-ascent] [SECTION.KEY=VALUE ...] | predict MODEL DATA [--trec] | explain MODEL [DATA --shap] | eval --clicks LOG --propensity FILE MODEL DATA [--against MODEL] | cv DATA | export MODEL --out FILE | fit DATA --clicks LOG .. | fit DATA --online .. | propensity LOG [DATA] | simulate DATA --out LOG",
    .summary = "rankers of feature vectors: learn to rank, score, tell which columns matter",
    .details = "DATA is SVMlight/LETOR, CSV, TSV (gzip or not) or crank's binary form; queries come from qid:, a column or a .query file.\n"
               "data.KEY are the reader's keys (label, query, ignore, ...). model=tree, the default, takes tree.KEY, LightGBM's parameters (its aliases and\n"
               "XGBoost's names too). Models of LightGBM (text), XGBoost (JSON, UBJSON) and crank are read; they are written as the name ends: .json is\n"
               "XGBoost's, .trees crank's own (no parsing, all bits), .c (export) C source, anything else LightGBM's text. A model of XGBoost wants\n"
               "data.absent=missing for SVMlight, as XGBoost takes what is not written. The other models take fit.KEY, loss.objective=NAME and loss.KEY (lambdarank unless said; crank help objectives), optim.method=NAME and optim.KEY, and write a safetensors file.\n"
               "fit DATA --clicks LOG takes clicks.KEY (method=dla, ipw, ...; docs/unbiased.md). propensity LOG prints examination by place (model=pbm, ubm or\n"
               "random; with DATA dla, regression-em, pair-debias); simulate DATA takes user.KEY. fit DATA --online takes user.KEY and clicks.method=pdgd, dbgd or any.",
    .letters = "o=out",
    .options = option_table,
    .options_size = sizeof(rank_flags),
    .words_low = 2,
    .words_high = -1,
    .run = run,
};
