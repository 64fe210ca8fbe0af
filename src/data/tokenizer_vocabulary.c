/* tokenizer_vocabulary.c - an open-addressing table from texts to ids, and a trie over bytes. */
#include "data/tokenizer_vocabulary.h"

#include <string.h>

bool array_reserve(crank_context *context, void **items, size_t *capacity, size_t needed, size_t size, const char *what)
{
    if (needed <= *capacity) return true;
    size_t wanted = *capacity < 16 ? 16 : *capacity;
    while (wanted < needed) {
        if (wanted > SIZE_MAX / 2) {
            wanted = needed;
            break;
        }
        wanted *= 2;
    }
    char *grown = crank_alloc(context, wanted, size, what);
    if (!grown) return false;
    if (*items) memcpy(grown, *items, *capacity * size);
    crank_free(*items);
    *items = grown;
    *capacity = wanted;
    return true;
}

static uint64_t power_of_two(size_t least)
{
    uint64_t size = 16;
    while (size < least) size *= 2;
    return size;
}

crank_status vocabulary_init(crank_context *context, vocabulary *words, int32_t size, size_t count)
{
    *words = (vocabulary){0};
    words->mask = power_of_two(count * 2 + 1) - 1;
    words->starts = crank_alloc(context, (size_t)size, sizeof *words->starts, "a vocabulary");
    words->lengths = crank_alloc(context, (size_t)size, sizeof *words->lengths, "a vocabulary");
    words->slots = crank_alloc(context, words->mask + 1, sizeof *words->slots, "a vocabulary");
    if (!words->starts || !words->lengths || !words->slots) {
        vocabulary_clear(words);
        return CRANK_FAILED;
    }
    words->size = size;
    memset(words->starts, 0xFF, (size_t)size * sizeof *words->starts);
    for (uint64_t i = 0; i <= words->mask; i++) words->slots[i].id = -1;
    return CRANK_OK;
}

void vocabulary_clear(vocabulary *words)
{
    crank_free(words->bytes);
    crank_free(words->starts);
    crank_free(words->lengths);
    crank_free(words->slots);
    *words = (vocabulary){0};
}

static bool slot_holds(const vocabulary *words, vocabulary_slot slot, uint64_t hash, const char *text, size_t length)
{
    return slot.check == (uint32_t)(hash >> 32) && words->lengths[slot.id] == length &&
           !memcmp(words->bytes + words->starts[slot.id], text, length);
}

int32_t vocabulary_find_hashed(const vocabulary *words, uint64_t hash, const char *text, size_t length)
{
    if (!words->slots) return -1;
    for (uint64_t at = (hash ^ hash >> 29) & words->mask;; at = (at + 1) & words->mask) {
        vocabulary_slot slot = words->slots[at];
        if (slot.id < 0) return -1;
        if (slot_holds(words, slot, hash, text, length)) return slot.id;
    }
}

crank_status vocabulary_add(crank_context *context, vocabulary *words, const char *text, size_t length, int32_t id,
                            bool replace)
{
    if (id < 0 || id >= words->size)
        return crank_fail(context, CRANK_BAD_DATA, "token `%.80s` has id %d out of 0 to %d", text, id, words->size - 1);
    if (words->starts[id] != UINT32_MAX)
        return crank_fail(context, CRANK_BAD_DATA, "tokens `%.80s` and `%.80s` have the same id %d",
                          words->bytes + words->starts[id], text, id);
    if (words->count > words->mask / 2 || length >= UINT32_MAX - words->bytes_used - 1)
        return crank_fail(context, CRANK_BAD_DATA, "the vocabulary's texts are longer than 4 GiB together");
    uint64_t hash = text_hash(text, length), at = (hash ^ hash >> 29) & words->mask;
    while (words->slots[at].id >= 0 && !slot_holds(words, words->slots[at], hash, text, length))
        at = (at + 1) & words->mask;
    if (words->slots[at].id >= 0 && !replace)
        return crank_fail(context, CRANK_BAD_DATA, "token `%.80s` stands twice, as id %d and %d", text,
                          words->slots[at].id, id);
    if (!array_reserve(context, (void **)&words->bytes, &words->bytes_capacity, words->bytes_used + length + 1, 1,
                       "a vocabulary"))
        return CRANK_FAILED;
    memcpy(words->bytes + words->bytes_used, text, length);
    words->bytes[words->bytes_used + length] = 0;
    words->starts[id] = (uint32_t)words->bytes_used;
    words->lengths[id] = (uint32_t)length;
    words->bytes_used += length + 1;
    words->slots[at] = (vocabulary_slot){(uint32_t)(hash >> 32), id};
    words->count++;
    return CRANK_OK;
}

const char *vocabulary_text(const vocabulary *words, int32_t id, size_t *length)
{
    if (id < 0 || id >= words->size || words->starts[id] == UINT32_MAX) return NULL;
    if (length) *length = words->lengths[id];
    return words->bytes + words->starts[id];
}

crank_status trie_init(crank_context *context, trie *tree)
{
    *tree = (trie){.nodes = 1, .mask = 255};
    tree->edges = crank_alloc(context, tree->mask + 1, sizeof *tree->edges, "a trie");
    if (!tree->edges ||
        !array_reserve(context, (void **)&tree->values, &tree->nodes_capacity, 1, sizeof *tree->values, "a trie")) {
        trie_clear(tree);
        return CRANK_FAILED;
    }
    tree->values[0] = -1;
    return CRANK_OK;
}

void trie_clear(trie *tree)
{
    crank_free(tree->edges);
    crank_free(tree->values);
    *tree = (trie){0};
}

static void put_edge(trie_edge *edges, uint64_t mask, trie_edge edge)
{
    uint64_t at = edge.key * UINT64_C(0x9E3779B97F4A7C15) >> 20 & mask;
    while (edges[at].key) at = (at + 1) & mask;
    edges[at] = edge;
}

static bool grow_edges(crank_context *context, trie *tree)
{
    uint64_t mask = tree->mask * 2 + 1;
    trie_edge *grown = crank_alloc(context, mask + 1, sizeof *grown, "a trie");
    if (!grown) return false;
    for (uint64_t i = 0; i <= tree->mask; i++)
        if (tree->edges[i].key) put_edge(grown, mask, tree->edges[i]);
    crank_free(tree->edges);
    tree->edges = grown;
    tree->mask = mask;
    return true;
}

crank_status trie_add(crank_context *context, trie *tree, const char *text, size_t length, int32_t value, bool replace)
{
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        uint32_t next = trie_step(tree, node, text[i]);
        if (!next) {
            if (tree->nodes >= UINT32_MAX)
                return crank_fail(context, CRANK_BAD_DATA, "a trie has more than 2^32 nodes");
            next = (uint32_t)tree->nodes;
            if (!array_reserve(context, (void **)&tree->values, &tree->nodes_capacity, tree->nodes + 1,
                               sizeof *tree->values, "a trie"))
                return CRANK_FAILED;
            tree->values[tree->nodes++] = -1;
            if (!node) {
                tree->roots[(unsigned char)text[i]] = next;
            } else {
                if (tree->edge_count * 2 > tree->mask && !grow_edges(context, tree)) return CRANK_FAILED;
                put_edge(tree->edges, tree->mask, (trie_edge){(uint64_t)node * 256 + (unsigned char)text[i] + 1, next});
                tree->edge_count++;
            }
        }
        node = next;
    }
    if (node && (replace || tree->values[node] < 0)) tree->values[node] = value;
    return CRANK_OK;
}
