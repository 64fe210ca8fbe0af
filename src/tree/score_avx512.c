/* score_avx512.c - masks of 64 documents as one 64-bit word: AVX512 compares 64 bytes into it. */
#include <immintrin.h>

#include "tree/score.h"

/* The documents of `mask` that a set sends left. */
static uint64_t by_set(const scorer *s, const score_set *set, const float *value, uint64_t mask)
{
    uint64_t left = 0;
    for (; mask; mask &= mask - 1) {
        int i = __builtin_ctzll(mask);
        left |= (uint64_t)set_has(s, set, value[(int64_t)set->input * SCORE_TILE + i]) << i;
    }
    return left;
}

static inline __attribute__((always_inline)) void spread(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, uint64_t *mask, const bool sets)
{
    const score_node *node = s->node + t->node;
    mask[0] = ~(uint64_t)0;
    for (int32_t i = 0; i < t->leaves - 1; i++) {
        uint32_t plane = node[i].plane >> 8;
        uint64_t left, here = mask[i];
        if (sets && plane == (uint32_t)s->planes) left = by_set(s, &s->set[s->set_of[t->node + i]], value, here);
        else left = _mm512_cmple_epu8_mask(_mm512_loadu_si512(bytes + (size_t)plane * SCORE_TILE), _mm512_set1_epi8((char)node[i].plane));
        mask[node[i].left] = here & left;
        mask[node[i].right] = here & ~left;
    }
}

void score_masks_avx512(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, void *room, uint8_t *low, uint8_t *high)
{
    uint64_t *mask = room, *leaf = mask + t->leaves - 1;
    if (t->levels) {
        score_levels(s, t, bytes, low, high);
        return;
    }
    if (t->by_sets) spread(s, t, value, bytes, mask, true);
    else spread(s, t, value, bytes, mask, false);
    __m512i number = _mm512_setzero_si512(), group = number, k = number;
    for (int32_t first = 0; first < t->leaves; first += 256) {
        uint64_t any = 0;
        for (int32_t i = first; i < t->leaves && i < first + 256; i++) {
            any |= leaf[i];
            number = _mm512_mask_mov_epi8(number, leaf[i], k);
            k = _mm512_add_epi8(k, _mm512_set1_epi8(1));
        }
        group = _mm512_mask_mov_epi8(group, any, _mm512_set1_epi8((char)(first >> 8)));
    }
    _mm512_storeu_si512(low, number);
    _mm512_storeu_si512(high, group);
}
