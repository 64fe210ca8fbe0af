/* vectors.h - a table of f32 rows [rows, width] written as they come: .npy (NumPy 1.0), .safetensors, or .jsonl (one object a row). */
#ifndef CRANK_DATA_VECTORS_H
#define CRANK_DATA_VECTORS_H

#include "crank/base.h"

typedef struct vectors_file vectors_file;

/* By the path's ending. `name` is the tensor's and the member's name and outlives the file. In jsonl a row of width 1 is a
 * number, other rows are lists. */
vectors_file *vectors_open(crank_context *context, const char *path, const char *name, int64_t rows, int64_t width);
crank_status  vectors_write(crank_context *context, vectors_file *file, const float *values, int64_t rows);
crank_status  vectors_commit(crank_context *context, vectors_file *file); /* all rows must have come; frees */
void          vectors_abort(vectors_file *file);
#endif
