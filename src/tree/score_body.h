/* score_body.h - the body of score_masks for vectors of WIDTH bytes: a mask holds a byte a document, 255 where it is there. */
#include "tree/score.h"

typedef uint8_t lanes __attribute__((vector_size(WIDTH)));

static inline lanes splat(uint8_t x) { return (lanes){0} + x; }

/* The documents of `mask` that a set sends left. value: of the first of them */
static lanes by_set(const scorer *s, const score_set *set, const float *value, const lanes *mask)
{
    uint8_t there[WIDTH], goes[WIDTH];
    lanes   out;
    memcpy(there, mask, WIDTH);
    for (int i = 0; i < WIDTH; i++) goes[i] = there[i] && set_has(s, set, value[(int64_t)set->input * SCORE_TILE + i]) ? 255 : 0;
    memcpy(&out, goes, WIDTH);
    return out;
}

static inline __attribute__((always_inline)) void spread(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, lanes *mask, const bool sets)
{
    const score_node *node = s->node + t->node;
    mask[0] = splat(255);
    for (int32_t i = 0; i < t->leaves - 1; i++) {
        uint32_t plane = node[i].plane >> 8;
        lanes    rank, left, here = mask[i];
        if (sets && plane == (uint32_t)s->planes) left = by_set(s, &s->set[s->set_of[t->node + i]], value, &mask[i]);
        else {
            memcpy(&rank, bytes + (size_t)plane * SCORE_TILE, WIDTH);
            left = (lanes)(rank <= splat((uint8_t)node[i].plane));
        }
        mask[node[i].left] = here & left;
        mask[node[i].right] = here & ~left;
    }
}

static inline __attribute__((always_inline)) void score_masks_body(const scorer *s, const score_tree *t, const float *value, const uint8_t *bytes, void *room, uint8_t *low, uint8_t *high)
{
    lanes *mask = room;
    if (t->levels) {
        score_levels(s, t, bytes, low, high);
        return;
    }
    for (int part = 0; part < SCORE_TILE; part += WIDTH) {
        lanes number = splat(0), group = splat(0);
        if (t->by_sets) spread(s, t, value + part, bytes + part, mask, true);
        else spread(s, t, value + part, bytes + part, mask, false);
        const lanes *leaf = mask + t->leaves - 1;
        for (int32_t first = 0; first < t->leaves; first += 256) {
            lanes any = splat(0);
            for (int32_t k = first; k < t->leaves && k < first + 256; k++) {
                any |= leaf[k];
                number |= leaf[k] & splat((uint8_t)k);
            }
            group |= any & splat((uint8_t)(first >> 8));
        }
        memcpy(low + part, &number, WIDTH);
        memcpy(high + part, &group, WIDTH);
    }
}
