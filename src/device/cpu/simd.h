/* simd.h - one vector of floats at the level for which a source is compiled: 16 (AVX-512) or 8 (AVX2) of them.
 *
 * Kernels that exist at several levels are written once in a NAME_simd.h over this type and included by NAME_avx2.c,
 * NAME_avx512.c and NAME_avx512bf16.c. Everything here is static: two levels in one library do not meet. */
#ifndef CRANK_DEVICE_CPU_SIMD_H
#define CRANK_DEVICE_CPU_SIMD_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "crank/tensor.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
enum { LANES = 16 };
typedef __m512 vec;
ALWAYS_INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }
ALWAYS_INLINE vec vec_set(float x) { return _mm512_set1_ps(x); }
ALWAYS_INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
ALWAYS_INLINE void vec_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
ALWAYS_INLINE vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
ALWAYS_INLINE vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
ALWAYS_INLINE vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); } /* a b + c */
ALWAYS_INLINE vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }             /* b when either is NaN */
ALWAYS_INLINE vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
ALWAYS_INLINE float vec_sum(vec x) { return _mm512_reduce_add_ps(x); }
ALWAYS_INLINE float vec_highest(vec x) { return _mm512_reduce_max_ps(x); }
ALWAYS_INLINE __mmask16 first_lanes(int count) { return (__mmask16)((1u << count) - 1); }
/* The first `count` floats of p, zeros behind; nothing behind them is touched. count is 0..LANES. */
ALWAYS_INLINE vec vec_load_part(const float *p, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
ALWAYS_INLINE void vec_store_part(float *p, vec x, int count) { _mm512_mask_storeu_ps(p, first_lanes(count), x); }
/* Lanes from `count` on become `other`. */
ALWAYS_INLINE vec vec_keep(vec x, int count, vec other) { return _mm512_mask_blend_ps(first_lanes(count), other, x); }
ALWAYS_INLINE vec vec_widen_bf16(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
ALWAYS_INLINE vec vec_load_bf16(const uint16_t *p) { return vec_widen_bf16(_mm256_loadu_si256((const __m256i *)p)); }
ALWAYS_INLINE vec vec_load_bf16_part(const uint16_t *p, int count)
{
    return vec_widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
ALWAYS_INLINE vec vec_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
ALWAYS_INLINE vec vec_load_f16_part(const uint16_t *p, int count)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
#if defined(__AVX512BF16__)
ALWAYS_INLINE __m256i vec_to_bf16(vec x) { return (__m256i)_mm512_cvtneps_pbh(x); }
#else
ALWAYS_INLINE __m256i vec_to_bf16(vec x)
{
    __m512i   bits = _mm512_castps_si512(x);
    __m512i   odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i   even = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    even = _mm512_mask_or_epi32(even, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(even, 16));
}
#endif
ALWAYS_INLINE __m256i vec_to_f16(vec x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }
ALWAYS_INLINE void store_16bit(uint16_t *p, __m256i x) { _mm256_storeu_si256((__m256i *)p, x); }
ALWAYS_INLINE void store_16bit_part(uint16_t *p, __m256i x, int count)
{
    _mm256_mask_storeu_epi16(p, first_lanes(count), x);
}
/* x 2^n for whole n, |n| < 256: runs into 0 and infinity as it should. */
ALWAYS_INLINE vec vec_scale(vec x, vec n) { return _mm512_scalef_ps(x, n); }
/* The same where the result is a normal float. */
ALWAYS_INLINE vec vec_scale_normal(vec x, vec n) { return _mm512_scalef_ps(x, n); }
/* 0 where y < least, else x. */
ALWAYS_INLINE vec vec_zero_below(vec x, vec y, float least)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, _mm512_set1_ps(least), _CMP_NLT_UQ), x);
}
ALWAYS_INLINE vec vec_round(vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

#else /* AVX2 */
enum { LANES = 8 };
typedef __m256 vec;
ALWAYS_INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
ALWAYS_INLINE vec vec_set(float x) { return _mm256_set1_ps(x); }
ALWAYS_INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
ALWAYS_INLINE void vec_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
ALWAYS_INLINE vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
ALWAYS_INLINE vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
ALWAYS_INLINE vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
ALWAYS_INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
ALWAYS_INLINE vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
ALWAYS_INLINE vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
ALWAYS_INLINE float vec_sum(vec x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
ALWAYS_INLINE float vec_highest(vec x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
ALWAYS_INLINE __m256i first_lanes(int count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
ALWAYS_INLINE vec vec_load_part(const float *p, int count) { return _mm256_maskload_ps(p, first_lanes(count)); }
ALWAYS_INLINE void vec_store_part(float *p, vec x, int count) { _mm256_maskstore_ps(p, first_lanes(count), x); }
ALWAYS_INLINE vec vec_keep(vec x, int count, vec other)
{
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(first_lanes(count)));
}
ALWAYS_INLINE vec vec_widen_bf16(__m128i x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
ALWAYS_INLINE __m128i load_16bit_part(const uint16_t *p, int count)
{
    uint16_t part[8] = {0};
    memcpy(part, p, (size_t)count * sizeof *p);
    return _mm_loadu_si128((const __m128i *)part);
}
ALWAYS_INLINE vec vec_load_bf16(const uint16_t *p) { return vec_widen_bf16(_mm_loadu_si128((const __m128i *)p)); }
ALWAYS_INLINE vec vec_load_bf16_part(const uint16_t *p, int count) { return vec_widen_bf16(load_16bit_part(p, count)); }
ALWAYS_INLINE vec vec_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
ALWAYS_INLINE vec vec_load_f16_part(const uint16_t *p, int count) { return _mm256_cvtph_ps(load_16bit_part(p, count)); }
ALWAYS_INLINE __m128i vec_to_bf16(vec x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i even = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    vec     nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    even = _mm256_blendv_epi8(even, quiet, _mm256_castps_si256(nan));
    even = _mm256_srli_epi32(even, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
}
ALWAYS_INLINE __m128i vec_to_f16(vec x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }
ALWAYS_INLINE void store_16bit(uint16_t *p, __m128i x) { _mm_storeu_si128((__m128i *)p, x); }
ALWAYS_INLINE void store_16bit_part(uint16_t *p, __m128i x, int count)
{
    uint16_t part[8];
    _mm_storeu_si128((__m128i *)part, x);
    memcpy(p, part, (size_t)count * sizeof *p);
}
/* In two steps, each by a power that is itself a normal float: the product runs into 0 and infinity as it should. */
ALWAYS_INLINE vec vec_scale(vec x, vec n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
ALWAYS_INLINE vec vec_scale_normal(vec x, vec n)
{
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
}
ALWAYS_INLINE vec vec_zero_below(vec x, vec y, float least)
{
    return _mm256_and_ps(x, _mm256_cmp_ps(y, _mm256_set1_ps(least), _CMP_NLT_UQ));
}
ALWAYS_INLINE vec vec_round(vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#endif

/* Element i of an array of f32, bf16 or f16: LANES of them, or the first `count`. `type` is a constant where it is used, so
 * that the choice is made by the compiler. */
ALWAYS_INLINE vec vec_read(const void *p, crank_dtype type, int64_t i)
{
    if (type == CRANK_F32) return vec_load((const float *)p + i);
    return type == CRANK_BF16 ? vec_load_bf16((const uint16_t *)p + i) : vec_load_f16((const uint16_t *)p + i);
}
ALWAYS_INLINE vec vec_read_part(const void *p, crank_dtype type, int64_t i, int count)
{
    if (type == CRANK_F32) return vec_load_part((const float *)p + i, count);
    return type == CRANK_BF16 ? vec_load_bf16_part((const uint16_t *)p + i, count)
                              : vec_load_f16_part((const uint16_t *)p + i, count);
}
ALWAYS_INLINE void vec_write(void *p, crank_dtype type, int64_t i, vec x)
{
    if (type == CRANK_F32) vec_store((float *)p + i, x);
    else store_16bit((uint16_t *)p + i, type == CRANK_BF16 ? vec_to_bf16(x) : vec_to_f16(x));
}
ALWAYS_INLINE void vec_write_part(void *p, crank_dtype type, int64_t i, vec x, int count)
{
    if (type == CRANK_F32) vec_store_part((float *)p + i, x, count);
    else store_16bit_part((uint16_t *)p + i, type == CRANK_BF16 ? vec_to_bf16(x) : vec_to_f16(x), count);
}

/* e^x to one unit in the last place: x = n ln 2 + r, |r| <= ln(2)/2, and a polynomial of degree 6 in r that is off by at
 * most 3e-9 of e^r. Below the least normal result (x < -87.33) it is 0, so that masked scores meet no denormal numbers;
 * e^+inf is inf, NaN stays NaN. */
ALWAYS_INLINE vec vec_exp(vec x)
{
    vec inside = vec_min(vec_set(89.0f), vec_max(vec_set(-87.33f), x)); /* the second operand wins against NaN */
    vec n = vec_round(vec_mul(inside, vec_set(1.44269504f)));
    vec r = vec_fma(n, vec_set(-0.693145752f), inside); /* ln 2 in two parts: n times the first is exact */
    r = vec_fma(n, vec_set(-1.42860677e-6f), r);
    vec p = vec_set(1.381453836e-3f);
    p = vec_fma(p, r, vec_set(8.368745536e-3f));
    p = vec_fma(p, r, vec_set(4.166839084e-2f));
    p = vec_fma(p, r, vec_set(1.666652040e-1f));
    p = vec_fma(p, r, vec_set(4.999999343e-1f));
    p = vec_fma(vec_mul(p, r), r, vec_add(r, vec_set(1.0f)));
    return vec_zero_below(vec_scale(p, n), x, -87.33f);
}

/* 2^x for x <= 0 (a little above is well), to one unit in the last place; what lies below -126 counts as -126. NaN stays NaN.
 * The numerator of a softmax: its largest term is 2^0. */
ALWAYS_INLINE vec vec_exp2_softmax(vec x)
{
    x = vec_max(vec_set(-126.0f), x);
    vec n = vec_round(x), r = vec_sub(x, n);
    vec p = vec_set(1.535330954e-4f);
    p = vec_fma(p, r, vec_set(1.339893948e-3f));
    p = vec_fma(p, r, vec_set(9.618437985e-3f));
    p = vec_fma(p, r, vec_set(5.550332316e-2f));
    p = vec_fma(p, r, vec_set(2.402264791e-1f));
    p = vec_fma(p, r, vec_set(6.931472029e-1f));
    p = vec_fma(p, r, vec_set(1.0f));
    return vec_scale_normal(p, n);
}

/* Lane l of the result is the sum of sums[l]. */
#if defined(__AVX512F__)
ALWAYS_INLINE vec vec_gather_sums(const vec *sums)
{
    __m512 fours[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 *s = sums + 4 * i;
        __m512d low = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1])));
        __m512d high = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3])));
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
    }
    __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x88), _mm512_shuffle_f32x4(fours[0], fours[1], 0xdd));
    __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x88), _mm512_shuffle_f32x4(fours[2], fours[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}
#else
ALWAYS_INLINE vec vec_gather_sums(const vec *sums)
{
    __m256 fours[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const __m256 *s = sums + 4 * i;
        fours[i] = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
    }
    return _mm256_add_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20), _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
}
#endif
#endif
