/* transpose_simd.h - a square of LANES x LANES floats, turned in registers. */
#ifndef CRANK_DEVICE_CPU_TRANSPOSE_SIMD_H
#define CRANK_DEVICE_CPU_TRANSPOSE_SIMD_H

#include "device/cpu/simd.h"

/* x[i] lane j becomes x[j] lane i. */
#if defined(__AVX512F__)
ALWAYS_INLINE void transpose(vec *x)
{
    vec t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512d low = _mm512_castps_pd(_mm512_unpacklo_ps(x[i], x[i + 1])), high = _mm512_castps_pd(_mm512_unpackhi_ps(x[i], x[i + 1]));
        __m512d low2 = _mm512_castps_pd(_mm512_unpacklo_ps(x[i + 2], x[i + 3])), high2 = _mm512_castps_pd(_mm512_unpackhi_ps(x[i + 2], x[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* t[4 b + i] holds columns i, 4+i, 8+i, 12+i of rows 4 b .. 4 b + 3 */
        vec a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        vec c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88), d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        x[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}
#else
ALWAYS_INLINE void transpose(vec *x)
{
    vec t[8];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(x[i], x[i + 1])), high = _mm256_castps_pd(_mm256_unpackhi_ps(x[i], x[i + 1]));
        __m256d low2 = _mm256_castps_pd(_mm256_unpacklo_ps(x[i + 2], x[i + 3])), high2 = _mm256_castps_pd(_mm256_unpackhi_ps(x[i + 2], x[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}
#endif
#endif
