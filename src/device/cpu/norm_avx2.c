/* norm_avx2.c - the bodies of norm_simd.h in AVX2. */
#include "device/cpu/norm_simd.h"
