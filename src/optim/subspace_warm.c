/* subspace_warm.c - the refresh of a basis as operations of the step: no decomposition, nothing for the host to do.
 *
 * One pass of block subspace iteration from the basis S at hand (left case, S [k,r] with orthonormal columns; right case transposed):
 *
 *     Z = q(G^T S)                       the ordinary projected gradient, its singular values brought to one another by q
 *     S = polar(G Z / b + shift S)       b >= |G Z|
 *
 * polar(X) = X (X^T X)^(-1/2) is the orthonormal matrix nearest to X, so the basis turns no further than it must and moments that are
 * kept along it keep their meaning. S^T G Z is positive semidefinite whatever odd polynomial q is, and so every singular value of what
 * polar gets is at least `shift`: directions that the gradient lacks stay as they were, and products alone find the polar factor:
 *
 *     X <- a X + b X (X^T X) + c X (X^T X)^2      (a, b, c) of step i: the best for the values that step i - 1 leaves
 *
 * (Nakatsukasa & Freund 2016; Amsel et al. 2025, arXiv:2505.16932). Two steps X (3 - X^T X) / 2 in f32 end it.
 * The first refresh starts from columns of a cosine transform with scattered signs, which sketch any gradient, and makes more passes. */
#include <math.h>

#include "graph/ops/op.h"
#include "optim/subspace.h"

enum { STEPS = 6, STEPS_Z = 3, POLISH = 2, FIRST_PASSES = 3 };

#define SHIFT 2e-3
#define PI    3.14159265358979323846

/* Minimax for 1 on [SHIFT, 1.05], then on what the step before leaves and a twentieth around it, so that 16-bit products stay inside. The
 * last step leaves 5e-4, which the polish squares twice. */
static const double coefficients[STEPS][3] = {
    { 8.02944425, -21.55485308, 14.49951340 }, { 3.93735235, -2.66038552, 0.45343190 }, { 3.64731130, -2.48547314, 0.43828390 },
    { 2.93027577, -2.03137232, 0.40083353 },   { 2.11661452, -1.44537952, 0.36368247 }, { 1.88150957, -1.25472275, 0.37327308 },
};

/* ---- the polar factor of X, columns [k,r] or rows [r,k] ---- */

static crank_tensor *gram(crank_tensor *X, bool rows) { return rows ? crank_matmul(X, false, X, true) : crank_matmul(X, true, X, false); }

/* X + alpha X B, or X + alpha B X */
static crank_tensor *corrected(crank_tensor *X, crank_tensor *B, bool rows, double alpha)
{
    return rows ? crank_matmul_full(B, false, X, false, alpha, NULL, X, CRANK_DTYPES) : crank_matmul_full(X, false, B, false, alpha, NULL, X, CRANK_DTYPES);
}

/* `count` steps. X stands for *size times what is held, so that each step is three products without a pass of their own. */
static crank_tensor *quintic(crank_tensor *X, bool rows, int count, double *size)
{
    for (int i = 0; i < count; i++) {
        const double *c = coefficients[i], s = *size * *size;
        crank_tensor *A = gram(X, rows), *B = crank_matmul_full(A, false, A, false, c[2] * s / c[1], NULL, A, CRANK_DTYPES);
        X = corrected(X, B, rows, c[1] * s / c[0]);
        *size *= c[0];
    }
    return X;
}

/* `size` times X, as in quintic */
static crank_tensor *polished(crank_tensor *X, bool rows, int count, double size)
{
    for (int i = 0; i < count; i++) {
        X = corrected(X, gram(X, rows), rows, -size * size / 3);
        size *= 1.5;
    }
    return crank_scale(X, size);
}

static crank_tensor *number(crank_graph *graph, crank_dtype type, double value) { return crank_reshape(optim_number(graph, type, value), 2, (const int64_t[]){ 1, 1 }); }

/* X / b with b = |X^T X|_F^(1/2), which is between the largest singular value and r^(1/4) times it; 0 stays 0. */
static crank_tensor *bounded(crank_tensor *X, bool rows)
{
    crank_tensor *b4 = crank_reduce(CRANK_SUM_SQUARES, gram(X, rows), 3, true);
    b4 = crank_binary(CRANK_MAX, b4, number(X->graph, b4->dtype, 1e-36));
    return crank_mul(X, crank_cast(crank_unary(CRANK_RSQRT, crank_unary(CRANK_SQRT, b4)), X->dtype));
}

/* ---- where the first refresh starts ---- */

/* 1/2, 3/2, .. [n,1], by doubling */
static crank_tensor *halves(crank_graph *graph, crank_dtype type, int64_t n)
{
    crank_tensor *x = crank_fill(graph, type, 2, (const int64_t[]){ 1, 1 }, 0.5);
    while (crank_graph_status(graph) == CRANK_OK && x->dims[0] < n) {
        crank_tensor *parts[2] = { x, crank_affine(x, 1, (double)x->dims[0]) };
        x = crank_concat(parts, 2, 0);
    }
    return crank_contiguous(crank_slice(x, 0, 0, n));
}

/* Columns sigma_i sqrt(2/k) cos(pi (i + 1/2) (j + 1/2) / k) with signs sigma that a wave of changing frequency gives, [k,r]; as rows: transposed */
static crank_tensor *sketch(crank_graph *graph, crank_dtype type, int64_t k, int64_t r, bool rows)
{
    crank_tensor *i = halves(graph, type, k), *j = crank_reshape(halves(graph, type, r), 2, (const int64_t[]){ 1, r });
    crank_tensor *sign = crank_unary(CRANK_SIGN, crank_unary(CRANK_SIN, crank_add(crank_scale(i, 2.4), crank_scale(crank_unary(CRANK_SIN, crank_scale(i, 0.7)), 40))));
    if (rows) {
        const int64_t across[2] = { 1, k }, down[2] = { r, 1 };
        i = crank_reshape(i, 2, across), sign = crank_reshape(sign, 2, across), j = crank_reshape(j, 2, down);
    }
    crank_tensor *waves = crank_unary(CRANK_COS, crank_scale(crank_mul(i, j), PI / (double)k));
    return polished(crank_mul(crank_scale(waves, sqrt(2 / (double)k)), sign), rows, POLISH, 1);
}

/* ---- the refresh ---- */

/* S' from S, both in the wide type; G [m,n] and inverse = 1 / |G| [1,1] in the type of products */
static crank_tensor *pass(crank_tensor *G, crank_tensor *inverse, crank_tensor *S, bool rows)
{
    crank_dtype   wide = S->dtype, type = G->dtype;
    double        z = 1, x = 1;
    crank_tensor *s = crank_cast(S, type);
    crank_tensor *Z = rows ? crank_matmul(G, false, s, true) : crank_matmul(s, true, G, false); /* columns [m,r] | rows [r,n] */
    Z = quintic(bounded(crank_mul(Z, inverse), !rows), !rows, STEPS_Z, &z);
    crank_tensor *Y = rows ? crank_matmul_full(Z, true, G, false, z, NULL, NULL, CRANK_DTYPES)
                           : crank_matmul_full(G, false, Z, true, z, NULL, NULL, CRANK_DTYPES);
    crank_tensor *X = crank_add(bounded(crank_mul(Y, inverse), rows), crank_scale(s, SHIFT));
    X = quintic(X, rows, STEPS, &x);
    return polished(crank_cast(X, wide), rows, POLISH, x);
}

/* A non-finite gradient leaves the basis, or, at the first refresh, where it starts. */
static crank_tensor *refresh_side(crank_graph *graph, const subspace *space, bool first, crank_tensor *G, crank_tensor *inverse, crank_tensor *finite, bool rows, int passes)
{
    crank_tensor *P = crank_cast(crank_use(graph, rows ? space->right : space->left), space->wide);
    crank_tensor *S = first ? sketch(graph, P->dtype, rows ? space->n : space->m, space->r, rows) : P, *start = S;
    for (int i = 0; i < passes && crank_graph_status(graph) == CRANK_OK; i++) S = pass(G, inverse, S, rows);
    S = crank_where(finite, S, start);
    return S;
}

/* M <- C M (left) or M C^T (right), V with the squares of C */
static void rotate(crank_graph *graph, crank_param *param, crank_tensor *C, bool rows, bool squared)
{
    crank_tensor *moments = crank_use(graph, param);
    if (squared) C = crank_unary(CRANK_SQUARE, C);
    crank_assign(moments, rows ? crank_matmul(moments, false, C, true) : crank_matmul(C, false, moments, false), false);
}

/* The share of G's squared norm in the basis; -1: not finite */
static void record_energy(crank_graph *graph, const subspace *space, crank_tensor *gradient, crank_tensor *square, crank_tensor *some, crank_tensor *finite)
{
    crank_dtype   wide = square->dtype;
    crank_tensor *one = number(graph, wide, 1), *kept = crank_cast(crank_reduce(CRANK_SUM_SQUARES, subspace_down_formed(graph, space, gradient), 3, true), wide);
    crank_tensor *share = crank_where(some, crank_div(kept, crank_where(some, square, one)), one);
    share = crank_where(finite, share, number(graph, wide, -1));
    crank_assign(crank_use(graph, space->energy), crank_reshape(share, 1, (const int64_t[]){ 1 }), false);
}

void subspace_warm(crank_graph *graph, const crank_unit *unit, const subspace *space, int64_t passes, crank_tensor *gradient, crank_param *M, crank_param *V)
{
    bool          first = unit->refresh == CRANK_REFRESH_FIRST;
    crank_dtype   wide = space->wide, type = subspace_product_type(graph, space);
    crank_tensor *square = crank_cast(crank_reduce(CRANK_SUM_SQUARES, gradient, 3, true), wide), *zero = number(graph, wide, 0);
    crank_tensor *finite = crank_binary(CRANK_EQ, crank_sub(square, square), zero), *some = crank_binary(CRANK_GT, square, number(graph, wide, 1e-30));
    crank_tensor *inverse = crank_cast(crank_where(some, crank_unary(CRANK_RSQRT, square), zero), type), *G = crank_cast(gradient, type);
    if (first && passes < FIRST_PASSES) passes = FIRST_PASSES;
    for (int side = 0; side < 2 && crank_graph_status(graph) == CRANK_OK; side++) {
        crank_param *param = side ? space->right : space->left;
        if (!param) continue;
        crank_tensor *P = crank_use(graph, param), *S = refresh_side(graph, space, first, G, inverse, finite, side, passes);
        if (M && V && !first) {
            crank_tensor *old = crank_cast(P, wide), *C = side ? crank_matmul(S, false, old, true) : crank_matmul(S, true, old, false);
            rotate(graph, M, C, side, false), rotate(graph, V, C, side, true);
        }
        crank_assign(P, S, false);
    }
    record_energy(graph, space, gradient, square, some, finite);
}

crank_status subspace_warm_attach(crank_context *context, crank_unit *unit, subspace *space)
{
    int64_t one = 1;
    char   *name = crank_format(context, "%s.%s.energy", unit->name ? unit->name : unit->param->name, unit->optimizer->name);
    if (name) space->energy = crank_params_add(unit->param->owner, name, CRANK_ROLE_CACHE, optim_wide(unit), 1, &one);
    crank_free(name);
    return space->energy ? CRANK_OK : crank_last_status(context);
}

void subspace_warm_ask(crank_unit *unit, subspace *space, bool due, bool first)
{
    space->asked = due;
    unit->refresh = !due ? CRANK_REFRESH_NONE : first ? CRANK_REFRESH_FIRST : CRANK_REFRESH_NEXT;
}

crank_status subspace_warm_hear(crank_context *context, subspace *space, subspace_tally *tally)
{
    double       energy = 0;
    bool         asked = space->asked && space->energy && space->energy->view.data;
    crank_status status = asked ? crank_param_read(context, space->energy, &energy, CRANK_F64) : CRANK_OK;
    space->asked = false;
    if (status == CRANK_OK && asked) subspace_count(tally, &(subspace_news){ .kept = energy < 0, .energy = fmin(1, energy) });
    return status;
}
