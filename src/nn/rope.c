/* rope.c - tables of rotary position embeddings (Su et al. 2021, arXiv:2104.09864).
 *
 * Pair i of a head's d rotated dims turns by the angle p w_i at position p, with w_i = theta^(-2i/d), and
 *
 *     linear   w_i / factor
 *     llama3   wavelength l = 2 pi / w_i, context c of pretraining (Llama 3.1):
 *              l < c/high: w_i;   l > c/low: w_i / factor;   between: (1-t) w_i/factor + t w_i, t = (c/l - low) / (high
 * - low)
 *
 * Frequencies and angles are computed in f32 in transformers' order: at large positions the rounding of w_i decides the
 * angle, and checkpoints were trained with that one. */
#include <math.h>

#include "nn/nn.h"

static float frequency(const nn_rope *rope, int64_t i)
{
    float w = 1.0f / (float)pow(rope->theta, (float)(2 * i) / (float)rope->dims);
    float factor = (float)rope->factor, original = (float)rope->original, low = (float)rope->low,
          high = (float)rope->high;
    if (rope->kind == NN_ROPE_LINEAR) return w / factor;
    if (rope->kind != NN_ROPE_LLAMA3) return w;
    float length = 6.28318530717958647692f / w;
    if (length > original / low) return w / factor;
    if (length < original / high) return w;
    float t = (original / length - low) / (high - low);
    return (1 - t) * w / factor + t * w;
}

void nn_rope_fill(const nn_rope *rope, int64_t rows, float *table)
{
    int64_t half = rope->dims / 2;
    for (int64_t i = 0; i < half; i++) {
        float w = frequency(rope, i);
        for (int64_t p = 0; p < rows; p++) {
            double angle = (float)p * w;
            table[p * rope->dims + i] = (float)cos(angle);
            table[p * rope->dims + half + i] = (float)sin(angle);
        }
    }
}
