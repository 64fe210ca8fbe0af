/* turn_avx2.c - the bodies of turn_simd.h in AVX2. */
#include "device/cpu/turn_simd.h"
