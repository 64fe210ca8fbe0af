/* nola_basis.h - sums over random matrices that are drawn again each time instead of being stored.
 *
 * Matrix i of k has n entries; entry e is draw i n + e of the stream, uniform in [-1, 1). A tile of a few thousand entries exists at a time. */
#ifndef CRANK_LOWRANK_NOLA_BASIS_H
#define CRANK_LOWRANK_NOLA_BASIS_H

#include "crank/graph.h"
#include "crank/random.h"

/* (1/sqrt k) sum_i c_i M_i, as [rows, columns] in c's type. c [k]. On host devices; others store the matrices. */
crank_tensor *nola_combination(crank_graph *graph, crank_tensor *c, crank_stream stream, int64_t rows, int64_t columns);
/* out [n] += the same sum, of host numbers. */
crank_status nola_add_combination(crank_context *context, const float *c, int64_t k, crank_stream stream, float *out, int64_t n);
#endif
