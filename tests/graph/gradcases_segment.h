/* gradcases_segment.h - gradient cases of pooled segments: mean, first, last; an empty segment and rows outside of all.
 */
#ifndef CRANK_TESTS_GRADCASES_SEGMENT_H
#define CRANK_TESTS_GRADCASES_SEGMENT_H

#include "graph/gradcheck.h"

static crank_tensor *segment_pool_case(gradcheck *check)
{
    static const int32_t bounds[] = {1, 4, 4, 5, 8};
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(9, 5)),
                 *segments = gradcheck_given(check, CRANK_I32, bounds, DIMS(5));
    if (check->kind >= 3) x = crank_slice(x, 1, 1, 3);
    return crank_unary(CRANK_EXP, crank_segment_pool(x, segments, (crank_segment_kind)(check->kind % 3)));
}

/* The gradient of a gradient: pooling it is the reverse of spreading it. */
static crank_tensor *segment_pool_twice_case(gradcheck *check)
{
    static const int32_t bounds[] = {0, 3, 3, 7};
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(7, 2)),
                 *segments = gradcheck_given(check, CRANK_I32, bounds, DIMS(4));
    crank_tensor *rows = crank_segment_pool(x, segments, (crank_segment_kind)check->kind),
                 *y = crank_sum(crank_mul(rows, rows));
    crank_tensor *dx = NULL;
    if (crank_gradients(check->graph, &y, (crank_tensor *[]){NULL}, 1, &x, 1, &dx) != CRANK_OK || !dx) return y;
    return crank_unary(CRANK_SIN, dx);
}
#endif
