/* tokenizer_bpe_load.c - reads a "BPE" model, and prepares its short cuts. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_bpe.h"

/* The vocabulary object {"text": id, ...}, checked as a whole: ids are distinct and leave few holes. */
crank_status vocabulary_load(crank_context *context, vocabulary *words, const json_t *object)
{
    if (!json_is_object(object))
        return crank_fail(context, CRANK_BAD_DATA, "`vocab` must be an object of token texts and ids");
    size_t count = json_object_size(object);
    int64_t highest = -1, limit = (int64_t)count * 4 + 65536;
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, text, value)
    {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return crank_fail(context, CRANK_BAD_DATA, "`vocab`: the id of `%.80s` must be a whole number from 0",
                              text);
        if (json_integer_value(value) >= limit || json_integer_value(value) >= INT32_MAX / 4)
            return crank_fail(context, CRANK_BAD_DATA,
                              "`vocab`: id %lld of `%.80s` is far above the number of tokens, %zu",
                              (long long)json_integer_value(value), text, count);
        if (json_integer_value(value) > highest) highest = json_integer_value(value);
    }
    crank_status status = vocabulary_init(context, words, (int32_t)(highest + 1), count);
    if (status) return status;
    json_object_foreach((json_t *)(uintptr_t)object, text, value)
    {
        status = vocabulary_add(context, words, text, strlen(text), (int32_t)json_integer_value(value), false);
        if (status) return crank_fail_in(context, "`vocab`");
    }
    return CRANK_OK;
}

/* One merge, "left right" or ["left", "right"]. */
static crank_status split_merge(crank_context *context, const json_t *merge, size_t i, const char *side[2],
                                size_t length[2])
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        size_t whole = json_string_length(merge);
        if (space && !strchr(space + 1, ' ')) {
            side[0] = text;
            length[0] = (size_t)(space - text);
            side[1] = space + 1;
            length[1] = whole - length[0] - 1;
            return CRANK_OK;
        }
    } else if (json_array_size(merge) == 2 && json_is_string(json_array_get(merge, 0)) &&
               json_is_string(json_array_get(merge, 1))) {
        for (size_t k = 0; k < 2; k++) {
            side[k] = json_string_value(json_array_get(merge, k));
            length[k] = json_string_length(json_array_get(merge, k));
        }
        return CRANK_OK;
    }
    return crank_fail(context, CRANK_BAD_DATA, "`merges`, number %zu: must be \"left right\" or [\"left\", \"right\"]",
                      i + 1);
}

static void put_merge(bpe *model, uint64_t pair, uint32_t rank, int32_t id)
{
    uint64_t at = bpe_slot(pair) & model->mask;
    while (model->merges[at].pair != UINT64_MAX && model->merges[at].pair != pair) at = (at + 1) & model->mask;
    model->merges[at] = (bpe_merge){pair, rank, id}; /* of equal pairs the last one counts */
}

/* The token that both sides together are; the prefix of words' insides stands only once. room [longest text]. */
static int32_t merged_id(const vocabulary *words, const bpe *model, const char *const side[2], const size_t length[2],
                         char *room, size_t longest)
{
    size_t skip = model->prefix.length;
    if (skip > length[1] || length[0] + length[1] - skip > longest) return -1;
    memcpy(room, side[0], length[0]);
    memcpy(room + length[0], side[1] + skip, length[1] - skip);
    return vocabulary_find(words, room, length[0] + length[1] - skip);
}

static crank_status load_merge(crank_context *context, bpe *model, const vocabulary *words, const json_t *merge,
                               size_t i, uint32_t rank, char *room, size_t longest)
{
    const char *side[2];
    size_t length[2];
    int32_t id[2];
    crank_status status = split_merge(context, merge, i, side, length);
    if (status) return status;
    for (int k = 0; k < 2; k++) {
        id[k] = vocabulary_find(words, side[k], length[k]);
        if (id[k] < 0)
            return crank_fail(context, CRANK_BAD_DATA, "`merges`, number %zu: `%.80s` is not in the vocabulary", i + 1,
                              side[k]);
    }
    int32_t whole = merged_id(words, model, side, length, room, longest);
    if (whole < 0)
        return crank_fail(context, CRANK_BAD_DATA,
                          "`merges`, number %zu: what `%.*s` and `%.80s` become is not in the vocabulary", i + 1,
                          (int)(length[0] < 80 ? length[0] : 80), side[0], side[1]);
    put_merge(model, (uint64_t)(uint32_t)id[0] << 32 | (uint32_t)id[1], rank, whole);
    return CRANK_OK;
}

static crank_status load_merges(crank_context *context, bpe *model, const vocabulary *words, const json_t *merges)
{
    if (!json_is_array(merges)) return crank_fail(context, CRANK_BAD_DATA, "`merges` must be an array");
    size_t count = json_array_size(merges), size = 16;
    if (count > INT32_MAX / 4) return crank_fail(context, CRANK_BAD_DATA, "`merges` has %zu entries", count);
    while (size < count * 2 + 1) size *= 2;
    model->merges = crank_alloc(context, size, sizeof *model->merges, "merges");
    if (!model->merges) return CRANK_FAILED;
    memset(model->merges, 0xFF, size * sizeof *model->merges);
    model->mask = size - 1;
    size_t longest = 0;
    for (int32_t id = 0; id < words->size; id++)
        if (words->lengths[id] > longest) longest = words->lengths[id];
    char *room = crank_alloc(context, longest + 1, 1, "merges");
    crank_status status = room ? CRANK_OK : CRANK_FAILED;
    uint32_t rank = 0;
    for (size_t i = 0; !status && i < count; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8)) continue;
        status = load_merge(context, model, words, merge, i, rank++, room, longest);
    }
    crank_free(room);
    model->merge_count = rank;
    return status;
}

static crank_status load_affix(crank_context *context, const json_t *object, const char *key, text_string *out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return CRANK_OK;
    crank_status status = json_need_text(context, object, key, out);
    if (!status && out->length > 64) status = crank_fail(context, CRANK_BAD_DATA, "`%s` is longer than 64 bytes", key);
    return status;
}

static crank_status load_options(crank_context *context, bpe *model, const json_t *object)
{
    double dropout;
    crank_status status = json_get_number(context, object, "dropout", 0, &dropout, "BPE");
    if (!status && dropout != 0)
        status = crank_fail(context, CRANK_BAD_DATA,
                            "`dropout` is %g; encoding is deterministic here, only null or 0 is read", dropout);
    if (!status) status = json_get_bool(context, object, "fuse_unk", false, &model->fuse_unknown, "BPE");
    if (!status) status = json_get_bool(context, object, "byte_fallback", false, &model->byte_fallback, "BPE");
    if (!status) status = json_get_bool(context, object, "ignore_merges", false, &model->ignore_merges, "BPE");
    if (!status) status = load_affix(context, object, "continuing_subword_prefix", &model->prefix);
    if (!status) status = load_affix(context, object, "end_of_word_suffix", &model->suffix);
    if (status) return status;
    const json_t *unknown = json_object_get(object, "unk_token");
    if (unknown && !json_is_null(unknown)) status = json_need_text(context, object, "unk_token", &model->unknown_text);
    model->plain = !model->prefix.length && !model->suffix.length;
    return status;
}

/* Whether a text holds U+2581 behind another character. */
static bool has_inner_metaspace(const char *text, size_t length)
{
    bool other = false;
    for (size_t at = 0; at < length;) {
        bool mark = length - at >= 3 && !memcmp(text + at, "\xE2\x96\x81", 3);
        if (mark && other) return true;
        other = !mark;
        at += mark ? 3 : 1;
    }
    return false;
}

static bool finds_words_at_metaspace(const bpe *model, const vocabulary *words)
{
    if (!model->plain || model->ignore_merges || vocabulary_find(words, "\xE2\x96\x81", 3) < 0) return false;
    for (uint64_t at = 0; at <= model->mask; at++) {
        size_t length = 0;
        if (model->merges[at].pair == UINT64_MAX) continue;
        const char *text = vocabulary_text(words, model->merges[at].id, &length);
        if (has_inner_metaspace(text, length)) return false;
    }
    return true;
}

crank_status bpe_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object)
{
    bpe *model = tokenizer->model.bpe = crank_alloc(context, 1, sizeof *model, "a BPE model");
    if (!model) return CRANK_FAILED;
    crank_status status = load_options(context, model, object);
    if (!status) status = vocabulary_load(context, &tokenizer->words, json_object_get(object, "vocab"));
    if (!status) status = load_merges(context, model, &tokenizer->words, json_object_get(object, "merges"));
    if (status) return status;
    model->unknown = model->unknown_text.bytes
                         ? vocabulary_find(&tokenizer->words, model->unknown_text.bytes, model->unknown_text.length)
                         : -1;
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        model->fallback_ids[byte] = vocabulary_find(&tokenizer->words, text, 6);
        text[0] = (char)byte;
        model->byte_ids[byte] = byte < 128 ? vocabulary_find(&tokenizer->words, text, 1) : -1;
    }
    model->words_at_metaspace = finds_words_at_metaspace(model, &tokenizer->words);
    return CRANK_OK;
}

void bpe_free(bpe *model)
{
    if (!model) return;
    crank_free(model->merges);
    crank_free(model->whole);
    vocabulary_clear(&model->raw);
    text_string_clear(&model->unknown_text);
    text_string_clear(&model->prefix);
    text_string_clear(&model->suffix);
    crank_free(model);
}

/* The bytes that a text of the byte-level alphabet stands for; false when a character is not in the alphabet. */
static bool text_to_bytes(const char *text, size_t length, char *bytes, size_t *byte_count)
{
    size_t size;
    *byte_count = 0;
    for (size_t at = 0; at < length; at += size) {
        int byte = character_to_byte(utf8_get(text + at, &size));
        if (byte < 0) return false;
        bytes[(*byte_count)++] = (char)byte;
    }
    return true;
}

crank_status bpe_read_bytes(crank_context *context, crank_tokenizer *tokenizer, bool *done)
{
    bpe *model = tokenizer->model.bpe;
    const vocabulary *words = &tokenizer->words;
    int32_t ids[256];
    *done = false;
    if (!model->plain) return CRANK_OK;
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        size_t length = utf8_put(byte_to_character((unsigned char)byte), text);
        ids[byte] = vocabulary_find(words, text, length);
        if (ids[byte] < 0) return CRANK_OK;
    }
    crank_status status = vocabulary_init(context, &model->raw, words->size, words->count);
    char *bytes = crank_alloc(context, words->bytes_used + 1, 1, "a vocabulary");
    if (!status && !bytes) status = CRANK_FAILED;
    for (int32_t id = 0; !status && id < words->size; id++) {
        size_t length, count;
        const char *text = vocabulary_text(words, id, &length);
        if (text && text_to_bytes(text, length, bytes, &count))
            status = vocabulary_add(context, &model->raw, bytes, count, id, false);
    }
    crank_free(bytes);
    if (status) return status;
    memcpy(model->byte_ids, ids, sizeof ids);
    model->reads_bytes = *done = true;
    model->words_at_metaspace = false;
    return CRANK_OK;
}

crank_status bpe_find_whole_words(crank_context *context, crank_tokenizer *tokenizer)
{
    bpe *model = tokenizer->model.bpe;
    if (!model->plain || model->ignore_merges) return CRANK_OK;
    const vocabulary *words = model->reads_bytes ? &model->raw : &tokenizer->words;
    uint8_t *whole = crank_alloc(context, (size_t)words->size / 8 + 1, 1, "a vocabulary");
    encoder e = {.context = context, .tokenizer = tokenizer};
    crank_status status = whole ? CRANK_OK : CRANK_FAILED;
    for (int32_t id = 0; !status && id < words->size; id++) {
        size_t length, count;
        const char *text = vocabulary_text(words, id, &length);
        if (!text || !length || length > 255) continue;
        if (model->unknown_text.bytes && model->unknown < 0 && !model->reads_bytes) continue;
        if (!bpe_symbols(&e, model, text, length, &count)) status = crank_last_status(context);
        if (!status) count = bpe_merge_symbols(&e, model, count);
        if (!status && count == SIZE_MAX) status = CRANK_FAILED;
        if (!status && count == 1 && e.symbols[0] == id) whole[id / 8] |= (uint8_t)(1 << id % 8);
    }
    work_clear(&e);
    if (status)
        crank_free(whole);
    else
        model->whole = whole;
    return status;
}
