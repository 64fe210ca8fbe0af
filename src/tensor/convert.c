/* convert.c - conversions of arrays between any two of f32, bf16, f16 and f64. */
#if defined(__x86_64__) && defined(__clang__)
#include <cpuid.h>
#endif

#include <omp.h>

#include "tensor/convert.h"

uint16_t crank_to_bf16(float value) { return convert_to_bf16(value); }
float    crank_from_bf16(uint16_t bits) { return convert_from_bf16(bits); }
uint16_t crank_to_f16(float value) { return convert_to_f16(value); }
float    crank_from_f16(uint16_t bits) { return convert_from_f16(bits); }

static void from_bf16(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_from_bf16(from[i]);
}

static void from_f16(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_from_f16(from[i]);
}

static void to_bf16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_to_bf16(from[i]);
}

static void to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = convert_to_f16(from[i]);
}

const convert_loops convert_loops_plain = {from_bf16, from_f16, to_bf16, to_f16};

static const convert_loops *best_loops(void)
{
#if defined(__x86_64__) && defined(__clang__)
    unsigned a, b, c = 0, d; /* clang's __builtin_cpu_supports does not know f16c; asking the processor costs microseconds in
                                a virtual machine */
    if (__builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C)) return &convert_loops_avx2;
#elif defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) return &convert_loops_avx2;
#endif
    return &convert_loops_plain;
}

/* n values of any float type as f32. `odd`: f64 is rounded to odd because the f32 will be rounded again. */
static void to_single(const convert_loops *loops, float *to, const void *from, crank_dtype type, bool odd, size_t n)
{
    const double *wide = from;
    switch (type) {
    case CRANK_BF16: loops->from_bf16(to, from, n); break;
    case CRANK_F16: loops->from_f16(to, from, n); break;
    case CRANK_F64:
        if (odd)
            for (size_t i = 0; i < n; i++) to[i] = convert_to_odd(wide[i]);
        else
            for (size_t i = 0; i < n; i++) to[i] = (float)wide[i];
        break;
    default: memcpy(to, from, n * sizeof *to); break;
    }
}

static void from_single(const convert_loops *loops, void *to, crank_dtype type, const float *from, size_t n)
{
    double *wide = to;
    switch (type) {
    case CRANK_BF16: loops->to_bf16(to, from, n); break;
    case CRANK_F16: loops->to_f16(to, from, n); break;
    case CRANK_F64:
        for (size_t i = 0; i < n; i++) wide[i] = from[i];
        break;
    default: memcpy(to, from, n * sizeof *from); break;
    }
}

static bool converts(crank_dtype type)
{
    return type == CRANK_F32 || type == CRANK_BF16 || type == CRANK_F16 || type == CRANK_F64;
}

static void convert_slice(const convert_loops *loops, char *to, crank_dtype to_type, const char *from, crank_dtype from_type, size_t n)
{
    enum { CHUNK = 2048 };
    float  chunk[CHUNK];
    size_t to_size = crank_dtype_bits(to_type) / 8, from_size = crank_dtype_bits(from_type) / 8;
    if (to_type == from_type) memcpy(to, from, n * to_size);
    else if (to_type == CRANK_F32) to_single(loops, (float *)(void *)to, from, from_type, false, n);
    else if (from_type == CRANK_F32) from_single(loops, to, to_type, (const float *)(const void *)from, n);
    else
        for (size_t i = 0; i < n; i += CHUNK) {
            size_t take = n - i < CHUNK ? n - i : CHUNK;
            to_single(loops, chunk, from + i * from_size, from_type, true, take);
            from_single(loops, to + i * to_size, to_type, chunk, take);
        }
}

void crank_convert(void *to, crank_dtype to_type, const void *from, crank_dtype from_type, size_t n)
{
    enum { SLICE = 1 << 20 };
    const convert_loops *loops = best_loops();
    if (!converts(to_type) || !converts(from_type) || n == 0) return;
    size_t  to_size = crank_dtype_bits(to_type) / 8, from_size = crank_dtype_bits(from_type) / 8;
    int64_t slices = (int64_t)((n + SLICE - 1) / SLICE);
#pragma omp parallel for schedule(static) if (slices > 1 && !omp_in_parallel())
    for (int64_t i = 0; i < slices; i++) {
        size_t at = (size_t)i * SLICE;
        convert_slice(loops, (char *)to + at * to_size, to_type, (const char *)from + at * from_size, from_type, n - at < SLICE ? n - at : SLICE);
    }
}
