/* merge_block.h - runs the maps of a linear on blocks of unit rows: from its old weight to the merged one. */
#ifndef CRANK_LINEAR_MERGE_BLOCK_H
#define CRANK_LINEAR_MERGE_BLOCK_H

#include "crank/linear.h"

typedef struct merge_block {
    crank_context *context;
    crank_linear  *linear;
    crank_graph   *graph;
    crank_tensor  *x, *y0, *y;
    int64_t        rows;            /* of a block */
    void          *x_host, *y_host; /* [rows, in] or ids [rows]; y0 and y [rows, out] */
    void          *zero;            /* f(0) [out], after the run */
    void          *lines;           /* [threads, LINES, max(rows, out)] */
    crank_dtype    type;            /* in which the maps are computed: f32 or f64 */
    size_t         size;            /* of an element of it */
} merge_block;

crank_status merge_block_open(crank_context *context, crank_linear *linear, merge_block *block);
void         merge_block_close(merge_block *block);
/* Old and new weight as host bytes of the weight's type. *finite: whether every new value is, after rounding. */
crank_status merge_block_run(merge_block *block, const char *before, char *after, bool *finite);
#endif
