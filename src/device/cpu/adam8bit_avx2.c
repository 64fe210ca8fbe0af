/* adam8bit_avx2.c - the bodies of adam8bit_simd.h in AVX2. */
#include "device/cpu/adam8bit_simd.h"
