/* tall_avx2.c - products along a long dimension with one narrow side at this level: see tall_simd.h. */
#define LEVEL_NAME "tall avx2"
#define FINDER     tall_avx2_find
#include "device/cpu/tall_simd.h"
