/* piecewise_simd.h - activations of bf16 tensors: cubics of 32 pieces whose coefficients one instruction picks from registers.
 *
 *     x F(x)    = max(x, 0) - a F(-a)                    a = |x|, F(x) = 1 - F(-x): sigmoid, Phi, the gate of GELU's tanh form
 *     slope(x)  = Q(a) for x < 0, 1 - Q(a) for x >= 0    Q(a): the slope at -a
 *
 * A number that stands in bf16 is known to 2^-8 of itself; these are right to 2^-11.8 at worst (piecewise_tables.h; slopes
 * where they cross zero: to 2^-15), for a third of the work of an exponential and a division. a / w is rounded to a whole
 * j by adding 3 * 2^22, so that j stands in the low bits of the sum. Numbers left of the last piece, where results are
 * below 1e-5, are given to the function of simd_math.h; right of it the result is x, and 1. At levels without the
 * instruction all names stand for the functions of simd_math.h. */
#ifndef CRANK_DEVICE_CPU_PIECEWISE_SIMD_H
#define CRANK_DEVICE_CPU_PIECEWISE_SIMD_H

#include "device/cpu/simd_math.h"

/* A function and its slope at once. */
typedef vec vec_function_pair(vec x, vec *slope);

ALWAYS_INLINE vec pair_silu(vec x, vec *slope) { return *slope = slope_silu(x), vec_silu(x); }
ALWAYS_INLINE vec pair_gelu(vec x, vec *slope) { return *slope = slope_gelu(x), vec_gelu(x); }
ALWAYS_INLINE vec pair_gelu_tanh(vec x, vec *slope) { return *slope = slope_gelu_tanh(x), vec_gelu_tanh(x); }

#if defined(__AVX512F__)
#include "device/cpu/piecewise_tables.h"

/* Pieces end at 31.5 widths, where rounding to even would give a 33rd. */
ALWAYS_INLINE float table_end(const piecewise_table *t) { return 31.4375f * t->width; }

/* 0 <= a <= table_end; NaN stays NaN. */
ALWAYS_INLINE vec table_value(const piecewise_table *t, vec a)
{
    vec     magic = vec_set(0x1.8p23f), shifted = vec_fma(a, vec_set(1 / t->width), magic);
    vec     r = _mm512_fnmadd_ps(vec_sub(shifted, magic), vec_set(t->width), a);
    __m512i j = _mm512_castps_si512(shifted);
    vec     c[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) c[k] = _mm512_permutex2var_ps(vec_load(t->c[k]), j, vec_load(t->c[k] + LANES));
    return vec_fma(vec_fma(vec_fma(c[3], r, c[2]), r, c[1]), r, c[0]);
}

ALWAYS_INLINE vec table_inside(const piecewise_table *t, vec x) { return vec_min(vec_set(table_end(t)), vec_abs(x)); }
ALWAYS_INLINE vec_mask table_misses(const piecewise_table *t, vec x) { return vec_less(x, vec_set(-table_end(t))); }

#define SELDOM(mask) __builtin_expect((mask) != 0, 0)
#define EXACT(f)                                                                                                       \
    static __attribute__((noinline, cold)) vec exact_##f(vec_mask m, vec x, vec y) { return vec_select(m, f(x), y); }
EXACT(vec_silu)
EXACT(vec_gelu)
EXACT(vec_gelu_tanh)
EXACT(slope_silu)
EXACT(slope_gelu)
EXACT(slope_gelu_tanh)

typedef vec exact_function(vec_mask m, vec x, vec y);

/* x F(x); table: F(-a) */
ALWAYS_INLINE vec table_gate(const piecewise_table *t, exact_function *exact, vec x)
{
    vec      a = table_inside(t, x), y = _mm512_fnmadd_ps(a, table_value(t, a), vec_max(vec_zero(), x));
    vec_mask misses = table_misses(t, x);
    return SELDOM(misses) ? exact(misses, x, y) : y;
}

/* Q where x < 0, else 1 - Q */
ALWAYS_INLINE vec slope_from(vec x, vec q)
{
    return _mm512_mask_sub_ps(q, _mm512_cmp_ps_mask(x, vec_zero(), _CMP_GE_OQ), vec_set(1.0f), q);
}

/* table: Q */
ALWAYS_INLINE vec table_slope(const piecewise_table *t, exact_function *exact, vec x)
{
    vec      y = slope_from(x, table_value(t, table_inside(t, x)));
    vec_mask misses = table_misses(t, x);
    return SELDOM(misses) ? exact(misses, x, y) : y;
}

/* Both of SiLU from one sigmoid: Q = S - a S (1 - S) */
ALWAYS_INLINE vec pair_silu_bf16(vec x, vec *slope)
{
    const piecewise_table *t = &table_sigmoid;
    vec a = table_inside(t, x), s = table_value(t, a), left = vec_mul(a, s), y = vec_sub(vec_max(vec_zero(), x), left);
    *slope = slope_from(x, _mm512_fnmadd_ps(left, vec_sub(vec_set(1.0f), s), s));
    vec_mask misses = table_misses(t, x);
    if (!SELDOM(misses)) return y;
    *slope = exact_slope_silu(misses, x, *slope);
    return exact_vec_silu(misses, x, y);
}
ALWAYS_INLINE vec vec_silu_bf16(vec x) { return table_gate(&table_sigmoid, exact_vec_silu, x); }
ALWAYS_INLINE vec vec_gelu_bf16(vec x) { return table_gate(&table_normal, exact_vec_gelu, x); }
ALWAYS_INLINE vec vec_gelu_tanh_bf16(vec x) { return table_gate(&table_tanh_gate, exact_vec_gelu_tanh, x); }
ALWAYS_INLINE vec slope_silu_bf16(vec x)
{
    vec slope;
    pair_silu_bf16(x, &slope);
    return slope;
}
ALWAYS_INLINE vec slope_gelu_bf16(vec x) { return table_slope(&table_gelu_slope, exact_slope_gelu, x); }
ALWAYS_INLINE vec slope_gelu_tanh_bf16(vec x) { return table_slope(&table_tanh_slope, exact_slope_gelu_tanh, x); }
ALWAYS_INLINE vec pair_gelu_bf16(vec x, vec *slope) { return *slope = slope_gelu_bf16(x), vec_gelu_bf16(x); }
ALWAYS_INLINE vec pair_gelu_tanh_bf16(vec x, vec *slope)
{
    return *slope = slope_gelu_tanh_bf16(x), vec_gelu_tanh_bf16(x);
}
#else
#define vec_silu_bf16        vec_silu
#define vec_gelu_bf16        vec_gelu
#define vec_gelu_tanh_bf16   vec_gelu_tanh
#define slope_silu_bf16      slope_silu
#define slope_gelu_bf16      slope_gelu
#define slope_gelu_tanh_bf16 slope_gelu_tanh
#define pair_silu_bf16       pair_silu
#define pair_gelu_bf16       pair_gelu
#define pair_gelu_tanh_bf16  pair_gelu_tanh
#endif
#endif
