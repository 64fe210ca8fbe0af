/* random_fill.h - fills arrays from Philox streams: one body, compiled once for each instruction set.
 *
 * Blocks of four words are made RANDOM_LANES at a time, structure of arrays, so that the compiler's vectors hold one word of
 * many counters. Each body gives the same bits: the operations are those of philox.h in the same order. */
#ifndef CRANK_BASE_RANDOM_FILL_H
#define CRANK_BASE_RANDOM_FILL_H

#include "base/philox.h"
#include "crank/random.h"

/* Values of draws first .. first + n - 1: shift + scale * (uniform or normal number), one fma. */
typedef void random_fill(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out, size_t n);
random_fill random_fill_plain, random_fill_avx2, random_fill_avx512;

enum { RANDOM_LANES = 32 };

/* Words of blocks block .. block + RANDOM_LANES - 1, in the order of draws. words [4 * RANDOM_LANES] */
PHILOX_INLINE void random_words(crank_stream stream, uint64_t block, uint32_t *words)
{
    uint32_t c0[RANDOM_LANES], c1[RANDOM_LANES], c2[RANDOM_LANES], c3[RANDOM_LANES];
    uint32_t k0 = (uint32_t)stream.seed, k1 = (uint32_t)(stream.seed >> 32);
    for (uint32_t i = 0; i < RANDOM_LANES; i++) {
        c0[i] = (uint32_t)block + i;
        c1[i] = (uint32_t)(block >> 32) + (c0[i] < i);
        c2[i] = stream.purpose;
        c3[i] = stream.index;
    }
    for (int i = 0; i < RANDOM_LANES; i++) philox_rounds(&c0[i], &c1[i], &c2[i], &c3[i], k0, k1);
    for (int i = 0; i < RANDOM_LANES; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}

PHILOX_INLINE void random_fill_body(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out,
                                    size_t n)
{
    uint32_t words[4 * RANDOM_LANES];
    float    values[4 * RANDOM_LANES];
    size_t   skip = (size_t)(first % 4);
    for (uint64_t block = first / 4; n > 0; block += RANDOM_LANES, skip = 0) {
        random_words(stream, block, words);
        if (normal)
            for (int i = 0; i < 4 * RANDOM_LANES; i++) values[i] = philox_fma(philox_normal(words[i]), scale, shift);
        else
            for (int i = 0; i < 4 * RANDOM_LANES; i++) values[i] = philox_fma(philox_uniform(words[i]), scale, shift);
        size_t take = 4 * RANDOM_LANES - skip < n ? 4 * RANDOM_LANES - skip : n;
        memcpy(out, values + skip, take * sizeof *out);
        out += take;
        n -= take;
    }
}
#endif
