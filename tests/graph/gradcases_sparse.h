/* gradcases_sparse.h - gradient cases of products with a sparse matrix: both sides, repeated places, places outside; and of the
 * gradient of a gradient, which is a sample of a product. */
#ifndef CRANK_TESTS_GRADCASES_SPARSE_H
#define CRANK_TESTS_GRADCASES_SPARSE_H

#include "graph/gradcheck.h"

static const int32_t sparse_places[] = {0, 3, 3, 7, 11, 14, 20, -1};

static crank_tensor *sparse_matmul_case(gradcheck *check)
{
    bool          transpose = check->kind % 2;
    int64_t       width = transpose ? 3 : 5; /* of a matrix [3, 5] */
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(6, width + (check->kind >= 2))), *v = gradcheck_param(check, -1, 1, DIMS(8));
    if (check->kind >= 2) x = crank_slice(x, 1, 1, width);
    return crank_unary(CRANK_EXP, crank_sparse_matmul(x, v, gradcheck_given(check, CRANK_I32, sparse_places, DIMS(8)), 3, 5, transpose));
}

static crank_tensor *sparse_sample_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(6, 5)), *v = gradcheck_param(check, -1, 1, DIMS(8));
    crank_tensor *y = crank_sparse_matmul(x, v, gradcheck_given(check, CRANK_I32, sparse_places, DIMS(8)), 3, 5, false);
    crank_tensor *sum = crank_sum(crank_mul(y, y)), *dv = NULL;
    if (crank_gradients(check->graph, &sum, (crank_tensor *[]){NULL}, 1, &v, 1, &dv) != CRANK_OK || !dv) return sum;
    return crank_unary(CRANK_SIN, dv);
}
#endif
