/* random_avx2.c - random_fill.h compiled for AVX2 and FMA. */
#include "base/random_fill.h"

void random_fill_avx2(crank_stream stream, uint64_t first, float shift, float scale, bool normal, float *out, size_t n)
{
    random_fill_body(stream, first, shift, scale, normal, out, n);
}
