/* activation_avx2.c - the bodies of activation_simd.h in AVX2. */
#include "device/cpu/activation_simd.h"
