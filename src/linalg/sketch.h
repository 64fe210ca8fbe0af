/* sketch.h - steps that the randomised range finder and warm subspace iteration share. op(a) is a, or a^T where `transposed`. */
#ifndef CRANK_LINALG_SKETCH_H
#define CRANK_LINALG_SKETCH_H

#include "linalg/decompose.h"

crank_matrix matrix_of(void *data, crank_dtype dtype, int64_t rows, int64_t cols); /* a dense view */
/* y = op(a) x, x and y of l dense columns in a's type */
void apply(const crank_context *context, crank_matrix a, bool transposed, const void *x, int64_t l, void *y);
/* q <- orth(op(a) z), z <- orth(op(a)^T q): q [rows of op(a),l], z [cols of op(a),l], dense in a's type */
crank_status subspace_step(crank_context *context, crank_matrix a, bool transposed, int64_t l, void *q, void *z);
/* *energy = |op(a)^T q|^2 / squares, 1 where squares = |a|^2 is 0 */
crank_status captured(crank_context *context, crank_matrix a, bool transposed, int64_t l, const void *q, double squares, double *energy);
/* out [m,r] = q [m,l] turn, turn = the first r columns of a dense double array with `stride`; the product is in dtype */
crank_status turn_basis(crank_context *context, crank_dtype dtype, int64_t m, int64_t l, const void *q, const double *turn, int64_t stride, int64_t r,
                        crank_matrix out);
#endif
