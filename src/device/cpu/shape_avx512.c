/* shape_avx512.c - the bodies of shape_simd.h in AVX-512. */
#include "device/cpu/shape_simd.h"
