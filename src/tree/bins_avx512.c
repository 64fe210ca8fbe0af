/* bins_avx512.c - the search for bins in two comparisons: with every 16th cut, then with the 16 cuts of that part. */
#include <immintrin.h>

#include "tree/bins.h"

void bins_search_avx512(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    __m512 every, first = _mm512_loadu_ps(cut);
    float  pivot[16];
    for (int j = 0; j < 16; j++) pivot[j] = cut[16 * j + 15];
    every = _mm512_loadu_ps(pivot);
    if (bins <= 16)
        for (int i = 0; i < n; i++) {
            float value = x[i * stride];
            int   at = __builtin_popcount(_mm512_cmp_ps_mask(first, _mm512_set1_ps(value), _CMP_LT_OQ));
            out[i] = value == value ? (uint8_t)at : missing;
        }
    else
        for (int i = 0; i < n; i++) {
            float  value = x[i * stride];
            __m512 v = _mm512_set1_ps(value);
            int    part = __builtin_popcount(_mm512_cmp_ps_mask(every, v, _CMP_LT_OQ)) * 16;
            int    at = part + __builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(cut + part), v, _CMP_LT_OQ));
            out[i] = value == value ? (uint8_t)at : missing;
        }
}
