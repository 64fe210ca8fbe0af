/* select_avx512.c - the bodies of select_simd.h in AVX-512. */
#include "device/cpu/select_simd.h"
