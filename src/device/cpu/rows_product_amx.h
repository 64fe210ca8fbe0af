/* rows_product_amx.h - c = alpha a [k, m]^T b [k, n] + c0 of bf16 where m or n is small, on tile registers: gradients of
 * low-rank factors.
 *
 * The narrow operand is turned once into left operands. The wide one is read as it lies, 32 rows at a time and 64 columns
 * of them: two neighbouring rows are woven into words, which takes columns out of order inside every 32 of them, the same
 * way in every row; results are put in order at the end. Sums stand in memory between blocks of rows, so that rows are read
 * from their first to their last column. A thread owns columns of the wide operand. */
#ifndef CRANK_DEVICE_CPU_ROWS_PRODUCT_AMX_H
#define CRANK_DEVICE_CPU_ROWS_PRODUCT_AMX_H

#include "device/cpu/bodies.h"
#include "device/cpu/panel_amx.h"
#include "device/operations.h"

enum { NARROW_MOST = 2 * SIDE, STRIP = 4 * SIDE };

typedef struct rows_product {
    bool    wide_is_a;
    int64_t wide, k, steps, strips;
    int     narrow, tiles; /* tiles: of the narrow operand, 1 or 2 */
} rows_product;

static bool rows_describe(const crank_call *call, rows_product *p)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    if (c->rank != 2 || a->rank != 2 || b->rank != 2 || !attributes->trans_a || attributes->trans_b) return false;
    if (a->dtype != CRANK_BF16 || b->dtype != CRANK_BF16 || (c->dtype != CRANK_BF16 && c->dtype != CRANK_F32)) return false;
    int64_t m = c->dims[0], n = c->dims[1], narrow = m < n ? m : n;
    if (view_present(&call->in[2]) || narrow < 1 || narrow > NARROW_MOST) return false;
    *p = (rows_product){.wide_is_a = m > n, .wide = m > n ? m : n, .k = a->dims[0], .narrow = (int)narrow};
    p->steps = steps_of(p->k);
    p->strips = (p->wide + STRIP - 1) / STRIP;
    p->tiles = p->narrow <= SIDE ? 1 : 2;
    return p->wide >= 2 * STRIP && p->k >= 2 * STEP;
}

static size_t turned_words(const rows_product *p) { return (size_t)(p->steps * p->tiles * TILE_WORDS); }
static size_t sums_count(const rows_product *p) { return (size_t)(p->strips * p->tiles * 4 * TILE_WORDS); }
static size_t rows_bytes(const rows_product *p) { return turned_words(p) * sizeof(uint32_t) + sums_count(p) * sizeof(float); }

/* STRIP columns from x on of rows 0 .. 31, of which `rows` exist, as four right operands; `columns` of the columns exist. */
ALWAYS_INLINE void weave(const uint16_t *x, int64_t row, int64_t rows, int64_t columns, uint32_t *words)
{
    for (int64_t w = 0; w < SIDE; w++)
#pragma GCC unroll 2
        for (int q = 0; q < 2; q++) {
            int64_t   left = columns - q * STEP;
            __mmask32 mask = left >= STEP ? 0xffffffffu : left <= 0 ? 0 : (1u << left) - 1;
            __m512i   even = _mm512_setzero_si512(), odd = even;
            if (2 * w < rows) even = _mm512_maskz_loadu_epi16(mask, x + 2 * w * row + q * STEP);
            if (2 * w + 1 < rows) odd = _mm512_maskz_loadu_epi16(mask, x + (2 * w + 1) * row + q * STEP);
            uint32_t *to = words + 2 * q * TILE_WORDS + w * SIDE;
            put_words(to, _mm512_castsi512_ps(_mm512_unpacklo_epi16(even, odd)));
            put_words(to + TILE_WORDS, _mm512_castsi512_ps(_mm512_unpackhi_epi16(even, odd)));
        }
}

/* sums [4][16][16] += 16 narrow columns times the strip; `first`: there are none yet */
ALWAYS_INLINE void add_strip(const uint32_t *turned, const uint32_t *words, bool first, float *sums)
{
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, SIDE * 4);
        _tile_loadd(1, sums + TILE_WORDS, SIDE * 4);
        _tile_loadd(2, sums + 2 * TILE_WORDS, SIDE * 4);
        _tile_loadd(3, sums + 3 * TILE_WORDS, SIDE * 4);
    }
    _tile_loadd(4, turned, SIDE * 4);
    _tile_loadd(5, words, SIDE * 4);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, words + TILE_WORDS, SIDE * 4);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, words + 2 * TILE_WORDS, SIDE * 4);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, words + 3 * TILE_WORDS, SIDE * 4);
    _tile_dpbf16ps(3, 4, 5);
    _tile_stored(0, sums, SIDE * 4);
    _tile_stored(1, sums + TILE_WORDS, SIDE * 4);
    _tile_stored(2, sums + 2 * TILE_WORDS, SIDE * 4);
    _tile_stored(3, sums + 3 * TILE_WORDS, SIDE * 4);
}

/* Strips first .. last - 1; sums [strips][tiles][4][16][16] */
static void rows_strips(const rows_product *p, const crank_view *x, const uint32_t *turned, int64_t first, int64_t last, float *sums)
{
    _Alignas(64) uint32_t words[4 * TILE_WORDS];
    int64_t               row = x->strides[0];
    tiles_begin();
    for (int64_t s = 0; s < p->steps; s++) {
        const uint16_t *block = (const uint16_t *)x->data + s * STEP * row;
        int64_t         rows = p->k - s * STEP < STEP ? p->k - s * STEP : STEP, next = p->k - (s + 1) * STEP;
        for (int64_t i = first; i < last; i++) {
            int64_t j = i * STRIP, columns = p->wide - j;
            for (int64_t r = 0; r < STEP && r < next; r++) { /* the same columns of the next rows */
                const char *ahead = (const char *)(block + (STEP + r) * row + j);
                _mm_prefetch(ahead, _MM_HINT_T1);
                if (columns > STEP) _mm_prefetch(ahead + 2 * STEP, _MM_HINT_T1);
            }
            if (rows == STEP && columns >= STRIP) weave(block + j, row, STEP, STRIP, words);
            else weave(block + j, row, rows, columns, words);
            for (int t = 0; t < p->tiles; t++)
                add_strip(turned + (t * p->steps + s) * TILE_WORDS, words, s == 0, sums + (i * p->tiles + t) * 4 * TILE_WORDS);
        }
    }
    tiles_end();
}

/* Columns 0 .. 31 of a row of sums from the halves of their words. */
ALWAYS_INLINE void in_order(const float *row, vec *low, vec *high)
{
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    vec           a = vec_load(row), b = vec_load(row + TILE_WORDS);
    *low = _mm512_permutex2var_ps(a, first, b);
    *high = _mm512_permutex2var_ps(a, second, b);
}

/* 32 wide columns from j on of 16 narrow ones from `narrow` on; sums [2][16][16] */
ALWAYS_INLINE void end_square(const rows_product *p, const product_ending *e, crank_dtype type, int64_t j, int narrow, const float *sums)
{
    vec low[SIDE], high[SIDE];
    int count = p->narrow - narrow < SIDE ? p->narrow - narrow : SIDE;
#pragma GCC unroll 16
    for (int i = 0; i < SIDE; i++) in_order(sums + i * SIDE, &low[i], &high[i]);
    for (int half = 0; half < 2; half++) {
        vec    *x = half ? high : low;
        int64_t at = j + half * SIDE, left = p->wide - at;
        if (left <= 0) return;
        int exist = left < SIDE ? (int)left : SIDE;
        if (!p->wide_is_a) {
            for (int i = 0; i < count; i++) end_sums(e, type, x[i], narrow + i, at, exist);
            continue;
        }
        transpose(x);
        for (int i = 0; i < exist; i++) end_sums(e, type, x[i], at + i, narrow, count);
    }
}

static void rows_end(const rows_product *p, const product_ending *e, crank_dtype type, int64_t first, int64_t last, const float *sums)
{
    for (int64_t i = first; i < last; i++)
        for (int t = 0; t < p->tiles; t++)
            for (int q = 0; q < 2; q++) {
                const float *square = sums + ((i * p->tiles + t) * 4 + 2 * q) * TILE_WORDS;
                if (type == CRANK_F32) end_square(p, e, CRANK_F32, i * STRIP + q * STEP, t * SIDE, square);
                else end_square(p, e, CRANK_BF16, i * STRIP + q * STEP, t * SIDE, square);
            }
}

static crank_status rows_run(const crank_call *call, int threads)
{
    rows_product p;
    rows_describe(call, &p);
    const crank_view *x = &call->in[p.wide_is_a ? 0 : 1], *y = &call->in[p.wide_is_a ? 1 : 0], *c0 = &call->in[3], *c = &call->out[0];
    product_ending e = {.alpha = (float)((const crank_matmul_attributes *)call->attributes)->alpha, .c = c->data, .c_row = c->strides[0]};
    if (view_present(c0)) e.c0 = c0->data, e.c0_row = c0->strides[c0->rank - 2];
    uint32_t *turned = call->workspace;
    float    *sums = (float *)(void *)(turned + turned_words(&p));
    if (p.wide * p.k < 100000 || p.strips < threads) threads = 1; /* below ~10 us a second one costs */
    for (int t = 0; t < p.tiles; t++)
        lay_out_turned(y->data, y->strides[0], t * SIDE, p.narrow, p.k, 0, p.steps, turned + t * p.steps * TILE_WORDS);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        int64_t first = p.strips * t / threads, last = p.strips * (t + 1) / threads;
        rows_strips(&p, x, turned, first, last, sums);
        rows_end(&p, &e, c->dtype, first, last, sums);
    }
    return CRANK_OK;
}
#endif
