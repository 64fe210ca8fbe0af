/* bins_plain.c - the search for bins, for any processor. */
#include "tree/bins_search.h"

void bins_search_plain(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    bins_search_body(x, stride, n, cut, bins, missing, out);
}
