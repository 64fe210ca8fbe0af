/* gradcases_matmul.h - gradient cases of products and gathers. */
#ifndef CRANK_TESTS_GRADCASES_MATMUL_H
#define CRANK_TESTS_GRADCASES_MATMUL_H

#include "graph/gradcheck.h"

/* The leading dims of a, b and the product. Pairs whose b has none and whose a has some turn into rows. */
enum { BATCHES = 8 };
static const struct {
    int rank_a, rank_b, rank_c;
    int64_t a[3], b[3], c[3];
} batches[BATCHES] = {
    {0, 0, 0, {0}, {0}, {0}},          {1, 1, 1, {2}, {2}, {2}},       {1, 0, 1, {2}, {0}, {2}},
    {0, 1, 1, {0}, {2}, {2}},          {1, 1, 1, {1}, {2}, {2}},       {1, 1, 1, {2}, {1}, {2}},
    {2, 2, 2, {2, 3}, {2, 3}, {2, 3}}, {2, 0, 2, {2, 3}, {0}, {2, 3}},
};

/* A matrix [lead.., rows, columns], transposed in its last two dims with `trans`. */
static crank_tensor *matrix(gradcheck *check, int rank, const int64_t *lead, int64_t rows, int64_t columns, bool trans)
{
    int64_t dims[CRANK_MAX_RANK] = {0};
    memcpy(dims, lead, (size_t)rank * sizeof *lead);
    dims[rank] = trans ? columns : rows;
    dims[rank + 1] = trans ? rows : columns;
    return gradcheck_param(check, -1, 1, rank + 2, dims);
}

/* kind: transposes (4) x batches x { plain, with bias, with c0 and bias } */
static crank_tensor *matmul_case(gradcheck *check)
{
    bool ta = check->kind & 1, tb = check->kind & 2;
    int batch = check->kind / 4 % BATCHES, extras = check->kind / 4 / BATCHES;
    crank_tensor *a = matrix(check, batches[batch].rank_a, batches[batch].a, 3, 4, ta);
    crank_tensor *b = matrix(check, batches[batch].rank_b, batches[batch].b, 4, 5, tb);
    crank_tensor *bias = extras > 0 ? gradcheck_param(check, -1, 1, DIMS(5)) : NULL;
    crank_tensor *c0 = extras > 1 ? matrix(check, batches[batch].rank_c, batches[batch].c, 3, 5, false) : NULL;
    return crank_matmul_full(a, ta, b, tb, 0.75, bias, c0, CRANK_DTYPES);
}

/* Operands that are views: transposed (taken as they lie), rows and columns cut from a larger matrix, a matrix with
 * itself. */
static crank_tensor *matmul_view_case(gradcheck *check)
{
    bool pair = check->kind < 2 || check->kind == 4 || check->kind > 5;
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(6, 8)),
                 *y = pair ? gradcheck_param(check, -1, 1, DIMS(5, 8)) : NULL;
    switch (check->kind) {
    case 0:
        return crank_matmul(crank_slice(x, 1, 2, 4), false, crank_slice(y, 1, 1, 4), true);
    case 1:
        return crank_matmul(x, false, crank_transpose(y, 0, 1), false);
    case 2:
        return crank_matmul(crank_transpose(crank_slice(x, 1, 1, 3), 0, 1), false, crank_slice(x, 1, 4, 2), false);
    case 3:
        return crank_matmul(x, true, x, false);
    case 4:
        return crank_matmul(crank_transpose(x, 0, 1), true, crank_transpose(y, 0, 1), false);
    case 6:
        return crank_reduce(CRANK_SUM, crank_matmul(x, false, y, true), 1, false); /* a repeated gradient arrives */
    case 7:
        return crank_reduce(CRANK_SUM, crank_matmul(x, false, y, true), 2, true);
    case 8:
        return crank_matmul_full(x, false, y, true, 2, NULL, crank_broadcast(crank_slice(x, 1, 0, 1), DIMS(6, 5)),
                                 CRANK_DTYPES);
    default: { /* heads: columns of one buffer as a batch */
        crank_tensor *heads = crank_transpose(crank_reshape(x, DIMS(6, 2, 4)), 0, 1); /* [2, 6, 4] */
        return crank_matmul(crank_transpose(crank_matmul(heads, false, heads, true), 1, 2), false, heads, false);
    }
    }
}

static crank_tensor *gather_rows_case(gradcheck *check)
{
    crank_tensor *table = gradcheck_param(check, -1, 1, DIMS(6, 4));
    if (check->kind == 0) return crank_unary(CRANK_EXP, crank_gather_rows(table, gradcheck_ids(check, -1, 7, DIMS(9))));
    if (check->kind == 1) return crank_gather_rows(crank_slice(table, 1, 1, 2), gradcheck_ids(check, 0, 6, DIMS(3, 2)));
    return crank_gather_rows(crank_unary(CRANK_EXP, crank_transpose(table, 0, 1)), gradcheck_ids(check, 0, 4, DIMS(7)));
}

static crank_tensor *scatter_rows_case(gradcheck *check)
{
    crank_tensor *x = crank_unary(CRANK_EXP, gradcheck_param(check, -1, 1, DIMS(9, 3))),
                 *ids = gradcheck_ids(check, -1, 7, DIMS(9));
    extent_attributes extent = {6};
    return op_one(&op_scatter_rows, (crank_tensor *[]){x, ids}, 2, &extent);
}

static crank_tensor *pick_case(gradcheck *check)
{
    crank_tensor *x = gradcheck_param(check, -1, 1, DIMS(5, 6));
    if (check->kind) x = crank_transpose(gradcheck_param(check, -1, 1, DIMS(6, 5)), 0, 1);
    crank_tensor *picked = crank_pick(x, gradcheck_ids(check, -1, 7, DIMS(5, 4)));
    return check->kind ? crank_add(picked, crank_slice(check->leaf[0], 1, 0, 4)) : crank_unary(CRANK_EXP, picked);
}

static crank_tensor *unpick_case(gradcheck *check)
{
    crank_tensor *x = crank_unary(CRANK_EXP, gradcheck_param(check, -1, 1, DIMS(5, 4))),
                 *ids = gradcheck_ids(check, -1, 7, DIMS(5, 4));
    extent_attributes extent = {6};
    return op_one(&op_unpick, (crank_tensor *[]){x, ids}, 2, &extent);
}
#endif
