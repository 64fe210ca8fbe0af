/* dequantize_avx512.c - the bodies of dequantize_simd.h in AVX-512. */
#include "device/cpu/dequantize_simd.h"
