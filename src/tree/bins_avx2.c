/* bins_avx2.c - the search for bins, compiled for AVX2. */
#include "tree/bins_search.h"

void bins_search_avx2(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    bins_search_body(x, stride, n, cut, bins, missing, out);
}
