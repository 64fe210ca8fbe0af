/* data.c - crank data show: what a data set makes of its files, token by token with the loss mask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "data/dataset.h"
#include "data/hub.h"
#include "task/recipe.h"

typedef struct options {
    int64_t rows;
    bool    eval;
} options;

static const crank_option option_table[] = {
    CRANK_INT(options, rows, 3, 1, 1000000, "rows to print"),
    CRANK_BOOL(options, eval, false, "the held-out part"),
    CRANK_END
};

/* Trained tokens stand in colour on a terminal, in [brackets] elsewhere. */
static void print_row(cli_call *cli, const crank_tokenizer *tokenizer, const data_set *set, int64_t i, bool colour)
{
    const int32_t *ids;
    const uint8_t *mask;
    int64_t        count;
    int32_t        label;
    dataset_row(set, i, &ids, &mask, &count, &label);
    printf("row %lld: %lld tokens", (long long)i + 1, (long long)count);
    if (label >= 0) printf(", label %d", label);
    putchar('\n');
    for (int64_t k = 0; k < count; k++) {
        char *text = crank_decode(cli->context, tokenizer, &ids[k], 1, false, NULL);
        printf("%s%s%s", mask[k] ? (colour ? "\033[32m" : "[") : "", text ? text : "", mask[k] ? (colour ? "\033[0m" : "]") : "");
        crank_free(text);
    }
    putchar('\n');
}

static crank_status print_json(cli_call *cli, const data_set *set, int64_t rows)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < rows; i++) {
        const int32_t *ids;
        const uint8_t *mask;
        int64_t        count;
        int32_t        label;
        json_t        *tokens = json_array(), *masks = json_array();
        dataset_row(set, i, &ids, &mask, &count, &label);
        for (int64_t k = 0; k < count; k++) {
            json_array_append_new(tokens, json_integer(ids[k]));
            json_array_append_new(masks, json_integer(mask[k]));
        }
        json_array_append_new(list, json_pack("{s:o, s:o, s:i}", "ids", tokens, "mask", masks, "label", label));
    }
    json_t *root = json_pack("{s:I, s:o}", "rows", (json_int_t)dataset_rows(set), "shown", list);
    char   *text = root ? json_text(cli->context, root, 0) : NULL;
    json_decref(root);
    if (!text) return crank_fail(cli->context, CRANK_FAILED, "out of memory: the result");
    puts(text);
    crank_free(text);
    return CRANK_OK;
}

static crank_status print_set(cli_call *cli, const crank_tokenizer *tokenizer, const data_set *set)
{
    const options *o = cli->options;
    int64_t        rows = dataset_rows(set) < o->rows ? dataset_rows(set) : o->rows;
    if (cli->common.json) return print_json(cli, set, rows);
    const char *term = getenv("TERM");
    bool        colour = isatty(1) && !getenv("NO_COLOR") && term && strcmp(term, "dumb");
    char       *report = dataset_report(cli->context, set);
    if (!report) return CRANK_FAILED;
    puts(report);
    crank_free(report);
    for (int64_t i = 0; i < rows; i++) print_row(cli, tokenizer, set, i, colour);
    return CRANK_OK;
}

static crank_status show(cli_call *cli, const options *o, task_recipe *recipe, dataset_options *data)
{
    const char *named = data->tokenizer ? data->tokenizer : recipe->model->path;
    if (!named) return crank_fail(cli->context, CRANK_USAGE, "the recipe names no tokenizer: set model.path or data.tokenizer");
    char            *folder = hub_resolve(cli->context, named);
    crank_tokenizer *tokenizer = folder ? crank_tokenizer_load(cli->context, folder) : NULL;
    dataset_request  request = {.fields = recipe->objective->fields, .batch = recipe->train->batch, .context = data->context, .labels = recipe->model->labels,
                                .slots = 1, .seed = (uint64_t)recipe->train->seed};
    data_set    *set = tokenizer ? dataset_open(cli->context, tokenizer, data, &request, o->eval ? DATASET_EVAL : DATASET_TRAIN) : NULL;
    crank_status status = set ? print_set(cli, tokenizer, set) : crank_last_status(cli->context);
    dataset_close(set);
    crank_tokenizer_free(tokenizer);
    crank_free(folder);
    return status;
}

static crank_status run(cli_call *cli)
{
    const options *o = cli->options;
    if (strcmp(cli->words[0], "show")) return crank_fail(cli->context, CRANK_USAGE, "crank data has no action `%s`: crank data show [RECIPE.yaml] [section.key=value ...]", cli->words[0]);
    const char  *path = cli->word_count > 1 && !strchr(cli->words[1], '=') ? cli->words[1] : NULL;
    int          first = path ? 2 : 1;
    task_recipe *recipe = task_recipe_load(cli->context, path, (const char *const *)cli->words + first, (size_t)(cli->word_count - first));
    if (!recipe) return crank_last_status(cli->context);
    dataset_options *data = crank_options_new(cli->context, dataset_option_table, sizeof *data);
    crank_status     status = data ? crank_recipe_read(cli->context, recipe->file, "data", dataset_option_table, data) : CRANK_FAILED;
    if (status == CRANK_OK) status = crank_recipe_finish(cli->context, recipe->file);
    if (status == CRANK_OK) status = show(cli, o, recipe, data);
    crank_options_free(data);
    task_recipe_free(recipe);
    return status;
}

const cli_verb verb_data = {
    .name = "data",
    .usage = "show [RECIPE.yaml] [section.key=value ...] [-n ROWS]",
    .summary = "the first rows of a data set as tokens, with what the loss counts",
    .letters = "n=rows",
    .options = option_table,
    .options_size = sizeof(options),
    .words_low = 1,
    .words_high = -1,
    .run = run,
};
