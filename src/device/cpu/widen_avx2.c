/* widen_avx2.c - conversions between f32 and the 16-bit floats, eight at a time. */
#include "device/cpu/widen.h"

#include "device/cpu/simd.h"

ALWAYS_INLINE void widen_as(float *to, const void *from, crank_dtype type, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(to + i, vec_read(from, type, i));
    if (i < n) vec_store_part(to + i, vec_read_part(from, type, i, (int)(n - i)), (int)(n - i));
}

void widen(float *to, const void *from, crank_dtype type, int64_t n)
{
    if (type == CRANK_F32) memcpy(to, from, (size_t)n * sizeof *to);
    else if (type == CRANK_BF16) widen_as(to, from, CRANK_BF16, n);
    else widen_as(to, from, CRANK_F16, n);
}

ALWAYS_INLINE void narrow_as(void *to, crank_dtype type, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_write(to, type, i, vec_load(from + i));
    if (i < n) vec_write_part(to, type, i, vec_load_part(from + i, (int)(n - i)), (int)(n - i));
}

void narrow(void *to, crank_dtype type, const float *from, int64_t n)
{
    if (type == CRANK_F32) memcpy(to, from, (size_t)n * sizeof *from);
    else if (type == CRANK_BF16) narrow_as(to, CRANK_BF16, from, n);
    else narrow_as(to, CRANK_F16, from, n);
}
