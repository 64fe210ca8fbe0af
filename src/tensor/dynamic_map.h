/* dynamic_map.h - the code map of block-wise 8-bit optimiser states (Dettmers et al. 2021, arXiv:2110.02861).
 *
 * 256 ascending values in [-1, 1] (signed) or [0, 1]. In decade i = 0..6 stand q means of neighbours on an even grid of
 * q + 1 points from 0.1 to 1, scaled by 10^(i-6): q = 2^i and their negatives when signed, q = 2^(i+1) otherwise; and 0
 * and 1. A block of 256 states is stored as codes of state / amax. */
#ifndef CRANK_TENSOR_DYNAMIC_MAP_H
#define CRANK_TENSOR_DYNAMIC_MAP_H

#include <stdbool.h>
#include <stdint.h>

enum { DYNAMIC_BLOCK = 256 };

void dynamic_map(bool is_signed, float map[256]);

/* The code whose value is nearest to x (the lower one of a tie); NaN gives the code of 0. */
uint8_t dynamic_nearest(const float map[256], float x);

/* For a first moment the sign must survive: the nearest code, moved by one where its sign differs from x's (the sign
 * bits as such: a negative x never becomes 0, a positive one may). */
uint8_t dynamic_nearest_signed(const float map[256], float x);

#endif
