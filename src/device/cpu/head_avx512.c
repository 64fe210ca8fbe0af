/* head_avx512.c - the vocabulary head at this level: see head_simd.h. */
#define HEAD_LEVEL  "avx512"
#define HEAD_FINDER head_avx512_find
#include "device/cpu/head_simd.h"
