/* turn_avx512.c - the bodies of turn_simd.h in AVX-512. */
#include "device/cpu/turn_simd.h"
