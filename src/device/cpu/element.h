/* element.h - one element of an array of any type, read and written as double.
 *
 * Writing rounds once, to nearest even (16-bit types through an f32 rounded to odd: tensor/convert.h). */
#ifndef CRANK_DEVICE_CPU_ELEMENT_H
#define CRANK_DEVICE_CPU_ELEMENT_H

#include "tensor/convert.h"

/* Truncated towards zero, held within the limits of the type; NaN gives 0. */
static inline int64_t integer_of(double value, double least, double most)
{
    if (value != value) return 0;
    if (value <= least) return (int64_t)least;
    return value >= most ? (int64_t)most : (int64_t)value;
}

static inline double element_read(const void *data, crank_dtype dtype, int64_t i)
{
    switch (dtype) {
    case CRANK_F32: return ((const float *)data)[i];
    case CRANK_F64: return ((const double *)data)[i];
    case CRANK_BF16: return convert_from_bf16(((const uint16_t *)data)[i]);
    case CRANK_F16: return convert_from_f16(((const uint16_t *)data)[i]);
    case CRANK_I32: return ((const int32_t *)data)[i];
    case CRANK_I64: return (double)((const int64_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

static inline void element_write(void *data, crank_dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case CRANK_F32: ((float *)data)[i] = (float)value; break;
    case CRANK_F64: ((double *)data)[i] = value; break;
    case CRANK_BF16: ((uint16_t *)data)[i] = convert_to_bf16(convert_to_odd(value)); break;
    case CRANK_F16: ((uint16_t *)data)[i] = convert_to_f16(convert_to_odd(value)); break;
    case CRANK_I32: ((int32_t *)data)[i] = (int32_t)integer_of(value, INT32_MIN, INT32_MAX); break;
    case CRANK_I64: /* 2^63 is not an int64: its predecessor among doubles is 2^63 - 1024 */
        ((int64_t *)data)[i] = value >= 0x1p63 ? INT64_MAX : integer_of(value, -0x1p63, 0x1.fffffffffffffp62);
        break;
    default: ((uint8_t *)data)[i] = (uint8_t)integer_of(value, 0, 255); break;
    }
}

/* What is left of a value after it was stored as `dtype`. */
static inline double element_rounded(crank_dtype dtype, double value)
{
    union {
        float  f32;
        double f64;
    } cell;
    element_write(&cell, dtype, 0, value);
    return element_read(&cell, dtype, 0);
}
#endif
