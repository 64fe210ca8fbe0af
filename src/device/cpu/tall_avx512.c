/* tall_avx512.c - products along a long dimension with one narrow side at this level: see tall_simd.h. */
#define LEVEL_NAME "tall avx512"
#define FINDER     tall_avx512_find
#include "device/cpu/tall_simd.h"
