/* select_avx2.c - the bodies of select_simd.h in AVX2. */
#include "device/cpu/select_simd.h"
