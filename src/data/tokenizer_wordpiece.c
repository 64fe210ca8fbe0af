/* tokenizer_wordpiece.c - WordPiece, longest match first (Schuster and Nakajima 2012, as BERT has it), and WordLevel.
 *
 * From the left, the longest piece that is in the vocabulary is taken; pieces inside a word carry a prefix ("##"). A
 * word with a rest that no piece begins, or with too many characters, is the unknown token as a whole. The hashes of
 * all prefixes of the rest are made in one pass, so a piece costs one pass and its look-ups. */
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

struct wordpiece {
    bool word_level;
    text_string unknown_text, prefix;
    int32_t unknown; /* -1: not in the vocabulary */
    uint64_t prefix_hash;
    size_t longest; /* text of the vocabulary, bytes */
    size_t character_limit;
};

static bool add_unknown(encoder *e, const wordpiece *model, size_t start, size_t end)
{
    if (model->unknown >= 0) return work_add_token(e, model->unknown, start, end);
    crank_fail(e->context, CRANK_BAD_DATA,
               "a word of the text is not in the vocabulary, nor is the unknown token `%.80s`",
               model->unknown_text.bytes);
    return false;
}

/* Text of id `id` is prefix + text. */
static bool is_piece(const vocabulary *words, int32_t id, const text_string *prefix, const char *text, size_t length)
{
    size_t whole;
    const char *stored = vocabulary_text(words, id, &whole);
    return stored && whole == prefix->length + length && !memcmp(stored, prefix->bytes, prefix->length) &&
           !memcmp(stored + prefix->length, text, length);
}

/* The id of prefix + text by its hash. */
static int32_t find_piece(const vocabulary *words, uint64_t hash, const text_string *prefix, const char *text,
                          size_t length)
{
    if (!prefix) return vocabulary_find_hashed(words, hash, text, length);
    for (uint64_t at = (hash ^ hash >> 29) & words->mask; words->slots[at].id >= 0; at = (at + 1) & words->mask)
        if (words->slots[at].check == (uint32_t)(hash >> 32) &&
            is_piece(words, words->slots[at].id, prefix, text, length))
            return words->slots[at].id;
    return -1;
}

/* The longest piece at the start of `text`; 0 when there is none. */
static size_t longest_piece(const crank_tokenizer *tokenizer, const wordpiece *model, const char *text, size_t length,
                            bool inside, uint64_t *hashes, int32_t *id)
{
    const text_string *prefix = inside ? &model->prefix : NULL;
    uint64_t hash = inside ? model->prefix_hash : TEXT_HASH_START;
    if (length > model->longest) length = model->longest;
    for (size_t i = 0; i < length; i++) hashes[i] = hash = text_hash_step(hash, text[i]);
    for (; length; length--) {
        *id = find_piece(&tokenizer->words, hashes[length - 1], prefix, text, length);
        if (*id >= 0) return length;
    }
    return 0;
}

static size_t count_characters(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

bool wordpiece_encode(encoder *e, const wordpiece *model, const piece *old)
{
    const char *word = e->text + old->start;
    size_t length = old->end - old->start, at = 0, first = e->tokens.count;
    if (model->word_level) {
        int32_t id = vocabulary_find(&e->tokenizer->words, word, length);
        return id >= 0 ? work_add_token(e, id, old->start, old->end) : add_unknown(e, model, old->start, old->end);
    }
    if (length > model->character_limit && count_characters(word, length) > model->character_limit)
        return add_unknown(e, model, old->start, old->end);
    size_t hashed = length < model->longest ? length : model->longest;
    if (!array_reserve(e->context, &e->lattice, &e->lattice_capacity, hashed, sizeof(uint64_t), "pieces of a word"))
        return false;
    while (at < length) {
        int32_t id;
        size_t taken = longest_piece(e->tokenizer, model, word + at, length - at, at > 0, e->lattice, &id);
        if (!taken) {
            e->tokens.count = first;
            return add_unknown(e, model, old->start, old->end);
        }
        if (!work_add_token(e, id, old->start + at, old->start + at + taken)) return false;
        at += taken;
    }
    return true;
}

crank_status wordpiece_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object, bool word_level)
{
    wordpiece *model = tokenizer->model.wordpiece = crank_alloc(context, 1, sizeof *model, "a WordPiece model");
    if (!model) return CRANK_FAILED;
    model->word_level = word_level;
    int64_t limit = 0;
    crank_status status = json_need_text(context, object, "unk_token", &model->unknown_text);
    if (!status && !word_level) status = json_need_text(context, object, "continuing_subword_prefix", &model->prefix);
    if (!status && !word_level)
        status = json_need_int(context, object, "max_input_chars_per_word", 0, INT32_MAX, &limit, "WordPiece");
    if (!status) status = vocabulary_load(context, &tokenizer->words, json_object_get(object, "vocab"));
    if (status) return status;
    model->character_limit = (size_t)limit;
    model->unknown = vocabulary_find(&tokenizer->words, model->unknown_text.bytes, model->unknown_text.length);
    if (!word_level) model->prefix_hash = text_hash(model->prefix.bytes, model->prefix.length);
    for (int32_t id = 0; id < tokenizer->words.size; id++)
        if (tokenizer->words.lengths[id] > model->longest) model->longest = tokenizer->words.lengths[id];
    return CRANK_OK;
}

void wordpiece_free(wordpiece *model)
{
    if (!model) return;
    text_string_clear(&model->unknown_text);
    text_string_clear(&model->prefix);
    crank_free(model);
}
