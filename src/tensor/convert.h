/* convert.h - conversions between f32 and the types of 16 and 64 bits, one value at a time and in loops.
 *
 *     bf16  1 sign, 8 exponent, 7 fraction bits: the upper half of an f32
 *     f16   1 sign, 5 exponent, 10 fraction bits
 *
 * Rounding is to nearest, ties to even; overflow gives infinity; NaN stays NaN (made quiet when it is narrowed). f64
 * reaches the 16-bit types through an f32 rounded to odd: two roundings to nearest could disagree with one. */
#ifndef CRANK_TENSOR_CONVERT_H
#define CRANK_TENSOR_CONVERT_H

#include <math.h>
#include <string.h>

#include "crank/tensor.h"

#define CONVERT_INLINE static inline __attribute__((always_inline))

CONVERT_INLINE uint32_t convert_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

CONVERT_INLINE float convert_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

CONVERT_INLINE float convert_from_bf16(uint16_t bits) { return convert_float((uint32_t)bits << 16); }

CONVERT_INLINE uint16_t convert_to_bf16(float value)
{
    uint32_t bits = convert_bits(value), nan = 0u - (uint32_t)((bits & 0x7fffffffu) > 0x7f800000u);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40u;
    return (uint16_t)((rounded & ~nan) | (quiet & nan));
}

CONVERT_INLINE float convert_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) /* infinity, or NaN made quiet */
        return convert_float(sign | 0x7f800000u | magnitude << 13 | (magnitude > 0x7c00u ? 0x400000u : 0));
    if (magnitude >= 0x0400u) return convert_float(sign | ((magnitude << 13) + (112u << 23)));
    return convert_float(sign | convert_bits((float)(int32_t)magnitude * 0x1p-24f)); /* subnormal: exact */
}

CONVERT_INLINE uint16_t convert_to_f16(float value)
{
    uint32_t bits = convert_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 2^16 and more */
    if (magnitude >= 0x38800000u) { /* normal: drop 13 bits; 65520 and more carry into infinity */
        uint32_t rebased = magnitude - (112u << 23);
        return (uint16_t)(sign | ((rebased + 0xfffu + (rebased >> 13 & 1)) >> 13));
    }
    /* Below 2^-14: adding 1/2 leaves multiples of 2^-24 in the low bits of an f32, rounded by the addition. */
    return (uint16_t)(sign | (convert_bits(convert_float(magnitude) + 0.5f) - 0x3f000000u));
}

/* The f32 next to `value` towards zero with its last bit set, unless `value` is exact: rounds once more as `value` would. */
CONVERT_INLINE float convert_to_odd(double value)
{
    float near = (float)value;
    if ((double)near == value || isnan(value)) return near;
    uint32_t bits = convert_bits(near);
    if (fabs((double)near) > fabs(value)) bits--;
    return convert_float(bits | 1u);
}

/* Arrays of n values: f32 <-> 16 bits */
typedef void convert_widen(float *to, const uint16_t *from, size_t n);
typedef void convert_narrow(uint16_t *to, const float *from, size_t n);
typedef struct convert_loops {
    convert_widen  *from_bf16, *from_f16;
    convert_narrow *to_bf16, *to_f16;
} convert_loops;
extern const convert_loops convert_loops_plain, convert_loops_avx2;
#endif
