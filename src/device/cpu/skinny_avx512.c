/* skinny_avx512.c - narrow products at this level: see skinny_simd.h. */
#define LEVEL_NAME "skinny avx512"
#define FINDER     skinny_avx512_find
#include "device/cpu/skinny_simd.h"
