/* fast.h - what the vectorised families share: names per level, loops over one row of elements, stores past the caches.
 *
 * FAMILY_simd.h is written once over the vector type of simd.h and included by FAMILY_avx2.c and FAMILY_avx512.c; its finder
 * is FINDER(FAMILY). Functions of one element are passed to the loops as constants, so each loop is compiled for its
 * function; what the loops compute for an element does not depend on where a thread's piece begins. */
#ifndef CRANK_DEVICE_CPU_FAST_H
#define CRANK_DEVICE_CPU_FAST_H

#include "device/cpu/simd_math.h"
#include "device/cpu/spans.h"
#include "device/operations.h"

#if defined(__AVX512F__)
#define FINDER(family) family##_avx512_find
#define LEVEL_NAME  "avx512"
#else
#define FINDER(family) family##_avx2_find
#define LEVEL_NAME  "avx2"
#endif

/* An operation and the test whether it is served; a finder is a search in such a list. */
typedef struct fast_entry {
    const char   *operation;
    crank_kernel *run;
    bool (*serves)(const crank_call *call);
    size_t (*workspace)(const crank_call *call, int threads); /* NULL: none */
} fast_entry;

static inline bool fast_find(const fast_entry *entries, size_t count, const char *operation, const crank_call *call,
                             int threads, crank_body *body)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(entries[i].operation, operation) != 0 || !entries[i].serves(call)) continue;
        size_t bytes = entries[i].workspace ? entries[i].workspace(call, threads) : 0;
        *body = (crank_body){.name = LEVEL_NAME, .run = entries[i].run, .workspace = bytes};
        return true;
    }
    return false;
}

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
ALWAYS_INLINE void map1(vec_function *f, crank_dtype from, crank_dtype to, int64_t n, const void *x, void *y, bool stream)
{
    int64_t i = 0;
    stream = stream && aligned_for_stream(y);
    for (; i + LANES <= n; i += LANES) vec_put(y, to, i, f(vec_read(x, from, i)), stream);
    if (i < n) vec_write_part(y, to, i, f(vec_read_part(x, from, i, (int)(n - i))), (int)(n - i));
}

/* y[i] = f(a[i], b[i]) */
ALWAYS_INLINE void map2(vec_function2 *f, crank_dtype type, int64_t n, const void *a, const void *b, void *y, bool stream)
{
    int64_t i = 0;
    stream = stream && aligned_for_stream(y);
    for (; i + LANES <= n; i += LANES) vec_put(y, type, i, f(vec_read(a, type, i), vec_read(b, type, i)), stream);
    if (i < n) {
        int left = (int)(n - i);
        vec_write_part(y, type, i, f(vec_read_part(a, type, i, left), vec_read_part(b, type, i, left)), left);
    }
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
