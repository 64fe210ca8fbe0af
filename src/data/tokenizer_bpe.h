/* tokenizer_bpe.h - byte-pair encoding: what tokenizer_bpe.c runs and tokenizer_bpe_load.c reads. */
#ifndef CRANK_DATA_TOKENIZER_BPE_H
#define CRANK_DATA_TOKENIZER_BPE_H

#include "data/tokenizer_parts.h"

typedef struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free slot */
    uint32_t rank;
    int32_t id; /* of the token that the pair becomes */
} bpe_merge;

struct bpe {
    bpe_merge *merges; /* open addressing */
    uint64_t mask;
    size_t merge_count;
    bool reads_bytes; /* words are raw bytes; `raw` holds the texts of tokens as bytes */
    vocabulary raw;
    int32_t byte_ids[256];     /* reads_bytes: ids of single bytes; else of ASCII characters, -1: none */
    int32_t fallback_ids[256]; /* ids of <0x00> to <0xFF>, -1: none */
    bool byte_fallback, fuse_unknown, ignore_merges;
    text_string unknown_text;   /* bytes NULL: there is no unknown token */
    int32_t unknown;            /* -1: not in the vocabulary */
    text_string prefix, suffix; /* of characters inside and at the end of a word */
    bool plain;                 /* neither prefix nor suffix */
    bool words_at_metaspace;    /* no token reaches over a U+2581 that stands behind another character */
    uint8_t *whole;             /* bits by id: the text of the token becomes this one token */
};

static inline uint64_t bpe_slot(uint64_t pair)
{
    return (pair ^ pair >> 32) * UINT64_C(0x9E3779B97F4A7C15) >> 24;
}

static inline const bpe_merge *bpe_find(const bpe *model, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint64_t at = bpe_slot(pair) & model->mask;; at = (at + 1) & model->mask) {
        if (model->merges[at].pair == pair) return &model->merges[at];
        if (model->merges[at].pair == UINT64_MAX) return NULL;
    }
}

static inline bool bpe_is_whole(const bpe *model, int32_t id)
{
    return model->whole && model->whole[id / 8] >> (id % 8) & 1;
}

/* A word as its first symbols in e->symbols and e->sizes (bytes each); false: error. */
bool bpe_symbols(encoder *e, const bpe *model, const char *word, size_t length, size_t *count);
/* Merges them as far as it goes; returns how many are left. SIZE_MAX: out of memory. */
size_t bpe_merge_symbols(encoder *e, const bpe *model, size_t count);
#endif
