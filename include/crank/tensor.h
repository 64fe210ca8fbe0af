/* tensor.h - element types, shapes and views of memory; safetensors files. */
#ifndef CRANK_TENSOR_H
#define CRANK_TENSOR_H

#include "crank/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum crank_dtype {
    CRANK_F32 = 0,
    CRANK_BF16,
    CRANK_F16,
    CRANK_F64,
    CRANK_I32,
    CRANK_I64,
    CRANK_U8,
    CRANK_F8E4M3, /* with a scale a row beside it */
    CRANK_NF4,    /* two values a byte, blocks of 64, scales beside it (bitsandbytes) */
    CRANK_DTYPES
} crank_dtype;

CRANK_API const char *crank_dtype_name(crank_dtype dtype);                        /* "f32", "bf16", ... */
CRANK_API bool        crank_dtype_parse(const char *name, crank_dtype *dtype);    /* ours, or safetensors' "F32", "BF16" */
CRANK_API size_t      crank_dtype_bits(crank_dtype dtype);
CRANK_API bool        crank_dtype_is_float(crank_dtype dtype);

#define CRANK_MAX_RANK 5

/* A view: memory seen as a strided array. Strides count elements; the last is 1 unless stated. No ownership. */
typedef struct crank_view {
    void       *data;
    crank_dtype dtype;
    int         rank; /* 0 is a scalar: one element */
    int64_t     dims[CRANK_MAX_RANK];
    int64_t     strides[CRANK_MAX_RANK];
} crank_view;

CRANK_API crank_view crank_view_make(void *data, crank_dtype dtype, int rank, const int64_t *dims); /* contiguous */
CRANK_API int64_t    crank_view_count(const crank_view *view);                                      /* elements */
CRANK_API size_t     crank_view_bytes(const crank_view *view);                                      /* contiguous size */
CRANK_API bool       crank_view_is_contiguous(const crank_view *view);

/* Conversions of n elements between host arrays of any two of f32, bf16, f16, f64 (round to nearest even; NaN stays
 * NaN). */
CRANK_API void     crank_convert(void *to, crank_dtype to_type, const void *from, crank_dtype from_type, size_t n);
CRANK_API uint16_t crank_to_bf16(float value);
CRANK_API float    crank_from_bf16(uint16_t bits);
CRANK_API uint16_t crank_to_f16(float value);
CRANK_API float    crank_from_f16(uint16_t bits);

/* Safetensors. A file is mapped, its header validated in full (length, offsets, overlap, holes, duplicate names, sizes),
 * and tensors are views into the mapping, valid until crank_safetensors_close. Index i follows the order of the data.
 * BOOL reads as u8; a type that crank does not compute with (I8, I16, U16, U32, U64, C64, other F8, F6, F4) has a view of
 * dtype CRANK_DTYPES: check before use. */
typedef struct crank_safetensors crank_safetensors;
CRANK_API crank_safetensors *crank_safetensors_open(crank_context *context, const char *path);
CRANK_API void               crank_safetensors_close(crank_safetensors *file);
CRANK_API size_t             crank_safetensors_count(const crank_safetensors *file);
CRANK_API const char        *crank_safetensors_name(const crank_safetensors *file, size_t i);
CRANK_API crank_view         crank_safetensors_view(const crank_safetensors *file, size_t i);
CRANK_API bool               crank_safetensors_find(const crank_safetensors *file, const char *name, crank_view *view);
CRANK_API const char        *crank_safetensors_metadata(const crank_safetensors *file, const char *key); /* NULL: none */
/* Tells the system that the mapped pages of a view are not needed any more (they are read again when touched). */
CRANK_API void crank_safetensors_release(const crank_safetensors *file, const crank_view *view);

/* A folder's weights: model.safetensors, or the shards that model.safetensors.index.json names, as one set of names, sorted.
 * `folder` may also be one safetensors file. */
typedef struct crank_weights crank_weights;
CRANK_API crank_weights *crank_weights_open(crank_context *context, const char *folder);
CRANK_API void           crank_weights_close(crank_weights *weights);
CRANK_API size_t         crank_weights_count(const crank_weights *weights);
CRANK_API const char    *crank_weights_name(const crank_weights *weights, size_t i);
CRANK_API bool           crank_weights_find(const crank_weights *weights, const char *name, crank_view *view);
CRANK_API const char    *crank_weights_metadata(const crank_weights *weights, const char *key); /* of any file; NULL: none */
CRANK_API void           crank_weights_release(const crank_weights *weights, const char *name); /* as crank_safetensors_release */

/* Writes named contiguous views (float types, integers) as one file: beside, synced, renamed. metadata: `metadata_count`
 * pairs key, value. Disk full leaves an existing file as it was: CRANK_FAILED. */
typedef struct crank_named_view {
    const char *name;
    crank_view  view;
} crank_named_view;
CRANK_API crank_status crank_safetensors_write(crank_context *context, const char *path, const crank_named_view *tensors,
                                               size_t count, const char *const *metadata, size_t metadata_count);
/* The same as shards of at most `shard_bytes` with an index when there is more than one (0: one file). */
CRANK_API crank_status crank_weights_write(crank_context *context, const char *folder, const crank_named_view *tensors,
                                           size_t count, uint64_t shard_bytes);
/* The same for tensors whose values are made as they are written, so that one at a time is in memory: `tensors` gives names, types
 * and shapes; `fetch` gives the values of tensor i, which live until its next call. */
typedef crank_status crank_fetch(crank_context *context, void *user, size_t i, crank_view *values);
CRANK_API crank_status crank_weights_write_from(crank_context *context, const char *folder, const crank_named_view *tensors,
                                                size_t count, uint64_t shard_bytes, crank_fetch *fetch, void *user);

#ifdef __cplusplus
}
#endif
#endif
