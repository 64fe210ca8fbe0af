/* spectrum.h - leading singular triplets of a weight or a gradient on the host, and the sum that makes a gradient: G = dy^T x.
 *
 * Exact where the smaller side is at most 512 or all triplets are wanted; else a randomised range finder with 8 more columns and 6 power
 * iterations, drawn from the stream. Signs: the entry of largest magnitude of each left vector is positive. */
#ifndef CRANK_LOWRANK_SPECTRUM_H
#define CRANK_LOWRANK_SPECTRUM_H

#include "crank/linear.h"

typedef struct spectrum {
    int64_t m, n, r;
    float  *U;  /* [m, r] */
    double *s;  /* [r], descending; all min(m, n) where the decomposition was exact: `all` of them */
    float  *Vt; /* [r, n] */
    int64_t all;
} spectrum;

/* g [m, n]; r <= min(m, n). */
crank_status spectrum_of(crank_context *context, const float *g, int64_t m, int64_t n, int64_t r, crank_stream stream, spectrum *out);
/* Of the site's base weight [out, in]. */
crank_status spectrum_of_weight(crank_context *context, const crank_site *site, int64_t r, spectrum *out);
void         spectrum_free(spectrum *s);

/* Bytes that spectrum_of takes beside g and what it gives. */
size_t       spectrum_bytes(int64_t m, int64_t n, int64_t r);

/* G [out, in] += g, or dy^T x where the batch has no g; made zeroed at the first call. */
crank_status gradient_add(crank_context *context, const crank_linear *linear, const crank_observation *batch, float **G);
bool         gradient_is_zero(const crank_linear *linear, const float *G);
#endif
