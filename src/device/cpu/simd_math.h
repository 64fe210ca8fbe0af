/* simd_math.h - functions of a vector of floats, each within a few units in the last place of the exact value over the
 * whole range: logarithm, hyperbolic tangent, sigmoid, the normal distribution, and activations with their slopes.
 *
 *     log(1 + f)         = f - f^2/2 + f^3 P(f)          1 + f in [sqrt(1/2), sqrt(2)]
 *     tanh(x)            = x + x^3 T(x^2)                |x| <= 5/8, else 1 - 2 / (e^2x + 1)
 *     Phi(-x)            = e^(-x^2/2) G(t)               x >= 0, t = 1 / (1 + 0.35 x)
 *
 * tests/oracle/vector_polynomials.py makes the coefficients. NaN stays NaN; infinities give the limit. */
#ifndef CRANK_DEVICE_CPU_SIMD_MATH_H
#define CRANK_DEVICE_CPU_SIMD_MATH_H

#include <float.h>
#include <math.h>

#include "device/cpu/simd.h"

#if defined(__AVX512F__)
typedef __mmask16 vec_mask;
typedef __m512i   vec_bits;
ALWAYS_INLINE vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
ALWAYS_INLINE vec vec_sqrt(vec a) { return _mm512_sqrt_ps(a); }
ALWAYS_INLINE vec vec_swap_neighbours(vec a) { return _mm512_permute_ps(a, 0xb1); } /* 1 0 3 2 ... */
ALWAYS_INLINE vec_mask vec_less(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ALWAYS_INLINE vec_mask vec_less_equal(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
ALWAYS_INLINE vec_mask vec_equal(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
ALWAYS_INLINE vec_mask vec_is_nan(vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
ALWAYS_INLINE vec vec_select(vec_mask m, vec a, vec b) { return _mm512_mask_blend_ps(m, b, a); } /* m ? a : b */
ALWAYS_INLINE vec_bits vec_as_bits(vec a) { return _mm512_castps_si512(a); }
ALWAYS_INLINE vec vec_from_bits(vec_bits a) { return _mm512_castsi512_ps(a); }
ALWAYS_INLINE vec_bits bits_set(int32_t a) { return _mm512_set1_epi32(a); }
ALWAYS_INLINE vec_bits bits_add(vec_bits a, vec_bits b) { return _mm512_add_epi32(a, b); }
ALWAYS_INLINE vec_bits bits_sub(vec_bits a, vec_bits b) { return _mm512_sub_epi32(a, b); }
ALWAYS_INLINE vec_bits bits_and(vec_bits a, vec_bits b) { return _mm512_and_si512(a, b); }
ALWAYS_INLINE vec_bits bits_or(vec_bits a, vec_bits b) { return _mm512_or_si512(a, b); }
ALWAYS_INLINE vec_bits bits_xor(vec_bits a, vec_bits b) { return _mm512_xor_si512(a, b); }
#define bits_shift_right(a, n) _mm512_srai_epi32(a, n)
#define bits_shift_right_logical(a, n) _mm512_srli_epi32(a, n)
ALWAYS_INLINE vec bits_to_float(vec_bits a) { return _mm512_cvtepi32_ps(a); }
ALWAYS_INLINE vec_bits bits_load(const void *p) { return _mm512_loadu_si512(p); }
ALWAYS_INLINE vec_mask bits_less(vec_bits a, vec_bits b) { return _mm512_cmplt_epi32_mask(a, b); }
ALWAYS_INLINE void vec_stream(float *p, vec x) { _mm512_stream_ps(p, x); }
ALWAYS_INLINE void stream_16bit(uint16_t *p, __m256i x) { _mm256_stream_si256((__m256i *)p, x); }
#else
typedef __m256  vec_mask;
typedef __m256i vec_bits;
ALWAYS_INLINE vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
ALWAYS_INLINE vec vec_sqrt(vec a) { return _mm256_sqrt_ps(a); }
ALWAYS_INLINE vec vec_swap_neighbours(vec a) { return _mm256_permute_ps(a, 0xb1); }
ALWAYS_INLINE vec_mask vec_less(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
ALWAYS_INLINE vec_mask vec_less_equal(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
ALWAYS_INLINE vec_mask vec_equal(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
ALWAYS_INLINE vec_mask vec_is_nan(vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
ALWAYS_INLINE vec vec_select(vec_mask m, vec a, vec b) { return _mm256_blendv_ps(b, a, m); }
ALWAYS_INLINE vec_bits vec_as_bits(vec a) { return _mm256_castps_si256(a); }
ALWAYS_INLINE vec vec_from_bits(vec_bits a) { return _mm256_castsi256_ps(a); }
ALWAYS_INLINE vec_bits bits_set(int32_t a) { return _mm256_set1_epi32(a); }
ALWAYS_INLINE vec_bits bits_add(vec_bits a, vec_bits b) { return _mm256_add_epi32(a, b); }
ALWAYS_INLINE vec_bits bits_sub(vec_bits a, vec_bits b) { return _mm256_sub_epi32(a, b); }
ALWAYS_INLINE vec_bits bits_and(vec_bits a, vec_bits b) { return _mm256_and_si256(a, b); }
ALWAYS_INLINE vec_bits bits_or(vec_bits a, vec_bits b) { return _mm256_or_si256(a, b); }
ALWAYS_INLINE vec_bits bits_xor(vec_bits a, vec_bits b) { return _mm256_xor_si256(a, b); }
#define bits_shift_right(a, n) _mm256_srai_epi32(a, n)
#define bits_shift_right_logical(a, n) _mm256_srli_epi32(a, n)
ALWAYS_INLINE vec bits_to_float(vec_bits a) { return _mm256_cvtepi32_ps(a); }
ALWAYS_INLINE vec_bits bits_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
ALWAYS_INLINE vec_mask bits_less(vec_bits a, vec_bits b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a)); }
ALWAYS_INLINE void vec_stream(float *p, vec x) { _mm256_stream_ps(p, x); }
ALWAYS_INLINE void stream_16bit(uint16_t *p, __m128i x) { _mm_stream_si128((__m128i *)p, x); }
#endif

ALWAYS_INLINE vec vec_abs(vec x) { return vec_from_bits(bits_and(vec_as_bits(x), bits_set(0x7fffffff))); }
ALWAYS_INLINE vec vec_neg(vec x) { return vec_from_bits(bits_xor(vec_as_bits(x), bits_set(INT32_MIN))); }
/* |x| must have a clear sign bit */
ALWAYS_INLINE vec vec_with_sign_of(vec x, vec sign)
{
    return vec_from_bits(bits_or(vec_as_bits(x), bits_and(vec_as_bits(sign), bits_set(INT32_MIN))));
}
/* Held within [low, high]; NaN passes: minimum and maximum take their second operand then. */
ALWAYS_INLINE vec vec_clamp(vec x, float low, float high)
{
    return vec_min(vec_set(high), vec_max(vec_set(low), x));
}

/* Horner's rule: c[0] x^(n-1) + ... + c[n-1] */
ALWAYS_INLINE vec vec_polynomial(vec x, const float *c, int n)
{
    vec y = vec_set(c[0]);
    for (int i = 1; i < n; i++) y = vec_fma(y, x, vec_set(c[i]));
    return y;
}

ALWAYS_INLINE vec vec_log(vec x)
{
    static const float P[] = {0.0674664378f, -0.116756566f, 0.118881635f, -0.124055885f, 0.142195523f,
                              -0.166679963f, 0.200021192f, -0.250000089f, 0.333333135f};
    vec_mask tiny = vec_less(x, vec_set(FLT_MIN)); /* subnormal numbers are scaled by 2^23 */
    vec      y = vec_select(tiny, vec_mul(x, vec_set(0x1p23f)), x);
    vec_bits n = bits_shift_right(bits_sub(vec_as_bits(y), bits_set(0x3f3504f3)), 23);
#if defined(__AVX512F__)
    vec f = vec_from_bits(bits_sub(vec_as_bits(y), _mm512_slli_epi32(n, 23)));
#else
    vec f = vec_from_bits(bits_sub(vec_as_bits(y), _mm256_slli_epi32(n, 23)));
#endif
    f = vec_sub(f, vec_set(1.0f));
    vec e = vec_sub(bits_to_float(n), vec_select(tiny, vec_set(23.0f), vec_zero())), square = vec_mul(f, f);
    vec r = vec_mul(vec_mul(square, f), vec_polynomial(f, P, 9));
    r = vec_fma(e, vec_set(1.42860677e-6f), r); /* ln 2 in two parts: e times the larger is exact */
    r = vec_fma(square, vec_set(-0.5f), r);
    r = vec_fma(e, vec_set(0.693145752f), vec_add(f, r));
    r = vec_select(vec_equal(x, vec_set(INFINITY)), x, r);
    r = vec_select(vec_equal(x, vec_zero()), vec_set(-INFINITY), r);
    r = vec_select(vec_less(x, vec_zero()), vec_set(NAN), r);
    return vec_select(vec_is_nan(x), x, r);
}

ALWAYS_INLINE vec vec_tanh(vec x)
{
    static const float T[] = {-0.005704985f, 0.0206390861f, -0.0537397154f, 0.133314416f, -0.333332807f};
    vec a = vec_abs(x), square = vec_mul(x, x);
    vec near = vec_fma(vec_mul(square, x), vec_polynomial(square, T, 5), x);
    vec far = vec_sub(vec_set(1.0f), vec_div(vec_set(2.0f), vec_add(vec_exp(vec_add(a, a)), vec_set(1.0f))));
    return vec_select(vec_less(a, vec_set(0.625f)), near, vec_with_sign_of(far, x));
}

ALWAYS_INLINE vec vec_sigmoid(vec x)
{
    return vec_div(vec_set(1.0f), vec_add(vec_set(1.0f), vec_exp(vec_neg(x))));
}

/* log(1 + u) for 0 <= u <= 1: what 1 + u loses of u is given back by the factor */
ALWAYS_INLINE vec vec_softplus(vec x)
{
    vec u = vec_exp(vec_neg(vec_abs(x))), sum = vec_add(vec_set(1.0f), u), kept = vec_sub(sum, vec_set(1.0f));
    vec r = vec_select(vec_equal(kept, vec_zero()), u, vec_mul(vec_log(sum), vec_div(u, kept)));
    return vec_add(vec_max(vec_zero(), x), r);
}

/* e^(-x^2/2) -> *density, Phi(x) as result; |x| <= 15. The square's rounding error is carried along. */
ALWAYS_INLINE vec vec_normal(vec x, vec *density)
{
    static const float G[] = {-0.0280453805f, 0.138256863f, -0.242942631f, 0.143100232f, -0.0105947843f,
                              0.0992773846f, 0.12180984f, 0.139477491f, 0.139662862f, -1.88691354e-06f};
    vec square = vec_mul(x, x), rest = vec_fma(x, x, vec_neg(square));
    vec e = vec_exp(vec_mul(square, vec_set(-0.5f)));
    e = vec_fma(e, vec_mul(rest, vec_set(-0.5f)), e);
    vec t = vec_div(vec_set(1.0f), vec_fma(vec_abs(x), vec_set(0.35f), vec_set(1.0f)));
    vec tail = vec_mul(e, vec_polynomial(t, G, 10));
    *density = e;
    return vec_select(vec_less(vec_zero(), x), vec_sub(vec_set(1.0f), tail), tail);
}

ALWAYS_INLINE vec vec_relu(vec x) { return vec_max(vec_zero(), x); }
ALWAYS_INLINE vec vec_reciprocal(vec x) { return vec_div(vec_set(1.0f), x); }
ALWAYS_INLINE vec vec_rsqrt(vec x) { return vec_div(vec_set(1.0f), vec_sqrt(x)); }
ALWAYS_INLINE vec vec_square(vec x) { return vec_mul(x, x); }
ALWAYS_INLINE vec vec_sign(vec x)
{
    vec one = vec_with_sign_of(vec_set(1.0f), x);
    return vec_select(vec_equal(x, vec_zero()), x, vec_select(vec_is_nan(x), x, one));
}
ALWAYS_INLINE vec vec_silu(vec x)
{
    vec inside = vec_max(vec_set(-200.0f), x); /* -inf gives -0 */
    return vec_mul(inside, vec_sigmoid(inside));
}
ALWAYS_INLINE vec vec_gelu(vec x)
{
    vec density, phi = vec_normal(vec_clamp(x, -15.0f, 15.0f), &density);
    return vec_mul(vec_max(vec_set(-15.0f), x), phi);
}
/* sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3); e^-2u -> *e */
ALWAYS_INLINE vec vec_gelu_gate(vec x, vec *e)
{
    vec u = vec_mul(x, vec_fma(vec_mul(x, x), vec_set(-0.0713548163f), vec_set(-1.59576912f)));
    *e = vec_exp(u);
    return vec_div(vec_set(1.0f), vec_add(vec_set(1.0f), *e));
}
ALWAYS_INLINE vec vec_gelu_tanh(vec x)
{
    vec inside = vec_max(vec_set(-12.0f), x), e, gate = vec_gelu_gate(inside, &e); /* at -12 the gate is 0 */
    return vec_mul(inside, gate);
}

/* Slopes: of x for log, square, abs, softplus, silu, gelu; of y for the others. */
ALWAYS_INLINE vec slope_minus_one(vec x) { return (void)x, vec_set(-1.0f); }
ALWAYS_INLINE vec slope_zero(vec x) { return (void)x, vec_zero(); }
ALWAYS_INLINE vec slope_exp(vec y) { return y; }
ALWAYS_INLINE vec slope_sqrt(vec y) { return vec_div(vec_set(0.5f), y); }
ALWAYS_INLINE vec slope_rsqrt(vec y) { return vec_mul(vec_mul(vec_set(-0.5f), y), vec_mul(y, y)); }
ALWAYS_INLINE vec slope_reciprocal(vec y) { return vec_neg(vec_mul(y, y)); }
ALWAYS_INLINE vec slope_square(vec x) { return vec_add(x, x); }
ALWAYS_INLINE vec slope_tanh(vec y) { return vec_fma(vec_neg(y), y, vec_set(1.0f)); }
ALWAYS_INLINE vec slope_sigmoid(vec y) { return vec_mul(y, vec_sub(vec_set(1.0f), y)); }
ALWAYS_INLINE vec slope_relu(vec y)
{
    return vec_select(vec_less(vec_zero(), y), vec_set(1.0f), vec_select(vec_is_nan(y), y, vec_zero()));
}
/* s (1 + x (1 - s)) with 1 - s = e^-x s, which does not cancel */
ALWAYS_INLINE vec slope_silu(vec x)
{
    vec inside = vec_clamp(x, -80.0f, 200.0f), e = vec_exp(vec_neg(inside));
    vec s = vec_div(vec_set(1.0f), vec_add(vec_set(1.0f), e));
    return vec_mul(s, vec_fma(inside, vec_mul(e, s), vec_set(1.0f)));
}
ALWAYS_INLINE vec slope_gelu(vec x)
{
    vec inside = vec_clamp(x, -15.0f, 15.0f), density, phi = vec_normal(inside, &density);
    return vec_fma(vec_mul(inside, vec_set(0.398942280f)), density, phi);
}
ALWAYS_INLINE vec slope_gelu_tanh(vec x)
{
    vec inside = vec_clamp(x, -9.0f, 9.0f), e, s = vec_gelu_gate(inside, &e);
    vec du = vec_fma(vec_mul(inside, inside), vec_set(0.214064449f), vec_set(1.59576912f));
    return vec_fma(vec_mul(inside, s), vec_mul(vec_mul(e, s), du), s);
}
#endif
