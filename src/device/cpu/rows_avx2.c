/* rows_avx2.c - the bodies of rows_simd.h in AVX2. */
#include "device/cpu/rows_simd.h"
