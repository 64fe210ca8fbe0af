/* dense.h - methods whose change dW is built once a step: y = x (W + dW)^T in one product in place of x W^T + x dW^T.
 *
 * The base's own product is then read by nobody and the plan leaves it out, forwards and backwards. Only where the sum keeps what dW says:
 * products in f32 or f64 (a 16-bit weight would round small changes away), a dense float weight, and no other map that acts below. */
#ifndef CRANK_LOWRANK_DENSE_H
#define CRANK_LOWRANK_DENSE_H

#include "crank/linear.h"

bool dense_serves(crank_graph *graph, const crank_site *site);
/* dW [out, in] in the compute type -> x (W + dW)^T [n, out] */
crank_tensor *dense_forward(crank_graph *graph, const crank_site *site, crank_tensor *x, crank_tensor *dW);
#endif
