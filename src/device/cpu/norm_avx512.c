/* norm_avx512.c - the bodies of norm_simd.h in AVX-512. */
#include "device/cpu/norm_simd.h"
