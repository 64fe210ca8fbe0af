/* attention_avx2.c - attention at this level: see attention_simd.h and the files that it names. */
#define LEVEL_NAME "avx2"
#include "device/cpu/attention_backward_simd.h"
#include "device/cpu/attention_decode_simd.h"
#include "device/cpu/attention_find_simd.h"

bool attention_avx2_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    return attention_find(operation, call, threads, body);
}
