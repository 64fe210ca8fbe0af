/* nf4.c - codes and scales of four-bit weights. The levels are quantiles of a normal distribution; the thresholds between them are
 * those of bitsandbytes, which differ from the means of neighbours in the last bits. */
#include "tensor/nf4.h"

#include <math.h>

#include "tensor/dynamic_map.h"

const float nf4_levels[16] = {-1.0f,
                              -0.6961928009986877f,
                              -0.5250730514526367f,
                              -0.39491748809814453f,
                              -0.28444138169288635f,
                              -0.18477343022823334f,
                              -0.09105003625154495f,
                              0.0f,
                              0.07958029955625534f,
                              0.16093020141124725f,
                              0.24611230194568634f,
                              0.33791524171829224f,
                              0.44070982933044434f,
                              0.5626170039176941f,
                              0.7229568362236023f,
                              1.0f};

static const float thresholds[15] = {-0.8480964004993439f,  -0.6106329262256622f,  -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
                                     -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,  0.2035212516784668f,
                                     0.2920137718319893f,   0.3893125355243683f,   0.5016634166240692f,  0.6427869200706482f,  0.8614784178118011f};

/* The number of thresholds below v: without a branch, so that it is done for several elements at once. */
static inline uint8_t level_of(float v)
{
    int above = 0;
    for (int k = 0; k < 15; k++) above += v > thresholds[k];
    return (uint8_t)above;
}

static void quantize_block(const float *w, int64_t n, uint8_t *codes, float *absmax)
{
    float a = 0;
    for (int64_t i = 0; i < n; i++) a = fmaxf(a, fabsf(w[i]));
    float inverse = 1.0f / fmaxf(a, 1e-38f);
    for (int64_t i = 0; i + 1 < n; i += 2) codes[i / 2] = (uint8_t)(level_of(w[i] * inverse) << 4 | level_of(w[i + 1] * inverse));
    if (n % 2) codes[n / 2] = (uint8_t)(level_of(w[n - 1] * inverse) << 4 | level_of(0));
    *absmax = a;
}

void nf4_quantize(const float *w, int64_t n, int64_t block, int threads, uint8_t *codes, float *absmax)
{
    int64_t blocks = nf4_blocks(n, block);
#pragma omp parallel for num_threads(threads) schedule(static) if (blocks > 1024)
    for (int64_t j = 0; j < blocks; j++) {
        int64_t first = j * block, count = n - first < block ? n - first : block;
        quantize_block(w + first, count, codes + first / 2, &absmax[j]);
    }
}

void nf4_compress(const float *absmax, int64_t count, uint8_t *codes, float *map, float *second, float *offset)
{
    double sum = 0;
    dynamic_map(true, map);
    for (int64_t j = 0; j < count; j++) sum += (double)absmax[j];
    *offset = count ? (float)(sum / (double)count) : 0;
    for (int64_t first = 0; first < count; first += NF4_NESTED_BLOCK) {
        int64_t last = first + NF4_NESTED_BLOCK < count ? first + NF4_NESTED_BLOCK : count;
        float   a = 0;
        for (int64_t j = first; j < last; j++) a = fmaxf(a, fabsf(absmax[j] - *offset));
        float inverse = a > 0 ? 1.0f / a : 0;
        for (int64_t j = first; j < last; j++) codes[j] = dynamic_nearest(map, (absmax[j] - *offset) * inverse);
        second[first / NF4_NESTED_BLOCK] = a;
    }
}

void nf4_dequantize(const uint8_t *codes, const nf4_scales *scales, int64_t block, int64_t first, int64_t count, float *w)
{
    for (int64_t i = first; i < first + count; i++) {
        int code = codes[i / 2 - first / 2] >> (i % 2 ? 0 : 4) & 15;
        w[i - first] = nf4_levels[code] * nf4_scale(scales, i / block);
    }
}
