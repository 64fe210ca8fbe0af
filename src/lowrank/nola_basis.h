/* nola_basis.h - sums over random matrices that are drawn again each time instead of being stored.
 *
 * Matrix i of k has n entries; entry e is draw i n + e of the stream, uniform in [-1, 1). A tile of a few thousand entries exists at a time. */
#ifndef CRANK_LOWRANK_NOLA_BASIS_H
#define CRANK_LOWRANK_NOLA_BASIS_H

#include "crank/graph.h"
#include "crank/random.h"

/* (1/sqrt k) sum_i c_i M_i, as [rows, columns] in c's type. c [k]. On host devices; others store the matrices. bits 4 or 8: the sum reads
 * nola_quantise'd coefficients, and their gradient is that of the others (straight through); 0: as they are. */
crank_tensor *nola_combination(crank_graph *graph, crank_tensor *c, crank_stream stream, int64_t rows, int64_t columns, int64_t bits);
/* c to the nearest of 2^bits - 1 even steps from -max |c| to max |c|. */
void nola_quantise(double *c, int64_t k, int64_t bits);
/* out [n] += the same sum, of host numbers. */
crank_status nola_add_combination(crank_context *context, const float *c, int64_t k, crank_stream stream, float *out, int64_t n);
#endif
