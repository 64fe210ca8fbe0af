/* head_avx2.c - the bodies of head_simd.h in AVX2. */
#include "device/cpu/head_simd.h"
