/* safetensors_stream.c - u64 header length, JSON header, values. */
#include "data/safetensors_stream.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"

struct safetensors_stream {
    file_writer *writer;
    size_t       expected, written;
    char        *path;
};

static const char *type_name(crank_dtype dtype)
{
    switch (dtype) {
    case CRANK_F32: return "F32";
    case CRANK_BF16: return "BF16";
    case CRANK_F16: return "F16";
    case CRANK_F64: return "F64";
    case CRANK_I32: return "I32";
    case CRANK_I64: return "I64";
    case CRANK_U8: return "U8";
    default: return NULL;
    }
}

static json_t *header_json(const crank_named_view *tensors, size_t count, size_t *total)
{
    json_t *root = json_object();
    *total = 0;
    for (size_t i = 0; i < count; i++) {
        const crank_view *view = &tensors[i].view;
        size_t            bytes = crank_view_bytes(view);
        json_t           *shape = json_array();
        for (int d = 0; d < view->rank; d++) json_array_append_new(shape, json_integer(view->dims[d]));
        json_object_set_new(root, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", type_name(view->dtype), "shape", shape, "data_offsets",
                                      (json_int_t)*total, (json_int_t)(*total + bytes)));
        *total += bytes;
    }
    return root;
}

safetensors_stream *safetensors_stream_open(crank_context *context, const char *path, const crank_named_view *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!type_name(tensors[i].view.dtype)) {
            crank_fail(context, CRANK_USAGE, "%s: tensor `%s` has a type that safetensors files do not hold", path, tensors[i].name);
            return NULL;
        }
    safetensors_stream *stream = crank_alloc(context, 1, sizeof *stream, "a safetensors file");
    if (!stream) return NULL;
    json_t *header = header_json(tensors, count, &stream->expected);
    char   *text = header ? json_text(context, header, 0) : NULL;
    json_decref(header);
    stream->path = crank_strdup(context, path);
    stream->writer = text && stream->path ? file_writer_open(context, path) : NULL;
    if (stream->writer) {
        size_t   length = strlen(text), padded = (length + 7) & ~(size_t)7;
        uint64_t little = padded; /* the hosts of crank are little-endian */
        if (file_writer_write(context, stream->writer, &little, sizeof little) == CRANK_OK &&
            file_writer_write(context, stream->writer, text, length) == CRANK_OK &&
            file_writer_write(context, stream->writer, "        ", padded - length) == CRANK_OK) {
            crank_free(text);
            return stream;
        }
    }
    crank_free(text);
    safetensors_stream_abort(stream);
    return NULL;
}

crank_status safetensors_stream_write(crank_context *context, safetensors_stream *stream, const void *bytes, size_t length)
{
    stream->written += length;
    if (stream->written > stream->expected) return crank_fail(context, CRANK_USAGE, "%s: more values than the shapes hold", stream->path);
    return file_writer_write(context, stream->writer, bytes, length);
}

void safetensors_stream_abort(safetensors_stream *stream)
{
    if (!stream) return;
    if (stream->writer) file_writer_abort(stream->writer);
    crank_free(stream->path);
    crank_free(stream);
}

crank_status safetensors_stream_commit(crank_context *context, safetensors_stream *stream)
{
    crank_status status;
    if (stream->written != stream->expected) {
        status = crank_fail(context, CRANK_USAGE, "%s: %zu bytes of values came and the shapes hold %zu", stream->path, stream->written, stream->expected);
        safetensors_stream_abort(stream);
        return status;
    }
    status = file_writer_commit(context, stream->writer);
    stream->writer = NULL;
    safetensors_stream_abort(stream);
    return status;
}
