/* update_avx2.c - the bodies of update_simd.h in AVX2. */
#include "device/cpu/update_simd.h"
