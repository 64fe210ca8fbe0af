/* philox.h - the arithmetic of one random number, in words that C and CUDA read alike.
 *
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011): ten rounds of
 *     (hi0,lo0) = 0xD2511F53 c0    (hi1,lo1) = 0xCD9E8D57 c2
 *     c = (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0)           k += (0x9E3779B9, 0xBB67AE85) between rounds
 *
 * The normal number of a 32-bit word b is the inverse cdf at u = (b + 1/2) / 2^32. With t = 2 min(u, 1-u) the two-sided
 * tail, x = 1 - t, and w = -log2(t (1 + x)) = -log2(1 - x^2) in [0, 31]:
 *
 *     z = sign(u - 1/2) x R(w)     R = polynomial of degree 9 in w - 4 (w < 8) or in sqrt(w) - 4.1875 (w >= 8)
 *
 * The coefficients are minimax in relative error (2e-8 and 5e-8; tests/oracle/normal_polynomial.py makes them). Every
 * operation below is one IEEE operation, rounded to nearest: fma, product, square root, conversion. So any processor gives
 * the same bits, provided that the compiler neither fuses nor reorders, which the build says (-ffp-contract=off) and
 * CUDA's _rn functions force. */
#ifndef CRANK_BASE_PHILOX_H
#define CRANK_BASE_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define PHILOX_INLINE static __host__ __device__ __forceinline__
#else
#include <math.h>
#include <string.h>
#define PHILOX_INLINE static inline __attribute__((always_inline))
#endif

PHILOX_INLINE uint32_t philox_high(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }

/* counter (c0..c3), key (k0, k1) -> four words in place of the counter */
PHILOX_INLINE void philox_rounds(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0, uint32_t k1)
{
    for (int round = 0; round < 10; round++) {
        uint32_t hi0 = philox_high(0xD2511F53u, *c0), lo0 = 0xD2511F53u * *c0;
        uint32_t hi1 = philox_high(0xCD9E8D57u, *c2), lo1 = 0xCD9E8D57u * *c2;
        *c0 = hi1 ^ *c1 ^ k0;
        *c1 = lo1;
        *c2 = hi0 ^ *c3 ^ k1;
        *c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* [0,1): the high 24 bits / 2^24, exact */
PHILOX_INLINE float philox_uniform(uint32_t bits) { return (float)(int32_t)(bits >> 8) * 0x1p-24f; }

#if defined(__CUDA_ARCH__)
PHILOX_INLINE float    philox_product(float a, float b) { return __fmul_rn(a, b); }
PHILOX_INLINE float    philox_difference(float a, float b) { return __fsub_rn(a, b); }
PHILOX_INLINE float    philox_root(float a) { return __fsqrt_rn(a); }
PHILOX_INLINE float    philox_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
PHILOX_INLINE float    philox_float(uint32_t n) { return __uint2float_rn(n); }
PHILOX_INLINE uint32_t philox_as_bits(float a) { return __float_as_uint(a); }
PHILOX_INLINE float    philox_from_bits(uint32_t a) { return __uint_as_float(a); }
#else
PHILOX_INLINE float    philox_product(float a, float b) { return a * b; }
PHILOX_INLINE float    philox_difference(float a, float b) { return a - b; }
PHILOX_INLINE float    philox_root(float a) { return sqrtf(a); }
PHILOX_INLINE float    philox_fma(float a, float b, float c) { return fmaf(a, b, c); }
PHILOX_INLINE uint32_t philox_as_bits(float a) { uint32_t b; memcpy(&b, &a, sizeof b); return b; }
PHILOX_INLINE float    philox_from_bits(uint32_t a) { float b; memcpy(&b, &a, sizeof b); return b; }
/* (float)n in halves that vectors of signed integers can convert: both are exact, the sum rounds once. */
PHILOX_INLINE float philox_float(uint32_t n)
{
    return (float)(int32_t)(n >> 16) * 65536.0f + (float)(int32_t)(n & 0xffffu);
}
#endif

/* -log2(y) for a normal y > 0: y = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), absolute error below 1e-7 + 2^-24 |e| */
PHILOX_INLINE float philox_minus_log2(float y)
{
    uint32_t bits = philox_as_bits(y), shifted = bits - 0x3f3504f3u, exponent = shifted & 0xff800000u;
    float e = (float)((int32_t)exponent / (1 << 23));
    float f = philox_difference(philox_from_bits(bits - exponent), 1.0f);
    float q = 0.12926435f;
    q = philox_fma(q, f, -0.20893386f);
    q = philox_fma(q, f, 0.21521224f);
    q = philox_fma(q, f, -0.23867567f);
    q = philox_fma(q, f, 0.2879391f);
    q = philox_fma(q, f, -0.36071625f);
    q = philox_fma(q, f, 0.48091027f);
    q = philox_fma(q, f, -0.7213472f);
    q = philox_fma(q, f, 1.442695f);
    return -philox_fma(q, f, e);
}

/* mask all ones: a; zero: b */
PHILOX_INLINE float philox_choose(uint32_t mask, float a, float b)
{
    return philox_from_bits(philox_as_bits(b) ^ ((philox_as_bits(a) ^ philox_as_bits(b)) & mask));
}

/* The standard normal number of a word: relative error below 4e-7 against the exact inverse cdf; |z| <= 6.34. */
PHILOX_INLINE float philox_normal(uint32_t bits)
{
    uint32_t upper = bits >> 31, folded = bits ^ (0u - upper), n = (folded << 1) | 1u; /* n = 2^32 t, odd */
    float t = philox_product(philox_float(n), 0x1p-32f), x = philox_product(philox_float(0u - n), 0x1p-32f);
    float w = philox_minus_log2(philox_fma(t, x, t));
    /* w may be a little below zero. Chosen by a mask and with a root that cannot trap, so that compilers use vectors. */
    uint32_t tail = 0u - (uint32_t)((int32_t)philox_as_bits(w) >= 0x41000000); /* w >= 8 */
    float    root = philox_root(philox_from_bits(philox_as_bits(w) & 0x7fffffffu));
    float    v = philox_difference(philox_choose(tail, root, w), philox_choose(tail, 4.1875f, 4.0f));
    float    r = philox_choose(tail, 8.2393135e-06f, -3.7841313e-10f);
    r = philox_fma(r, v, philox_choose(tail, 6.4824117e-06f, 4.6398257e-10f));
    r = philox_fma(r, v, philox_choose(tail, -0.000110633184f, 5.182108e-08f));
    r = philox_fma(r, v, philox_choose(tail, 0.0002457691f, -4.0597894e-07f));
    r = philox_fma(r, v, philox_choose(tail, -0.00038673787f, -2.2225713e-06f));
    r = philox_fma(r, v, philox_choose(tail, 0.0007537231f, 6.7973895e-05f));
    r = philox_fma(r, v, philox_choose(tail, -0.0017412594f, -0.0004802612f));
    r = philox_fma(r, v, philox_choose(tail, 0.0033013392f, -0.0034693f));
    r = philox_fma(r, v, philox_choose(tail, 1.1859801f, 0.23928215f));
    r = philox_fma(r, v, philox_choose(tail, 4.697604f, 2.2179198f));
    return philox_from_bits(philox_as_bits(philox_product(x, r)) ^ ((upper ^ 1u) << 31));
}
#endif
