/* tiles.h - AMX tile registers in plain C, so that kernels written for them are tested on any processor with AVX-512: include it before
 * the kernel's header. Rows that a load or store touches are touched here too, so a sanitizer sees what runs over. */
#ifndef CRANK_TESTS_DEVICE_TILES_H
#define CRANK_TESTS_DEVICE_TILES_H

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(shape) tiles_shape(shape)
#define _tile_release()         tiles_shape(NULL)
#define _tile_loadd(t, from, stride) tile_load(t, from, stride)
#define _tile_stored(t, to, stride)  tile_store(t, to, stride)
#define _tile_zero(t)                memset(tile_of(t), 0, 16 * 64)
#define _tile_dpbf16ps(c, a, b)      tile_multiply(tile_of(c), tile_of(a), tile_of(b))

static _Thread_local uint8_t tile_memory[8][16][64];
static _Thread_local bool    tiles_configured;

static inline void tiles_shape(const void *shape)
{
    tiles_configured = shape != NULL;
    if (shape && ((const uint8_t *)shape)[0] != 1) abort();
}
static inline void *tile_of(int t)
{
    if (!tiles_configured || t < 0 || t > 7) abort();
    return tile_memory[t];
}
static inline void tile_load(int t, const void *from, int64_t stride)
{
    for (int i = 0; i < 16; i++) memcpy((uint8_t *)tile_of(t) + i * 64, (const uint8_t *)from + i * stride, 64);
}
static inline void tile_store(int t, void *to, int64_t stride)
{
    for (int i = 0; i < 16; i++) memcpy((uint8_t *)to + i * stride, (uint8_t *)tile_of(t) + i * 64, 64);
}
static inline float tile_float(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float    x;
    memcpy(&x, &wide, sizeof x);
    return x;
}
/* c[m][n] += a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1] */
static inline void tile_multiply(float *c, const uint16_t *a, const uint16_t *b)
{
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 16; n++)
                c[m * 16 + n] += tile_float(a[m * 32 + 2 * k]) * tile_float(b[k * 32 + 2 * n]) +
                                 tile_float(a[m * 32 + 2 * k + 1]) * tile_float(b[k * 32 + 2 * n + 1]);
}
#endif
