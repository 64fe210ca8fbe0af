/* rank_tree_explain.c - crank rank explain: which columns a model of trees uses; crank rank export: the model as another kind of file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/rank.h"

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

crank_status rank_tree_verb_explain(cli_call *cli)
{
    if (cli->word_count != 2) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank explain MODEL");
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

/* ---- export ---- */

crank_status rank_tree_verb_export(cli_call *cli)
{
    const rank_flags *o = cli->options;
    if (cli->word_count != 2 || !o->out) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank export MODEL --out FILE (.json: XGBoost, else LightGBM)");
    crank_trees *trees = crank_trees_load(cli->context, cli->words[1]);
    if (!trees) return crank_last_status(cli->context);
    crank_status status = crank_trees_save(cli->context, trees, o->out);
    crank_trees_free(trees);
    return status;
}
