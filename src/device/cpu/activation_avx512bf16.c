/* activation_avx512bf16.c - the bodies of activation_simd.h in AVX-512 with its own rounding to bf16. */
#include "device/cpu/activation_simd.h"
