/* update_step.h - what every update reads of the step scalars, and the stream that rounds bf16 parameters. */
#ifndef CRANK_DEVICE_CPU_UPDATE_STEP_H
#define CRANK_DEVICE_CPU_UPDATE_STEP_H

#include "crank/operations.h"

typedef struct update_step {
    double       rate, count, clip; /* rate times the group's factor; 1-based step; factor of the gradient */
    bool         skip;
    crank_stream rounding;
    uint64_t     first_draw; /* element i of the parameter uses draw first_draw + i */
} update_step;

/* scalars f32 [CRANK_SCALARS] */
static inline update_step update_step_of(const crank_view *scalars, double rate_factor, uint64_t seed, uint32_t index)
{
    const float *s = scalars->data;
    return (update_step){
        .rate = (double)s[CRANK_SCALAR_RATE] * rate_factor,
        .count = (double)s[CRANK_SCALAR_STEP],
        .clip = (double)s[CRANK_SCALAR_CLIP],
        .skip = s[CRANK_SCALAR_SKIP] != 0,
        .rounding = crank_stream_make(seed, CRANK_RANDOM_ROUNDING, index),
        .first_draw = (uint64_t)s[CRANK_SCALAR_STEP] << 34,
    };
}
#endif
