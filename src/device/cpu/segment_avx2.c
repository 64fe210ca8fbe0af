/* segment_avx2.c - the bodies of segment_simd.h in AVX2. */
#include "device/cpu/segment_simd.h"
