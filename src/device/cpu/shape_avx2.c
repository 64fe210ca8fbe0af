/* shape_avx2.c - the bodies of shape_simd.h in AVX2. */
#include "device/cpu/shape_simd.h"
