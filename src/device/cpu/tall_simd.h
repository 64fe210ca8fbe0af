/* tall_simd.h - products of two matrices along their rows where one is narrow: gradients of low-rank factors.
 *
 *     c [m, n] = alpha a [k, m]^T b [k, n] + c0        m or n <= MAX_NARROW
 *
 * Both operands lie along rows that are summed over, so the wide one is read as it lies: a tile of NARROW x VECTORS sums
 * stays in registers over BLOCK_K rows, and a stretch of that many rows of the wide operand is done with before the
 * next is begun. The narrow operand is laid out once as [k][padded narrow] words (words_simd.h). A thread owns columns of
 * the wide operand: no sum depends on the number of threads.
 *
 * Included with LEVEL_NAME, FINDER and, for products of bf16 pairs, __AVX512BF16__. */
#include "device/cpu/bodies.h"
#include "device/cpu/ending_simd.h"
#include "device/cpu/transpose_simd.h"
#include "device/cpu/words_simd.h"
#include "device/operations.h"

enum { MAX_NARROW = 32, GROUP = LANES == 16 ? 8 : 4, VECTORS = LANES == 16 ? 3 : 2, TILE = VECTORS * LANES, BLOCK_K = 64 };

typedef struct tall {
    crank_dtype type;
    bool        pairs, wide_is_a;
    int64_t     wide, k, words; /* words along k */
    int         narrow, padded; /* whole groups */
} tall;

static bool describe(const crank_call *call, tall *t)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    if (c->rank != 2 || a->rank != 2 || b->rank != 2 || !attributes->trans_a || attributes->trans_b) return false;
    if (a->dtype != CRANK_F32 && a->dtype != CRANK_BF16) return false;
    if (a->dtype != b->dtype || (c->dtype != a->dtype && c->dtype != CRANK_F32) || view_present(&call->in[2])) return false;
    int64_t m = c->dims[0], n = c->dims[1];
    t->type = a->dtype;
    t->k = a->dims[0];
    t->wide_is_a = m > n;
    t->wide = m > n ? m : n;
    if ((m < n ? m : n) > MAX_NARROW || t->wide < 2 * TILE || t->k < 2 * BLOCK_K) return false;
    t->narrow = (int)(m < n ? m : n);
    t->padded = (t->narrow + GROUP - 1) / GROUP * GROUP;
    t->pairs = words_are_pairs(t->type);
    t->words = t->pairs ? (t->k + 1) / 2 : t->k;
    return true;
}

static int64_t tiles_of(const tall *t) { return (t->wide + TILE - 1) / TILE; }
static size_t  narrow_bytes(const tall *t) { return (size_t)(t->words * t->padded) * sizeof(uint32_t); }
static size_t  sums_bytes(const tall *t) { return (size_t)(tiles_of(t) * TILE * t->padded) * sizeof(float); }

/* Word w of LANES columns from j on of the wide operand; `count` of them exist. */
ALWAYS_INLINE vec wide_word(const void *x, int64_t row, int64_t k, crank_dtype type, bool pairs, int64_t w, int64_t j,
                            int count)
{
#if defined(__AVX512BF16__)
    if (pairs) {
        __mmask16       mask = first_lanes(count);
        const uint16_t *even = (const uint16_t *)x + 2 * w * row + j;
        __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even));
        if (2 * w + 1 == k) return _mm512_castsi512_ps(low);
        __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even + row));
        return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
#endif
    (void)pairs, (void)k;
    return count == LANES ? vec_read(x, type, w * row + j) : vec_read_part(x, type, w * row + j, count);
}

/* The tile beside is read next: its rows are too short for the processor to see that coming. */
ALWAYS_INLINE void ask_for_next(const void *x, int64_t row, crank_dtype type, bool pairs, int64_t w, int64_t j)
{
    enum { LINE = 64 };
    const int size = type == CRANK_F32 ? 4 : 2;
    for (int r = 0; r < (pairs ? 2 : 1); r++) {
        const char *next = (const char *)x + (((pairs ? 2 * w : w) + r) * row + j + TILE) * size;
#pragma GCC unroll 4
        for (int at = 0; at < TILE * size; at += LINE) _mm_prefetch(next + at, _MM_HINT_T0);
    }
}

/* sums [GROUP][TILE] += words first .. last - 1 of y [..][padded] times columns j .. of x. `whole`: TILE of them exist. */
ALWAYS_INLINE void tile(const void *x, int64_t row, int64_t k, crank_dtype type, bool pairs, bool whole, const uint32_t *y,
                        int padded, bool ask, int64_t first, int64_t last, int64_t j, int64_t wide, float *sums)
{
    vec sum[GROUP][VECTORS];
    int count[VECTORS];
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; v++) {
        int64_t left = wide - j - v * LANES;
        count[v] = whole || left >= LANES ? LANES : left > 0 ? (int)left : 0;
    }
#pragma GCC unroll 8
    for (int r = 0; r < GROUP; r++)
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; v++) sum[r][v] = first ? vec_load(sums + r * TILE + v * LANES) : vec_zero();
    for (int64_t w = first; w < last; w++) {
        vec xw[VECTORS];
        if (ask) ask_for_next(x, row, type, pairs, w, j);
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; v++)
            xw[v] = wide_word(x, row, k, type, pairs, w, j + v * LANES, whole ? LANES : count[v]);
#pragma GCC unroll 8
        for (int r = 0; r < GROUP; r++)
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++) sum[r][v] = word_multiply_add(pairs, y[w * padded + r], xw[v], sum[r][v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < GROUP; r++)
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; v++) vec_store(sums + r * TILE + v * LANES, sum[r][v]);
}

/* Tiles first .. last - 1 of the wide operand; sums [tiles][padded][TILE]. */
ALWAYS_INLINE void tiles_between(const tall *t, const crank_view *x, const uint32_t *y, crank_dtype type, bool pairs,
                                 int64_t first, int64_t last, float *sums)
{
    int64_t row = x->strides[0];
    for (int64_t w = 0; w < t->words; w += BLOCK_K) {
        int64_t end = w + BLOCK_K < t->words ? w + BLOCK_K : t->words;
        for (int64_t i = first; i < last; i++)
            for (int g = 0; g < t->padded; g += GROUP) {
                float *to = sums + (i * t->padded + g) * TILE;
                bool   ask = g == 0 && (i + 2) * TILE <= t->wide;
                if (ask)
                    tile(x->data, row, t->k, type, pairs, true, y + g, t->padded, true, w, end, i * TILE, t->wide, to);
                else if ((i + 1) * TILE <= t->wide)
                    tile(x->data, row, t->k, type, pairs, true, y + g, t->padded, false, w, end, i * TILE, t->wide, to);
                else
                    tile(x->data, row, t->k, type, pairs, false, y + g, t->padded, false, w, end, i * TILE, t->wide, to);
            }
    }
}

typedef void tiles_kernel(const tall *t, const crank_view *x, const uint32_t *y, int64_t first, int64_t last, float *sums);
#define KERNEL(type, pairs)                                                                                            \
    static void tiles_##type##_##pairs(const tall *t, const crank_view *x, const uint32_t *y, int64_t first,           \
                                       int64_t last, float *sums)                                                      \
    {                                                                                                                  \
        tiles_between(t, x, y, CRANK_##type, pairs, first, last, sums);                                                \
    }
KERNEL(F32, 0)
KERNEL(BF16, 0)
#if defined(__AVX512BF16__)
KERNEL(BF16, 1)
#endif

static tiles_kernel *kernel_of(const tall *t)
{
#if defined(__AVX512BF16__)
    if (t->pairs) return tiles_BF16_1;
#endif
    return t->type == CRANK_F32 ? tiles_F32_0 : tiles_BF16_0;
}

/* The narrow operand's words first .. last - 1 as [w][padded], zeros behind its columns. */
ALWAYS_INLINE void lay_out(const tall *t, const crank_view *y, crank_dtype type, bool pairs, int64_t first, int64_t last, uint32_t *words)
{
    for (int64_t w = first; w < last; w++)
        for (int j = 0; j < t->padded; j += LANES) {
            int there = t->narrow - j < LANES ? t->narrow - j : LANES, count = t->padded - j < LANES ? t->padded - j : LANES;
            vec x = wide_word(y->data, y->strides[0], t->k, type, pairs, w, j, there > 0 ? there : 0);
            vec_store_part((float *)(void *)(words + w * t->padded + j), x, count);
        }
}

static void lay_out_narrow(const tall *t, const crank_view *y, int64_t first, int64_t last, uint32_t *words)
{
    if (t->type == CRANK_F32) lay_out(t, y, CRANK_F32, false, first, last, words);
    else if (t->pairs) lay_out(t, y, CRANK_BF16, true, first, last, words);
    else lay_out(t, y, CRANK_BF16, false, first, last, words);
}

/* LANES narrow rows from g on, LANES wide columns from j on, into c. */
ALWAYS_INLINE void finish_square(const tall *t, const product_ending *e, crank_dtype type, int g, int64_t j, const float *sums)
{
    vec x[LANES];
    int rows = t->narrow - g < LANES ? t->narrow - g : LANES, columns = t->wide - j < LANES ? (int)(t->wide - j) : LANES;
    for (int i = 0; i < LANES; i++) x[i] = i < rows ? vec_load(sums + i * TILE) : vec_zero();
    if (!t->wide_is_a) {
        for (int i = 0; i < rows; i++) end_sums(e, type, x[i], g + i, j, columns);
        return;
    }
    transpose(x);
    for (int i = 0; i < columns; i++) end_sums(e, type, x[i], j + i, g, rows);
}

/* The sums of tiles first .. last - 1 into c. */
static void finish(const tall *t, const product_ending *e, crank_dtype type, int64_t first, int64_t last, const float *sums)
{
    for (int64_t i = first; i < last; i++)
        for (int g = 0; g < t->narrow; g += LANES)
            for (int v = 0; v < VECTORS; v++) {
                int64_t      j = i * TILE + v * LANES;
                const float *from = sums + (i * t->padded + g) * TILE + v * LANES;
                if (j >= t->wide) continue;
                if (type == CRANK_F32) finish_square(t, e, CRANK_F32, g, j, from);
                else finish_square(t, e, CRANK_BF16, g, j, from);
            }
}

static crank_status run(crank_context *context, const crank_call *call)
{
    (void)context;
    tall t = {0};
    describe(call, &t);
    const crank_view *x = &call->in[t.wide_is_a ? 0 : 1], *y = &call->in[t.wide_is_a ? 1 : 0];
    uint32_t         *narrow = call->workspace;
    float            *sums = (float *)(void *)((char *)call->workspace + narrow_bytes(&t));
    tiles_kernel     *kernel = kernel_of(&t);
    int64_t           tiles = tiles_of(&t);
    const crank_view *c0 = &call->in[3], *c = &call->out[0];
    product_ending e = {.alpha = (float)((const crank_matmul_attributes *)call->attributes)->alpha, .c = c->data, .c_row = c->strides[0]};
    if (view_present(c0)) e.c0 = c0->data, e.c0_row = c0->strides[c0->rank - 2];
    int threads = t.wide * t.k * t.padded < 200000 ? 1 : cpu_threads(call); /* below ~10 us a second one costs */
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int i = 0; i < threads; i++) lay_out_narrow(&t, y, t.words * i / threads, t.words * (i + 1) / threads, narrow);
#pragma omp for schedule(static)
        for (int i = 0; i < threads; i++) {
            int64_t first = tiles * i / threads, last = tiles * (i + 1) / threads;
            kernel(&t, x, narrow, first, last, sums);
            finish(&t, &e, c->dtype, first, last, sums);
        }
    }
    return CRANK_OK;
}

bool FINDER(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    tall t = {0};
    (void)threads;
    if (strcmp(operation, "matmul") != 0 || !describe(call, &t)) return false;
    *body = (crank_body){.name = LEVEL_NAME, .run = run, .workspace = narrow_bytes(&t) + sums_bytes(&t)};
    return true;
}
