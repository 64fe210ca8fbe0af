/* rank_tree.c - crank rank fit and predict with boosted trees. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/rank.h"
#include "tree/shared.h"

/* "tree.key=value" and "data.key=value" from the words behind `first`. */
crank_status rank_tree_words(cli_call *cli, int first, crank_tree_options *tree, letor_options *data)
{
    const rank_section sections[] = {{"data", letor_option_table, data}, {"tree", crank_trees_options(), tree}};
    return rank_read_words(cli, first, sections, tree ? 2 : 1, NULL);
}

crank_status rank_tree_data(crank_context *context, const letor_set *set, const char *path, crank_tree_data *out)
{
    if (set->init && set->init_outputs < 1) return crank_fail(context, CRANK_BAD_DATA, "%s.init: no scores in its rows", path);
    *out = (crank_tree_data){.rows = set->rows, .columns = set->columns, .dense = set->dense, .starts = set->starts, .indices = set->indices, .values = set->values,
                             .absent_missing = set->absent_missing, .labels = set->labels, .weights = set->weights, .init = set->init, .init_outputs = set->init_outputs,
                             .queries = set->queries, .offsets = set->offsets, .names = (const char *const *)set->names, .categorical = set->categorical};
    return CRANK_OK;
}

/* ---- fit ---- */

typedef struct watch {
    progress *line;
    cli_call *cli;
    double   *measures;    /* [num_iterations]: of validation, NaN: none */
    size_t    count;
} watch;

static void on_tree(void *user, int64_t iteration, double measure)
{
    watch *w = user;
    progress_update(w->line, iteration, 0, measure);
    w->measures[w->count++] = measure;
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
    const rank_flags *o = cli->options;
    crank_tree_data rows, held;
    crank_status    status = rank_tree_data(cli->context, train, cli->words[1], &rows);
    if (status == CRANK_OK && valid) status = rank_tree_data(cli->context, valid, o->valid, &held);
    if (status != CRANK_OK) return status;
    dist_group group;
    if ((status = dist_open(cli->context, &group)) != CRANK_OK) return status;
    progress_options how = {.descriptor = 2, .silent = cli->common.quiet || group.rank > 0, .label = "trees", .last = tree->num_iterations};
    watch            w = {.cli = cli, .measures = crank_alloc(cli->context, (size_t)tree->num_iterations, sizeof *w.measures, "measures of validation")};
    if (!w.measures || !(w.line = progress_open(cli->context, &how))) {
        crank_free(w.measures);
        return CRANK_FAILED;
    }
    crank_trees *trees = trees_fit_shared(cli->context, &group, tree, &rows, valid ? &held : NULL, init, on_tree, &w);
    progress_close(w.line);
    if (!trees && crank_last_status(cli->context) == CRANK_BAD_DATA) crank_fail_in(cli->context, "%s", cli->words[1]);
    bool first = group.rank == 0; /* it alone writes */
    status = !trees ? crank_last_status(cli->context) : first ? crank_trees_save(cli->context, trees, o->out) : CRANK_OK;
    if (status == CRANK_OK && first && o->html) status = rank_tree_page(cli, o->html, trees, tree, &rows, valid ? &held : NULL, w.measures, w.count);
    if (status == CRANK_OK && first) status = print_fit(cli, trees, o->out);
    if (status == CRANK_OK) status = dist_close(cli->context, &group);
    crank_free(w.measures);
    crank_trees_free(trees);
    return status;
}

crank_status rank_tree_verb_fit(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    const rank_flags *o = cli->options;
    crank_status   status = rank_tree_words(cli, 2, tree, data);
    if (status != CRANK_OK) return status;
    if (!o->out) return crank_fail(cli->context, CRANK_USAGE, "crank rank fit needs --out MODEL");
    letor_set   *train = letor_read(cli->context, cli->words[1], data), *valid = train && o->valid ? letor_read(cli->context, o->valid, data) : NULL;
    crank_trees *init = train && o->init ? crank_trees_load(cli->context, o->init) : NULL;
    bool         good = train && (valid || !o->valid) && (init || !o->init);
    status = good ? CRANK_OK : crank_last_status(cli->context);
    if (status == CRANK_OK && o->clicks && !strcmp(o->relevance, "none"))
        status = crank_fail(cli->context, CRANK_USAGE, "trees learn from labels: --relevance pbm (or ipw, dcm, ...) estimates them from --clicks; tree.objective=pair_logistic takes real labels");
    if (status == CRANK_OK && o->clicks) status = rank_clicks_relevance(cli, &train);
    if (status == CRANK_OK) status = fit_sets(cli, tree, train, valid, init);
    crank_trees_free(init);
    letor_free(train);
    letor_free(valid);
    return status;
}

/* ---- predict ---- */

crank_status rank_tree_verb_predict(cli_call *cli, letor_options *data)
{
    const rank_flags *o = cli->options;
    if (cli->word_count < 3) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank predict MODEL DATA");
    crank_status    status = rank_tree_words(cli, 3, NULL, data);
    crank_trees    *trees = status == CRANK_OK ? crank_trees_load(cli->context, cli->words[1]) : NULL;
    letor_set      *set = trees ? letor_read(cli->context, cli->words[2], data) : NULL;
    double         *scores = set ? crank_alloc(cli->context, (size_t)set->rows, (size_t)crank_trees_outputs(trees) * sizeof *scores, "scores") : NULL;
    crank_tree_data rows;
    status = scores ? rank_tree_data(cli->context, set, cli->words[2], &rows) : crank_last_status(cli->context);
    if (status == CRANK_OK && o->trec && (!set->offsets || crank_trees_outputs(trees) != 1))
        status = crank_fail(cli->context, CRANK_USAGE, "--trec needs data with queries and a model of one output");
    double start = clock_seconds();
    if (status == CRANK_OK) status = crank_trees_predict(cli->context, trees, &rows, o->raw, scores);
    if (status == CRANK_OK) crank_log(cli->context, CRANK_DEBUG, "scores: %.6f s, %lld rows", clock_seconds() - start, (long long)rows.rows);
    if (status == CRANK_OK) status = rank_write_scores(cli, set, scores, crank_trees_outputs(trees));
    crank_free(scores);
    letor_free(set);
    crank_trees_free(trees);
    return status;
}
