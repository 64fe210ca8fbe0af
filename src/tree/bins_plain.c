/* bins_plain.c - the search for bins: binary, without branches on the values. */
#include "tree/bins.h"

void bins_search_plain(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    int top = 1;
    while (top < bins) top *= 2;
    for (int i = 0; i < n; i++) {
        float value = x[i * stride];
        int   at = 0;
        for (int step = top / 2; step > 0; step /= 2) at += step & -(cut[at + step - 1] < value);
        out[i] = value == value ? (uint8_t)at : missing;
    }
}
