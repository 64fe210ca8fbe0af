/* attention_simd.h - what attention's bodies share: who sees whom, blocks of packed keys, values and queries, tasks.
 *
 *     s_ij = scale q_i k_j;  p_ij = e^(s_ij - lse_i);  o_i = sum_j p_ij v_j        (Dao et al. 2022, arXiv:2205.14135)
 *
 * Scores exist as tiles only: a block of query rows meets blocks of keys, and running maxima and sums make the softmax
 * exact. The query heads that read one key head stand in one block (row = query * group + head), so that keys are
 * packed once for all of them. Included by attention_LEVEL.c, which defines LEVEL, LEVEL_NAME and, for bf16 pairs,
 * PAIRS. */
#ifndef CRANK_DEVICE_CPU_ATTENTION_SIMD_H
#define CRANK_DEVICE_CPU_ATTENTION_SIMD_H

#include <math.h>
#include <omp.h>

#include "device/cpu/bodies.h"
#include "device/cpu/tile_simd.h"
#include "device/operations.h"

enum { PANEL = 2 * LANES, LEAST_ROWS = 8 * STRIPE, MOST_GROUP = 512, FAR_BYTES = 5 << 18 };
static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

typedef struct attention {
    const crank_view *q, *k, *v;
    crank_dtype type;
    int64_t hk, group, d;
    int64_t words;   /* of a row of q or k, zeros behind d */
    int64_t padded;  /* d as a multiple of LANES: words of a packed row of values */
    int64_t queries; /* tokens of a query block */
    int64_t rows;    /* queries * group as a multiple of STRIPE */
    bool causal;
    int64_t window;
    float scale;
    bool far; /* the operands are larger than a core's own caches */
} attention;

static int64_t round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

static attention attention_of(const crank_call *call, int q)
{
    const crank_attention_attributes *attributes = call->attributes;
    attention a = {.q = &call->in[q], .k = &call->in[q + 1], .v = &call->in[q + 2], .type = call->in[q].dtype};
    a.hk = a.k->dims[1];
    a.group = a.hk ? a.q->dims[1] / a.hk : 1;
    a.d = a.q->dims[2];
    a.padded = round_up(a.d, LANES);
    a.words = round_up((a.d + PER_WORD - 1) / PER_WORD, K_WORDS);
    a.queries = a.group < LEAST_ROWS ? LEAST_ROWS / a.group : 1;
    a.rows = round_up(a.queries * a.group, STRIPE);
    a.causal = attributes->mask == CRANK_MASK_CAUSAL;
    a.window = attributes->window;
    a.scale = (float)attributes->scale;
    a.far = a.q->dims[0] * a.q->strides[0] * (a.type == CRANK_F32 ? 4 : 2) > FAR_BYTES;
    return a;
}

/* Types that the body reads, and scores that can be ordered before they are scaled. */
static bool attention_serves(const attention *a, double scale)
{
#if defined(PAIRS)
    bool type = a->type == CRANK_BF16;
#else
    bool type = a->type == CRANK_F32 || a->type == CRANK_BF16 || a->type == CRANK_F16;
#endif
    return type && scale > 0 && a->hk > 0 && a->group > 0 && a->group <= MOST_GROUP && a->d > 0 && a->q->dims[0] > 0;
}

static const char *element(const crank_view *view, int64_t token, int64_t head)
{
    int64_t size = view->dtype == CRANK_F32 ? 4 : 2;
    return (const char *)view->data + (token * view->strides[0] + head * view->strides[1]) * size;
}

/* Keys that query i sees, of `keys`: first .. last - 1. */
typedef struct range {
    int64_t first, last;
} range;

static range seen(const attention *a, int64_t i, int64_t keys)
{
    range r = {a->window && i >= a->window ? i - a->window + 1 : 0, keys};
    if (a->causal)
        r.last = i + 1;
    else if (a->window)
        r.last = i + a->window;
    if (r.last > keys) r.last = keys;
    return r;
}

/* Lanes from .. to - 1 of x, `other` around. */
ALWAYS_INLINE vec within(vec x, int64_t from, int64_t to, vec other)
{
    if (to < LANES) x = vec_keep(x, to < 0 ? 0 : (int)to, other);
    return from > 0 ? vec_keep(other, from > LANES ? LANES : (int)from, x) : x;
}

/* LANES elements of a row of the call's type from c on, zeros behind its end. */
ALWAYS_INLINE vec read_lanes(const attention *a, const void *row, int64_t c)
{
    int part = a->d - c < LANES ? (int)(a->d - c) : LANES;
    if (a->type == CRANK_F32) return vec_read_part(row, CRANK_F32, c, part);
    return a->type == CRANK_BF16 ? vec_read_part(row, CRANK_BF16, c, part) : vec_read_part(row, CRANK_F16, c, part);
}

/* ---- packing ---- */

/* Rows of one head lie far apart and are too short for the processor's own prefetching; those of the next head lie
 * behind them, and the next task is likely to want them. */
ALWAYS_INLINE void ask_for_next_head(const attention *a, const void *row)
{
    int64_t bytes = a->d * (a->type == CRANK_F32 ? 4 : 2);
    for (int64_t at = 0; a->far && at < bytes; at += 64) _mm_prefetch((const char *)row + bytes + at, _MM_HINT_T1);
}

#if defined(PAIRS)
/* Words of which the low halves are `low`. */
ALWAYS_INLINE __m512i interleave(__m256i low, __m256i high)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

/* Packed rows of words along d become rows of words along rows: [rows][padded] -> [rows / 2][padded]. Zeros behind the
 * last. */
static void pair_rows(const attention *a, const word *from, int64_t rows, word *to)
{
    for (int64_t i = 0; i < rows; i += 2, to += a->padded) {
        const uint16_t *low = (const uint16_t *)(const void *)(from + i * a->padded), *high = low + 2 * a->padded;
        for (int64_t c = 0; c < a->padded; c += LANES) {
            __m256i h =
                i + 1 < rows ? _mm256_loadu_si256((const __m256i *)(const void *)(high + c)) : _mm256_setzero_si256();
            _mm512_storeu_si512(to + c, interleave(_mm256_loadu_si256((const __m256i *)(const void *)(low + c)), h));
        }
    }
}
#endif

/* Keys (or values) from `token` on, `count` of them, as columns: [panel][words][PANEL]. What stands behind the last
 * means nothing: its scores are masked. */
ALWAYS_INLINE void pack_columns_as(const attention *a, crank_dtype type, const crank_view *x, int64_t token,
                                   int64_t count, int64_t head, word *to)
{
    for (int64_t key = 0; key < count; key += LANES) {
        word *panel = to + key / PANEL * PANEL * a->words + key % PANEL;
        for (int i = 0; i < LANES && key + i < count; i++) ask_for_next_head(a, element(x, token + key + i, head));
        for (int64_t w = 0; w < a->words; w += LANES) {
            vec t[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                t[i] = key + i < count ? load_words(element(x, token + key + i, head), type, w, a->d) : vec_zero();
            transpose(t);
            int64_t here = a->words - w < LANES ? a->words - w : LANES;
            for (int64_t i = 0; i < here; i++) vec_store((float *)(void *)(panel + (w + i) * PANEL), t[i]);
        }
    }
}

/* Rows x [count, d] at a stride of bytes as [words of count][padded]: rows that stand along k of a product. Zeros fill
 * the rest up to `filled` rows. */
ALWAYS_INLINE void pack_rows_as(const attention *a, crank_dtype type, const crank_view *x, int64_t token, int64_t count,
                                int64_t head, int64_t filled, word *to)
{
    for (int64_t i = 0; i < filled; i += PER_WORD) {
        word *row = to + i / PER_WORD * a->padded;
        for (int64_t k = i; k < i + PER_WORD && k < count; k++) ask_for_next_head(a, element(x, token + k, head));
        for (int64_t c = 0; c < a->padded; c += LANES) {
#if defined(PAIRS)
            (void)type;
            int64_t left = a->d - c;
            __mmask16 mask = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
            __m256i low =
                i < count
                    ? _mm256_maskz_loadu_epi16(mask, (const uint16_t *)(const void *)element(x, token + i, head) + c)
                    : _mm256_setzero_si256();
            __m256i high = i + 1 < count
                               ? _mm256_maskz_loadu_epi16(
                                     mask, (const uint16_t *)(const void *)element(x, token + i + 1, head) + c)
                               : _mm256_setzero_si256();
            _mm512_storeu_si512(row + c, interleave(low, high));
#else
            vec_store(row + c, i < count ? load_words(element(x, token + i, head), type, c, a->d) : vec_zero());
#endif
        }
    }
}

/* Query rows of one key head: row = query * group + head, as [rows][padded] words read along d. */
ALWAYS_INLINE void pack_queries_as(const attention *a, crank_dtype type, const crank_view *x, int64_t token,
                                   int64_t count, int64_t key_head, word *to)
{
    for (int64_t i = 0; i < count; i++) {
        ask_for_next_head(a, element(x, token + i, key_head * a->group + a->group - 1));
        for (int64_t g = 0; g < a->group; g++, to += a->padded)
            for (int64_t w = 0; w < a->words; w += LANES) {
                vec x_w = load_words(element(x, token + i, key_head * a->group + g), type, w, a->d);
                vec_store((float *)(void *)(to + w), x_w);
            }
    }
}

#if defined(PAIRS)
#define BY_TYPE(name, ...) name(a, CRANK_BF16, __VA_ARGS__)
#else
#define BY_TYPE(name, ...)                                                                                             \
    do {                                                                                                               \
        if (a->type == CRANK_F32)                                                                                      \
            name(a, CRANK_F32, __VA_ARGS__);                                                                           \
        else if (a->type == CRANK_BF16)                                                                                \
            name(a, CRANK_BF16, __VA_ARGS__);                                                                          \
        else                                                                                                           \
            name(a, CRANK_F16, __VA_ARGS__);                                                                           \
    } while (0)
#endif

static void pack_columns(const attention *a, const crank_view *x, int64_t token, int64_t count, int64_t head, word *to)
{
    BY_TYPE(pack_columns_as, x, token, count, head, to);
}
static void pack_rows(const attention *a, const crank_view *x, int64_t token, int64_t count, int64_t head,
                      int64_t filled, word *to)
{
    BY_TYPE(pack_rows_as, x, token, count, head, filled, to);
}
static void pack_queries(const attention *a, const crank_view *x, int64_t token, int64_t count, int64_t key_head,
                         word *to)
{
    BY_TYPE(pack_queries_as, x, token, count, key_head, to);
}

/* d floats, each times `factor`, to a row of o, dq, dk or dv. */
ALWAYS_INLINE void write_row(const attention *a, void *to, const float *from, float factor)
{
    int64_t c = 0;
    for (; c + LANES <= a->d; c += LANES) {
        vec x = vec_mul(vec_load(from + c), vec_set(factor));
        if (a->type == CRANK_F32)
            vec_write(to, CRANK_F32, c, x);
        else if (a->type == CRANK_BF16)
            vec_write(to, CRANK_BF16, c, x);
        else
            vec_write(to, CRANK_F16, c, x);
    }
    if (c == a->d) return;
    int rest = (int)(a->d - c);
    vec x = vec_mul(vec_load_part(from + c, rest), vec_set(factor));
    if (a->type == CRANK_F32)
        vec_write_part(to, CRANK_F32, c, x, rest);
    else if (a->type == CRANK_BF16)
        vec_write_part(to, CRANK_BF16, c, x, rest);
    else
        vec_write_part(to, CRANK_F16, c, x, rest);
}

/* ---- packed segments ---- */

/* Where the tokens of one query block stand: tokens `first` .. `last` - 1 of the segment that starts at `start` and
 * ends at `end`. */
typedef struct block {
    int64_t start, end, first, last;
} block;

/* The most blocks that n tokens in `segments` - 1 rows can make. */
static int64_t most_blocks(int64_t n, int64_t size, int64_t segments)
{
    return n / size + segments;
}

/* Blocks of `size` tokens, segment by segment. -1 with a message when the segments do not ascend within [0, n]. */
static int64_t list_blocks(crank_context *context, const crank_view *segments, int64_t n, int64_t size, block *blocks)
{
    const int32_t *at = segments->data;
    int64_t stride = segments->strides[0], count = 0, before = 0;
    for (int64_t s = 0; s < segments->dims[0]; s++) {
        int64_t token = at[s * stride];
        if (token < before || token > n) {
            crank_fail(context, CRANK_USAGE,
                       "attention: segment %lld starts at token %lld; they must ascend from 0 to %lld tokens",
                       (long long)s, (long long)token, (long long)n);
            return -1;
        }
        for (int64_t first = before; s > 0 && first < token; first += size)
            blocks[count++] = (block){before, token, first, first + size < token ? first + size : token};
        before = token;
    }
    return count;
}

/* The first token from i on that stands in no segment, n when there is none. */
static int64_t outside(const crank_view *segments, int64_t i, int64_t n)
{
    const int32_t *at = segments->data;
    int64_t first = at[0], last = at[(segments->dims[0] - 1) * segments->strides[0]];
    return i < first || i >= last ? i : last < n ? last : n;
}

/* Such tokens give zeros: o, dq, dk, dv [n, heads, d]. */
static void zero_outside(const crank_view *segments, const crank_view *out)
{
    int64_t n = out->dims[0];
    for (int64_t i = outside(segments, 0, n); i < n; i = outside(segments, i + 1, n))
        for (int64_t h = 0; h < out->dims[1]; h++)
            memset((void *)(uintptr_t)element(out, i, h), 0, (size_t)out->dims[2] * (out->dtype == CRANK_F32 ? 4 : 2));
}

/* Tasks that one thread takes at once: neighbouring heads lie in neighbouring memory. */
static inline int heads_in_a_row(int64_t tasks, int threads)
{
    return tasks >= 32 * threads ? 4 : 1;
}
#endif
