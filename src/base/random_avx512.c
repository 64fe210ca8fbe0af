/* random_avx512.c - random_fill.h compiled for AVX-512. */
#include "base/random_fill.h"

void random_fill_avx512(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out, size_t n)
{
    random_fill_body(stream, first, shift, scale, normal, out, n);
}
