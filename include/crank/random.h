/* random.h - counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011), the same on every device.
 *
 * A stream is named by (seed, purpose, index) and a draw by its position, so any draw can be made again at any time,
 * in any order, on any number of threads: frozen random matrices and dropout masks are regenerated, never stored.
 *
 *     key     = (low word of seed, high word of seed)
 *     counter = (low word of block, high word of block, purpose, index)      one block gives four 32-bit words
 *     draw i  = word i mod 4 of block i / 4
 *     64-bit draw i = draws 2i (low half) and 2i + 1 (high half)
 *
 * Uniform and sign draws are bit-equal on all devices; normal draws use one stated polynomial with explicit fma. */
#ifndef CRANK_RANDOM_H
#define CRANK_RANDOM_H

#include "crank/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a stream is for. A number is part of the file formats: never renumber. */
typedef enum crank_purpose {
    CRANK_RANDOM_INIT     = 1, /* initial values of parameters; index = hash of the parameter's name */
    CRANK_RANDOM_DROPOUT  = 2, /* index = node of the graph; block offset by step */
    CRANK_RANDOM_SHUFFLE  = 3, /* order of rows; index = epoch */
    CRANK_RANDOM_SAMPLE   = 4, /* sampling of tokens; index = sequence */
    CRANK_RANDOM_BASIS    = 5, /* frozen random bases (RandLoRA, NOLA) */
    CRANK_RANDOM_METHOD   = 6, /* a method's own draws (ranks, layers, columns); index = step */
    CRANK_RANDOM_ROUNDING = 7, /* stochastic rounding of bf16 weights */
    CRANK_RANDOM_DATA     = 8, /* simulated data and clicks */
    CRANK_RANDOM_TEST     = 9
} crank_purpose;

typedef struct crank_stream {
    uint64_t seed;
    uint32_t purpose;
    uint32_t index;
} crank_stream;

CRANK_API crank_stream crank_stream_make(uint64_t seed, crank_purpose purpose, uint32_t index);
CRANK_API uint32_t     crank_hash_name(const char *name); /* FNV-1a, 32 bits: turns a name into a stream index */

CRANK_API void     crank_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
CRANK_API uint32_t crank_draw_bits(crank_stream stream, uint64_t i);
CRANK_API float    crank_draw_uniform(crank_stream stream, uint64_t i);              /* [0,1): the high 24 bits / 2^24 */
CRANK_API float    crank_draw_normal(crank_stream stream, uint64_t i);               /* N(0,1): inverse normal cdf of draw i */
/* [0,bound), bound >= 1: the high 64 bits of bound times the 64-bit draw i (bias below bound / 2^64) */
CRANK_API uint64_t crank_draw_below(crank_stream stream, uint64_t i, uint64_t bound);

/* Fill n values from draw `first` on: low + (high - low) u and mean + deviation z, each rounded once (fma). */
CRANK_API void crank_fill_uniform(crank_stream stream, uint64_t first, float low, float high, float *out, size_t n);
CRANK_API void crank_fill_normal(crank_stream stream, uint64_t first, float mean, float deviation, float *out, size_t n);
/* A permutation of 0..n-1 (Fisher-Yates: for i = 0..n-2 swap i with i + draw_below(i, n - i)). */
CRANK_API void crank_permutation(crank_stream stream, int64_t *out, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
