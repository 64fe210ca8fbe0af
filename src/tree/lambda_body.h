/* lambda_body.h - the pairs of one query, sixteen partners at a time, compiled for several instruction sets. Partial sums stand in
 * sixteen lanes whatever the instruction set, so that all give the same bits. */
#include "tree/lambda.h"

enum { LANES = 16 };

/* e^x for |x| <= 87: 2^k e^r, |r| <= ln 2 / 2, a polynomial of degree 6; relative error 2e-7 */
static inline __attribute__((always_inline)) float fast_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 87.0f ? 87.0f : x;
    float   shifted = x * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f;
    float   r = x - k * 0.693359375f + k * 2.12194440e-4f, value;
    int32_t bits;
    float   e = 1.0f + r * (1.0f + r * (0.5f + r * (0.16666667f + r * (0.041666669f + r * (0.0083334519f + r * 0.0013930436f)))));
    memcpy(&bits, &e, sizeof bits);
    bits += (int32_t)k * (1 << 23);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline __attribute__((always_inline)) double lambda_pairs_body(const lambda_query *q)
{
    int    most = q->truncation < q->n - 1 ? q->truncation : q->n - 1;
    double total = 0;
    for (int i = 0; i < most; i++) {
        const float si = q->score[i], gi = q->gain[i], di = q->discount[i], a = q->slope, w = q->inverse_best, soft = q->divide ? 1.0f : 0.0f;
        const float at = (float)i;
        float g[LANES] = {0}, h[LANES] = {0}, s[LANES] = {0};
        for (int j = (i + 1) / LANES * LANES; j < q->n; j += LANES)
            for (int k = 0; k < LANES; k++) {
                float sign = gi > q->gain[j + k] ? 1.0f : -1.0f, ds = sign * (si - q->score[j + k]);
                float d = fabsf(gi - q->gain[j + k]) * fabsf(di - q->discount[j + k]) * w;
                d = q->place[j + k] > at ? d : 0.0f;
                d = d / (soft * (0.01f + fabsf(ds)) + (1.0f - soft));
                float p = 1.0f / (1.0f + fast_exp(a * ds)), lambda = a * d * p, hessian = a * lambda * (1.0f - p);
                q->g[j + k] += sign * lambda;
                q->h[j + k] += hessian;
                g[k] -= sign * lambda;
                h[k] += hessian;
                s[k] += lambda;
            }
        double sum_g = 0, sum_h = 0, sum_s = 0;
        for (int k = 0; k < LANES; k++) sum_g += (double)g[k], sum_h += (double)h[k], sum_s += (double)s[k];
        q->g[i] += (float)sum_g;
        q->h[i] += (float)sum_h;
        total += 2 * sum_s;
    }
    return total;
}
