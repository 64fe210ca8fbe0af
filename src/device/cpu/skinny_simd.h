/* skinny_simd.h - products with one narrow side, as dot products along k: the low-rank branch's x A^T and the decoder's
 * W x.
 *
 *     out[i, j] = alpha sum_k x[i, k] y[j, k] + bias + c0        x has many rows, y at most MAX_NARROW
 *
 * A blocked product fills its registers with columns of the narrow side and leaves most of them empty. Here both
 * operands are read along k, x as it lies in memory, y from a small widened copy; LANES sums are held at once and then
 * turned into one vector of results by a tree of shuffles. Two cases:
 *
 *     down    c [m, n] = a b, n <= MAX_NARROW: x = a, y = columns of b        (x A^T of LoRA, dy B of its reverse)
 *     decode  c [m, n] = a b^T, m <= MAX_NARROW: x = b, y = rows of a         (one or a few tokens through a weight)
 *
 * Included with LEVEL_NAME, FINDER and, for products of bf16 pairs, __AVX512BF16__. */
#include "device/cpu/bodies.h"
#include "device/cpu/simd.h"
#include "device/operations.h"

enum { MAX_NARROW = 8 };

typedef struct skinny {
    bool decode;
    crank_dtype type; /* of a and b */
    int64_t wide, k;  /* rows of x */
    int narrow;       /* rows of y */
    int padded;       /* narrow rounded up to 1, 2, 4 or 8 */
    int64_t padded_k;
} skinny;

#if defined(__AVX512BF16__)
#define PAIRS(type) ((type) == CRANK_BF16)
#else
#define PAIRS(type) false
#endif

static bool describe(const crank_call *call, skinny *s)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    if (c->rank != 2 || a->rank != 2 || b->rank != 2 || attributes->trans_a || a->dtype == CRANK_F64) return false;
    int64_t m = c->dims[0], n = c->dims[1];
    s->type = a->dtype;
    s->k = a->dims[1];
    s->decode = attributes->trans_b && m <= MAX_NARROW && n > m;
    if (!s->decode && n > MAX_NARROW) return false;
    if (m < 1 || n < 1 || s->k < 1) return false;
    s->wide = s->decode ? n : m;
    s->narrow = (int)(s->decode ? m : n);
    s->padded = s->narrow <= 2 ? s->narrow : s->narrow <= 4 ? 4 : 8;
    int64_t step = PAIRS(s->type) ? 2 * LANES : LANES;
    s->padded_k = (s->k + step - 1) / step * step;
    return true;
}

/* y [narrow, k] into `copy` [padded, padded_k] with zeros around: f32, or bf16 for products of pairs. */
static void copy_narrow(const crank_call *call, const skinny *s, void *copy)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *y = s->decode ? &call->in[0] : &call->in[1];
    bool rows = s->decode || attributes->trans_b;
    int64_t row = rows ? y->strides[0] : 1, column = rows ? 1 : y->strides[0];
    size_t size = PAIRS(s->type) ? sizeof(uint16_t) : sizeof(float);
    memset(copy, 0, size * (size_t)(s->padded * s->padded_k));
    for (int j = 0; j < s->narrow; j++) {
        if (PAIRS(s->type)) {
            const uint16_t *from = (const uint16_t *)y->data + j * row;
            uint16_t *to = (uint16_t *)copy + j * s->padded_k;
            if (column == 1) memcpy(to, from, (size_t)s->k * size);
            else
                for (int64_t k = 0; k < s->k; k++) to[k] = from[k * column];
        } else if (s->type == CRANK_F32) {
            const float *from = (const float *)y->data + j * row;
            float *to = (float *)copy + j * s->padded_k;
            if (column == 1) memcpy(to, from, (size_t)s->k * size);
            else
                for (int64_t k = 0; k < s->k; k++) to[k] = from[k * column];
        } else {
            const uint16_t *from = (const uint16_t *)y->data + j * row;
            float *to = (float *)copy + j * s->padded_k;
            bool bf16 = s->type == CRANK_BF16;
            for (int64_t k = 0; k < s->k; k++)
                to[k] = bf16 ? crank_from_bf16(from[k * column]) : crank_from_f16(from[k * column]);
        }
    }
}

/* Few rows at once are streams too short for the processor's own prefetching: the next rows are asked for here. */
ALWAYS_INLINE void ask_for(const void *x, int narrow, int64_t ahead, int64_t i)
{
    if (narrow >= 4) _mm_prefetch((const char *)x + ahead + i, _MM_HINT_T0);
}

/* The sums over k = i .. end - 1 of LANES / NARROW rows of x with NARROW rows of y; the next rows lie `ahead` bytes on.
 * Their order is that of the output in memory: j fastest, or the row of x fastest when `decode`. */
ALWAYS_INLINE vec dots(const void *const *x, const void *y, crank_dtype type, int narrow, bool decode, int64_t i,
                       int64_t end, int64_t padded_k, int64_t ahead)
{
    const int rows = LANES / narrow;
    vec sums[LANES];
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) sums[l] = vec_zero();
#if defined(__AVX512BF16__)
    if (type == CRANK_BF16) {
        for (; i < end; i += 2 * LANES) {
            __mmask32 mask = end - i >= 32 ? 0xffffffffu : (1u << (end - i)) - 1;
            __m512bh yj[MAX_NARROW];
#pragma GCC unroll 8
            for (int j = 0; j < narrow; j++)
                yj[j] = (__m512bh)_mm512_loadu_si512((const uint16_t *)y + j * padded_k + i);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                ask_for(x[r], narrow, ahead, 2 * i);
                __m512bh xr = (__m512bh)_mm512_maskz_loadu_epi16(mask, (const uint16_t *)x[r] + i);
#pragma GCC unroll 8
                for (int j = 0; j < narrow; j++) {
                    int l = decode ? j * rows + r : r * narrow + j;
                    sums[l] = _mm512_dpbf16_ps(sums[l], xr, yj[j]);
                }
            }
        }
        return vec_gather_sums(sums);
    }
#endif
    for (; i + LANES <= end; i += LANES) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            ask_for(x[r], narrow, ahead, type == CRANK_F32 ? 4 * i : 2 * i);
            vec xr = vec_read(x[r], type, i);
#pragma GCC unroll 8
            for (int j = 0; j < narrow; j++) {
                int l = decode ? j * rows + r : r * narrow + j;
                sums[l] = vec_fma(xr, vec_load((const float *)y + j * padded_k + i), sums[l]);
            }
        }
    }
    if (i < end) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vec xr = vec_read_part(x[r], type, i, (int)(end - i));
#pragma GCC unroll 8
            for (int j = 0; j < narrow; j++) {
                int l = decode ? j * rows + r : r * narrow + j;
                sums[l] = vec_fma(xr, vec_load((const float *)y + j * padded_k + i), sums[l]);
            }
        }
    }
    return vec_gather_sums(sums);
}

/* What follows the product. */
typedef struct ending {
    float alpha;
    const void *bias, *c0;
    void *c;
    crank_dtype type;
    int64_t c_row, c0_row;
} ending;

/* `count` results from `from` on go to row i, columns j.. of c. */
ALWAYS_INLINE void finish(const ending *e, crank_dtype type, int64_t i, int64_t j, const float *from, int count)
{
    vec x = vec_mul(vec_load_part(from, count), vec_set(e->alpha));
    if (e->bias) x = vec_add(x, vec_read_part(e->bias, type, j, count));
    if (e->c0) x = vec_add(x, vec_read_part(e->c0, type, i * e->c0_row + j, count));
    vec_write_part(e->c, type, i * e->c_row + j, x, count);
}

/* Writes the results of one tile: rows i .. i + here - 1 of x. */
ALWAYS_INLINE void finish_tile(const skinny *s, const ending *e, crank_dtype type, int narrow, bool decode, int64_t i,
                               int here, const float *results)
{
    if (decode)
        for (int j = 0; j < s->narrow; j++) finish(e, type, j, i, results + j * (LANES / narrow), here);
    else
        for (int r = 0; r < here; r++) finish(e, type, i + r, 0, results + r * narrow, s->narrow);
}

/* Rows first .. last - 1 of x, in groups: the part of y that one pass reads stays in the first cache. `type`, `narrow`
 * and `decode` are constants. */
ALWAYS_INLINE void rows_of(const skinny *s, const crank_view *xv, const void *y, const ending *e, crank_dtype type,
                           int narrow, bool decode, int64_t first, int64_t last)
{
    enum { GROUP = 4, Y_BYTES = 24576, AHEAD = 4096 }; /* AHEAD: bytes that memory needs to be asked for in time */
    const int rows = LANES / narrow;
    const int64_t row_bytes = xv->strides[0] * (type == CRANK_F32 ? 4 : 2), block = Y_BYTES / narrow / (PAIRS(type) ? 2 : 4);
    const int64_t ahead = (AHEAD / (row_bytes * rows) + 1) * row_bytes * rows;
    for (int64_t i = first; i < last; i += GROUP * rows) {
        _Alignas(64) float results[GROUP][LANES];
        for (int64_t k = 0; k < s->k; k += block) {
            int64_t end = k + block < s->k ? k + block : s->k;
            for (int g = 0; g < GROUP && i + g * rows < last; g++) {
                const void *x[LANES];
#pragma GCC unroll 16
                for (int r = 0; r < rows; r++) {
                    int64_t row = i + g * rows + r;
                    x[r] = (const char *)xv->data + (row < last ? row : last - 1) * row_bytes;
                }
                vec sums = dots(x, y, type, narrow, decode, k, end, s->padded_k, ahead);
                vec_store(results[g], k ? vec_add(sums, vec_load(results[g])) : sums);
            }
        }
        for (int g = 0; g < GROUP && i + g * rows < last; g++) {
            int64_t row = i + g * rows;
            int here = last - row < rows ? (int)(last - row) : rows;
            if (e->type == CRANK_F32)
                finish_tile(s, e, CRANK_F32, narrow, decode, row, here, results[g]);
            else
                finish_tile(s, e, type, narrow, decode, row, here, results[g]);
        }
    }
}

typedef void rows_kernel(const skinny *s, const crank_view *x, const void *y, const ending *e, int64_t first,
                         int64_t last);
#define KERNEL(type, narrow, decode)                                                                                   \
    static void rows_##type##_##narrow##_##decode(const skinny *s, const crank_view *x, const void *y,                 \
                                                  const ending *e, int64_t first, int64_t last)                        \
    {                                                                                                                  \
        rows_of(s, x, y, e, CRANK_##type, narrow, decode, first, last);                                                \
    }
#define KERNELS(type)                                                                                                  \
    KERNEL(type, 1, 0)                                                                                                 \
    KERNEL(type, 2, 0) KERNEL(type, 4, 0) KERNEL(type, 8, 0) KERNEL(type, 1, 1) KERNEL(type, 2, 1) KERNEL(type, 4, 1)  \
        KERNEL(type, 8, 1)
KERNELS(F32)
KERNELS(BF16)
KERNELS(F16)
#define KERNEL_ROW(type)                                                                                               \
    {                                                                                                                  \
        {rows_##type##_1_0, rows_##type##_2_0, rows_##type##_4_0, rows_##type##_8_0},                                  \
            {rows_##type##_1_1, rows_##type##_2_1, rows_##type##_4_1, rows_##type##_8_1},                              \
    }
static rows_kernel *const kernels[3][2][4] = {KERNEL_ROW(F32), KERNEL_ROW(BF16), KERNEL_ROW(F16)};

static crank_status run(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0];
    skinny s = {0};
    describe(call, &s);
    copy_narrow(call, &s, call->workspace);
    ending e = {.alpha = (float)attributes->alpha, .c = c->data, .type = c->dtype, .c_row = c->strides[0]};
    if (view_present(bias)) e.bias = bias->data;
    if (view_present(c0)) {
        e.c0 = c0->data;
        e.c0_row = c0->strides[c0->rank - 2];
    }
    int type = s.type == CRANK_F32 ? 0 : s.type == CRANK_BF16 ? 1 : 2;
    int width = s.padded == 1 ? 0 : s.padded == 2 ? 1 : s.padded == 4 ? 2 : 3;
    rows_kernel *kernel = kernels[type][s.decode][width];
    int64_t work = s.wide * s.k * s.padded, tiles = (s.wide + LANES - 1) / LANES;
    int threads = work < 200000 ? 1 : cpu_threads(call); /* below ~10 us a second thread costs more than it gives */
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        int64_t first = tiles * t / threads * LANES, last = tiles * (t + 1) / threads * LANES;
        kernel(&s, s.decode ? &call->in[1] : &call->in[0], call->workspace, &e, first, last < s.wide ? last : s.wide);
    }
    return CRANK_OK;
}

bool FINDER(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    skinny s = {0};
    (void)threads;
    if (strcmp(operation, "matmul") != 0 || !describe(call, &s)) return false;
    *body = (crank_body){.name = LEVEL_NAME, .run = run, .workspace = (size_t)(s.padded * s.padded_k) * sizeof(float)};
    return true;
}
