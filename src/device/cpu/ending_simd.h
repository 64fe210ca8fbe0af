/* ending_simd.h - what becomes of the sums of a product: c = alpha sum + bias + c0. */
#ifndef CRANK_DEVICE_CPU_ENDING_SIMD_H
#define CRANK_DEVICE_CPU_ENDING_SIMD_H

#include "device/cpu/simd.h"

typedef struct product_ending {
    float       alpha;
    const void *bias, *c0; /* of c's type, or NULL */
    void       *c;
    int64_t     c_row, c0_row;
} product_ending;

/* `count` sums go to row i, columns j .. of c. */
ALWAYS_INLINE void end_sums(const product_ending *e, crank_dtype type, vec sums, int64_t i, int64_t j, int count)
{
    vec x = vec_mul(sums, vec_set(e->alpha));
    if (e->bias) x = vec_add(x, vec_read_part(e->bias, type, j, count));
    if (e->c0) x = vec_add(x, vec_read_part(e->c0, type, i * e->c0_row + j, count));
    vec_write_part(e->c, type, i * e->c_row + j, x, count);
}
#endif
