/* safetensors.h - the format's element types, shared by its reader and writer.
 *
 *     u64 little-endian N | N bytes of JSON, padded with spaces | data
 *     {"__metadata__": {string: string}, NAME: {"dtype": "F32", "shape": [2,3], "data_offsets": [begin, end]}, ...}
 *
 * Offsets count from the first data byte. Tensors fill the data without holes or overlap. Row-major, little-endian. */
#ifndef CRANK_DATA_SAFETENSORS_H
#define CRANK_DATA_SAFETENSORS_H

#include "crank/tensor.h"

/* The format's own limit on N */
#define SAFETENSORS_LARGEST_HEADER ((uint64_t)100000000)

/* Bits of an element of the format's type, 0 when the format does not know it. *dtype is what crank computes with it
 * (BOOL: u8 of 0 and 1), CRANK_DTYPES where it has none. */
size_t safetensors_type_bits(const char *name, crank_dtype *dtype);
/* The format's name of a type, and its place in the order in which files hold tensors (highest first): NULL when it has none. */
const char *safetensors_type_name(crank_dtype dtype, int *order);

/* crank_safetensors_write with values from `fetch` (NULL: the views' own); it is asked for number first + i. */
crank_status safetensors_write_from(crank_context *context, const char *path, const crank_named_view *tensors, size_t count,
                                    const char *const *metadata, size_t metadata_count, crank_fetch *fetch, void *user,
                                    size_t first);
#endif
