/* packed.h - weights of a checkpoint that bitsandbytes has quantised. */
#ifndef CRANK_MODEL_PACKED_H
#define CRANK_MODEL_PACKED_H

#include "linear/quantized.h"
#include "model/model.h"

/* One weight in the file. */
typedef struct packed_weight {
    int64_t    rows, columns, block;
    bool       nested;
    float      offset;
    crank_view codes, scales, map, second; /* the last two where scales are nested */
} packed_weight;

/* The file tells how the tensor `name` was quantised. */
bool packed_there(crank_model *model, const char *name);
/* Checks all of its parts; false: a line in the table of problems says why. */
bool packed_read(crank_model *model, const char *name, const crank_view *codes, int64_t rows, int64_t columns, packed_weight *out);
/* The same as quantized_take wants it; closed by packed_close. */
crank_status packed_open(crank_context *context, const packed_weight *packed, nf4_file *file);
void         packed_close(nf4_file *file);

#endif
