/* adam8bit_simd.h - vectorised block-wise 8-bit Adam, one pass: decode, update, largest magnitude, encode.
 *
 * The code map (tensor/dynamic_map.h) needs no table. With h = |code - 127| (signed) or code + 1 (unsigned), h = 2^e f,
 * 1 <= f < 2, the decade is i = e or e - 1, and
 *
 *     value = T[i] (0.9 f - 0.8) + U[i]          T = 10^(i-6), U = T 0.45 / means of the decade
 *
 * The other way, the number of thresholds (midpoints between decades) that x has reached names the decade, and the
 * place within it is a rounded linear function of x. A tie, or a rounding error next to one, may take the other
 * neighbour. */
#include "device/cpu/rounding_simd.h"
#include "tensor/dynamic_map.h"

/* Tables of eight, by decade: 0..6, and 7 for the value 1. */
typedef struct code_tables {
    bool  is_signed;
    float value_scale[8], value_shift[8]; /* T, U */
    float place_scale[8], place_shift[8]; /* place in the decade of x */
    float means[8];                       /* values of the decade */
    float threshold[8];                   /* the least x that is nearest to a value of the decade or above */
} code_tables;

static void make_tables(code_tables *t, bool is_signed)
{
    double below = 0; /* the last value of the decade before */
    t->is_signed = is_signed;
    for (int i = 0; i < 7; i++) {
        double means = is_signed ? 1 << i : 2 << i, power = pow(10, i - 6), first = power * (0.1 + 0.45 / means);
        t->value_scale[i] = (float)power;
        t->value_shift[i] = (float)(power * 0.45 / means);
        t->place_scale[i] = (float)(means / (0.9 * power));
        t->place_shift[i] = (float)(-means / 9 - 0.5);
        t->means[i] = (float)means;
        t->threshold[i] = (float)((below + first) / 2);
        below = power * (1 - 0.45 / means);
    }
    t->value_scale[7] = t->place_scale[7] = t->place_shift[7] = 0;
    t->value_shift[7] = 1;
    t->means[7] = is_signed ? 128 : 256;
    t->threshold[7] = (float)((below + 1) / 2);
}

#if defined(__AVX512F__)
ALWAYS_INLINE vec lookup(const float *table, vec_bits i)
{
    return _mm512_permutexvar_ps(i, _mm512_castps256_ps512(_mm256_loadu_ps(table)));
}
ALWAYS_INLINE vec_bits codes_load(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
ALWAYS_INLINE void     codes_store(uint8_t *p, vec_bits x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }
ALWAYS_INLINE vec_bits bits_from_float(vec x) { return _mm512_cvtps_epi32(x); }
/* count + 1 where a >= least */
ALWAYS_INLINE vec_bits count_reached(vec_bits count, vec a, float least)
{
    __mmask16 reached = _mm512_cmp_ps_mask(a, _mm512_set1_ps(least), _CMP_GE_OQ);
    return _mm512_mask_add_epi32(count, reached, count, _mm512_set1_epi32(1));
}
ALWAYS_INLINE vec_bits bits_max(vec_bits a, vec_bits b) { return _mm512_max_epi32(a, b); }
#else
ALWAYS_INLINE vec lookup(const float *table, vec_bits i) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i); }
ALWAYS_INLINE vec_bits codes_load(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
ALWAYS_INLINE void codes_store(uint8_t *p, vec_bits x)
{
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
ALWAYS_INLINE vec_bits bits_from_float(vec x) { return _mm256_cvtps_epi32(x); }
ALWAYS_INLINE vec_bits count_reached(vec_bits count, vec a, float least) /* a true comparison is -1 */
{
    return _mm256_sub_epi32(count, _mm256_castps_si256(_mm256_cmp_ps(a, _mm256_set1_ps(least), _CMP_GE_OQ)));
}
ALWAYS_INLINE vec_bits bits_max(vec_bits a, vec_bits b) { return _mm256_max_epi32(a, b); }
#endif

/* Codes -> values in [-1, 1] */
ALWAYS_INLINE vec decode(const code_tables *t, bool is_signed, vec_bits codes)
{
    vec      h = bits_to_float(is_signed ? bits_sub(codes, bits_set(127)) : bits_add(codes, bits_set(1)));
    vec      magnitude = vec_abs(h);
    vec_bits pattern = vec_as_bits(magnitude);
    vec_bits decade = bits_sub(bits_shift_right(pattern, 23), bits_set(is_signed ? 127 : 128));
    vec      f = vec_from_bits(bits_or(bits_and(pattern, bits_set(0x7fffff)), bits_set(0x3f800000)));
    vec      place = vec_fma(f, vec_set(0.9f), vec_set(-0.8f));
    vec      value = vec_fma(lookup(t->value_scale, decade), place, lookup(t->value_shift, decade));
    value = vec_select(vec_less(magnitude, vec_set(is_signed ? 1.0f : 2.0f)), vec_zero(), value); /* the code of 0 */
    return is_signed ? vec_with_sign_of(value, h) : value;
}

/* x in [-1, 1] -> codes; a negative x never becomes 0 */
ALWAYS_INLINE vec_bits encode(const code_tables *t, bool is_signed, vec x)
{
    vec      a = is_signed ? vec_abs(x) : x, one = vec_set(1.0f);
    vec_bits reached = bits_set(-1);
    for (int i = 0; i < 8; i++) reached = count_reached(reached, a, t->threshold[i]);
    vec_bits decade = bits_max(reached, bits_set(0));
    vec      means = lookup(t->means, decade);
    vec      place = vec_round(vec_fma(a, lookup(t->place_scale, decade), lookup(t->place_shift, decade)));
    place = vec_max(vec_min(place, vec_sub(means, one)), vec_zero());
    vec h = vec_select(vec_less(a, vec_set(t->threshold[0])), is_signed ? vec_zero() : one, vec_add(means, place));
    if (!is_signed) return bits_from_float(vec_sub(h, one));
    vec negative = vec_min(vec_max(h, one), vec_set(127.0f)); /* -1 has no code */
    return bits_from_float(vec_add(vec_set(127.0f), vec_select(vec_less(x, vec_zero()), vec_neg(negative), h)));
}

typedef struct adam8_job {
    update_step step;
    code_tables m, v;
    void       *w;
    const void *g;
    uint8_t    *codes_m, *codes_v;
    float      *amax_m, *amax_v;
    int64_t     n, amax_m_stride, amax_v_stride;
    crank_dtype w_type, g_type;
    float       clip, decay, keep, beta1, beta2, rest1, rest2, scale1, scale2, epsilon;
    bool        l2;
} adam8_job;

/* What one block holds between its two passes. */
typedef struct adam8_block {
    float    m[DYNAMIC_BLOCK], v[DYNAMIC_BLOCK];
    uint8_t  codes_m[DYNAMIC_BLOCK], codes_v[DYNAMIC_BLOCK];
    rounding draws;
    float    amax_m, amax_v; /* of the old codes */
    vec      most_m, most_v;
} adam8_block;

/* Elements i.. of the block that starts at `first`: new m and v into the block, new w in place. */
ALWAYS_INLINE void adam8_elements(crank_dtype w_type, crank_dtype g_type, const adam8_job *job, adam8_block *b,
                                  int64_t first, int64_t i, int64_t drawn, int count)
{
    vec      w = vec_get(job->w, w_type, first + i, count);
    vec      g = vec_mul(vec_get(job->g, g_type, first + i, count), vec_set(job->clip));
    vec_mask finite = vec_less(vec_abs(g), vec_set(INFINITY));
    vec      old = w;
    if (job->l2) g = vec_fma(w, vec_set(job->decay), g);
    vec m = vec_mul(decode(&job->m, true, codes_load(b->codes_m + i)), vec_set(b->amax_m));
    vec v = vec_mul(decode(&job->v, false, codes_load(b->codes_v + i)), vec_set(b->amax_v));
    m = vec_select(finite, vec_fma(m, vec_set(job->beta1), vec_mul(g, vec_set(job->rest1))), vec_zero());
    v = vec_select(finite, vec_fma(v, vec_set(job->beta2), vec_mul(vec_mul(g, g), vec_set(job->rest2))), vec_zero());
    if (count != LANES) { /* what stands behind the tensor's end is no part of the block */
        m = vec_keep(m, count, vec_zero());
        v = vec_keep(v, count, vec_zero());
    }
    vec_store(b->m + i, m);
    vec_store(b->v + i, v);
    b->most_m = vec_max(b->most_m, vec_abs(m));
    b->most_v = vec_max(b->most_v, v);
    vec denominator = vec_fma(vec_sqrt(v), vec_set(job->scale2), vec_set(job->epsilon));
    w = vec_sub(w, vec_div(vec_mul(m, vec_set(job->scale1)), denominator));
    if (!job->l2) w = vec_mul(w, vec_set(job->keep));
    if (w_type == CRANK_BF16) w = rounded(&b->draws, i - drawn, w);
    vec_set_at(job->w, w_type, first + i, vec_select(finite, w, old), count);
}

/* x / amax as two products: the inverse of a very small number would overflow. */
typedef struct inverse {
    vec first, second;
} inverse;
ALWAYS_INLINE inverse inverse_of(float amax)
{
    float scale = amax < 1e-18f ? 0x1p100f : 1.0f;
    return (inverse){vec_set(scale), vec_set(amax > 0 ? 1 / (amax * scale) : 0)};
}

ALWAYS_INLINE void adam8_one(crank_dtype w_type, crank_dtype g_type, const adam8_job *job, adam8_block *b,
                             int64_t block)
{
    int64_t first = block * DYNAMIC_BLOCK, n = job->n - first < DYNAMIC_BLOCK ? job->n - first : DYNAMIC_BLOCK;
    float  *amax_m = job->amax_m + block * job->amax_m_stride, *amax_v = job->amax_v + block * job->amax_v_stride;
    memcpy(b->codes_m, job->codes_m + first, (size_t)n);
    memcpy(b->codes_v, job->codes_v + first, (size_t)n);
    b->amax_m = *amax_m, b->amax_v = *amax_v;
    b->most_m = b->most_v = vec_zero();
    for (int64_t start = 0; start < n;) {
        int64_t i = start,
                end =
                    start + (w_type == CRANK_BF16 ? rounding_make(&b->draws, &job->step, first + start, n - start) : n);
        for (; i + LANES <= end; i += LANES) adam8_elements(w_type, g_type, job, b, first, i, start, LANES);
        if (i < end) adam8_elements(w_type, g_type, job, b, first, i, start, (int)(end - i));
        start = end;
    }
    *amax_m = vec_highest(b->most_m), *amax_v = vec_highest(b->most_v);
    inverse m = inverse_of(*amax_m), v = inverse_of(*amax_v);
    for (int64_t i = 0; i < n; i += LANES) {
        codes_store(b->codes_m + i, encode(&job->m, true, vec_mul(vec_mul(vec_load(b->m + i), m.first), m.second)));
        codes_store(b->codes_v + i, encode(&job->v, false, vec_mul(vec_mul(vec_load(b->v + i), v.first), v.second)));
    }
    memcpy(job->codes_m + first, b->codes_m, (size_t)n);
    memcpy(job->codes_v + first, b->codes_v, (size_t)n);
}

static void adam8_kernel(const void *data, int64_t first, int64_t last, int worker)
{
    const adam8_job *job = data;
    adam8_block      b;
    (void)worker;
    memset(&b, 0, sizeof b);
    for (int64_t block = first; block < last; block++) {
        if (job->w_type == CRANK_F32) adam8_one(CRANK_F32, CRANK_F32, job, &b, block);
        else if (job->g_type == CRANK_F32) adam8_one(CRANK_BF16, CRANK_F32, job, &b, block);
        else adam8_one(CRANK_BF16, CRANK_BF16, job, &b, block);
    }
}

static bool adam8_serves(const crank_call *call)
{
    return fast_type(call->in[0].dtype) && fast_type(call->in[1].dtype);
}

static crank_status adam8_run(crank_context *context, const crank_call *call)
{
    const crank_adam_attributes *a = call->attributes;
    const crank_view            *in = call->in;
    adam8_job                    job = {
                           .step = update_step_of(&in[6], a->rate_factor, a->seed, a->index),
                           .w = in[0].data,
                           .g = in[1].data,
                           .codes_m = in[2].data,
                           .codes_v = in[3].data,
                           .amax_m = in[4].data,
                           .amax_v = in[5].data,
                           .amax_m_stride = in[4].strides[0],
                           .amax_v_stride = in[5].strides[0],
                           .n = crank_view_count(&in[0]),
                           .w_type = in[0].dtype,
                           .g_type = in[1].dtype,
                           .decay = (float)a->decay,
                           .beta1 = (float)a->beta1,
                           .beta2 = (float)a->beta2,
                           .rest1 = (float)(1 - a->beta1),
                           .rest2 = (float)(1 - a->beta2),
                           .epsilon = (float)a->epsilon,
                           .l2 = a->l2,
    };
    (void)context;
    if (job.step.skip) return CRANK_OK;
    job.clip = (float)job.step.clip;
    job.keep = (float)(1 - job.step.rate * a->decay);
    job.scale1 = (float)(job.step.rate / (1 - pow(a->beta1, job.step.count)));
    job.scale2 = (float)(1 / sqrt(1 - pow(a->beta2, job.step.count)));
    make_tables(&job.m, true);
    make_tables(&job.v, false);
    rows_run((job.n + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK, DYNAMIC_BLOCK, 1, cpu_threads(call), adam8_kernel, &job);
    return CRANK_OK;
}

bool FINDER(adam8bit)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    static const fast_entry entries[] = {{"adamw8bit", adam8_run, adam8_serves, NULL}};
    return fast_find(LEVEL_NAME, entries, 1, operation, call, threads, body);
}
