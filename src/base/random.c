/* random.c - counter-based random numbers: streams, single draws, filled arrays, permutations. */
#include "crank/random.h"

#include <omp.h>

#include "base/philox.h"
#include "base/random_fill.h"

crank_stream crank_stream_make(uint64_t seed, crank_purpose purpose, uint32_t index)
{
    return (crank_stream){.seed = seed, .purpose = (uint32_t)purpose, .index = index};
}

/* FNV-1a: h = (h ^ byte) * 16777619 from 2166136261 */
uint32_t crank_hash_name(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) hash = (hash ^ *c) * 16777619u;
    return hash;
}

void crank_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    philox_rounds(&c0, &c1, &c2, &c3, key[0], key[1]);
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* words [4] of one block of the stream */
static void block_words(crank_stream stream, uint64_t block, uint32_t *words)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream.purpose, stream.index};
    const uint32_t key[2] = {(uint32_t)stream.seed, (uint32_t)(stream.seed >> 32)};
    crank_philox(counter, key, words);
}

uint32_t crank_draw_bits(crank_stream stream, uint64_t i)
{
    uint32_t words[4];
    block_words(stream, i / 4, words);
    return words[i % 4];
}

float crank_draw_uniform(crank_stream stream, uint64_t i) { return philox_uniform(crank_draw_bits(stream, i)); }
float crank_draw_normal(crank_stream stream, uint64_t i) { return philox_normal(crank_draw_bits(stream, i)); }

uint64_t crank_draw_below(crank_stream stream, uint64_t i, uint64_t bound)
{
    uint32_t words[4];
    block_words(stream, i / 2, words);
    uint64_t bits = words[2 * (i % 2)] | (uint64_t)words[2 * (i % 2) + 1] << 32;
    return (uint64_t)(((unsigned __int128)bits * bound) >> 64);
}

static random_fill *best_fill(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return random_fill_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return random_fill_avx2;
#endif
    return random_fill_plain;
}

void random_fill_plain(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out, size_t n)
{
    random_fill_body(stream, first, shift, scale, normal, out, n);
}

/* Long runs are made by all threads: every value depends on its place alone. */
static void fill(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out, size_t n)
{
    enum { SLICE = 1 << 18 };
    random_fill *body = best_fill();
    int64_t      slices = (int64_t)((n + SLICE - 1) / SLICE);
#pragma omp parallel for schedule(static) if (slices > 1 && !omp_in_parallel())
    for (int64_t i = 0; i < slices; i++) {
        size_t from = (size_t)i * SLICE;
        body(stream, first + from, shift, scale, normal, out + from, n - from < SLICE ? n - from : SLICE);
    }
}

void crank_fill_uniform(crank_stream stream, uint64_t first, float low, float high, float *out, size_t n)
{
    fill(stream, first, low, high - low, false, out, n);
}

void crank_fill_normal(crank_stream stream, uint64_t first, float mean, float deviation, float *out, size_t n)
{
    fill(stream, first, mean, deviation, true, out, n);
}

void crank_permutation(crank_stream stream, int64_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t other = i + (int64_t)crank_draw_below(stream, (uint64_t)i, (uint64_t)(n - i)), value = out[i];
        out[i] = out[other];
        out[other] = value;
    }
}
