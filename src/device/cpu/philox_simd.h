/* philox_simd.h - the words of many Philox blocks at once (base/philox.h states the generator).
 *
 * A lane of 64 bits holds one counter word of one block in its low half: the product of low halves is one instruction,
 * its high half one shift, and the upper half of what is left over does not matter to the next product. */
#ifndef CRANK_DEVICE_CPU_PHILOX_SIMD_H
#define CRANK_DEVICE_CPU_PHILOX_SIMD_H

#include "crank/random.h"
#include "device/cpu/simd_math.h"

#if defined(__AVX512F__)
enum { PHILOX_BLOCKS = 8, PHILOX_GROUPS = 4 }; /* blocks of one vector; vectors at once, as the registers allow */
typedef __m512i    wide;
ALWAYS_INLINE wide wide_set(uint64_t a) { return _mm512_set1_epi64((long long)a); }
ALWAYS_INLINE wide wide_product(wide a, wide b) { return _mm512_mul_epu32(a, b); }
ALWAYS_INLINE wide wide_high(wide a) { return _mm512_srli_epi64(a, 32); }
ALWAYS_INLINE wide wide_xor3(wide a, wide b, wide c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
ALWAYS_INLINE wide wide_add(wide a, wide b) { return _mm512_add_epi64(a, b); }
ALWAYS_INLINE wide wide_ascending(void) { return _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7); }
/* The low halves of a, the low halves of b moved up */
ALWAYS_INLINE wide wide_pair(wide a, wide b) { return _mm512_mask_blend_epi32(0xaaaa, a, _mm512_slli_epi64(b, 32)); }
/* Words 0|1 and 2|3 of eight blocks -> the blocks in their order */
ALWAYS_INLINE void wide_store(uint32_t *to, wide w01, wide w23)
{
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(w01, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), w23));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi64(w01, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), w23));
}
#else
enum { PHILOX_BLOCKS = 4, PHILOX_GROUPS = 2 };
typedef __m256i    wide;
ALWAYS_INLINE wide wide_set(uint64_t a) { return _mm256_set1_epi64x((long long)a); }
ALWAYS_INLINE wide wide_product(wide a, wide b) { return _mm256_mul_epu32(a, b); }
ALWAYS_INLINE wide wide_high(wide a) { return _mm256_srli_epi64(a, 32); }
ALWAYS_INLINE wide wide_xor3(wide a, wide b, wide c) { return _mm256_xor_si256(a, _mm256_xor_si256(b, c)); }
ALWAYS_INLINE wide wide_add(wide a, wide b) { return _mm256_add_epi64(a, b); }
ALWAYS_INLINE wide wide_ascending(void) { return _mm256_setr_epi64x(0, 1, 2, 3); }
ALWAYS_INLINE wide wide_pair(wide a, wide b) { return _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xaa); }
ALWAYS_INLINE void wide_store(uint32_t *to, wide w01, wide w23)
{
    __m256i even = _mm256_unpacklo_epi64(w01, w23), odd = _mm256_unpackhi_epi64(w01, w23); /* blocks 0 2, 1 3 */
    _mm256_storeu_si256((__m256i *)to, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256((__m256i *)(to + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}
#endif

enum { DRAWS = 4 * PHILOX_BLOCKS * PHILOX_GROUPS };

/* Words of the blocks from `block` on -> words [DRAWS]. Several vectors at once: the rounds of one wait for each other.
 */
ALWAYS_INLINE void philox_words(crank_stream stream, uint64_t block, uint32_t *words)
{
    wide     c0[PHILOX_GROUPS], c1[PHILOX_GROUPS], c2[PHILOX_GROUPS], c3[PHILOX_GROUPS];
    uint32_t k0 = (uint32_t)stream.seed, k1 = (uint32_t)(stream.seed >> 32);
    wide     m0 = wide_set(0xD2511F53u), m1 = wide_set(0xCD9E8D57u);
    for (int g = 0; g < PHILOX_GROUPS; g++) {
        c0[g] = wide_add(wide_set(block + (uint64_t)(g * PHILOX_BLOCKS)), wide_ascending());
        c1[g] = wide_high(c0[g]);
        c2[g] = wide_set(stream.purpose);
        c3[g] = wide_set(stream.index);
    }
    for (int round = 0; round < 10; round++) {
        wide key0 = wide_set(k0), key1 = wide_set(k1);
        for (int g = 0; g < PHILOX_GROUPS; g++) {
            wide p0 = wide_product(c0[g], m0), p1 = wide_product(c2[g], m1);
            c0[g] = wide_xor3(wide_high(p1), c1[g], key0);
            c1[g] = p1;
            c2[g] = wide_xor3(wide_high(p0), c3[g], key1);
            c3[g] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int g = 0; g < PHILOX_GROUPS; g++)
        wide_store(words + 4 * PHILOX_BLOCKS * g, wide_pair(c0[g], c1[g]), wide_pair(c2[g], c3[g]));
}
#endif
