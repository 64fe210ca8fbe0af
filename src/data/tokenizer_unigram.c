/* tokenizer_unigram.c - the unigram language model (Kudo 2018, arXiv:1804.10959): the most likely segmentation.
 *
 *     best(0) = 0        best(j) = max over tokens t = text[i, j) of  best(i) + score(t)         (Viterbi, forwards)
 *
 * A character that is no token by itself may be unknown, at the lowest score minus 10; unknown neighbours become one.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "data/tokenizer_parts.h"

#define UNKNOWN_PENALTY 10.0

struct unigram {
    trie tokens;
    double *scores; /* [size] */
    double unknown_score;
    int32_t unknown; /* -1: none */
    bool byte_fallback;
    int32_t fallback_ids[256];
};

/* The best way to reach a byte of the text. */
typedef struct lattice_node {
    double score;
    uint32_t start; /* of the last token */
    int32_t id;     /* -1: not reached */
} lattice_node;

static void reach(lattice_node *node, double score, size_t start, int32_t id)
{
    if (node->id >= 0 && score <= node->score) return;
    *node = (lattice_node){score, (uint32_t)start, id};
}

static bool fill_lattice(encoder *e, const unigram *model, lattice_node *nodes, const char *text, size_t length)
{
    for (size_t i = 0; i <= length; i++) nodes[i] = (lattice_node){0, 0, -1};
    for (size_t at = 0, size; at < length; at += size) {
        double score = nodes[at].score;
        bool single = false;
        uint32_t node = 0;
        size = utf8_size((unsigned char)text[at]);
        for (size_t end = at; end < length;) {
            node = trie_step(&model->tokens, node, text[end++]);
            if (!node) break;
            int32_t id = model->tokens.values[node];
            if (id < 0) continue;
            reach(&nodes[end], score + model->scores[id], at, id);
            if (end - at == size) single = true;
        }
        if (single) continue;
        if (model->unknown < 0) {
            crank_fail(e->context, CRANK_BAD_DATA,
                       "the text has a character without a token, and the model has no `unk_id`");
            return false;
        }
        reach(&nodes[at + size], score + model->unknown_score, at, model->unknown);
    }
    return true;
}

/* Unknown text [start, end) of the piece: bytes where the model has them all, else the unknown token. */
static bool add_unknown(encoder *e, const unigram *model, const piece *old, size_t start, size_t end)
{
    const char *text = e->text + old->start;
    int32_t id = vocabulary_find(&e->tokenizer->words, text + start, end - start);
    bool bytes = id < 0 && model->byte_fallback;
    for (size_t i = start; bytes && i < end; i++) bytes = model->fallback_ids[(unsigned char)text[i]] >= 0;
    if (!bytes) return work_add_token(e, id >= 0 ? id : model->unknown, old->start + start, old->start + end);
    for (size_t i = start; i < end; i++)
        if (!work_add_token(e, model->fallback_ids[(unsigned char)text[i]], old->start + start, old->start + end))
            return false;
    return true;
}

bool unigram_encode(encoder *e, const unigram *model, const piece *old)
{
    size_t length = old->end - old->start, count = 0;
    if (!array_reserve(e->context, &e->lattice, &e->lattice_capacity, length + 1, sizeof(lattice_node), "a lattice") ||
        !array_reserve(e->context, (void **)&e->links, &e->links_capacity, length + 1, sizeof *e->links, "a lattice"))
        return false;
    lattice_node *nodes = e->lattice;
    if (!fill_lattice(e, model, nodes, e->text + old->start, length)) return false;
    for (uint32_t end = (uint32_t)length; end; end = nodes[end].start) e->links[count++] = (int32_t)end;
    for (size_t start = 0; count;) {
        size_t end = (size_t)e->links[--count];
        int32_t id = nodes[end].id;
        while (id == model->unknown && count && nodes[e->links[count - 1]].id == id) end = (size_t)e->links[--count];
        if (id == model->unknown ? !add_unknown(e, model, old, start, end)
                                 : !work_add_token(e, id, old->start + start, old->start + end))
            return false;
        start = end;
    }
    return true;
}

/* One entry of the vocabulary: [text, score]. */
static crank_status load_entry(crank_context *context, crank_tokenizer *tokenizer, unigram *model, const json_t *entry,
                               int32_t id)
{
    const json_t *text = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    if (json_array_size(entry) != 2 || !json_is_string(text) || !json_is_number(score))
        return crank_fail(context, CRANK_BAD_DATA, "`vocab`, entry %d: must be [text, score]", id);
    model->scores[id] = json_number_value(score);
    if (!isfinite(model->scores[id]))
        return crank_fail(context, CRANK_BAD_DATA, "`vocab`, entry %d: the score is not finite", id);
    crank_status status =
        vocabulary_add(context, &tokenizer->words, json_string_value(text), json_string_length(text), id, true);
    return status ? status
                  : trie_add(context, &model->tokens, json_string_value(text), json_string_length(text), id, true);
}

crank_status unigram_load(crank_context *context, crank_tokenizer *tokenizer, const json_t *object)
{
    unigram *model = tokenizer->model.unigram = crank_alloc(context, 1, sizeof *model, "a Unigram model");
    if (!model) return CRANK_FAILED;
    const json_t *list = json_object_get(object, "vocab");
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > INT32_MAX / 4)
        return crank_fail(context, CRANK_BAD_DATA, "`vocab` must be an array of [text, score]");
    int64_t unknown;
    crank_status status = json_get_bool(context, object, "byte_fallback", false, &model->byte_fallback, "Unigram");
    if (!status) status = json_get_int(context, object, "unk_id", 0, (int64_t)count - 1, -1, &unknown, "Unigram");
    if (!status) status = trie_init(context, &model->tokens);
    if (!status) status = vocabulary_init(context, &tokenizer->words, (int32_t)count, count);
    if (status) return status;
    model->unknown = (int32_t)unknown;
    model->scores = crank_alloc(context, count, sizeof *model->scores, "scores of tokens");
    if (!model->scores) return CRANK_FAILED;
    double lowest = INFINITY;
    for (size_t i = 0; !status && i < count; i++) {
        status = load_entry(context, tokenizer, model, json_array_get(list, i), (int32_t)i);
        if (!status && model->scores[i] < lowest) lowest = model->scores[i];
    }
    model->unknown_score = lowest - UNKNOWN_PENALTY;
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        model->fallback_ids[byte] = vocabulary_find(&tokenizer->words, text, 6);
    }
    return status;
}

void unigram_free(unigram *model)
{
    if (!model) return;
    trie_clear(&model->tokens);
    crank_free(model->scores);
    crank_free(model);
}
