/* skinny_avx512bf16.c - narrow products at this level: see skinny_simd.h. */
#define LEVEL_NAME "skinny avx512bf16"
#define FINDER     skinny_avx512bf16_find
#include "device/cpu/skinny_simd.h"
