/* tokens.c - tokenising rows in parallel, masks, and what happens to rows longer than the context.
 *
 * text                 tokens of the text with the tokenizer's special tokens, then the end token; every token is trained
 * prompt + completion  the two are encoded apart, so that their border is a border of tokens; completion and end token are trained
 * messages             the conversation through the tokenizer's chat template; assistant turns are trained (tokens_chat.c)
 * labelled             the text, or the pair, with the tokenizer's special tokens; no token is trained */
#include "data/tokens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokens_chat.h"

typedef struct one_row {
    int32_t *ids;
    uint8_t *mask, *second;
    int64_t  count;
} one_row;

static void one_free(one_row *row) { free(row->ids), free(row->mask), free(row->second); }

/* Appends tokens whose mask is all `mask`. */
static bool one_append(one_row *row, const int32_t *ids, size_t count, uint8_t mask, uint8_t second)
{
    size_t   total = (size_t)row->count + count;
    int32_t *more = realloc(row->ids, (total + 1) * sizeof *more);
    if (more) row->ids = more;
    uint8_t *masks = more ? realloc(row->mask, total + 1) : NULL;
    if (masks) row->mask = masks;
    uint8_t *seconds = masks ? realloc(row->second, total + 1) : NULL;
    if (seconds) row->second = seconds;
    if (!seconds) return false;
    memcpy(row->ids + row->count, ids, count * sizeof *ids);
    memset(row->mask + row->count, mask, count);
    memset(row->second + row->count, second, count);
    row->count = (int64_t)total;
    return true;
}

static crank_status add_encoded(crank_context *context, const crank_tokenizer *tokenizer, const char *text, unsigned flags, uint8_t mask, one_row *out)
{
    crank_ids    ids = {0};
    crank_status status = crank_encode(context, tokenizer, text, strlen(text), NULL, 0, flags, &ids);
    if (status == CRANK_OK && !one_append(out, ids.ids, ids.count, mask, 0)) status = crank_fail(context, CRANK_FAILED, "out of memory: a row's tokens");
    crank_ids_free(&ids);
    return status;
}

static crank_status add_end(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, one_row *out)
{
    int32_t end = crank_tokenizer_eos(tokenizer);
    if (!options->eos || end < 0 || (out->count && out->ids[out->count - 1] == end)) return CRANK_OK;
    return one_append(out, &end, 1, 1, 0) ? CRANK_OK : crank_fail(context, CRANK_FAILED, "out of memory: a row's tokens");
}

/* Tokens of the second text of a pair: those whose special-free encoding comes after the first's; found by where the pair's
 * encoding leaves the encoding of the first text alone. */
static crank_status add_pair(crank_context *context, const crank_tokenizer *tokenizer, const raw_row *row, one_row *out)
{
    crank_ids    pair = {0}, first = {0};
    crank_status status = crank_encode(context, tokenizer, row->text, strlen(row->text), row->second, strlen(row->second), CRANK_ENCODE_SPECIAL, &pair);
    if (status == CRANK_OK) status = crank_encode(context, tokenizer, row->text, strlen(row->text), NULL, 0, CRANK_ENCODE_SPECIAL, &first);
    if (status == CRANK_OK && !one_append(out, pair.ids, pair.count, 0, 0)) status = crank_fail(context, CRANK_FAILED, "out of memory: a row's tokens");
    for (size_t i = first.count; status == CRANK_OK && i < pair.count; i++) out->second[i] = 1;
    crank_ids_free(&pair), crank_ids_free(&first);
    return status;
}

static crank_status add_chat(crank_context *context, const chat_template *chat, const dataset_options *options, const raw_row *row, one_row *out)
{
    crank_ids    ids;
    uint8_t     *mask;
    crank_status status = tokens_of_chat(context, chat, options, row->text, &ids, &mask);
    if (status != CRANK_OK) return status;
    if (!one_append(out, ids.ids, ids.count, 0, 0)) status = crank_fail(context, CRANK_FAILED, "out of memory: a row's tokens");
    else memcpy(out->mask, mask, ids.count);
    crank_ids_free(&ids);
    crank_free(mask);
    return status;
}

/* chat: for conversations, else NULL. */
static crank_status encode_row(crank_context *context, const crank_tokenizer *tokenizer, const chat_template *chat, const dataset_options *options,
                               const raw_rows *rows, size_t i, one_row *out)
{
    const raw_row *row = &rows->rows[i];
    crank_status   status;
    switch (rows->schema) {
    case ROWS_LABELLED:
        status = row->second ? add_pair(context, tokenizer, row, out) : add_encoded(context, tokenizer, row->text, CRANK_ENCODE_SPECIAL, 0, out);
        break;
    case ROWS_COMPLETION:
        status = add_encoded(context, tokenizer, row->text, CRANK_ENCODE_SPECIAL, 0, out);
        if (status == CRANK_OK && options->separator && *options->separator) status = add_encoded(context, tokenizer, options->separator, 0, 0, out);
        if (status == CRANK_OK) status = add_encoded(context, tokenizer, row->second, 0, 1, out);
        if (status == CRANK_OK) status = add_end(context, tokenizer, options, out);
        break;
    case ROWS_TEXT:
        status = add_encoded(context, tokenizer, row->text, CRANK_ENCODE_SPECIAL, 1, out);
        if (status == CRANK_OK) status = add_end(context, tokenizer, options, out);
        break;
    case ROWS_MESSAGES: status = add_chat(context, chat, options, row, out); break;
    default: status = crank_fail(context, CRANK_BAD_DATA, "the row has no schema");
    }
    return status == CRANK_OK ? CRANK_OK : crank_fail_in(context, "%s:%zu", rows->files[row->file], row->line);
}

/* ---- the table ---- */

void tokens_free(token_table *table)
{
    free(table->ids), free(table->mask), free(table->second), free(table->rows);
    *table = (token_table){0};
}

static bool reserve(token_table *table, int64_t tokens)
{
    if (table->row_count == table->row_capacity) {
        int64_t    capacity = table->row_capacity ? 2 * table->row_capacity : 1024;
        token_row *rows = realloc(table->rows, (size_t)capacity * sizeof *rows);
        if (!rows) return false;
        table->rows = rows;
        table->row_capacity = capacity;
    }
    if (table->count + tokens <= table->capacity) return true;
    int64_t  capacity = table->capacity ? 2 * table->capacity : 1 << 16;
    while (capacity < table->count + tokens) capacity *= 2;
    int32_t *ids = realloc(table->ids, (size_t)capacity * sizeof *ids);
    if (ids) table->ids = ids;
    uint8_t *mask = ids ? realloc(table->mask, (size_t)capacity) : NULL;
    if (mask) table->mask = mask;
    uint8_t *second = mask ? realloc(table->second, (size_t)capacity) : NULL;
    if (!second) return false;
    table->second = second;
    table->capacity = capacity;
    return true;
}

static bool put(token_table *table, const one_row *row, int64_t from, int64_t count, float label)
{
    if (!reserve(table, count)) return false;
    memcpy(table->ids + table->count, row->ids + from, (size_t)count * sizeof *row->ids);
    memcpy(table->mask + table->count, row->mask + from, (size_t)count);
    memcpy(table->second + table->count, row->second + from, (size_t)count);
    for (int64_t i = 1; i < count; i++) table->trained += row->mask[from + i];
    table->rows[table->row_count++] = (token_row){table->count, count, label};
    table->count += count;
    return true;
}

/* One row into the table, by the overflow rule. */
static crank_status place(crank_context *context, const char *rule, const raw_rows *rows, size_t i, const one_row *row, int64_t limit, token_table *out)
{
    const raw_row *raw = &rows->rows[i];
    bool           good = true;
    if (row->count > out->longest) out->longest = row->count;
    if (row->count < 1) {
        out->empty++;
        return CRANK_OK;
    }
    if (row->count <= limit) {
        good = put(out, row, 0, row->count, (float)raw->label);
    } else if (!strcmp(rule, "error")) {
        return crank_fail(context, CRANK_BAD_DATA, "%s:%zu: the row has %lld tokens and the context is %lld: raise data.context, or set data.overflow to drop, "
                          "left, right or split", rows->files[raw->file], raw->line, (long long)row->count, (long long)limit);
    } else if (!strcmp(rule, "drop")) {
        out->dropped++;
    } else if (!strcmp(rule, "left")) {
        good = put(out, row, row->count - limit, limit, (float)raw->label);
        out->cut++;
    } else if (!strcmp(rule, "right")) {
        good = put(out, row, 0, limit, (float)raw->label);
        out->cut++;
    } else {
        for (int64_t from = 0; from < row->count && good; from += limit)
            good = put(out, row, from, row->count - from < limit ? row->count - from : limit, (float)raw->label);
        out->split++;
    }
    return good ? CRANK_OK : crank_fail(context, CRANK_FAILED, "out of memory: the token table");
}

crank_status tokens_make(crank_context *context, const crank_tokenizer *tokenizer, const dataset_options *options, const raw_rows *rows, size_t from,
                         size_t to, int64_t context_length, token_table *out)
{
    enum { WAVE = 4096 }; /* rows that are encoded before they go into the table */
    const char *rule = strcmp(options->overflow, "auto") ? options->overflow : rows->schema == ROWS_TEXT ? "split" : "error";
    int         threads = crank_threads(context);
    one_row    *wave = crank_alloc(context, WAVE, sizeof *wave, "rows under work");
    chat_template *chat = wave && rows->schema == ROWS_MESSAGES ? chat_template_new(context, tokenizer) : NULL;
    crank_status status = wave && (chat || rows->schema != ROWS_MESSAGES) ? CRANK_OK : crank_last_status(context);
    *out = (token_table){0};
    for (size_t start = from; start < to && status == CRANK_OK; start += WAVE) {
        size_t         count = to - start < WAVE ? to - start : WAVE, failed = SIZE_MAX;
        crank_context *first = NULL; /* the context of the first failing row in order, so that the message is always the same */
        memset(wave, 0, WAVE * sizeof *wave);
#pragma omp parallel num_threads(threads)
        {
            crank_context *own = crank_context_new();
#pragma omp for schedule(dynamic, 16)
            for (size_t i = 0; i < count; i++) {
                crank_status one = own ? encode_row(own, tokenizer, chat, options, rows, start + i, &wave[i]) : CRANK_FAILED;
                if (one == CRANK_OK) continue;
#pragma omp critical(tokens_failure)
                if (i < failed) {
                    crank_context_free(first);
                    failed = i;
                    first = crank_context_new();
                    if (first && own) crank_fail(first, one, "%s", crank_message(own));
                }
            }
            crank_context_free(own);
        }
        if (failed != SIZE_MAX) {
            status = first ? crank_fail(context, crank_last_status(first), "%s", crank_message(first)) : crank_fail(context, CRANK_FAILED, "out of memory: tokenising");
            crank_context_free(first);
        }
        for (size_t i = 0; i < count; i++) {
            if (status == CRANK_OK) status = place(context, rule, rows, start + i, &wave[i], context_length, out);
            one_free(&wave[i]);
        }
    }
    crank_free(wave);
    chat_template_free(chat);
    if (status != CRANK_OK) tokens_free(out);
    return status;
}
