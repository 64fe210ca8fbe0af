/* small.h - inverses of the small matrices that methods need on the host. */
#ifndef CRANK_LOWRANK_SMALL_H
#define CRANK_LOWRANK_SMALL_H

#include "crank/linear.h"

/* out [r, r] = (I + M)^-1; out may be M. A singular I + M is an error that names the linear. */
crank_status small_inverse_plus(crank_context *context, const crank_linear *linear, const double *M, int64_t r, double *out);
/* Values of a parameter in f64; crank_free. NULL: message set. */
double *small_read(crank_context *context, const crank_param *param);
#endif
