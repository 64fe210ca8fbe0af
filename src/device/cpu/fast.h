/* fast.h - what the vectorised families share: names per level, loops over one row of elements, stores past the caches.
 *
 * FAMILY_simd.h is written once over the vector type of simd.h and included by FAMILY_avx2.c, FAMILY_avx512.c, and by
 * FAMILY_avx512bf16.c where rounding to bf16 is a large part of the work; its finder is FINDER(FAMILY). Functions of
 * one element are passed to the loops as constants, so each loop is compiled for its function; what the loops compute
 * for an element does not depend on where a thread's piece begins. */
#ifndef CRANK_DEVICE_CPU_FAST_H
#define CRANK_DEVICE_CPU_FAST_H

#include "device/cpu/fast_entry.h"
#include "device/cpu/simd_math.h"
#include "device/cpu/spans.h"

#if defined(__AVX512BF16__)
#define FINDER(family) family##_avx512bf16_find
#define LEVEL_NAME     "avx512bf16"
#elif defined(__AVX512F__)
#define FINDER(family) family##_avx512_find
#define LEVEL_NAME     "avx512"
#else
#define FINDER(family) family##_avx2_find
#define LEVEL_NAME     "avx2"
#endif

/* f32 or bf16 */
static inline bool fast_type(crank_dtype type) { return type == CRANK_F32 || type == CRANK_BF16; }

/* Whether an output is better written past the caches: it does not fit in them, and is not read by this operation. */
static inline bool streams(const crank_call *call, const crank_view *out)
{
    if (crank_view_bytes(out) <= cpu_cache(call)) return false;
    for (int k = 0; k < call->inputs; k++)
        if (call->in[k].data == out->data) return false;
    return true;
}

static inline bool aligned_for_stream(const void *p) { return (uintptr_t)p % 64 == 0; }

/* LANES elements, past the caches when `stream` (then p + i is aligned). */
ALWAYS_INLINE void vec_put(void *p, crank_dtype type, int64_t i, vec x, bool stream)
{
    if (!stream) vec_write(p, type, i, x);
    else if (type == CRANK_F32) vec_stream((float *)p + i, x);
    else stream_16bit((uint16_t *)p + i, vec_to_bf16(x));
}

typedef vec vec_function(vec x);
typedef vec vec_function2(vec a, vec b);

/* y[i] = f(x[i]) */
ALWAYS_INLINE void map1(vec_function *f, crank_dtype from, crank_dtype to, int64_t n, const void *x, void *y,
                        bool stream)
{
    int64_t i = 0;
    stream = stream && aligned_for_stream(y);
    for (; i + LANES <= n; i += LANES) vec_put(y, to, i, f(vec_read(x, from, i)), stream);
    if (i < n) vec_write_part(y, to, i, f(vec_read_part(x, from, i, (int)(n - i))), (int)(n - i));
}

/* y[i] = f(a[i], b[i]) */
ALWAYS_INLINE void map2(vec_function2 *f, crank_dtype type, int64_t n, const void *a, const void *b, void *y,
                        bool stream)
{
    int64_t i = 0;
    stream = stream && aligned_for_stream(y);
    for (; i + LANES <= n; i += LANES) vec_put(y, type, i, f(vec_read(a, type, i), vec_read(b, type, i)), stream);
    if (i < n) {
        int left = (int)(n - i);
        vec_write_part(y, type, i, f(vec_read_part(a, type, i, left), vec_read_part(b, type, i, left)), left);
    }
}

/* `count` elements, zeros behind: all LANES of them where count is that constant. */
ALWAYS_INLINE vec vec_get(const void *p, crank_dtype type, int64_t i, int count)
{
    return count == LANES ? vec_read(p, type, i) : vec_read_part(p, type, i, count);
}
ALWAYS_INLINE void vec_set_at(void *p, crank_dtype type, int64_t i, vec x, int count)
{
    if (count == LANES) vec_write(p, type, i, x);
    else vec_write_part(p, type, i, x, count);
}

/* The sum of term(row, i, count) over the n elements of a row: four running sums, so that additions do not wait for
 * each other. A term has zeros behind its `count` elements. */
typedef vec         row_term(const void *row, int64_t i, int count);
ALWAYS_INLINE float row_sum(row_term *term, const void *row, int64_t n)
{
    vec     s0 = vec_zero(), s1 = vec_zero(), s2 = vec_zero(), s3 = vec_zero();
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 = vec_add(s0, term(row, i, LANES));
        s1 = vec_add(s1, term(row, i + LANES, LANES));
        s2 = vec_add(s2, term(row, i + 2 * LANES, LANES));
        s3 = vec_add(s3, term(row, i + 3 * LANES, LANES));
    }
    for (; i + LANES <= n; i += LANES) s0 = vec_add(s0, term(row, i, LANES));
    if (i < n) s1 = vec_add(s1, term(row, i, (int)(n - i)));
    return vec_sum(vec_add(vec_add(s0, s1), vec_add(s2, s3)));
}

/* Calls step(row, i, count) for the whole row. */
typedef void       row_step(const void *row, int64_t i, int count);
ALWAYS_INLINE void row_each(row_step *step, const void *row, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) step(row, i, LANES);
    if (i < n) step(row, i, (int)(n - i));
}

/* One value of f32 or bf16 in all lanes. */
ALWAYS_INLINE vec vec_spread(const void *p, crank_dtype type)
{
    uint32_t bits = type == CRANK_F32 ? *(const uint32_t *)p : (uint32_t) * (const uint16_t *)p << 16;
    float    value;
    memcpy(&value, &bits, sizeof value);
    return vec_set(value);
}
#endif
