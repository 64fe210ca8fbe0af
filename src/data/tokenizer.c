/* tokenizer.c - encoding, and what a tokenizer tells about itself.
 *
 * The ids are those of the `tokenizers` library, tested for every character up to Unicode 14 (later ones follow the
 * tables of PCRE2 and utf8proc). On purpose it is different in four places: an added token whose stated id is not the
 * one that the library would give is refused instead of renumbered; `dropout` other than 0 is refused; special tokens
 * are left out of decoded text also where a normaliser changed how they look; and where a normaliser removes the first
 * characters of a text, offsets still point at what a token came from. */
#include "crank/tokenizer.h"

#include <string.h>

#include "data/tokenizer_parts.h"

void crank_ids_free(crank_ids *ids)
{
    crank_free(ids->ids);
    crank_free(ids->offsets);
    *ids = (crank_ids){0};
}

/* A text with its invalid bytes read as U+FFFD. origin [length + 1] tells where each byte began in the source; it is
 * NULL where nothing changed or nobody asks. */
typedef struct valid_text {
    const char *text;
    size_t length;
    char *repaired;
    uint32_t *origin;
} valid_text;

static bool repair(crank_context *context, const char *text, size_t length, bool origin, valid_text *out)
{
    size_t good = utf8_valid_length(text, length);
    *out = (valid_text){text, length, NULL, NULL};
    if (good == length) return true;
    out->repaired = crank_alloc(context, good + (length - good) * 3, 1, "a text");
    if (origin)
        out->origin = crank_alloc(context, good + (length - good) * 3 + 1, sizeof *out->origin, "offsets of a text");
    if (!out->repaired || (origin && !out->origin)) return false;
    size_t written = 0;
    for (size_t at = 0; at < length;) {
        good = utf8_valid_length(text + at, length - at);
        memcpy(out->repaired + written, text + at, good);
        for (size_t i = 0; origin && i < good; i++) out->origin[written + i] = (uint32_t)(at + i);
        at += good;
        written += good;
        if (at == length) break;
        for (size_t i = 0; origin && i < 3; i++) out->origin[written + i] = (uint32_t)at;
        memcpy(out->repaired + written, "\xEF\xBF\xBD", 3);
        at += utf8_invalid_length(text + at, length - at);
        written += 3;
    }
    if (origin) out->origin[written] = (uint32_t)length;
    out->text = out->repaired;
    out->length = written;
    return true;
}

static bool run_model(encoder *e)
{
    const token_model *m = &e->tokenizer->model;
    for (size_t i = 0; i < e->pieces.count; i++) {
        const piece *p = &e->pieces.items[i];
        bool good;
        e->in_added = p->token >= 0;
        if (p->token >= 0)
            good = work_add_token(e, p->token, p->start, p->end);
        else if (m->type == MODEL_BPE)
            good = bpe_encode(e, m->bpe, p);
        else if (m->type == MODEL_UNIGRAM)
            good = unigram_encode(e, m->unigram, p);
        else
            good = wordpiece_encode(e, m->wordpiece, p);
        if (!good) return false;
    }
    return true;
}

static bool encode_sequence(encoder *e, const char *text, size_t length)
{
    const crank_tokenizer *t = e->tokenizer;
    if (!work_start(e, text, length) || !added_cut(e, false)) return false;
    for (size_t i = 0; i < t->normalizer_count; i++)
        if (!normalizer_run(e, &t->normalizers[i])) return false;
    if (!added_cut(e, true)) return false;
    for (size_t i = 0; i < t->pretokenizer_count; i++)
        if (!pretokenizer_run(e, &t->pretokenizers[i])) return false;
    return run_model(e);
}

crank_status crank_encode(crank_context *context, const crank_tokenizer *tokenizer, const char *text, size_t length,
                          const char *pair, size_t pair_length, unsigned flags, crank_ids *out)
{
    bool offsets = flags & CRANK_ENCODE_OFFSETS, good = true;
    const char *sources[2] = {text, pair};
    size_t lengths[2] = {length, pair_length}, count = pair ? 2 : 1;
    valid_text valid[2] = {{0}};
    token_list first = {0};
    encoder e = {
        .context = context, .tokenizer = tokenizer, .flags = flags, .keeps_spans = offsets || tokenizer->needs_spans};
    sequence_tokens sequences[2];
    *out = (crank_ids){0};
    for (size_t i = 0; i < count; i++)
        if (lengths[i] > INT32_MAX / 3)
            return crank_fail(context, CRANK_USAGE, "a text of %zu bytes; at most %d are encoded at once", lengths[i],
                              INT32_MAX / 3);
    for (size_t i = 0; good && i < count; i++) {
        good = repair(context, sources[i], lengths[i], offsets, &valid[i]) &&
               encode_sequence(&e, valid[i].text, valid[i].length);
        if (i + 1 < count) { /* the second sequence gets a list of its own */
            first = e.tokens;
            e.tokens = (token_list){0};
        }
    }
    for (size_t i = 0; good && i < count; i++) {
        const token_list *list = i + 1 < count ? &first : &e.tokens;
        sequences[i] =
            (sequence_tokens){list->ids, list->spans, list->trims, list->count, valid[i].text, valid[i].origin};
    }
    crank_status status =
        good ? postprocess(context, tokenizer, sequences, count, flags, out) : crank_last_status(context);
    if (status) crank_ids_free(out);
    crank_free(first.ids);
    crank_free(first.spans);
    crank_free(first.trims);
    for (size_t i = 0; i < 2; i++) {
        crank_free(valid[i].repaired);
        crank_free(valid[i].origin);
    }
    work_clear(&e);
    return status;
}

int32_t crank_tokenizer_size(const crank_tokenizer *tokenizer)
{
    return tokenizer->size;
}

int32_t crank_token_id(const crank_tokenizer *tokenizer, const char *token)
{
    size_t length = strlen(token);
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].content.length == length && !memcmp(tokenizer->added[i].content.bytes, token, length))
            return tokenizer->added[i].id;
    return vocabulary_find(&tokenizer->words, token, length);
}

const char *crank_token_text(const crank_tokenizer *tokenizer, int32_t id)
{
    const added_token *added = added_find(tokenizer, id);
    return added ? added->content.bytes : vocabulary_text(&tokenizer->words, id, NULL);
}

int32_t crank_tokenizer_bos(const crank_tokenizer *tokenizer)
{
    return tokenizer->bos;
}
int32_t crank_tokenizer_eos(const crank_tokenizer *tokenizer)
{
    return tokenizer->eos;
}
int32_t crank_tokenizer_pad(const crank_tokenizer *tokenizer)
{
    return tokenizer->pad;
}
const char *crank_tokenizer_chat_template(const crank_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}
