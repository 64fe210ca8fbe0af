/* families.c - the list of body families of the CPU device, best first; the plain one serves whatever is left. */
#include "device/cpu/bodies.h"

const cpu_family cpu_families[] = {
    {CPU_AVX512BF16, skinny_avx512bf16_find},
    {CPU_AVX512, skinny_avx512_find},
    {CPU_AVX2, skinny_avx2_find},
    {CPU_AVX2, matmul_onednn_find},
    {CPU_AVX2, matmul_blas_find},
    {CPU_AVX512, head_avx512_find},
    {CPU_AVX2, head_avx2_find},
    {CPU_AVX512, elementwise_avx512_find},
    {CPU_AVX512, activation_avx512_find},
    {CPU_AVX512, rows_avx512_find},
    {CPU_AVX512, norm_avx512_find},
    {CPU_AVX512, segment_avx512_find},
    {CPU_AVX2, segment_avx2_find},
    {CPU_AVX2, elementwise_avx2_find},
    {CPU_AVX2, activation_avx2_find},
    {CPU_AVX2, rows_avx2_find},
    {CPU_AVX2, norm_avx2_find},
    {CPU_AVX512BF16, attention_avx512bf16_find},
    {CPU_AVX512, attention_avx512_find},
    {CPU_AVX2, attention_avx2_find},
    {CPU_PLAIN, plain_find},
    {CPU_PLAIN, NULL},
};
