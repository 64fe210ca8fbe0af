/* tokenizer_vocabulary.h - the texts of ids, found both ways; a trie over bytes; growing arrays. */
#ifndef CRANK_DATA_TOKENIZER_VOCABULARY_H
#define CRANK_DATA_TOKENIZER_VOCABULARY_H

#include "crank/base.h"

/* The hash of a text is built byte by byte, so that all prefixes of a word are hashed in one pass. */
#define TEXT_HASH_START UINT64_C(0xCBF29CE484222325)
static inline uint64_t text_hash_step(uint64_t hash, char byte)
{
    return (hash ^ (unsigned char)byte) * UINT64_C(0x9E3779B97F4A7C15);
}
static inline uint64_t text_hash_from(uint64_t hash, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) hash = text_hash_step(hash, text[i]);
    return hash;
}
static inline uint64_t text_hash(const char *text, size_t length)
{
    return text_hash_from(TEXT_HASH_START, text, length);
}

typedef struct vocabulary_slot {
    uint32_t check; /* high half of the hash */
    int32_t id;     /* -1: free */
} vocabulary_slot;

/* Ids may have holes. Texts are kept one after the other, each followed by a NUL. */
typedef struct vocabulary {
    char *bytes;
    size_t bytes_used, bytes_capacity;
    uint32_t *starts;  /* [size] place of the text of id, UINT32_MAX: none */
    uint32_t *lengths; /* [size] */
    int32_t size;      /* highest id + 1 */
    size_t count;      /* ids that have a text */
    vocabulary_slot *slots;
    uint64_t mask;
} vocabulary;

/* An empty vocabulary with room for ids below `size` and `count` texts. */
crank_status vocabulary_init(crank_context *context, vocabulary *words, int32_t size, size_t count);
void vocabulary_clear(vocabulary *words);
/* Adds a text; the id must be free. A text that is there already is CRANK_BAD_DATA, unless `replace`: it then names the
 * new id from now on. */
crank_status vocabulary_add(crank_context *context, vocabulary *words, const char *text, size_t length, int32_t id,
                            bool replace);
/* The id of a text, -1 when there is none. `hash` is text_hash(text, length). */
int32_t vocabulary_find_hashed(const vocabulary *words, uint64_t hash, const char *text, size_t length);
static inline int32_t vocabulary_find(const vocabulary *words, const char *text, size_t length)
{
    return vocabulary_find_hashed(words, text_hash(text, length), text, length);
}
/* The text of an id, NULL when there is none; NUL-terminated, *length may be NULL. */
const char *vocabulary_text(const vocabulary *words, int32_t id, size_t *length);

/* A trie over bytes. Node 0 is the root. */
typedef struct trie_edge {
    uint64_t key; /* node * 256 + byte + 1; 0: free */
    uint32_t node;
} trie_edge;
typedef struct trie {
    trie_edge *edges;
    uint64_t mask;
    size_t edge_count;
    int32_t *values; /* [nodes] -1: no text ends here */
    size_t nodes, nodes_capacity;
    uint32_t roots[256]; /* children of the root, 0: none */
} trie;
crank_status trie_init(crank_context *context, trie *tree);
void trie_clear(trie *tree);
/* Adds a text with its value; an older value stays unless `replace`. */
crank_status trie_add(crank_context *context, trie *tree, const char *text, size_t length, int32_t value, bool replace);
/* The child of a node, 0 when there is none. */
static inline uint32_t trie_step(const trie *tree, uint32_t node, char byte)
{
    if (!node) return tree->roots[(unsigned char)byte];
    uint64_t key = (uint64_t)node * 256 + (unsigned char)byte + 1;
    for (uint64_t at = key * UINT64_C(0x9E3779B97F4A7C15) >> 20 & tree->mask;; at = (at + 1) & tree->mask) {
        if (tree->edges[at].key == key) return tree->edges[at].node;
        if (!tree->edges[at].key) return 0;
    }
}

/* Makes room for `needed` elements in a growing array (the new part is zero). */
bool array_reserve(crank_context *context, void **items, size_t *capacity, size_t needed, size_t size,
                   const char *what);
#endif
