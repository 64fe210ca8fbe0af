/* score_avx2.c - masks of documents in vectors of 32 bytes, compiled for AVX2. */
#define WIDTH 32
#include "tree/score_body.h"

void score_masks_avx2(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, void *mask, uint8_t *low, uint8_t *high)
{
    score_masks_body(s, t, value, bytes, mask, low, high);
}
