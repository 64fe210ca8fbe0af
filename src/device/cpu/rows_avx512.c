/* rows_avx512.c - the bodies of rows_simd.h in AVX-512. */
#include "device/cpu/rows_simd.h"
