/* elementwise_avx2.c - the bodies of elementwise_simd.h in AVX2. */
#include "device/cpu/elementwise_simd.h"
