/* head_avx512.c - the bodies of head_simd.h in AVX-512. */
#include "device/cpu/head_simd.h"
