/* gradcases_shape.h - gradient cases of views and copies. A case records one function; its kind picks a variant. */
#ifndef CRANK_TESTS_GRADCASES_SHAPE_H
#define CRANK_TESTS_GRADCASES_SHAPE_H

#include "graph/gradcheck.h"

static crank_tensor *reshape_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(3, 10));
    switch (check->kind) {
    case 0:
        return crank_reshape(x, DIMS(5, -1, 2));
    case 1:
        return crank_unary(CRANK_EXP, crank_reshape(x, DIMS(30)));
    case 2:
        return crank_unary(CRANK_EXP, crank_reshape(crank_slice(x, 1, 2, 6), DIMS(3, 2, 3))); /* rows cut, strided */
    default:
        return crank_unary(CRANK_EXP, crank_reshape(crank_contiguous(crank_transpose(x, 0, 1)), DIMS(2, 15)));
    }
}

static crank_tensor *slice_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(4, 5, 3));
    switch (check->kind) {
    case 0:
        return crank_unary(CRANK_EXP, crank_slice(x, 0, 1, 2));
    case 1:
        return crank_unary(CRANK_EXP, crank_slice(x, 2, 2, 1));
    case 2:
        return crank_unary(CRANK_EXP, crank_slice(crank_slice(x, 1, 1, 3), 1, 1, 2)); /* a slice of a slice */
    case 3: /* slices that partition the axis */
        return crank_mul(crank_slice(x, 1, 0, 2), crank_mul(crank_slice(x, 1, 2, 1), crank_slice(x, 1, 3, 2)));
    case 4: /* slices that overlap */
        return crank_mul(crank_slice(x, 1, 0, 3), crank_slice(x, 1, 2, 3));
    default: /* a transposed gradient arrives */
        return crank_transpose(crank_mul(crank_slice(x, 2, 0, 2), crank_slice(x, 2, 1, 2)), 0, 2);
    }
}

static crank_tensor *transpose_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(2, 5, 3));
    switch (check->kind) {
    case 0:
        return crank_unary(CRANK_EXP, crank_transpose(x, 1, 2));
    case 1:
        return crank_unary(CRANK_SIN, crank_transpose(crank_slice(x, 1, 1, 3), 0, 2));
    case 2:
        return crank_mul(crank_transpose(crank_transpose(x, 0, 1), 1, 0), x);
    default:
        return crank_add(crank_transpose(x, 0, 1), gradcheck_param(check, -1, 1, DIMS(5, 2, 3)));
    }
}

static crank_tensor *broadcast_case(gradcheck *check)
{
    switch (check->kind) {
    case 0:
        return crank_broadcast(gradcheck_param(check, -1, 1, DIMS(3, 1)), DIMS(2, 3, 4));
    case 1:
        return crank_unary(CRANK_EXP, crank_broadcast(gradcheck_param(check, -1, 1, 0, NULL), DIMS(3, 2)));
    default:
        return crank_unary(CRANK_EXP, crank_broadcast(gradcheck_param(check, -1, 1, DIMS(4)), DIMS(3, 4)));
    }
}

static crank_tensor *copy_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(4, 3));
    return crank_unary(CRANK_EXP, crank_contiguous(check->kind ? crank_slice(x, 1, 1, 2) : crank_transpose(x, 0, 1)));
}

static crank_tensor *concat_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(3, 2)), *y = gradcheck_param(check, -1, 1, DIMS(3, 4));
    if (check->kind == 0) return crank_concat((crank_tensor *[]){crank_unary(CRANK_EXP, x), y, x}, 3, 1);
    if (check->kind == 1) /* the same operand twice, and a transposed one */
        return crank_concat((crank_tensor *[]){x, x, crank_transpose(gradcheck_param(check, -1, 1, DIMS(2, 5)), 0, 1),
                                               crank_slice(y, 1, 1, 2)},
                            4, 0);
    crank_tensor *many[40]; /* more than a node has operands */
    for (int i = 0; i < 40; i++) many[i] = crank_scale(i % 3 ? x : crank_slice(y, 1, i % 4, 1), i + 1);
    return crank_concat(many, 40, 1);
}

static crank_tensor *pad_case(gradcheck *check)
{
    crank_tensor *x = crank_unary(CRANK_EXP, gradcheck_param(check, -1, 1, DIMS(2, 3, 2)));
    pad_attributes pad = {{check->kind, check->kind}, 6};
    return op_one(&op_pad, &x, 1, &pad);
}

/* fill has no operand: its results are constants that other gradients fold. */
static crank_tensor *fill_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(3, 4));
    crank_tensor *half = crank_fill(check->graph, CRANK_F64, DIMS(1, 4), 0.5);
    switch (check->kind) {
    case 0:
        return crank_sum(crank_mul(x, half));
    case 1:
        return crank_mean(crank_mul(crank_unary(CRANK_EXP, x), crank_constant(check->graph, 3)));
    case 2:
        return crank_scale(crank_sum(crank_unary(CRANK_EXP, x)), 0.25);
    default:
        return crank_mul(half, crank_unary(CRANK_EXP, crank_slice(x, 0, 0, 1)));
    }
}
#endif
