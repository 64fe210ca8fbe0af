/* convert_avx2.c - conversion loops for AVX2 with F16C, whose instructions round as convert.h does. */
#include <immintrin.h>

#include "tensor/convert.h"

static void from_bf16(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_from_bf16(from[i]);
}

static void to_bf16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_to_bf16(from[i]);
}

static void from_f16(float *to, const uint16_t *from, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    for (; i < n; i++) to[i] = convert_from_f16(from[i]);
}

static void to_f16(uint16_t *to, const float *from, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (; i < n; i++) to[i] = convert_to_f16(from[i]);
}

const convert_loops convert_loops_avx2 = {from_bf16, from_f16, to_bf16, to_f16};
