/* sparse_avx512.c - the bodies of sparse_simd.h in AVX-512. */
#include <omp.h>

#include "device/cpu/sparse_simd.h"
