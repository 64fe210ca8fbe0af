/* shrink_amx.h - c [m, n] = alpha a [m, k] b [k, n] + bias + c0 of bf16 with few columns, on tile registers: the x A^T of
 * low-rank adapters and the dy B of their reverse.
 *
 * a is read once, as it lies, 16 rows at a time; the panel of b stays in the second cache. The steps along k go to four sums in
 * turn, since one multiply waits long for the one before; their order is fixed. */
#ifndef CRANK_DEVICE_CPU_SHRINK_AMX_H
#define CRANK_DEVICE_CPU_SHRINK_AMX_H

#include "device/cpu/bodies.h"
#include "device/cpu/panel_amx.h"
#include "device/operations.h"

enum { SHRINK_MOST = 2 * SIDE };

typedef struct shrink {
    int64_t m, k, steps;
    int     n, columns; /* columns: of the panel, 16 or 32 */
    bool    lines;      /* b is given as [n, k] */
} shrink;

static bool shrink_describe(const crank_call *call, shrink *s)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    if (c->rank != 2 || a->rank != 2 || b->rank != 2 || attributes->trans_a) return false;
    if (a->dtype != CRANK_BF16 || b->dtype != CRANK_BF16 || (c->dtype != CRANK_BF16 && c->dtype != CRANK_F32)) return false;
    if (c->dims[1] < 1 || c->dims[1] > SHRINK_MOST || c->dims[0] < 4 * SIDE || a->dims[1] < 2 * STEP) return false;
    *s = (shrink){.m = c->dims[0], .k = a->dims[1], .steps = steps_of(a->dims[1]), .n = (int)c->dims[1], .lines = attributes->trans_b};
    s->columns = s->n <= SIDE ? SIDE : 2 * SIDE;
    return true;
}

static size_t shrink_bytes(const shrink *s) { return (size_t)(s->steps * SIDE * s->columns) * sizeof(uint32_t); }

/* The part of a row of a that fills no step, for 16 rows, with zeros behind. */
static void fill_rest(const uint16_t *a, int64_t row, int64_t k, uint16_t *rest)
{
    int64_t at = k / STEP * STEP;
    memset(rest, 0, SIDE * STEP * sizeof *rest);
    for (int i = 0; i < SIDE; i++) memcpy(rest + i * STEP, a + i * row + at, (size_t)(k - at) * sizeof *rest);
}

/* One step into sums 0 and 1, or 2 and 3; the same place of the next rows is asked for. */
#define SHRINK_STEP(first, second, left, from, from_bytes, panel)                                                      \
    do {                                                                                                               \
        _tile_loadd(left, from, from_bytes);                                                                           \
        _tile_loadd(6, panel, SIDE * 4);                                                                               \
        _tile_dpbf16ps(first, left, 6);                                                                                \
        if (wide) {                                                                                                    \
            _tile_loadd(7, (panel) + TILE_WORDS, SIDE * 4);                                                            \
            _tile_dpbf16ps(second, left, 7);                                                                           \
        }                                                                                                              \
    } while (0)

/* 16 rows from a on; sums [2 of steps][2 of columns][16][16] */
ALWAYS_INLINE void shrink_rows(const shrink *s, const uint16_t *a, int64_t row, const uint32_t *panel, bool wide, bool more,
                               float *sums)
{
    uint16_t      rest[SIDE * STEP];
    const int64_t whole = s->k / STEP, bytes = row * 2, tile_words = wide ? 2 * TILE_WORDS : TILE_WORDS;
    if (whole < s->steps) fill_rest(a, row, s->k, rest);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < s->steps; i++) {
        const void *from = i < whole ? (const void *)(a + i * STEP) : rest;
        int64_t     from_bytes = i < whole ? bytes : STEP * 2;
        if (more)
            for (int r = 0; r < SIDE; r++) _mm_prefetch((const char *)(a + (SIDE + r) * row + i * STEP), _MM_HINT_T0);
        if (i % 2 == 0) SHRINK_STEP(0, 1, 4, from, from_bytes, panel + i * tile_words);
        else SHRINK_STEP(2, 3, 5, from, from_bytes, panel + i * tile_words);
    }
    _tile_stored(0, sums, SIDE * 4);
    _tile_stored(2, sums + 2 * TILE_WORDS, SIDE * 4);
    if (!wide) return;
    _tile_stored(1, sums + TILE_WORDS, SIDE * 4);
    _tile_stored(3, sums + 3 * TILE_WORDS, SIDE * 4);
}

/* Rows first .. last - 1, of which there are 16 at least: the last block begins earlier and writes only what is new. */
static void shrink_range(const shrink *s, const crank_view *a, const uint32_t *panel, const product_ending *e, crank_dtype type,
                         int64_t first, int64_t last)
{
    _Alignas(64) float sums[4 * TILE_WORDS];
    tiles_begin();
    for (int64_t i = first; i < last; i += SIDE) {
        int64_t         from = last - i < SIDE ? last - SIDE : i;
        const uint16_t *rows = (const uint16_t *)a->data + from * a->strides[0];
        bool            more = from + 2 * SIDE <= last;
        if (s->columns > SIDE) shrink_rows(s, rows, a->strides[0], panel, true, more, sums);
        else shrink_rows(s, rows, a->strides[0], panel, false, more, sums);
        for (int64_t r = i - from; r < SIDE; r++)
            for (int c = 0; c < s->n; c += SIDE) {
                const float *sum = sums + (c / SIDE) * TILE_WORDS + r * SIDE;
                int          count = s->n - c < SIDE ? s->n - c : SIDE;
                vec          x = vec_add(vec_load(sum), vec_load(sum + 2 * TILE_WORDS));
                if (type == CRANK_F32) end_sums(e, CRANK_F32, x, from + r, c, count);
                else end_sums(e, CRANK_BF16, x, from + r, c, count);
            }
    }
    tiles_end();
}

static crank_status shrink_run(const crank_call *call, int threads)
{
    const crank_view *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0], *b = &call->in[1];
    shrink            s;
    shrink_describe(call, &s);
    product_ending e = {.alpha = (float)((const crank_matmul_attributes *)call->attributes)->alpha, .c = c->data, .c_row = c->strides[0]};
    if (view_present(bias)) e.bias = bias->data;
    if (view_present(c0)) e.c0 = c0->data, e.c0_row = c0->strides[c0->rank - 2];
    uint32_t *panel = call->workspace;
    lay_out_panel(b->data, b->strides[0], s.lines, 0, s.n, s.k, s.columns, panel);
    if (s.m * s.k < 100000 || s.m < threads * 2 * SIDE) threads = 1; /* below ~10 us a second one costs */
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        int64_t blocks = s.m / SIDE, first = blocks * t / threads * SIDE, last = t + 1 == threads ? s.m : blocks * (t + 1) / threads * SIDE;
        shrink_range(&s, &call->in[0], panel, &e, c->dtype, first, last);
    }
    return CRANK_OK;
}
#endif
