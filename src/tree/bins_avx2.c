/* bins_avx2.c - the search for bins in two comparisons: with every 16th cut, then with the 16 cuts of that part. */
#include <immintrin.h>

#include "tree/bins.h"

/* How many of the 16 are below v. */
static inline int below(__m256 low, __m256 high, __m256 v)
{
    return __builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_cmp_ps(low, v, _CMP_LT_OQ)) | (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(high, v, _CMP_LT_OQ)) << 8);
}

void bins_search_avx2(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    float pivot[16];
    for (int j = 0; j < 16; j++) pivot[j] = cut[16 * j + 15];
    __m256 low = _mm256_loadu_ps(pivot), high = _mm256_loadu_ps(pivot + 8);
    for (int i = 0; i < n; i++) {
        float  value = x[i * stride];
        __m256 v = _mm256_set1_ps(value);
        int    part = bins <= 16 ? 0 : below(low, high, v) * 16;
        int    at = part + below(_mm256_loadu_ps(cut + part), _mm256_loadu_ps(cut + part + 8), v);
        out[i] = value == value ? (uint8_t)at : missing;
    }
}
