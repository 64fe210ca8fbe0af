/* quantized.h - a base weight in four or eight bits: its parameters, how it is made from dense values or taken from a file, and what
 * linears do with it.
 *
 * Parameters of linear L: "L.weight" (the codes, [out, in]), "L.weight.absmax" (scales), and with double quantisation
 * "L.weight.quant_map", "L.weight.nested_absmax", "L.weight.nested_offset"; in eight bits "L.weight.turned" [in, out] and
 * "L.weight.turned_absmax", W^T quantised by its own rows. They are frozen. */
#ifndef CRANK_LINEAR_QUANTIZED_H
#define CRANK_LINEAR_QUANTIZED_H

#include "crank/linear.h"

typedef struct quantized_spec {
    crank_dtype dtype;  /* CRANK_NF4 or CRANK_F8E4M3 */
    crank_dtype dense;  /* that the weight would have: of what methods make beside it */
    int64_t     block;  /* nf4: elements of one scale */
    bool        nested; /* nf4: double quantisation */
} quantized_spec;

struct crank_quantized {
    quantized_spec spec;
    int64_t        in, out;
    crank_param   *codes, *scales;
    crank_param   *map, *second, *offset; /* NULL: scales are plain */
    crank_param   *turned, *turned_scales; /* f8e4m3 */
    uint16_t      *edges;                 /* bf16 [2, in]: first and last row of the dense weight; NULL: not known */
};

/* What a file holds of an nf4 weight. */
typedef struct nf4_file {
    const uint8_t *codes, *coded_scales;   /* coded_scales NULL: plain */
    const float   *scales, *map, *second;
    float          offset;
    int64_t        rows, columns, block;
} nf4_file;

/* Adds the parameters (memory as the set says). NULL: message set. Freed with quantized_free; the parameters belong to their set. */
crank_quantized *quantized_new(crank_context *context, crank_params *params, const char *weight, int64_t in, int64_t out, const quantized_spec *spec);
void             quantized_free(crank_quantized *quantized);
/* Values from dense w [out, in]. */
crank_status quantized_fill(crank_context *context, crank_quantized *quantized, const float *w);
/* The codes of a file as they are; a map that is nested in the file stays so. */
crank_status quantized_take(crank_context *context, crank_quantized *quantized, const nf4_file *file);
/* Rows first.. on the host, f32 [count, in]. */
crank_status quantized_rows(crank_context *context, const crank_quantized *quantized, int64_t first, int64_t count, float *rows);
/* x W^T + bias [n, out] in the graph's compute type. */
crank_tensor *quantized_product(crank_graph *graph, const crank_quantized *quantized, crank_tensor *x, crank_tensor *bias);
/* W [out, in] in the graph's compute type; made anew at each call. */
crank_tensor *quantized_weight(crank_graph *graph, const crank_quantized *quantized);

#endif
