/* activation_avx512.c - the bodies of activation_simd.h in AVX-512. */
#include "device/cpu/activation_simd.h"
