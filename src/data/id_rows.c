/* id_rows.c - tokenising rows in parallel, cutting them, and reading ids from a file. */
#include "data/id_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

enum { MAX_ROWS = 1 << 24 };

/* The tokens of one row. */
typedef struct one_row {
    crank_ids ids;
    size_t    second; /* tokens before the second text; ids.count: none */
    bool      cut;
} one_row;

void id_rows_free(id_rows *rows)
{
    crank_free(rows->ids), crank_free(rows->second), crank_free(rows->starts);
    *rows = (id_rows){0};
}

/* ---- cutting ---- */

/* Place of `part` in `whole` from `from` on; -1: nowhere. */
static ptrdiff_t find_ids(const crank_ids *whole, size_t from, const crank_ids *part)
{
    for (size_t i = from; i + part->count <= whole->count; i++)
        if (!part->count || !memcmp(whole->ids + i, part->ids, part->count * sizeof *part->ids)) return (ptrdiff_t)i;
    return -1;
}

/* What is left of the two texts when both may have `room` tokens: the longer is cut to what the shorter leaves, at least to its length;
 * where that is too much, each has half. */
static void share_room(size_t room, size_t *first, size_t *second)
{
    bool   swapped = *first > *second;
    size_t shorter = swapped ? *second : *first, longer = shorter > room || room - shorter < shorter ? shorter : room - shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    size_t a = swapped ? longer : shorter, b = swapped ? shorter : longer;
    if (a < *first) *first = a;
    if (b < *second) *second = b;
}

/* Takes the tokens [place + keep, place + count) out. */
static void take_out(crank_ids *ids, size_t place, size_t count, size_t keep)
{
    memmove(ids->ids + place + keep, ids->ids + place + count, (ids->count - place - count) * sizeof *ids->ids);
    ids->count -= count - keep;
}

/* The row's texts without special tokens are found in the row, and their ends go. */
static crank_status cut_row(crank_context *context, const crank_tokenizer *tokenizer, const char *text, const char *pair, size_t limit, one_row *row)
{
    crank_ids    first = {0}, second = {0};
    crank_status status = crank_encode(context, tokenizer, text, strlen(text), NULL, 0, 0, &first);
    if (status == CRANK_OK && pair) status = crank_encode(context, tokenizer, pair, strlen(pair), NULL, 0, 0, &second);
    ptrdiff_t a = status == CRANK_OK ? find_ids(&row->ids, 0, &first) : -1, b = a;
    if (a >= 0) b = pair ? find_ids(&row->ids, (size_t)a + first.count, &second) : a;
    size_t texts = first.count + second.count, special = b >= 0 ? row->ids.count - texts : 0, keep_a = first.count, keep_b = second.count;
    if (status == CRANK_OK && b < 0)
        status = crank_fail(context, CRANK_BAD_DATA, "the row has %zu tokens, at most %zu are taken, and its texts cannot be told from the special tokens around them: shorten it",
                            row->ids.count, limit);
    if (status == CRANK_OK && special >= limit)
        status = crank_fail(context, CRANK_USAGE, "%zu tokens a row leave no room beside %zu special tokens", limit, special);
    if (status == CRANK_OK) {
        if (pair) share_room(limit - special, &keep_a, &keep_b);
        else keep_a = limit - special;
        if (pair) take_out(&row->ids, (size_t)b, second.count, keep_b);
        take_out(&row->ids, (size_t)a, first.count, keep_a);
        if (pair) row->second -= first.count - keep_a;
        else row->second = row->ids.count;
        row->cut = true;
    }
    crank_ids_free(&first), crank_ids_free(&second);
    return status;
}

/* ---- one row ---- */

/* Of a pair the second text begins where the first text alone would end. */
static crank_status encode_texts(crank_context *context, const crank_tokenizer *tokenizer, const char *text, const char *pair, size_t limit, one_row *row)
{
    crank_ids    alone = {0};
    crank_status status = crank_encode(context, tokenizer, text, strlen(text), pair, pair ? strlen(pair) : 0, CRANK_ENCODE_SPECIAL, &row->ids);
    if (status == CRANK_OK && pair) status = crank_encode(context, tokenizer, text, strlen(text), NULL, 0, CRANK_ENCODE_SPECIAL, &alone);
    row->second = pair && alone.count < row->ids.count ? alone.count : row->ids.count;
    crank_ids_free(&alone);
    return status == CRANK_OK && row->ids.count > limit ? cut_row(context, tokenizer, text, pair, limit, row) : status;
}

/* The form with {text} and {pair} replaced; of the text that gives way only `kept` bytes. */
static char *write_form(crank_context *context, const char *form, const char *text, const char *pair, size_t kept)
{
    text_buffer out = {0};
    for (const char *p = form; *p;) {
        bool is_text = !strncmp(p, "{text}", 6), is_pair = !strncmp(p, "{pair}", 6);
        if (is_text) text_add(&out, text, pair ? strlen(text) : kept);
        else if (is_pair && pair) text_add(&out, pair, kept);
        else if (!is_pair) text_putc(&out, *p);
        p += is_text || is_pair ? 6 : 1;
    }
    return text_take(context, &out, "a prompt");
}

static char *as_turn(crank_context *context, const crank_tokenizer *tokenizer, const char *prompt)
{
    json_t *messages = json_pack("[{s:s, s:s%}]", "role", "user", "content", prompt, strlen(prompt));
    char   *text = messages ? json_text(context, messages, 0) : NULL, *turn = text ? crank_chat_render(context, tokenizer, text, NULL, true) : NULL;
    if (!messages) crank_fail(context, CRANK_BAD_DATA, "the prompt is no UTF-8 text");
    json_decref(messages);
    crank_free(text);
    return turn;
}

static crank_status encode_prompt(crank_context *context, const crank_tokenizer *tokenizer, const id_rows_format *format, const raw_row *raw, size_t kept, one_row *row)
{
    char *prompt = write_form(context, format->form, raw->text, raw->second, kept), *turn = NULL;
    if (prompt && format->chat) turn = as_turn(context, tokenizer, prompt);
    const char  *text = format->chat ? turn : prompt;
    crank_status status = text ? crank_encode(context, tokenizer, text, strlen(text), NULL, 0, format->chat ? 0 : CRANK_ENCODE_SPECIAL, &row->ids)
                               : crank_last_status(context);
    row->second = row->ids.count;
    crank_free(prompt), crank_free(turn);
    return status;
}

/* Bytes of `text` up to the end of its token number `tokens`. */
static crank_status bytes_of_tokens(crank_context *context, const crank_tokenizer *tokenizer, const char *text, size_t drop, size_t *kept)
{
    crank_ids    ids = {0};
    crank_status status = crank_encode(context, tokenizer, text, *kept, NULL, 0, CRANK_ENCODE_OFFSETS, &ids);
    if (status == CRANK_OK) {
        size_t end = ids.count > drop ? (size_t)ids.offsets[2 * (ids.count - drop) - 1] : 0;
        *kept = end < *kept ? end : *kept - 1;
        while (*kept && ((unsigned char)text[*kept] & 0xC0) == 0x80) (*kept)--; /* between characters */
    }
    crank_ids_free(&ids);
    return status;
}

/* The text that gives way is cut until the prompt fits: borders of tokens move with what stands beside them. */
static crank_status encode_form(crank_context *context, const crank_tokenizer *tokenizer, const id_rows_format *format, const raw_row *raw, one_row *row)
{
    const char  *loose = raw->second ? raw->second : raw->text;
    size_t       kept = strlen(loose), limit = (size_t)format->limit;
    crank_status status = encode_prompt(context, tokenizer, format, raw, kept, row);
    while (status == CRANK_OK && row->ids.count > limit) {
        if (!kept) return crank_fail(context, CRANK_BAD_DATA, "the prompt has %zu tokens without the text that may be cut, and at most %zu are taken", row->ids.count, limit);
        status = bytes_of_tokens(context, tokenizer, loose, row->ids.count - limit, &kept);
        crank_ids_free(&row->ids);
        row->ids = (crank_ids){0};
        row->cut = true;
        if (status == CRANK_OK) status = encode_prompt(context, tokenizer, format, raw, kept, row);
    }
    return status;
}

/* An empty text of a tokenizer that adds nothing is the token that a text begins with. */
static crank_status start_text(crank_context *context, const crank_tokenizer *tokenizer, one_row *row)
{
    int32_t token = crank_tokenizer_bos(tokenizer) >= 0 ? crank_tokenizer_bos(tokenizer) : crank_tokenizer_eos(tokenizer);
    if (token < 0) return crank_fail(context, CRANK_BAD_DATA, "the row has no token");
    int32_t *ids = realloc(row->ids.ids, sizeof *ids);
    if (!ids) return crank_fail(context, CRANK_FAILED, "out of memory: a row's tokens");
    ids[0] = token;
    row->ids.ids = ids;
    row->ids.count = row->ids.capacity = row->second = 1;
    return CRANK_OK;
}

static crank_status encode_row(crank_context *context, const crank_tokenizer *tokenizer, const raw_rows *rows, size_t i, const id_rows_format *format, one_row *out)
{
    const raw_row *raw = &rows->rows[i];
    char          *joined = format->prefix && *format->prefix ? crank_format(context, "%s%s", format->prefix, raw->text) : NULL;
    crank_status   status;
    if (format->prefix && *format->prefix && !joined) return CRANK_FAILED;
    if (format->form) status = encode_form(context, tokenizer, format, raw, out);
    else status = encode_texts(context, tokenizer, joined ? joined : raw->text, raw->second, (size_t)format->limit, out);
    crank_free(joined);
    if (status == CRANK_OK && !out->ids.count) status = start_text(context, tokenizer, out);
    return status == CRANK_OK ? CRANK_OK : crank_fail_in(context, "%s:%zu", rows->files[raw->file], raw->line);
}

/* ---- all rows ---- */

static crank_status gather(crank_context *context, const one_row *made, size_t count, bool pairs, id_rows *out)
{
    int64_t tokens = 0;
    for (size_t i = 0; i < count; i++) tokens += (int64_t)made[i].ids.count;
    out->count = (int64_t)count;
    out->ids = crank_alloc(context, (size_t)tokens + 1, sizeof *out->ids, "token ids");
    out->starts = crank_alloc(context, count + 1, sizeof *out->starts, "token ids");
    out->second = pairs ? crank_alloc(context, (size_t)tokens + 1, 1, "token types") : NULL;
    if (!out->ids || !out->starts || (pairs && !out->second)) return CRANK_FAILED;
    for (size_t i = 0; i < count; i++) {
        int64_t at = out->starts[i];
        memcpy(out->ids + at, made[i].ids.ids, made[i].ids.count * sizeof *out->ids);
        if (pairs) memset(out->second + at + made[i].second, 1, made[i].ids.count - made[i].second);
        out->starts[i + 1] = at + (int64_t)made[i].ids.count;
        out->cut += made[i].cut;
    }
    return CRANK_OK;
}

crank_status id_rows_make(crank_context *context, const crank_tokenizer *tokenizer, const raw_rows *rows, size_t from, size_t to,
                          const id_rows_format *format, id_rows *out)
{
    size_t         count = to - from, failed = SIZE_MAX;
    one_row       *made = crank_alloc(context, count + 1, sizeof *made, "rows under work");
    crank_context *first = NULL; /* of the first failing row in order, so that the message is always the same */
    bool           pairs = false;
    *out = (id_rows){0};
    if (!made) return CRANK_FAILED;
    for (size_t i = from; i < to; i++) pairs |= rows->rows[i].second && !format->form;
#pragma omp parallel num_threads(crank_threads(context))
    {
        crank_context *own = crank_context_new();
#pragma omp for schedule(dynamic, 16)
        for (size_t i = 0; i < count; i++) {
            crank_status one = own ? encode_row(own, tokenizer, rows, from + i, format, &made[i]) : CRANK_FAILED;
            if (one == CRANK_OK) continue;
#pragma omp critical(id_rows_failure)
            if (i < failed) {
                crank_context_free(first);
                failed = i;
                first = crank_context_new();
                if (first && own) crank_fail(first, one, "%s", crank_message(own));
            }
        }
        crank_context_free(own);
    }
    crank_status status = CRANK_OK;
    if (failed != SIZE_MAX)
        status = first ? crank_fail(context, crank_last_status(first), "%s", crank_message(first)) : crank_fail(context, CRANK_FAILED, "out of memory: tokenising");
    crank_context_free(first);
    if (status == CRANK_OK) status = gather(context, made, count, pairs, out);
    for (size_t i = 0; i < count; i++) crank_ids_free(&made[i].ids);
    crank_free(made);
    if (status != CRANK_OK) id_rows_free(out);
    return status;
}

/* ---- ids of a file ---- */

static crank_status read_one(crank_context *context, const json_t *list, int64_t row, int64_t vocab, int64_t limit, const char *path, id_rows *out)
{
    int64_t n = (int64_t)json_array_size(list), at = out->starts[row];
    if (!json_is_array(list)) return crank_fail(context, CRANK_BAD_DATA, "%s: entry %lld is no list of token ids", path, (long long)row);
    if (!n) return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %lld is empty", path, (long long)row);
    if (n > limit)
        return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %lld has %lld tokens and the model's context is %lld", path, (long long)row, (long long)n, (long long)limit);
    for (int64_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, (size_t)i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab)
            return crank_fail(context, CRANK_BAD_DATA, "%s: sequence %lld, place %lld is no token id in 0..%lld", path, (long long)row, (long long)i, (long long)vocab - 1);
        out->ids[at + i] = (int32_t)json_integer_value(id);
    }
    out->starts[row + 1] = at + n;
    return CRANK_OK;
}

crank_status id_rows_read(crank_context *context, const char *path, int64_t vocab, int64_t limit, id_rows *out)
{
    json_t *root = json_read(context, path);
    *out = (id_rows){0};
    if (!root) return crank_last_status(context);
    bool         single = json_is_array(root) && !json_is_array(json_array_get(root, 0));
    size_t       count = single ? 1 : json_array_size(root), tokens = single ? json_array_size(root) : 0;
    crank_status status = CRANK_OK;
    if (!json_is_array(root) || !json_array_size(root) || count > MAX_ROWS)
        status = crank_fail(context, CRANK_BAD_DATA, "%s: wanted a list of token ids, or a list of such lists", path);
    for (size_t i = 0; !single && status == CRANK_OK && i < count; i++) tokens += json_array_size(json_array_get(root, i));
    if (status == CRANK_OK) {
        out->count = (int64_t)count;
        out->ids = crank_alloc(context, tokens + 1, sizeof *out->ids, "token ids");
        out->starts = crank_alloc(context, count + 1, sizeof *out->starts, "token ids");
        if (!out->ids || !out->starts) status = CRANK_FAILED;
    }
    for (size_t i = 0; i < count && status == CRANK_OK; i++)
        status = read_one(context, single ? root : json_array_get(root, i), (int64_t)i, vocab, limit, path, out);
    json_decref(root);
    if (status != CRANK_OK) id_rows_free(out);
    return status;
}
