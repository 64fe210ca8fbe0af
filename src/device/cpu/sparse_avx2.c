/* sparse_avx2.c - the bodies of sparse_simd.h in AVX2. */
#include <omp.h>

#include "device/cpu/sparse_simd.h"
