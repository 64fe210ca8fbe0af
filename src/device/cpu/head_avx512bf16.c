/* head_avx512bf16.c - the vocabulary head at this level: see head_simd.h. */
#define HEAD_LEVEL  "avx512bf16"
#define HEAD_FINDER head_avx512bf16_find
#include "device/cpu/head_simd.h"
