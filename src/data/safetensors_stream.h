/* safetensors_stream.h - one safetensors file written piece by piece: shapes first, then the values in order, never whole in memory. */
#ifndef CRANK_DATA_SAFETENSORS_STREAM_H
#define CRANK_DATA_SAFETENSORS_STREAM_H

#include "crank/tensor.h"

typedef struct safetensors_stream safetensors_stream;

/* `tensors`: names, types and shapes in the order in which their values will come (data pointers are not read). */
safetensors_stream *safetensors_stream_open(crank_context *context, const char *path, const crank_named_view *tensors, size_t count);
crank_status safetensors_stream_write(crank_context *context, safetensors_stream *stream, const void *bytes, size_t length);
/* Syncs and renames; fails when fewer or more bytes came than the shapes say. Frees the stream. */
crank_status safetensors_stream_commit(crank_context *context, safetensors_stream *stream);
void         safetensors_stream_abort(safetensors_stream *stream);
#endif
