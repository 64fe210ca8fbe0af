/* widen.h - rows of 16-bit floats to f32 and back, at any level from AVX2 on (the work is bound by memory). */
#ifndef CRANK_DEVICE_CPU_WIDEN_H
#define CRANK_DEVICE_CPU_WIDEN_H

#include "crank/tensor.h"

/* n elements of f32, bf16 or f16 to f32, and f32 to any of them (round to nearest even). */
void widen(float *to, const void *from, crank_dtype type, int64_t n);
void narrow(void *to, crank_dtype type, const float *from, int64_t n);
#endif
