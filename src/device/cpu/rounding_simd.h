/* rounding_simd.h - writes updated parameters: f32 as they are, bf16 rounded stochastically.
 *
 * Element i takes the high half of draw first_draw + i of the rounding stream; it is added to the f32 pattern before
 * the low half is cut. Values that are not finite are rounded to nearest. */
#ifndef CRANK_DEVICE_CPU_ROUNDING_SIMD_H
#define CRANK_DEVICE_CPU_ROUNDING_SIMD_H

#include "device/cpu/fast.h"
#include "device/cpu/philox_simd.h"
#include "device/cpu/update_step.h"

/* Draws of up to DRAWS elements from one on; the last vector may be read beyond them. */
typedef struct rounding {
    uint32_t words[DRAWS + LANES];
    int64_t  skip; /* of the words: elements may begin inside a block of four */
} rounding;

/* Makes the draws of elements from `first` on; returns how many elements, of `n` at most, they serve. */
ALWAYS_INLINE int64_t rounding_make(rounding *r, const update_step *step, int64_t first, int64_t n)
{
    uint64_t draw = step->first_draw + (uint64_t)first;
    r->skip = (int64_t)(draw % 4);
    philox_words(step->rounding, draw / 4, r->words);
    return DRAWS - r->skip < n ? DRAWS - r->skip : n;
}

/* The bf16 numbers that the elements become, as f32: exact under the rounding of a store. */
ALWAYS_INLINE vec rounded(const rounding *r, int64_t i, vec x)
{
    vec_bits bits = bits_add(vec_as_bits(x), bits_shift_right_logical(bits_load(r->words + r->skip + i), 16));
    vec      cut = vec_from_bits(bits_and(bits, bits_set(-65536)));
    return vec_select(vec_less(vec_abs(x), vec_set(INFINITY)), cut, x);
}
#endif
