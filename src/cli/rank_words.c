/* rank_words.c - words of `crank rank`: SECTION.KEY=VALUE into option tables; and scores as lines or as a TREC run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "base/text.h"
#include "cli/rank.h"
#include "crank/tree.h"

const char *rank_word(const cli_call *cli, int first, const char *name)
{
    size_t length = strlen(name);
    for (int i = first; i < cli->word_count; i++)
        if (!strncmp(cli->words[i], name, length) && cli->words[i][length] == '=') return cli->words[i] + length + 1;
    return NULL;
}

static bool starts_with(const char *word, const char *const *prefixes)
{
    for (; prefixes && *prefixes; prefixes++)
        if (!strncmp(word, *prefixes, strlen(*prefixes))) return true;
    return false;
}

static crank_status read_word(cli_call *cli, const char *word, const rank_section *sections, int count)
{
    const char *point = strchr(word, '.'), *equals = strchr(word, '=');
    char        key[128];
    for (int s = 0; equals && point && point < equals && s < count; s++) {
        size_t length = strlen(sections[s].prefix);
        if (length != (size_t)(point - word) || strncmp(word, sections[s].prefix, length)) continue;
        snprintf(key, sizeof key, "%.*s", (int)(equals - point - 1), point + 1);
        const char *name = sections[s].table == crank_trees_options() ? crank_trees_option(key) : key;
        return crank_options_set(cli->context, sections[s].table, sections[s].options, name, equals + 1, "command line");
    }
    text_buffer known = {0};
    for (int s = 0; s < count; s++) text_printf(&known, "%s%s.KEY=VALUE", s ? " or " : "", sections[s].prefix);
    char *text = text_take(cli->context, &known, "a message");
    if (text) crank_fail(cli->context, CRANK_USAGE, "`%s`: write %s", word, text);
    crank_free(text);
    return crank_last_status(cli->context);
}

crank_status rank_read_words(cli_call *cli, int first, const rank_section *sections, int count, const char *const *skip)
{
    crank_status status = CRANK_OK;
    for (int i = first; status == CRANK_OK && i < cli->word_count; i++)
        if (strncmp(cli->words[i], "model=", 6) && !starts_with(cli->words[i], skip)) status = read_word(cli, cli->words[i], sections, count);
    return status;
}

/* ---- scores ---- */

static void put_scores(text_buffer *text, const double *scores, int64_t rows, int64_t outputs)
{
    char number[NUMBER_SIZE];
    for (int64_t i = 0; i < rows * outputs; i++) {
        number_print(scores[i], number);
        text_puts(text, number);
        text_putc(text, (i + 1) % outputs ? '\t' : '\n');
    }
}

typedef struct item {
    double  score;
    int64_t row;
} item;
static int by_score(const void *a, const void *b)
{
    const item *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->row > y->row) - (x->row < y->row);
}

/* query Q0 document rank score tag; a document without a name is called by its row in the query */
static crank_status put_run(cli_call *cli, text_buffer *text, const letor_set *set, const double *scores)
{
    const rank_flags *o = cli->options;
    item          *items = crank_alloc(cli->context, (size_t)set->rows + 1, sizeof *items, "a run");
    char           number[NUMBER_SIZE];
    if (!items) return CRANK_FAILED;
    for (int64_t q = 0; q < set->queries; q++) {
        int64_t first = set->offsets[q], n = set->offsets[q + 1] - first;
        for (int64_t i = 0; i < n; i++) items[i] = (item){scores[first + i], i};
        qsort(items, (size_t)n, sizeof *items, by_score);
        for (int64_t i = 0; i < n; i++) {
            const char *name = set->document_names ? set->document_names[first + items[i].row] : "";
            if (set->query_names) text_puts(text, set->query_names[q]);
            else text_printf(text, "%lld", (long long)q + 1);
            if (*name) text_printf(text, " Q0 %s", name);
            else text_printf(text, " Q0 d%lld", (long long)items[i].row + 1);
            number_print(items[i].score, number);
            text_printf(text, " %lld %s %s\n", (long long)i + 1, number, o->tag);
        }
    }
    crank_free(items);
    return CRANK_OK;
}

static crank_status write_text(cli_call *cli, text_buffer *text)
{
    const rank_flags *o = cli->options;
    char          *bytes = text_take(cli->context, text, "scores");
    if (!bytes) return CRANK_FAILED;
    crank_status status = CRANK_OK;
    if (o->out) status = file_write_text(cli->context, o->out, bytes);
    else if (fputs(bytes, stdout) == EOF || fflush(stdout)) status = crank_fail(cli->context, CRANK_FAILED, "standard output cannot be written");
    crank_free(bytes);
    return status;
}

/* One object a line: query and document where there are any, row in the file, score (a list where there are several). */
static void put_json(text_buffer *text, const letor_set *set, const double *scores, int64_t outputs)
{
    char number[NUMBER_SIZE];
    for (int64_t i = 0, q = 0; i < set->rows; i++) {
        while (set->offsets && i >= set->offsets[q + 1]) q++;
        text_putc(text, '{');
        if (set->offsets && set->query_names) {
            text_puts(text, "\"query\":");
            json_put_string(text, set->query_names[q], strlen(set->query_names[q]));
            text_putc(text, ',');
        } else if (set->offsets)
            text_printf(text, "\"query\":\"%lld\",", (long long)q + 1);
        if (set->document_names && *set->document_names[i]) {
            text_puts(text, "\"document\":");
            json_put_string(text, set->document_names[i], strlen(set->document_names[i]));
            text_putc(text, ',');
        }
        text_printf(text, outputs > 1 ? "\"row\":%lld,\"scores\":[" : "\"row\":%lld,\"score\":", (long long)i + 1);
        for (int64_t k = 0; k < outputs; k++) {
            number_print(scores[i * outputs + k], number);
            if (k) text_putc(text, ',');
            text_puts(text, isfinite(scores[i * outputs + k]) ? number : "null");
        }
        text_puts(text, outputs > 1 ? "]}\n" : "}\n");
    }
}

crank_status rank_write_scores(cli_call *cli, const letor_set *set, const double *scores, int64_t outputs)
{
    const rank_flags *o = cli->options;
    text_buffer       text = {0};
    crank_status      status = CRANK_OK;
    if (o->trec) status = put_run(cli, &text, set, scores);
    else if (cli->common.json) put_json(&text, set, scores, outputs);
    else put_scores(&text, scores, set->rows, outputs);
    if (status == CRANK_OK) status = write_text(cli, &text);
    text_clear(&text);
    return status;
}
