/* panel_amx.h - operands of bf16 products on tile registers: c [16, 16] += a [16, 32] b [32, 16] an instruction.
 *
 * A *word* is two bf16 that stand behind each other along the summed dimension; a *step* is 16 words of it. A tile of the left
 * operand is 16 rows of 16 words and is read as it lies in memory; one of the right operand is 16 words of 16 columns, so
 * that operand is laid out first, as a panel [steps][columns / 16][16 words][16 columns] with zeros around. */
#ifndef CRANK_DEVICE_CPU_PANEL_AMX_H
#define CRANK_DEVICE_CPU_PANEL_AMX_H

#include "device/cpu/ending_simd.h"
#include "device/cpu/registers_amx.h"
#include "device/cpu/transpose_simd.h"

enum { STEP = 2 * SIDE, TILE_WORDS = SIDE * SIDE };

static inline int64_t steps_of(int64_t k) { return (k + STEP - 1) / STEP; }

/* The first `count` of LANES columns of rows 2 w and 2 w + 1 as words; from row k on they are zero. */
ALWAYS_INLINE vec words_of_rows(const uint16_t *x, int64_t row, int64_t k, int64_t w, int count)
{
    if (2 * w >= k || count <= 0) return vec_zero();
    __mmask16 mask = count >= LANES ? 0xffff : first_lanes(count);
    __m512i   low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x + 2 * w * row));
    if (2 * w + 1 == k) return _mm512_castsi512_ps(low);
    __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x + (2 * w + 1) * row));
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/* LANES words of a row from word w on, zeros behind its k elements. */
ALWAYS_INLINE vec words_of_line(const uint16_t *line, int64_t k, int64_t w)
{
    int64_t   left = k - 2 * w;
    __mmask32 mask = left >= STEP ? 0xffffffffu : left <= 0 ? 0 : (1u << left) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, line + 2 * w));
}

ALWAYS_INLINE void put_words(uint32_t *to, vec x) { vec_store((float *)(void *)to, x); }

/* Columns j .. of b, of which `n` exist in all, as a panel of `columns` columns. b is [k, n] at row stride `row`, or [n, k] when
 * `lines`. */
static void lay_out_panel(const uint16_t *b, int64_t row, bool lines, int64_t j, int64_t n, int64_t k, int columns,
                          uint32_t *panel)
{
    for (int64_t s = 0; s < steps_of(k); s++)
        for (int c = 0; c < columns; c += SIDE, panel += TILE_WORDS) {
            vec     t[SIDE];
            int64_t left = n - j - c;
#pragma GCC unroll 16
            for (int i = 0; i < SIDE; i++) {
                if (lines)
                    t[i] = i < left ? words_of_line(b + (j + c + i) * row, k, s * SIDE) : vec_zero();
                else
                    t[i] = words_of_rows(b + j + c, row, k, s * SIDE + i, left < LANES ? (int)left : LANES);
            }
            if (lines) transpose(t);
#pragma GCC unroll 16
            for (int i = 0; i < SIDE; i++) put_words(panel + i * SIDE, t[i]);
        }
}

/* The columns of y [k, n] as left operand: tiles [steps][SIDE rows][SIDE words], row i is column j + i. */
static void lay_out_turned(const uint16_t *y, int64_t row, int64_t j, int64_t n, int64_t k, int64_t first, int64_t last,
                           uint32_t *tiles)
{
    for (int64_t s = first; s < last; s++) {
        vec     t[SIDE];
        int64_t left = n - j;
#pragma GCC unroll 16
        for (int i = 0; i < SIDE; i++)
            t[i] = words_of_rows(y + j, row, k, s * SIDE + i, left < LANES ? (int)left : LANES);
        transpose(t);
#pragma GCC unroll 16
        for (int i = 0; i < SIDE; i++) put_words(tiles + s * TILE_WORDS + i * SIDE, t[i]);
    }
}
#endif
