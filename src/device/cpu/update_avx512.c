/* update_avx512.c - the bodies of update_simd.h in AVX-512. */
#include "device/cpu/update_simd.h"
