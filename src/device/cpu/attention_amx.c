/* attention_amx.c - attention of bf16 on tile registers: see attention_simd.h, tile_amx.h and the files that they name. */
#define PAIRS
#define LEVEL_NAME "amx"
#include "device/cpu/attention_backward_simd.h"
#include "device/cpu/attention_cached_simd.h"
#include "device/cpu/attention_find_simd.h"

bool attention_amx_find(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    return attention_find(operation, call, threads, body);
}
