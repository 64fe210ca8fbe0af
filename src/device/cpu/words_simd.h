/* words_simd.h - 32-bit words of low-rank products: a float, or two bf16 that stand behind each other along the summed
 * dimension and that one instruction multiplies and adds in f32. `pairs` is a constant where these are used. */
#ifndef CRANK_DEVICE_CPU_WORDS_SIMD_H
#define CRANK_DEVICE_CPU_WORDS_SIMD_H

#include "device/cpu/simd.h"

/* Whether operands of a type are multiplied in pairs at this level. */
ALWAYS_INLINE bool words_are_pairs(crank_dtype type)
{
#if defined(__AVX512BF16__)
    return type == CRANK_BF16;
#else
    (void)type;
    return false;
#endif
}

/* sum + a b, the word a for every lane. */
ALWAYS_INLINE vec word_multiply_add(bool pairs, uint32_t a, vec b, vec sum)
{
#if defined(__AVX512BF16__)
    if (pairs) return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)_mm512_castps_si512(b));
#endif
    (void)pairs;
    float value;
    memcpy(&value, &a, sizeof value);
    return vec_fma(vec_set(value), b, sum);
}

/* Word w of a line of `count` elements that stand `step` apart from `data` on; zero fills the last pair. */
ALWAYS_INLINE uint32_t word_of(const void *data, crank_dtype type, bool pairs, int64_t step, int64_t count, int64_t w)
{
    if (type == CRANK_F32) return ((const uint32_t *)data)[w * step];
    const uint16_t *bits = data;
    if (!pairs) return (uint32_t)bits[w * step] << 16;
    return bits[2 * w * step] | (2 * w + 1 < count ? (uint32_t)bits[(2 * w + 1) * step] << 16 : 0);
}
#endif
