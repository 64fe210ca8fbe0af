/* fp8.h - eight-bit floats e4m3 (OCP 8-bit Floating Point Specification 1.0): 1 sign, 4 exponent bits of bias 7, 3 of the fraction; no
 * infinities, largest value 448, least step 2^-9; 0x7f and 0xff are NaN. A row x is held as x / scale with scale = max |x| / 448. */
#ifndef CRANK_TENSOR_FP8_H
#define CRANK_TENSOR_FP8_H

#include "crank/tensor.h"

#define FP8_LARGEST 448.0f

/* Round to nearest even; values beyond the largest become the largest, NaN stays NaN. */
uint8_t fp8_from_float(float value);
float   fp8_to_float(uint8_t bits);

/* The scale of a row of which `amax` is the largest magnitude; 1 for a row of zeros. Not finite where the row is not. */
static inline float fp8_scale(float amax) { return amax > 0 ? amax / FP8_LARGEST : amax == 0 ? 1.0f : amax; }

/* The larger magnitude; NaN when either is NaN. */
static inline float fp8_larger(float amax, float value)
{
    float magnitude = value < 0 ? -value : value;
    return amax >= magnitude || amax != amax ? amax : magnitude;
}

/* w [rows, columns] with row stride `stride` -> codes [rows, columns], scales [rows]. */
void fp8_quantize_rows(const float *w, int64_t rows, int64_t columns, int64_t stride, int threads, uint8_t *codes, float *scales);

#endif
