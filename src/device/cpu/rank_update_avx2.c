/* rank_update_avx2.c - products of a short inner dimension at this level: see rank_update_simd.h. */
#define LEVEL_NAME "rank avx2"
#define FINDER     rank_update_avx2_find
#include "device/cpu/rank_update_simd.h"
