/* head_avx2.c - the vocabulary head at this level: see head_simd.h. */
#define HEAD_LEVEL  "avx2"
#define HEAD_FINDER head_avx2_find
#include "device/cpu/head_simd.h"
