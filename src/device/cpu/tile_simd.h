/* tile_simd.h - products of tiles that lie in cache: the inner loops of attention.
 *
 *     c [rows, vectors * LANES] (=, +=, or scaled by row and +=) a [rows, k] b [k, vectors * LANES]
 *
 * Operands are made of 32-bit words: a float, or with PAIRS two bf16 that stand behind each other along k, which one
 * instruction multiplies and adds in f32. k counts words. An accumulator tile of TILE_ROWS(nv) rows and nv vectors
 * stays in registers over the whole k. c, and a where it is read by rows, hold a multiple of STRIPE rows: what lies
 * behind the last row is computed too and means nothing. With AMX a tile is a register of its own: tile_amx.h. */
#ifndef CRANK_DEVICE_CPU_TILE_SIMD_H
#define CRANK_DEVICE_CPU_TILE_SIMD_H

#include "device/cpu/simd.h"
#include "device/cpu/transpose_simd.h"

#if defined(__AMX_BF16__)
enum { STRIPE = 32, K_WORDS = 16 }; /* K_WORDS: what words along k of an operand read by rows are filled to */
#else
enum { STRIPE = 24, K_WORDS = 1 }; /* STRIPE: a multiple of all TILE_ROWS */
#endif

typedef enum tile_start { TILE_SET, TILE_ADD, TILE_SCALE } tile_start;

#if defined(PAIRS)
typedef uint32_t word;
enum { PER_WORD = 2 };
ALWAYS_INLINE vec word_fma(const word *a, vec b, vec c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_set1_epi32((int)*a), (__m512bh)_mm512_castps_si512(b));
}
#else
typedef float word;
enum { PER_WORD = 1 };
ALWAYS_INLINE vec word_fma(const word *a, vec b, vec c)
{
    return vec_fma(vec_set(*a), b, c);
}
#endif

#if defined(__AVX512F__)
#define TILE_ROWS(nv) ((nv) <= 2 ? 12 : (nv) == 3 ? 8 : 6) /* 24 of 32 registers */
#else
#define TILE_ROWS(nv) ((nv) == 1 ? 12 : (nv) == 2 ? 6 : (nv) == 3 ? 4 : 3) /* 12 of 16 registers */
#endif

typedef struct tile_product {
    const word *a;
    int64_t a_row, a_k; /* words between rows and between steps of k */
    const word *b;
    int64_t b_k;
    float *c;
    int64_t c_row, k;
    tile_start start;
    const float *scale; /* of TILE_SCALE, a row */
} tile_product;

#if defined(__AMX_BF16__)
#include "device/cpu/tile_amx.h"
#else
static inline void tiles_begin(void) {}
static inline void tiles_end(void) {}

ALWAYS_INLINE void tile(const tile_product *p, int nv, int64_t row, int64_t column)
{
    enum { MOST_ROWS = 12, MOST_VECTORS = 4 };
    const int mr = TILE_ROWS(nv);
    vec sum[MOST_ROWS][MOST_VECTORS];
    const word *a = p->a + row * p->a_row, *b = p->b + column;
    float *c = p->c + row * p->c_row + column;
    int64_t a_row = p->a_row, a_k = p->a_k, b_k = p->b_k;
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) sum[i][j] = vec_zero();
    if (p->start == TILE_ADD) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++) sum[i][j] = vec_load(c + i * p->c_row + j * LANES);
    } else if (p->start == TILE_SCALE) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                sum[i][j] = vec_mul(vec_set(p->scale[row + i]), vec_load(c + i * p->c_row + j * LANES));
    }
    for (int64_t k = 0; k < p->k; k++) {
        vec bk[MOST_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) bk[j] = vec_load((const float *)(const void *)(b + j * LANES));
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++) sum[i][j] = word_fma(a + i * a_row, bk[j], sum[i][j]);
        a += a_k;
        b += b_k;
    }
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) vec_store(c + i * p->c_row + j * LANES, sum[i][j]);
}

#define TILES(nv)                                                                                                      \
    static void tiles_##nv(const tile_product *p, int64_t rows, int64_t column)                                        \
    {                                                                                                                  \
        for (int64_t row = 0; row < rows; row += TILE_ROWS(nv)) tile(p, nv, row, column);                              \
    }
TILES(1)
TILES(2)
TILES(3)
TILES(4)

static void multiply_tiles(const tile_product *p, int64_t rows, int64_t vectors)
{
    int64_t column = 0;
    while (vectors > 0) {
        int64_t nv = vectors == 5 || vectors == 6 ? 3 : vectors < 4 ? vectors : 4;
        if (nv == 1)
            tiles_1(p, rows, column);
        else if (nv == 2)
            tiles_2(p, rows, column);
        else if (nv == 3)
            tiles_3(p, rows, column);
        else
            tiles_4(p, rows, column);
        vectors -= nv;
        column += nv * LANES;
    }
}
#endif

/* A row of `d` elements of a type as words: LANES of them from word w on, zeros behind the row. */
ALWAYS_INLINE vec load_words(const void *row, crank_dtype type, int64_t w, int64_t d)
{
#if defined(PAIRS)
    (void)type;
    int64_t left = d - 2 * w;
    __mmask32 mask = left >= 32 ? 0xffffffffu : left <= 0 ? 0 : (1u << left) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, (const uint16_t *)row + 2 * w));
#else
    if (d - w >= LANES) return vec_read(row, type, w);
    return d > w ? vec_read_part(row, type, w, (int)(d - w)) : vec_zero();
#endif
}
#endif
