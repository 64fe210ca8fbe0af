/* subspace.c - block subspace iteration from an earlier basis (orthogonal iteration, Golub and Van Loan, section 8.2.4):
 *
 *     q <- orth(a orth(a^T q)),    energy = |q^T a|^2 / |a|^2
 *
 * and the turn that brings the new basis nearest to the old one: q <- q polar(q^T q0) minimises |q w - q0| over orthonormal w
 * (Schoenemann 1966). */
#include "linalg/sketch.h"

#include <inttypes.h>
#include <math.h>

crank_status turn_basis(crank_context *context, crank_dtype dtype, int64_t m, int64_t l, const void *q, const double *turn, int64_t stride, int64_t r,
                        crank_matrix out)
{
    void *small = dense_new(context, dtype, l, r, "a turn"), *turned = dense_new(context, dtype, m, r, "a turned basis");
    bool  done = small && turned;
    if (done) {
        dense_load(crank_matrix_make(turn, CRANK_F64, l, r, stride), dtype, false, small);
        apply(context, matrix_of((void *)(uintptr_t)q, dtype, m, l), false, small, r, turned);
        dense_store(out, dtype, turned, r, false);
    }
    crank_free(small);
    crank_free(turned);
    return done ? CRANK_OK : CRANK_FAILED;
}

/* q <- q polar(q^T before), both [m,r] dense */
static crank_status align_basis(crank_context *context, crank_dtype dtype, int64_t m, int64_t r, void *q, const void *before)
{
    void        *overlap = dense_new(context, dtype, r, r, "an overlap");
    double      *turn = dense_new(context, CRANK_F64, r, r, "a turn");
    crank_status status = overlap && turn ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        apply(context, matrix_of(q, dtype, m, r), true, before, r, overlap);
        status = crank_polar(context, matrix_of(overlap, dtype, r, r), CRANK_INSIDE_F64, crank_matrix_f64(turn, r, r), crank_matrix_none());
    }
    if (status == CRANK_OK) status = turn_basis(context, dtype, m, r, q, turn, r, r, matrix_of(q, dtype, m, r));
    crank_free(overlap);
    crank_free(turn);
    return status;
}

static crank_status iterate(crank_context *context, crank_matrix a, bool transposed, int64_t steps, bool align, int64_t r, void *q, void *z,
                            void *before)
{
    int64_t      rows = transposed ? a.cols : a.rows;
    crank_status status = CRANK_OK;
    if (align) dense_load(matrix_of(q, a.dtype, rows, r), a.dtype, false, before);
    for (int64_t i = 0; status == CRANK_OK && i < steps; i++) status = subspace_step(context, a, transposed, r, q, z);
    return status == CRANK_OK && align && steps > 0 ? align_basis(context, a.dtype, rows, r, q, before) : status;
}

crank_status crank_subspace_refine(crank_context *context, crank_matrix a, crank_side side, int64_t steps, bool align, crank_matrix q, double *energy)
{
    bool         transposed = side == CRANK_RIGHT;
    int64_t      rows = transposed ? a.cols : a.rows, cols = transposed ? a.rows : a.cols, r = q.cols;
    crank_status status = matrix_input(context, "crank_subspace_refine", "a", a, ANY, ANY);
    if (status == CRANK_OK) status = matrix_input(context, "crank_subspace_refine", "q", q, rows, ANY);
    if (status == CRANK_OK && (q.dtype != a.dtype || r > smaller(rows, cols) || r > EXACT_LIMIT || steps < 0))
        status = crank_fail(context, CRANK_USAGE,
                            "crank_subspace_refine: %" PRId64 " steps on %" PRId64 " columns for [%" PRId64 ",%" PRId64
                            "]; steps are at least 0, columns at most the smaller side and %d, and q has the type of a",
                            steps, r, a.rows, a.cols, EXACT_LIMIT);
    if (status != CRANK_OK) return status;
    double squares = matrix_squares(a);
    void  *panel = dense_new(context, a.dtype, rows, r, "a basis"), *z = dense_new(context, a.dtype, cols, r, "a basis");
    void  *before = align ? dense_new(context, a.dtype, rows, r, "the earlier basis") : NULL;
    status = panel && z && (before || !align) ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        dense_load(q, a.dtype, false, panel);
        status = orthonormal_panel(context, a.dtype, rows, r, panel);
    }
    if (status == CRANK_OK && squares > 0) status = iterate(context, a, transposed, steps, align, r, panel, z, before);
    if (status == CRANK_OK && energy) status = captured(context, a, transposed, r, panel, squares, energy);
    if (status == CRANK_OK) dense_store(q, a.dtype, panel, r, false);
    crank_free(panel);
    crank_free(z);
    crank_free(before);
    return status;
}
