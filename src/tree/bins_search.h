/* bins_search.h - the body of bins_search, compiled for several instruction sets: a binary search without branches, whose loop
 * over the values becomes gathers. */
#include "tree/bins.h"

static inline __attribute__((always_inline)) void bins_search_body(const float *x, int64_t stride, int n, const float *cut, int bins, uint8_t missing, uint8_t *out)
{
    enum { GROUP = 64 };
    int top = 1;
    while (top < bins) top *= 2;
    for (int from = 0; from < n; from += GROUP) {
        float   value[GROUP];
        int32_t at[GROUP] = {0};
        int     count = n - from < GROUP ? n - from : GROUP;
        for (int i = 0; i < count; i++) value[i] = x[(from + i) * stride];
        for (int i = count; i < GROUP; i++) value[i] = 0;
        for (int step = top / 2; step > 0; step /= 2)
            for (int i = 0; i < GROUP; i++) at[i] += cut[at[i] + step - 1] < value[i] ? step : 0;
        for (int i = 0; i < count; i++) out[from + i] = value[i] == value[i] ? (uint8_t)at[i] : missing;
    }
}
