/* gguf.h - writes GGUF files, version 3.
 *
 *     "GGUF" u32 version | u64 tensors | u64 pairs | pairs | infos | padding | data, every tensor padded to 32 bytes
 *     pair    string key, u32 type, value;   string  u64 length, bytes;   array  u32 type, u64 count, elements
 *     info    string name, u32 rank, u64 dims with the fastest first, u32 type, u64 offset from the first data byte
 *
 * All little-endian. */
#ifndef CRANK_DATA_GGUF_H
#define CRANK_DATA_GGUF_H

#include "base/text.h"
#include "crank/tensor.h"

typedef struct gguf_writer {
    text_buffer pairs, infos;
    uint64_t    pair_count, tensor_count, offset;
    bool        wrong; /* a type or rank that the format lacks */
} gguf_writer; /* starts as {0} */

void gguf_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_f32(gguf_writer *w, const char *key, float value);
void gguf_bool(gguf_writer *w, const char *key, bool value);
void gguf_text(gguf_writer *w, const char *key, const char *value);
/* Elements follow by gguf_element_*, exactly `count` of them. */
typedef enum gguf_type { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 } gguf_type;
void gguf_array(gguf_writer *w, const char *key, gguf_type type, uint64_t count);
void gguf_element_text(gguf_writer *w, const char *bytes, size_t length);
void gguf_element_i32(gguf_writer *w, int32_t value);
void gguf_element_f32(gguf_writer *w, float value);

/* f32, f16 or bf16, rank 1 to 4; dims as crank has them, the slowest first. In the order in which data follow. */
void gguf_tensor(gguf_writer *w, const char *name, crank_dtype dtype, int rank, const int64_t *dims);
/* Writes the file beside and renames it; `fetch` gives the values of tensor i in its type, contiguous, until its next call. */
crank_status gguf_write(crank_context *context, gguf_writer *w, const char *path, crank_fetch *fetch, void *user);
void         gguf_free(gguf_writer *w);
#endif
