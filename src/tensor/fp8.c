/* fp8.c - conversion to and from e4m3, and rows with a scale each. */
#include "tensor/fp8.h"

#include <math.h>
#include <string.h>

uint8_t fp8_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    if (value != value) return sign | 0x7f;
    float magnitude = fabsf(value);
    if (magnitude >= FP8_LARGEST) return sign | 0x7e;
    if (magnitude < 0.015625f) return sign | (uint8_t)lrintf(magnitude * 512.0f); /* below 2^-6: steps of 2^-9; 8 is 2^-6 */
    bits &= 0x7fffffff;
    bits += 0x7ffff + (bits >> 20 & 1); /* to 3 bits of the fraction, ties to even; a carry moves into the exponent */
    uint32_t code = (bits >> 20) - ((127 - 7) << 3);
    return sign | (uint8_t)(code > 0x7e ? 0x7e : code);
}

float fp8_to_float(uint8_t bits)
{
    int   exponent = bits >> 3 & 15, fraction = bits & 7;
    float magnitude = exponent ? ldexpf((float)(8 + fraction), exponent - 10) : (float)fraction * 0.001953125f;
    if ((bits & 0x7f) == 0x7f) return NAN;
    return bits & 0x80 ? -magnitude : magnitude;
}

void fp8_quantize_rows(const float *w, int64_t rows, int64_t columns, int64_t stride, int threads, uint8_t *codes, float *scales)
{
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * columns > 65536)
    for (int64_t r = 0; r < rows; r++) {
        const float *row = w + r * stride;
        float        amax = 0;
        for (int64_t i = 0; i < columns; i++) amax = fp8_larger(amax, row[i]);
        scales[r] = fp8_scale(amax);
        for (int64_t i = 0; i < columns; i++) codes[r * columns + i] = fp8_from_float(row[i] / scales[r]);
    }
}
