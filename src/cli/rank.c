/* rank.c - crank rank: rankers of feature vectors: fit, predict, explain. Boosted trees are here; the others are in rank_net.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/number.h"
#include "base/text.h"
#include "cli/rank.h"
#include "crank/tree.h"
#include "rank/rank.h"

typedef rank_flags options;

static const crank_option option_table[] = {
    CRANK_STRING(options, out, NULL, "fit: where the model goes; predict: where the scores go (default: standard output)"),
    CRANK_STRING(options, valid, NULL, "fit: data held out, for NDCG and early stopping"),
    CRANK_STRING(options, init, NULL, "fit: learning goes on from this model"),
    CRANK_STRING(options, tag, "crank", "predict: name of the run in a TREC file"),
    CRANK_BOOL(options, trec, false, "predict: write a TREC run (query Q0 document rank score tag)"),
    CRANK_BOOL(options, raw, false, "predict: sums of leaves, not through the objective's link"),
    CRANK_END
};

/* "tree.key=value" and "data.key=value" from the words behind `first`. */
static crank_status read_words(cli_call *cli, int first, crank_tree_options *tree, letor_options *data)
{
    const rank_section sections[] = {{"data", letor_option_table, data}, {"tree", crank_trees_options(), tree}};
    return rank_read_words(cli, first, sections, tree ? 2 : 1, NULL);
}

static crank_status tree_data(crank_context *context, const letor_set *set, const char *path, crank_tree_data *out)
{
    if (set->init && set->init_outputs != 1) return crank_fail(context, CRANK_BAD_DATA, "%s.init: %lld scores a row; trees learn one", path, (long long)set->init_outputs);
    *out = (crank_tree_data){.rows = set->rows, .columns = set->columns, .dense = set->dense, .starts = set->starts, .indices = set->indices, .values = set->values,
                             .absent_missing = set->absent_missing, .labels = set->labels, .weights = set->weights, .init = set->init, .queries = set->queries,
                             .offsets = set->offsets, .names = (const char *const *)set->names, .categorical = set->categorical};
    return CRANK_OK;
}

/* ---- fit ---- */

typedef struct watch {
    progress *line;
    cli_call *cli;
} watch;

static void on_tree(void *user, int64_t iteration, double measure)
{
    watch *w = user;
    progress_update(w->line, iteration, 0, measure);
}

static crank_status print_fit(cli_call *cli, const crank_trees *trees, const char *out)
{
    double  best = crank_trees_best(trees);
    json_t *value = best == best ? json_real(best) : json_null();
    json_t *root = json_pack("{s:s, s:s, s:I, s:o}", "model", out, "objective", crank_trees_objective(trees), "trees", (json_int_t)crank_trees_count(trees), "valid", value);
    char   *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    if (cli->common.json) puts(text);
    else if (best == best) printf("%s: %lld trees (%s), validation %.6f\n", out, (long long)crank_trees_count(trees), crank_trees_objective(trees), best);
    else printf("%s: %lld trees (%s)\n", out, (long long)crank_trees_count(trees), crank_trees_objective(trees));
    crank_free(text);
    return CRANK_OK;
}

static crank_status fit_sets(cli_call *cli, const crank_tree_options *tree, const letor_set *train, const letor_set *valid, const crank_trees *init)
{
    const options  *o = cli->options;
    crank_tree_data rows, held;
    crank_status    status = tree_data(cli->context, train, cli->words[1], &rows);
    if (status == CRANK_OK && valid) status = tree_data(cli->context, valid, o->valid, &held);
    if (status != CRANK_OK) return status;
    progress_options how = {.descriptor = 2, .silent = cli->common.quiet, .label = "trees", .last = tree->num_iterations};
    watch            w = {.line = progress_open(cli->context, &how), .cli = cli};
    if (!w.line) return CRANK_FAILED;
    crank_trees *trees = crank_trees_fit(cli->context, tree, &rows, valid ? &held : NULL, init, on_tree, &w);
    progress_close(w.line);
    if (!trees) return crank_last_status(cli->context);
    status = crank_trees_save(cli->context, trees, o->out);
    if (status == CRANK_OK) status = print_fit(cli, trees, o->out);
    crank_trees_free(trees);
    return status;
}

static crank_status fit(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    const options *o = cli->options;
    const char    *model = rank_word(cli, 2, "model");
    if (model && strcmp(model, "tree")) return rank_net_verb_fit(cli);
    crank_status   status = read_words(cli, 2, tree, data);
    if (status != CRANK_OK) return status;
    if (!o->out) return crank_fail(cli->context, CRANK_USAGE, "crank rank fit needs --out MODEL");
    letor_set   *train = letor_read(cli->context, cli->words[1], data), *valid = train && o->valid ? letor_read(cli->context, o->valid, data) : NULL;
    crank_trees *init = train && o->init ? crank_trees_load(cli->context, o->init) : NULL;
    bool         good = train && (valid || !o->valid) && (init || !o->init);
    status = good ? fit_sets(cli, tree, train, valid, init) : crank_last_status(cli->context);
    crank_trees_free(init);
    letor_free(train);
    letor_free(valid);
    return status;
}

/* ---- predict ---- */

static crank_status predict(cli_call *cli, letor_options *data)
{
    const options *o = cli->options;
    if (cli->word_count < 3) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank predict MODEL DATA");
    if (rank_net_is(cli->words[1])) return rank_net_verb_predict(cli, data);
    crank_status    status = read_words(cli, 3, NULL, data);
    crank_trees    *trees = status == CRANK_OK ? crank_trees_load(cli->context, cli->words[1]) : NULL;
    letor_set      *set = trees ? letor_read(cli->context, cli->words[2], data) : NULL;
    double         *scores = set ? crank_alloc(cli->context, (size_t)set->rows, (size_t)crank_trees_outputs(trees) * sizeof *scores, "scores") : NULL;
    crank_tree_data rows;
    status = scores ? tree_data(cli->context, set, cli->words[2], &rows) : crank_last_status(cli->context);
    if (status == CRANK_OK && o->trec && (!set->offsets || crank_trees_outputs(trees) != 1))
        status = crank_fail(cli->context, CRANK_USAGE, "--trec needs data with queries and a model of one output");
    if (status == CRANK_OK && cli->common.json) status = crank_fail(cli->context, CRANK_USAGE, "crank rank predict writes one score a line: leave --json out");
    double start = clock_seconds();
    if (status == CRANK_OK) status = crank_trees_predict(cli->context, trees, &rows, o->raw, scores);
    if (status == CRANK_OK) crank_log(cli->context, CRANK_DEBUG, "scores: %.6f s, %lld rows", clock_seconds() - start, (long long)rows.rows);
    if (status == CRANK_OK) status = rank_write_scores(cli, set, scores, crank_trees_outputs(trees));
    crank_free(scores);
    letor_free(set);
    crank_trees_free(trees);
    return status;
}

/* ---- explain ---- */

typedef struct item {
    double  score;
    int64_t row;
} item;
static int by_score(const void *a, const void *b)
{
    const item *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->row > y->row) - (x->row < y->row);
}

static crank_status print_importance(cli_call *cli, const crank_trees *trees, const double *gain, const double *splits)
{
    int64_t columns = crank_trees_columns(trees);
    item   *items = crank_alloc(cli->context, (size_t)columns + 1, sizeof *items, "importance");
    json_t *list = json_array();
    if (!items || !list) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    for (int64_t j = 0; j < columns; j++) items[j] = (item){gain[j], j};
    qsort(items, (size_t)columns, sizeof *items, by_score);
    for (int64_t j = 0; j < columns; j++) {
        int64_t     column = items[j].row;
        char        number[32];
        const char *name = crank_trees_column(trees, column);
        snprintf(number, sizeof number, "%lld", (long long)column);
        if (splits[column] == 0) continue;
        if (cli->common.json) json_array_append_new(list, json_pack("{s:s, s:f, s:f}", "column", name ? name : number, "gain", gain[column], "splits", splits[column]));
        else printf("%-40s %16.6g %10.0f\n", name ? name : number, gain[column], splits[column]);
    }
    char *text = cli->common.json ? json_text(cli->context, list, 0) : NULL;
    if (text) puts(text);
    crank_free(text);
    json_decref(list);
    crank_free(items);
    return CRANK_OK;
}

static crank_status explain(cli_call *cli)
{
    if (cli->word_count != 2) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank explain MODEL");
    if (rank_net_is(cli->words[1])) return rank_net_verb_explain(cli);
    crank_trees *trees = crank_trees_load(cli->context, cli->words[1]);
    if (!trees) return crank_last_status(cli->context);
    size_t       columns = (size_t)crank_trees_columns(trees) + 1;
    double      *gain = crank_alloc(cli->context, 2 * columns, sizeof *gain, "importance");
    crank_status status = gain ? CRANK_OK : CRANK_FAILED;
    if (gain) {
        crank_trees_importance(trees, gain, gain + columns);
        status = print_importance(cli, trees, gain, gain + columns);
    }
    crank_free(gain);
    crank_trees_free(trees);
    return status;
}

static crank_status run(cli_call *cli)
{
    const char         *action = cli->words[0];
    crank_tree_options *tree = crank_options_new(cli->context, crank_trees_options(), sizeof *tree);
    letor_options      *data = crank_options_new(cli->context, letor_option_table, sizeof *data);
    crank_status        status = tree && data ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        if (strcmp(action, "fit") == 0) status = fit(cli, tree, data);
        else if (strcmp(action, "predict") == 0) status = predict(cli, data);
        else if (strcmp(action, "explain") == 0) status = explain(cli);
        else status = crank_fail(cli->context, CRANK_USAGE, "crank rank has no action `%s`; there are fit, predict and explain", action);
    }
    crank_options_free(tree);
    crank_options_free(data);
    return status;
}

const cli_verb verb_rank = {
    .name = "rank",
    .usage = "fit DATA --out MODEL [--valid DATA] [model=tree|linear|mlp|attention|coordinate-ascent] [SECTION.KEY=VALUE ...] | predict MODEL DATA [--trec] | explain MODEL",
    .summary = "rankers of feature vectors: learn to rank, score, tell which columns matter",
    .details = "DATA is SVMlight/LETOR, CSV, TSV (gzip or not) or crank's binary form; queries come from qid:, a column or a .query file.\n"
               "data.KEY are the reader's keys (label, query, ignore, ...). model=tree, the default, takes tree.KEY, LightGBM's parameters (its aliases and\n"
               "XGBoost's names too), and writes LightGBM text files. The other models take fit.KEY, loss.objective=NAME and loss.KEY (lambdarank unless\n"
               "said; crank help objectives), optim.method=NAME and optim.KEY, and write a safetensors file.",
    .letters = "o=out",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 2,
    .words_high = -1,
    .run = run,
};
