/* rank_tree_page.c - a fitted model of trees as one HTML page: the validation measure after each tree, the columns by gain and by number
 * of splits, the options. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/chart.h"
#include "base/file.h"
#include "cli/rank.h"
#include "tree/shared.h"

enum { SHOWN = 30 };

typedef struct entry {
    double  value;
    int64_t column;
} entry;
static int largest_first(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->value != y->value ? (x->value < y->value ? 1 : -1) : (x->column > y->column) - (x->column < y->column);
}

/* The SHOWN columns with the largest values, those above 0. */
static bool put_columns(crank_context *context, text_buffer *out, const crank_trees *trees, const char *title, const double *values)
{
    int64_t     columns = crank_trees_columns(trees);
    entry      *entries = crank_alloc(context, (size_t)columns + 1, sizeof *entries, "a page");
    const char *names[SHOWN];
    char        numbers[SHOWN][32];
    double      shown[SHOWN];
    size_t      count = 0;
    if (!entries) return false;
    for (int64_t j = 0; j < columns; j++) entries[j] = (entry){values[j], j};
    qsort(entries, (size_t)columns, sizeof *entries, largest_first);
    for (; count < SHOWN && (int64_t)count < columns && entries[count].value > 0; count++) {
        const char *name = crank_trees_column(trees, entries[count].column);
        snprintf(numbers[count], sizeof numbers[count], "column %lld", (long long)entries[count].column);
        names[count] = name ? name : numbers[count];
        shown[count] = entries[count].value;
    }
    if (count > 0) chart_bars(out, title, names, shown, NULL, count);
    crank_free(entries);
    return true;
}

static void put_summary(text_buffer *out, const crank_trees *trees, const crank_tree_data *train, const crank_tree_data *valid)
{
    text_printf(out, "<p>%lld trees (", (long long)crank_trees_count(trees));
    html_text(out, crank_trees_objective(trees));
    text_printf(out, "), %lld columns; learned from %lld rows of %lld queries", (long long)crank_trees_columns(trees), (long long)train->rows, (long long)train->queries);
    if (valid) text_printf(out, ", validated on %lld rows of %lld queries: %.6f", (long long)valid->rows, (long long)valid->queries, crank_trees_best(trees));
    text_puts(out, "</p>\n");
}

/* The words tree.KEY=VALUE of the command. */
static void put_words(text_buffer *out, const cli_call *cli)
{
    text_puts(out, "<h2>Options</h2><p>Others have their defaults (crank help rank).</p><pre>");
    for (int i = 2; i < cli->word_count; i++) {
        html_text(out, cli->words[i]);
        text_putc(out, '\n');
    }
    text_puts(out, "</pre>\n");
}

crank_status rank_tree_page(cli_call *cli, const char *path, const crank_trees *trees, const crank_tree_options *options, const crank_tree_data *train, const crank_tree_data *valid, const double *measures, size_t count)
{
    size_t      columns = (size_t)crank_trees_columns(trees) + 1;
    text_buffer out = {0};
    double     *gain = crank_alloc(cli->context, 2 * columns, sizeof *gain, "a page"), *at = crank_alloc(cli->context, count + 1, sizeof *at, "a page");
    bool        good = gain && at, ndcg = valid && measure_is_ndcg(options, valid);
    for (size_t i = 0; good && i < count; i++) at[i] = (double)(i + 1);
    if (good) {
        const chart_series series = {.name = ndcg ? "NDCG of the validation data" : "loss of the validation data", .x = at, .y = measures, .count = count};
        const chart        curve = {.title = "Validation after each tree", .x_label = "trees", .y_label = ndcg ? "NDCG" : "loss", .series = &series, .count = 1};
        crank_trees_importance(trees, gain, gain + columns);
        html_open(&out, "Boosted trees");
        put_summary(&out, trees, train, valid);
        if (valid && count > 0) chart_lines(&out, &curve);
        good = put_columns(cli->context, &out, trees, "Gain of the columns", gain) && put_columns(cli->context, &out, trees, "Splits of the columns", gain + columns);
        put_words(&out, cli);
        html_close(&out);
    }
    char        *text = good ? text_take(cli->context, &out, "a page") : NULL;
    crank_status status = text ? file_write_text(cli->context, path, text) : CRANK_FAILED;
    text_clear(&out);
    crank_free(text);
    crank_free(gain);
    crank_free(at);
    return status;
}
