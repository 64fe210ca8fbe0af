/* gradcases_elementwise.h - gradient cases of elementwise operations, reductions and softmax. */
#ifndef CRANK_TESTS_GRADCASES_ELEMENTWISE_H
#define CRANK_TESTS_GRADCASES_ELEMENTWISE_H

#include "graph/gradcheck.h"

/* The ways in which two operands go together: same dims, broadcast on either or both sides, scalars, strided views. */
enum { OPERAND_PAIRS = 7 };

static void operand_pair(gradcheck *check, int way, double low, double high, crank_tensor **a, crank_tensor **b)
{
    static const struct {
        int ranks[2];
        int64_t dims[2][3];
    } pairs[] = {
        {{2, 2}, {{3, 5}, {3, 5}}}, {{3, 1}, {{2, 3, 5}, {5}}}, {{1, 2}, {{4}, {3, 1}}},       {{0, 2}, {{0}, {3, 2}}},
        {{2, 0}, {{3, 2}, {0}}},    {{2, 2}, {{5, 3}, {5, 4}}}, {{3, 2}, {{2, 1, 3}, {4, 1}}},
    };
    *a = gradcheck_param(check, low, high, pairs[way].ranks[0], pairs[way].dims[0]);
    *b = gradcheck_param(check, low, high, pairs[way].ranks[1], pairs[way].dims[1]);
    if (way == 5) { /* a transposed and a sliced operand */
        *a = crank_transpose(*a, 0, 1);
        *b = crank_transpose(crank_slice(*b, 1, 1, 3), 0, 1);
    }
}

/* kind: operand pair + OPERAND_PAIRS * binary kind */
static crank_tensor *binary_case(gradcheck *check)
{
    crank_tensor *a, *b;
    operand_pair(check, check->kind % OPERAND_PAIRS, 0.5, 2, &a, &b);
    return crank_binary((crank_binary_kind)(check->kind / OPERAND_PAIRS), a, b);
}

static crank_tensor *square_case(gradcheck *check) /* one tensor as both operands */
{
    crank_tensor *x = gradcheck_param(check, 0.5, 2, DIMS(3, 4));
    return crank_binary((crank_binary_kind)check->kind, x, x);
}

static crank_tensor *zero_power_case(gradcheck *check) /* x^3 and x^2 of both signs */
{
    crank_tensor *x = gradcheck_param(check, -1e-3, 1e-3, DIMS(4));
    return crank_binary(CRANK_POW, x, crank_constant(check->graph, check->kind ? 2 : 3));
}

/* Steps are flat: what is multiplied by one has the gradient of the other factor alone. */
static crank_tensor *step_case(gradcheck *check)
{
    crank_tensor *a = gradcheck_param(check, -1, 1, DIMS(3, 4)), *b = gradcheck_param(check, -1, 1, DIMS(4));
    crank_tensor *step =
        check->kind < 3 ? crank_binary((crank_binary_kind)(CRANK_GT + check->kind), a, b) : crank_unary(CRANK_SIGN, a);
    assert_false(step->needs_gradient);
    return crank_mul(step, crank_add(a, b));
}

static crank_tensor *where_case(gradcheck *check)
{
    crank_tensor *a, *b;
    operand_pair(check, check->kind, -1, 1, &a, &b);
    crank_tensor *condition = crank_binary(CRANK_GT, a, b);
    return crank_where(condition, crank_unary(CRANK_EXP, a), crank_unary(CRANK_SIN, b));
}

static crank_tensor *affine_case(gradcheck *check)
{
    crank_tensor *x = crank_unary(CRANK_EXP, gradcheck_param(check, -1, 1, DIMS(3, 4)));
    return crank_affine(check->kind ? crank_transpose(x, 0, 1) : x, -1.75, 0.5);
}

/* kind: 2 * unary kind + (strided operand) */
static crank_tensor *unary_case(gradcheck *check)
{
    crank_unary_kind kind = (crank_unary_kind)(check->kind / 2);
    bool positive = kind == CRANK_LOG || kind == CRANK_SQRT || kind == CRANK_RSQRT || kind == CRANK_RECIPROCAL;
    crank_tensor *x = gradcheck_param(check, positive ? 0.3 : -3, 3, DIMS(5, 7));
    if (kind == CRANK_SIGN) return crank_mul(x, crank_unary(CRANK_SIGN, x));
    return crank_unary(kind, check->kind % 2 ? crank_transpose(crank_slice(x, 1, 2, 4), 0, 1) : x);
}

/* kind: 8 * reduce kind + axes of a [3, 4, 5]; all 8 sets of axes */
static crank_tensor *reduce_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(3, 4, 5));
    return crank_reduce((crank_reduce_kind)(check->kind / 8), crank_unary(CRANK_EXP, x), (unsigned)check->kind % 8,
                        check->kind % 2);
}

static crank_tensor *reduce_view_case(gradcheck *check)
{
    crank_tensor *x = crank_transpose(crank_slice(gradcheck_param(check, -1, 1, DIMS(4, 5, 3)), 1, 1, 3), 0, 2);
    crank_tensor *row = crank_broadcast(gradcheck_param(check, -1, 1, DIMS(4)), DIMS(3, 4));
    return crank_add(crank_reduce((crank_reduce_kind)check->kind, x, 2, false), row);
}

static crank_tensor *softmax_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -3, 3, DIMS(2, 3, 5));
    if (check->kind & 2) x = crank_transpose(x, 1, 2);
    if (check->kind & 4) x = crank_reshape(crank_contiguous(x), DIMS(30));
    return crank_softmax(x, check->kind & 1);
}
#endif
