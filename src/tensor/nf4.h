/* nf4.h - weights in four bits: NormalFloat blocks with one scale each (Dettmers et al. 2023, arXiv:2305.14314), as bitsandbytes
 * stores them.
 *
 *     a_j = max |w_i| over block j (64 elements of the flattened matrix),   code_i = the level nearest to w_i / a_j
 *     double quantisation: offset = mean a,  a_j - offset as an 8-bit code of the signed dynamic map, blocks of 256:
 *     a'_j = map[c_j] second_{j / 256} + offset
 *
 * Element 2i stands in the high half of byte i. All of it is computed in f32. */
#ifndef CRANK_TENSOR_NF4_H
#define CRANK_TENSOR_NF4_H

#include "crank/tensor.h"

enum { NF4_BLOCK = 64, NF4_NESTED_BLOCK = 256, NF4_MAP = 256 };

extern const float nf4_levels[16];

/* The scales of a matrix: f32, or codes with what they stand for. */
typedef struct nf4_scales {
    const float   *plain;  /* [blocks], or NULL: */
    const uint8_t *codes;  /* [blocks] */
    const float   *map;    /* [256] */
    const float   *second; /* [blocks / 256, rounded up] */
    float          offset;
} nf4_scales;

static inline int64_t nf4_blocks(int64_t n, int64_t block) { return n / block + (n % block != 0); }

static inline float nf4_scale(const nf4_scales *scales, int64_t j)
{
    if (scales->plain) return scales->plain[j];
    float product = scales->map[scales->codes[j]] * scales->second[j / NF4_NESTED_BLOCK];
    return product + scales->offset;
}

/* w [n] -> codes [(n + 1) / 2], absmax [blocks]; block is even. A block of zeros has the scale 0 and codes of 0. */
void nf4_quantize(const float *w, int64_t n, int64_t block, int threads, uint8_t *codes, float *absmax);
/* absmax [count] -> codes [count], map [256], second [ceil(count / 256)], offset. */
void nf4_compress(const float *absmax, int64_t count, uint8_t *codes, float *map, float *second, float *offset);
/* Elements first .. first + count - 1; codes begin with the byte of element `first`. */
void nf4_dequantize(const uint8_t *codes, const nf4_scales *scales, int64_t block, int64_t first, int64_t count, float *w);

#endif
