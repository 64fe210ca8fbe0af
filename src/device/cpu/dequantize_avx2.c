/* dequantize_avx2.c - the bodies of dequantize_simd.h in AVX2. */
#include "device/cpu/dequantize_simd.h"
