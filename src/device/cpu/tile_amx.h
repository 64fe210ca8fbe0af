/* tile_amx.h - the products of tile_simd.h on AMX: 16 x 16 sums in a tile register, 32 bf16 of k a step.
 *
 * Four tiles of sums meet two of a and two of b. Words along k count in sixteens: where a is read by rows its words are
 * zeros up to there, where it is read by columns (a_row 1) it is turned first, and what is missing is filled with zeros
 * on both sides. Tile registers belong to a thread between tiles_begin and tiles_end. */
#ifndef CRANK_DEVICE_CPU_TILE_AMX_H
#define CRANK_DEVICE_CPU_TILE_AMX_H

#include "device/cpu/registers_amx.h"

enum { MOST_WORDS = 256 }; /* of a turned operand at once */

/* Words first .. last - 1 of rows row .. of a as [SIDE of rows][blocks of k][SIDE][SIDE], zeros behind the last word. */
static void turn_rows(const tile_product *p, int64_t row, int64_t first, int64_t last, word *to)
{
    for (int64_t w = first; w < last; w += SIDE, to += SIDE * SIDE) {
        vec t[SIDE];
#pragma GCC unroll 16
        for (int i = 0; i < SIDE; i++)
            t[i] = w + i < last ? vec_load((const float *)(const void *)(p->a + (w + i) * p->a_k + row)) : vec_zero();
        transpose(t);
#pragma GCC unroll 16
        for (int i = 0; i < SIDE; i++) vec_store((float *)(void *)(to + i * SIDE), t[i]);
    }
}

/* What one block of sums reads: a as tiles `a_step` words apart whose rows are a_row apart. */
typedef struct tile_operands {
    const word *a[2], *b;
    int64_t     a_row, a_step, b_k, steps;
    const word *last_b; /* [2][SIDE][SIDE]: the last step of b where k is no whole number of steps, or NULL */
} tile_operands;

ALWAYS_INLINE void sum_tiles(const tile_operands *t, float *c, int64_t c_row, bool add, bool two, bool pair)
{
    const int64_t stride = c_row * (int64_t)sizeof(float), a_row = t->a_row * (int64_t)sizeof(word);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (add) {
        _tile_loadd(0, c, stride);
        if (pair) _tile_loadd(1, c + SIDE, stride);
        if (two) _tile_loadd(2, c + SIDE * c_row, stride);
        if (two && pair) _tile_loadd(3, c + SIDE * c_row + SIDE, stride);
    }
    for (int64_t i = 0; i < t->steps; i++) {
        bool        last = t->last_b && i + 1 == t->steps;
        const word *b = last ? t->last_b : t->b + i * SIDE * t->b_k;
        int64_t     b_row = (last ? SIDE : t->b_k) * (int64_t)sizeof(word);
        _tile_loadd(4, t->a[0] + i * t->a_step, a_row);
        _tile_loadd(6, b, b_row);
        _tile_dpbf16ps(0, 4, 6);
        if (pair) {
            _tile_loadd(7, last ? b + SIDE * SIDE : b + SIDE, b_row);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two) {
            _tile_loadd(5, t->a[1] + i * t->a_step, a_row);
            _tile_dpbf16ps(2, 5, 6);
            if (pair) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, stride);
    if (pair) _tile_stored(1, c + SIDE, stride);
    if (two) _tile_stored(2, c + SIDE * c_row, stride);
    if (two && pair) _tile_stored(3, c + SIDE * c_row + SIDE, stride);
}

/* The last words of b, `count` of them from `from` on, as whole tiles. */
static void fill_last(const word *from, int64_t b_k, int64_t count, bool pair, word *to)
{
    memset(to, 0, 2 * SIDE * SIDE * sizeof(word));
    for (int64_t w = 0; w < count; w++)
        for (int j = 0; j < (pair ? 2 : 1); j++)
            memcpy(to + (j * SIDE + w) * SIDE, from + w * b_k + j * SIDE, SIDE * sizeof(word));
}

/* Rows row .. of c over words first .. last - 1. */
static void multiply_rows(const tile_product *p, int64_t row, bool two, int64_t vectors, int64_t first, int64_t last, bool add)
{
    _Alignas(64) word turned[2 * SIDE * MOST_WORDS], end[2 * SIDE * SIDE];
    int64_t       steps = (last - first + SIDE - 1) / SIDE, rest = (last - first) % SIDE;
    tile_operands t = {.b_k = p->b_k, .steps = steps, .last_b = rest ? end : NULL};
    if (p->a_k == 1) {
        for (int i = 0; i < 2; i++) t.a[i] = p->a + (row + i * SIDE) * p->a_row + first;
        t.a_row = p->a_row;
        t.a_step = SIDE;
    } else {
        for (int i = 0; i < (two ? 2 : 1); i++) {
            turn_rows(p, row + i * SIDE, first, last, turned + i * steps * SIDE * SIDE);
            t.a[i] = turned + i * steps * SIDE * SIDE;
        }
        t.a_row = SIDE;
        t.a_step = SIDE * SIDE;
    }
    for (int64_t j = 0; j < vectors; j += 2) {
        bool   pair = j + 1 < vectors;
        float *c = p->c + row * p->c_row + j * SIDE;
        t.b = p->b + first * p->b_k + j * SIDE;
        if (rest) fill_last(t.b + (steps - 1) * SIDE * p->b_k, p->b_k, rest, pair, end);
        if (two && pair)
            sum_tiles(&t, c, p->c_row, add, true, true);
        else if (two)
            sum_tiles(&t, c, p->c_row, add, true, false);
        else if (pair)
            sum_tiles(&t, c, p->c_row, add, false, true);
        else
            sum_tiles(&t, c, p->c_row, add, false, false);
    }
}

static void multiply_tiles(const tile_product *p, int64_t rows, int64_t vectors)
{
    if (p->start == TILE_SCALE)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < vectors * LANES; j += LANES) {
                float *c = p->c + i * p->c_row + j;
                vec_store(c, vec_mul(vec_set(p->scale[i]), vec_load(c)));
            }
    for (int64_t row = 0; row < rows; row += 2 * SIDE)
        for (int64_t first = 0; first < p->k; first += MOST_WORDS) {
            int64_t last = first + MOST_WORDS < p->k ? first + MOST_WORDS : p->k;
            multiply_rows(p, row, rows - row > SIDE, vectors, first, last, first || p->start != TILE_SET);
        }
}
#endif
