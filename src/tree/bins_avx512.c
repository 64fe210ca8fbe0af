/* bins_avx512.c - the search for bins, compiled for AVX512. */
#include "tree/bins_search.h"

void bins_search_avx512(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    bins_search_body(x, stride, n, cut, bins, missing, out);
}
