/* adam8bit_avx512.c - the bodies of adam8bit_simd.h in AVX-512. */
#include "device/cpu/adam8bit_simd.h"
