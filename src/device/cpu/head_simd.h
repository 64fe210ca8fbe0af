/* head_simd.h - rows of logits and gradients of the vocabulary head: see head.h. Included with HEAD_LEVEL and
 * HEAD_FINDER. */
#include <math.h>

#include "device/cpu/head.h"
#include "device/cpu/simd.h"

/* z + bias -> z; the highest, in units of log2 */
ALWAYS_INLINE float bias_and_highest(float *z, const float *bias, int64_t n)
{
    vec high[4] = {vec_set(-INFINITY), vec_set(-INFINITY), vec_set(-INFINITY), vec_set(-INFINITY)};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vec x = vec_load(z + i + k * LANES);
            if (bias) vec_store(z + i + k * LANES, x = vec_add(x, vec_load(bias + i + k * LANES)));
            high[k] = vec_max(high[k], x);
        }
    for (; i < n; i += LANES) {
        int here = n - i < LANES ? (int)(n - i) : LANES;
        vec x = vec_load_part(z + i, here);
        if (bias) vec_store_part(z + i, x = vec_add(x, vec_load_part(bias + i, here)), here);
        high[0] = vec_max(high[0], vec_keep(x, here, vec_set(-INFINITY)));
    }
    return vec_highest(vec_max(vec_max(high[0], high[1]), vec_max(high[2], high[3]))) * 1.44269504f;
}

/* e = 2^(z log2(e) - m) -> to; their sum */
ALWAYS_INLINE float exponentials(const float *z, const float *bias, float m, void *to, crank_dtype type, int64_t n)
{
    vec sum[2] = {vec_zero(), vec_zero()}, unit = vec_set(1.44269504f), shift = vec_set(-m);
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        for (int k = 0; k < 2; k++) {
            int64_t at = i + k * LANES;
            vec x = vec_load(z + at);
            if (bias) x = vec_add(x, vec_load(bias + at));
            vec e = vec_exp2_softmax(vec_fma(x, unit, shift));
            if (to) vec_write(to, type, at, e);
            sum[k] = vec_add(sum[k], e);
        }
    for (; i < n; i += LANES) {
        int here = n - i < LANES ? (int)(n - i) : LANES;
        vec x = vec_load_part(z + i, here);
        if (bias) x = vec_add(x, vec_load_part(bias + i, here));
        vec e = vec_exp2_softmax(vec_fma(x, unit, shift));
        if (to) vec_write_part(to, type, i, e, here);
        sum[0] = vec_add(sum[0], vec_keep(e, here, vec_zero()));
    }
    return vec_sum(vec_add(sum[0], sum[1]));
}

static bool soften(const head_block *b)
{
    bool shrinks = false;
    for (int64_t i = 0; i < b->rows; i++) {
        float *z = b->z + i * b->stride;
        void *e = b->e ? (char *)b->e + i * b->stride * (b->e_type == CRANK_F32 ? 4 : 2) : NULL;
        if (b->fixed) {
            if (b->e_type == CRANK_F32)
                exponentials(z, b->bias, b->fixed[i], e, CRANK_F32, b->columns);
            else
                exponentials(z, b->bias, b->fixed[i], e, CRANK_BF16, b->columns);
            continue;
        }
        float high = bias_and_highest(z, b->bias, b->columns), old = b->max[i], sum;
        b->keep[i] = 1;
        if (high > old) {
            b->keep[i] = exp2f(old - high);
            b->max[i] = high;
            shrinks = true;
        }
        if (!e)
            sum = exponentials(z, NULL, b->max[i], NULL, CRANK_F32, b->columns);
        else if (b->e_type == CRANK_F32)
            sum = exponentials(z, NULL, b->max[i], e, CRANK_F32, b->columns);
        else
            sum = exponentials(z, NULL, b->max[i], e, CRANK_BF16, b->columns);
        b->sum[i] = b->sum[i] * b->keep[i] + sum;
    }
    return shrinks;
}

ALWAYS_INLINE void add_row_as(float *to, float keep, const void *from, crank_dtype type, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int here = n - i < LANES ? (int)(n - i) : LANES;
        vec x = vec_mul(here == LANES ? vec_read(from, type, i) : vec_read_part(from, type, i, here), vec_set(factor));
        if (keep != 0) x = vec_fma(vec_load_part(to + i, here), vec_set(keep), x);
        vec_store_part(to + i, x, here);
    }
}

static void add_row(float *to, float keep, const void *from, crank_dtype type, float factor, int64_t n)
{
    if (!from)
        add_row_as(to, 0, to, CRANK_F32, keep, n);
    else if (type == CRANK_F32)
        add_row_as(to, keep, from, CRANK_F32, factor, n);
    else if (type == CRANK_BF16)
        add_row_as(to, keep, from, CRANK_BF16, factor, n);
    else
        add_row_as(to, keep, from, CRANK_F16, factor, n);
}

ALWAYS_INLINE void scale_row_as(void *to, crank_dtype to_type, const void *from, crank_dtype type, float factor,
                                int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int here = n - i < LANES ? (int)(n - i) : LANES;
        vec x = here == LANES ? vec_read(from, type, i) : vec_read_part(from, type, i, here);
        x = vec_mul(x, vec_set(factor));
        if (here == LANES)
            vec_write(to, to_type, i, x);
        else
            vec_write_part(to, to_type, i, x, here);
    }
}

static void scale_row(void *to, crank_dtype to_type, const void *from, crank_dtype type, float factor, int64_t n)
{
    if (to_type == CRANK_F32 && type == CRANK_F32)
        scale_row_as(to, CRANK_F32, from, CRANK_F32, factor, n);
    else if (to_type == CRANK_F32 && type == CRANK_BF16)
        scale_row_as(to, CRANK_F32, from, CRANK_BF16, factor, n);
    else if (to_type == CRANK_F32)
        scale_row_as(to, CRANK_F32, from, CRANK_F16, factor, n);
    else if (to_type == CRANK_BF16 && type == CRANK_BF16)
        scale_row_as(to, CRANK_BF16, from, CRANK_BF16, factor, n);
    else if (to_type == CRANK_BF16)
        scale_row_as(to, CRANK_BF16, from, CRANK_F32, factor, n);
    else
        scale_row_as(to, CRANK_F16, from, CRANK_F32, factor, n);
}

static const head_kernels kernels = {HEAD_LEVEL, soften, add_row, scale_row};

static crank_status run_head(crank_context *context, const crank_call *call)
{
    return head_run(context, call, &kernels);
}

bool HEAD_FINDER(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    return head_find(operation, call, threads, &kernels, run_head, body);
}
