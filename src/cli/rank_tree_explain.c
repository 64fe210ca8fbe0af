/* rank_tree_explain.c - crank rank explain: which columns a model of trees uses, and what they add to the scores of rows; crank rank export: the model as another kind of file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "base/text.h"
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

static crank_status explain_model(cli_call *cli, const crank_trees *trees)
{
    size_t       columns = (size_t)crank_trees_columns(trees) + 1;
    double      *gain = crank_alloc(cli->context, 2 * columns, sizeof *gain, "importance");
    crank_status status = gain ? CRANK_OK : CRANK_FAILED;
    if (gain) {
        crank_trees_importance(trees, gain, gain + columns);
        status = print_importance(cli, trees, gain, gain + columns);
    }
    crank_free(gain);
    return status;
}

/* ---- contributions ---- */

static void put_name(text_buffer *out, const crank_trees *trees, int64_t column)
{
    const char *name = crank_trees_column(trees, column);
    if (name) text_puts(out, name);
    else text_printf(out, "%lld", (long long)column);
}

/* A line for each row and output: what every column adds, tabs between, and last the expected score. */
static void put_rows(text_buffer *out, const double *values, int64_t lines, int64_t width)
{
    char number[NUMBER_SIZE];
    for (int64_t i = 0; i < lines * width; i++) {
        number_print(values[i], number);
        text_puts(out, number);
        text_putc(out, (i + 1) % width ? '\t' : '\n');
    }
}

/* Rows in batches: mean [columns] of |contribution| over rows and outputs, and all of them to --out. */
static crank_status contribute(cli_call *cli, const crank_trees *trees, const crank_tree_data *all, double *mean, text_buffer *out)
{
    enum { BATCH = 1024 };
    const rank_flags *o = cli->options;
    int64_t           width = crank_trees_columns(trees) + 1, outputs = crank_trees_outputs(trees);
    double           *values = crank_alloc(cli->context, BATCH * (size_t)outputs, (size_t)width * sizeof *values, "contributions");
    crank_status      status = values ? CRANK_OK : CRANK_FAILED;
    for (int64_t j = 0; o->out && j < width; j++) {
        if (j + 1 < width) put_name(out, trees, j);
        text_puts(out, j + 1 < width ? "\t" : "expected\n");
    }
    for (int64_t first = 0; status == CRANK_OK && first < all->rows; first += BATCH) {
        crank_tree_data rows = *all;
        rows.rows = all->rows - first < BATCH ? all->rows - first : BATCH;
        if (all->dense) rows.dense += first * all->columns;
        else rows.starts += first;
        status = crank_trees_contributions(cli->context, trees, &rows, values);
        for (int64_t i = 0; status == CRANK_OK && i < rows.rows * outputs * width; i++) mean[i % width] += fabs(values[i]);
        if (status == CRANK_OK && o->out) put_rows(out, values, rows.rows * outputs, width);
    }
    for (int64_t j = 0; all->rows > 0 && j < width; j++) mean[j] /= (double)(all->rows * outputs);
    crank_free(values);
    return status;
}

static crank_status print_means(cli_call *cli, const crank_trees *trees, const double *mean)
{
    int64_t columns = crank_trees_columns(trees);
    item   *items = crank_alloc(cli->context, (size_t)columns + 1, sizeof *items, "contributions");
    json_t *list = json_array();
    if (!items || !list) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    for (int64_t j = 0; j < columns; j++) items[j] = (item){mean[j], j};
    qsort(items, (size_t)columns, sizeof *items, by_score);
    for (int64_t j = 0; j < columns && items[j].score > 0; j++) {
        text_buffer name = {0};
        put_name(&name, trees, items[j].row);
        if (cli->common.json) json_array_append_new(list, json_pack("{s:s, s:f}", "column", name.bytes ? name.bytes : "", "mean_contribution", items[j].score));
        else printf("%-40s %16.6g\n", name.bytes ? name.bytes : "", items[j].score);
        text_clear(&name);
    }
    char *text = cli->common.json ? json_text(cli->context, list, 0) : NULL;
    if (text) puts(text);
    crank_free(text);
    json_decref(list);
    crank_free(items);
    return CRANK_OK;
}

static crank_status explain_rows(cli_call *cli, const crank_trees *trees, letor_options *data)
{
    const rank_flags *o = cli->options;
    text_buffer       out = {0};
    crank_tree_data   rows = {0};
    crank_status      status = rank_tree_words(cli, 3, NULL, data);
    letor_set        *set = status == CRANK_OK ? letor_read(cli->context, cli->words[2], data) : NULL;
    double           *mean = set ? crank_alloc(cli->context, (size_t)crank_trees_columns(trees) + 1, sizeof *mean, "contributions") : NULL;
    status = mean ? rank_tree_data(cli->context, set, cli->words[2], &rows) : crank_last_status(cli->context);
    if (status == CRANK_OK) status = contribute(cli, trees, &rows, mean, &out);
    char *text = status == CRANK_OK && o->out ? text_take(cli->context, &out, "contributions") : NULL;
    if (status == CRANK_OK && o->out) status = text ? file_write_text(cli->context, o->out, text) : CRANK_FAILED;
    if (status == CRANK_OK) status = print_means(cli, trees, mean);
    text_clear(&out);
    crank_free(text);
    crank_free(mean);
    letor_free(set);
    return status;
}

crank_status rank_tree_verb_explain(cli_call *cli, letor_options *data)
{
    const rank_flags *o = cli->options;
    if (o->shap ? cli->word_count < 3 : cli->word_count != 2) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank explain MODEL, or: crank rank explain MODEL DATA --shap [--out ROWS.tsv]");
    crank_trees *trees = crank_trees_load(cli->context, cli->words[1]);
    if (!trees) return crank_last_status(cli->context);
    crank_status status = o->shap ? explain_rows(cli, trees, data) : explain_model(cli, trees);
    crank_trees_free(trees);
    return status;
}

/* ---- export ---- */

crank_status rank_tree_verb_export(cli_call *cli)
{
    const rank_flags *o = cli->options;
    if (cli->word_count != 2 || !o->out) return crank_fail(cli->context, CRANK_USAGE, "usage: crank rank export MODEL --out FILE (.json: XGBoost, .trees: own, .c: C source, else LightGBM)");
    crank_trees *trees = crank_trees_load(cli->context, cli->words[1]);
    if (!trees) return crank_last_status(cli->context);
    crank_status status = crank_trees_save(cli->context, trees, o->out);
    crank_trees_free(trees);
    return status;
}
