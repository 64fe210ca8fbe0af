/* head_simd.h - one row of logits: maximum, sum of exponentials, and the row's gradient in place. */
#include "device/cpu/fast.h"
#include "device/cpu/head.h"

ALWAYS_INLINE float highest(const float *z, int64_t n)
{
    vec     m0 = vec_set(-INFINITY), m1 = m0, m2 = m0, m3 = m0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        m0 = vec_max(m0, vec_read(z, CRANK_F32, i));
        m1 = vec_max(m1, vec_read(z, CRANK_F32, i + LANES));
        m2 = vec_max(m2, vec_read(z, CRANK_F32, i + 2 * LANES));
        m3 = vec_max(m3, vec_read(z, CRANK_F32, i + 3 * LANES));
    }
    for (; i + LANES <= n; i += LANES) m0 = vec_max(m0, vec_read(z, CRANK_F32, i));
    if (i < n) m1 = vec_max(m1, vec_keep(vec_read_part(z, CRANK_F32, i, (int)(n - i)), (int)(n - i), m1));
    return vec_highest(vec_max(vec_max(m0, m1), vec_max(m2, m3)));
}

typedef struct exp_row {
    float *z;
    vec    max;
    bool   keep; /* e^(z - max) goes into z */
} exp_row;

ALWAYS_INLINE vec exp_of(const void *data, int64_t i, int count)
{
    const exp_row *r = data;
    vec            e = vec_exp(vec_sub(vec_get(r->z, CRANK_F32, i, count), r->max));
    if (r->keep) vec_set_at(r->z, CRANK_F32, i, e, count);
    return count == LANES ? e : vec_keep(e, count, vec_zero());
}

static void one_row(float *z, int64_t vocab, int64_t target, float factor, void *to, bool bf16, float *logp, float *lse)
{
    float   max = highest(z, vocab), at_target = target >= 0 ? z[target] : 0;
    exp_row r = {z, vec_set(max), to != NULL};
    float   sum = row_sum(exp_of, &r, vocab);
    *lse = max + logf(sum);
    *logp = target >= 0 ? at_target - *lse : 0;
    if (!to) return;
    float   scale = target >= 0 ? factor / sum : 0, hit = target >= 0 ? z[target] * scale - factor : 0;
    int64_t i = 0;
    if (bf16) { /* writes stay behind reads: an element takes half of the room that it had */
        for (; i + LANES <= vocab; i += LANES) vec_write(to, CRANK_BF16, i, vec_mul(vec_read(z, CRANK_F32, i), vec_set(scale)));
        if (i < vocab) vec_write_part(to, CRANK_BF16, i, vec_mul(vec_read_part(z, CRANK_F32, i, (int)(vocab - i)), vec_set(scale)), (int)(vocab - i));
        if (target >= 0) ((uint16_t *)to)[target] = crank_to_bf16(hit);
        return;
    }
    for (; i + LANES <= vocab; i += LANES) vec_write(to, CRANK_F32, i, vec_mul(vec_read(z, CRANK_F32, i), vec_set(scale)));
    if (i < vocab) vec_write_part(to, CRANK_F32, i, vec_mul(vec_read_part(z, CRANK_F32, i, (int)(vocab - i)), vec_set(scale)), (int)(vocab - i));
    if (target >= 0) ((float *)to)[target] = hit;
}

static crank_status run_head(crank_context *context, const crank_call *call) { return head_run(context, call, one_row); }

bool FINDER(head)(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    return head_find(operation, call, threads, run_head, LEVEL_NAME, body);
}
