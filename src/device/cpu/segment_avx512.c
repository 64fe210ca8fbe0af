/* segment_avx512.c - the bodies of segment_simd.h in AVX-512. */
#include "device/cpu/segment_simd.h"
