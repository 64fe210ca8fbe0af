/* skinny_avx2.c - narrow products at this level: see skinny_simd.h. */
#define LEVEL_NAME "skinny avx2"
#define FINDER     skinny_avx2_find
#include "device/cpu/skinny_simd.h"
