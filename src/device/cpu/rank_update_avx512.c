/* rank_update_avx512.c - products of a short inner dimension at this level: see rank_update_simd.h. */
#define LEVEL_NAME "rank avx512"
#define FINDER     rank_update_avx512_find
#include "device/cpu/rank_update_simd.h"
