/* rank_tree_cv.c - crank rank cv: cross-validation of boosted trees, folds by query. */
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/rank.h"
#include "tree/shared.h"

static crank_status print_folds(cli_call *cli, const char *measure, const crank_tree_fold *folds, int64_t count)
{
    double  sum = 0, squares = 0, trees = 0;
    json_t *list = json_array(), *root;
    for (int64_t f = 0; f < count; f++) sum += folds[f].measure, trees += (double)folds[f].trees;
    double mean = sum / (double)count;
    for (int64_t f = 0; f < count; f++) squares += (folds[f].measure - mean) * (folds[f].measure - mean);
    double spread = sqrt(squares / (double)(count - 1));
    for (int64_t f = 0; f < count; f++) {
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:f}", "queries", (json_int_t)folds[f].queries, "rows", (json_int_t)folds[f].rows, "trees", (json_int_t)folds[f].trees, measure, folds[f].measure));
        if (!cli->common.json) printf("fold %-3lld %8lld queries %10lld rows %6lld trees   %s %.6f\n", (long long)f + 1, (long long)folds[f].queries, (long long)folds[f].rows, (long long)folds[f].trees, measure, folds[f].measure);
    }
    if (!cli->common.json) printf("mean %.6f, deviation over folds %.6f, trees %.1f\n", mean, spread, trees / (double)count);
    root = json_pack("{s:s, s:f, s:f, s:f, s:o}", "measure", measure, "mean", mean, "deviation", spread, "trees", trees / (double)count, "folds", list);
    char *text = cli->common.json && root ? json_text(cli->context, root, 0) : NULL;
    if (text) puts(text);
    crank_free(text);
    json_decref(root);
    return CRANK_OK;
}

crank_status rank_tree_verb_cv(cli_call *cli, crank_tree_options *tree, letor_options *data)
{
    const rank_flags *o = cli->options;
    crank_status      status = rank_tree_words(cli, 2, tree, data);
    letor_set        *set = status == CRANK_OK ? letor_read(cli->context, cli->words[1], data) : NULL;
    crank_tree_fold  *folds = set ? crank_alloc(cli->context, (size_t)o->folds, sizeof *folds, "folds") : NULL;
    crank_tree_data   rows = {0};
    char              measure[48] = "loss";
    status = folds ? rank_tree_data(cli->context, set, cli->words[1], &rows) : crank_last_status(cli->context);
    if (status == CRANK_OK) status = crank_trees_cv(cli->context, tree, &rows, o->folds, folds);
    if (status == CRANK_OK && measure_is_ndcg(tree, &rows)) snprintf(measure, sizeof measure, "ndcg@%lld", (long long)tree->eval_at);
    if (status == CRANK_OK) status = print_folds(cli, measure, folds, o->folds);
    crank_free(folds);
    letor_free(set);
    return status;
}
