/* score_plain.c - masks of documents in vectors of 16 bytes, which every compiler knows how to do. */
#define WIDTH 16
#include "tree/score_body.h"

void score_masks_plain(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, void *mask, uint8_t *low, uint8_t *high)
{
    score_masks_body(s, t, value, bytes, mask, low, high);
}
