/* dequantize_simd.h - weights of four and eight bits become f32, bf16 or f16: the same roundings as the plain body, so the same bits.
 *
 * nf4: eight codes are shifted out of one word and looked up in registers. f8e4m3: exponent and fraction are moved to their places in an
 * f32, whose exponent is then 120 too low. */
#include <omp.h>

#include "device/cpu/fast.h"
#include "tensor/fp8.h"
#include "tensor/nf4.h"

#if defined(__AVX512F__)
ALWAYS_INLINE vec levels_at(const uint8_t *codes)
{
    uint64_t bits;
    memcpy(&bits, codes, sizeof bits);
    __m512i shifts = _mm512_setr_epi64(0x0000000000000004, 0x000000080000000c, 0x0000001000000014, 0x000000180000001c, 0x0000000000000004,
                                       0x000000080000000c, 0x0000001000000014, 0x000000180000001c);
    __m512i words = _mm512_inserti64x4(_mm512_set1_epi32((int)(uint32_t)bits), _mm256_set1_epi32((int)(uint32_t)(bits >> 32)), 1);
    __m512i at = _mm512_and_si512(_mm512_srlv_epi32(words, shifts), _mm512_set1_epi32(15));
    return _mm512_permutexvar_ps(at, _mm512_loadu_ps(nf4_levels));
}
ALWAYS_INLINE vec eights_at(const uint8_t *codes)
{
    __m512i   bits = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes)), size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7f));
    __mmask16 nan = _mm512_cmpeq_epi32_mask(size, _mm512_set1_epi32(0x7f));
    __m512i   sign = _mm512_slli_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x80)), 24);
    __m512    value = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_or_si512(sign, _mm512_slli_epi32(size, 20))), _mm512_set1_ps(0x1p120f));
    return _mm512_mask_mov_ps(value, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}
#else
ALWAYS_INLINE vec levels_at(const uint8_t *codes)
{
    uint32_t bits;
    memcpy(&bits, codes, sizeof bits);
    __m256i at = _mm256_srlv_epi32(_mm256_set1_epi32((int)bits), _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24));
    __m256  low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(nf4_levels), at), high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(nf4_levels + 8), at);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
ALWAYS_INLINE vec eights_at(const uint8_t *codes)
{
    __m256i bits = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)codes)), size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f));
    __m256  nan = _mm256_castsi256_ps(_mm256_cmpeq_epi32(size, _mm256_set1_epi32(0x7f)));
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x80)), 24);
    __m256  value = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_or_si256(sign, _mm256_slli_epi32(size, 20))), _mm256_set1_ps(0x1p120f));
    return _mm256_blendv_ps(value, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), nan);
}
#endif

/* y[i] = f(codes)[i] scale for n elements of one scale; the rest of less than LANES through a buffer of zeros behind. */
ALWAYS_INLINE void spread(bool four, const uint8_t *codes, float scale, int64_t n, void *y, crank_dtype type, int64_t at)
{
    int64_t i = 0;
    vec     s = vec_set(scale);
    for (; i + LANES <= n; i += LANES) vec_write(y, type, at + i, vec_mul(four ? levels_at(codes + i / 2) : eights_at(codes + i), s));
    if (i == n) return;
    uint8_t rest[LANES] = {0};
    int64_t bytes = four ? (n - i + 1) / 2 : n - i;
    memcpy(rest, codes + (four ? i / 2 : i), (size_t)bytes);
    vec_write_part(y, type, at + i, vec_mul(four ? levels_at(rest) : eights_at(rest), s), (int)(n - i));
}

ALWAYS_INLINE void nf4_row(const uint8_t *codes, const nf4_scales *scales, int64_t block, int64_t first, int64_t n, void *y, crank_dtype type)
{
    for (int64_t i = 0; i < n;) {
        int64_t at = first + i, piece = block - at % block;
        float   one, scale = nf4_scale(scales, at / block);
        if (piece > n - i) piece = n - i;
        if (at % 2) { /* inside of a byte: the element alone */
            piece = 1;
            one = nf4_levels[codes[at / 2] & 15] * scale;
            vec_write_part(y, type, i, vec_set(one), 1);
        } else
            spread(true, codes + at / 2, scale, piece, y, type, i);
        i += piece;
    }
}

ALWAYS_INLINE void one_row(const crank_call *call, const nf4_scales *scales, int64_t r, crank_dtype type)
{
    const crank_view *w = &call->in[0], *y = &call->out[0];
    int64_t           k = w->dims[1];
    char             *row = (char *)y->data + (size_t)(r * y->strides[0]) * (crank_dtype_bits(type) / 8);
    if (w->dtype == CRANK_F8E4M3) spread(false, (const uint8_t *)w->data + r * k, ((const float *)call->in[1].data)[r], k, row, type, 0);
    else nf4_row(w->data, scales, ((const crank_dequantize_attributes *)call->attributes)->block, r * k, k, row, type);
}

static crank_status dequantize_run(crank_context *context, const crank_call *call)
{
    const crank_view *y = &call->out[0];
    bool              coded = view_present(&call->in[2]);
    nf4_scales        scales = {.plain = coded ? NULL : call->in[1].data, .codes = call->in[1].data};
    if (coded) scales.map = call->in[2].data, scales.second = call->in[3].data, scales.offset = *(const float *)call->in[4].data;
    (void)context;
#pragma omp parallel for schedule(static) num_threads(worth_threads(crank_view_count(y), cpu_threads(call)))
    for (int64_t r = 0; r < y->dims[0]; r++) {
        if (y->dtype == CRANK_F32) one_row(call, &scales, r, CRANK_F32);
        else if (y->dtype == CRANK_BF16) one_row(call, &scales, r, CRANK_BF16);
        else one_row(call, &scales, r, CRANK_F16);
    }
    return CRANK_OK;
}

static bool dequantize_serves(const crank_call *call) { return call->out[0].dtype != CRANK_F64; }

bool FINDER(dequantize)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {{"dequantize", dequantize_run, dequantize_serves, NULL}};
    return fast_find(LEVEL_NAME, entries, sizeof entries / sizeof *entries, operation, call, threads, body);
}
