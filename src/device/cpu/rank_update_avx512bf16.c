/* rank_update_avx512bf16.c - products of a short inner dimension at this level: see rank_update_simd.h. */
#define LEVEL_NAME "rank avx512bf16"
#define FINDER     rank_update_avx512bf16_find
#include "device/cpu/rank_update_simd.h"
