/* norm_avx512bf16.c - the bodies of norm_simd.h in AVX-512 with its own rounding to bf16. */
#include "device/cpu/norm_simd.h"
