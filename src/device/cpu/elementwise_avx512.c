/* elementwise_avx512.c - the bodies of elementwise_simd.h in AVX-512. */
#include "device/cpu/elementwise_simd.h"
