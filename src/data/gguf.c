/* gguf.c - a GGUF file from pairs and tensors that are told in order. */
#include "data/gguf.h"

#include <string.h>

#include "base/file.h"

enum { VERSION = 3, ALIGNMENT = 32 };

/* The machines that crank runs on are little-endian, as the format is. */
static void put_u32(text_buffer *out, uint32_t value) { text_add(out, (const char *)&value, sizeof value); }
static void put_u64(text_buffer *out, uint64_t value) { text_add(out, (const char *)&value, sizeof value); }
static void put_text(text_buffer *out, const char *bytes, size_t length)
{
    put_u64(out, length);
    text_add(out, bytes, length);
}

static void put_key(gguf_writer *w, const char *key, gguf_type type)
{
    w->pair_count++;
    put_text(&w->pairs, key, strlen(key));
    put_u32(&w->pairs, (uint32_t)type);
}

void gguf_u32(gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, GGUF_U32);
    put_u32(&w->pairs, value);
}

void gguf_f32(gguf_writer *w, const char *key, float value)
{
    put_key(w, key, GGUF_F32);
    gguf_element_f32(w, value);
}

void gguf_bool(gguf_writer *w, const char *key, bool value)
{
    put_key(w, key, GGUF_BOOL);
    text_putc(&w->pairs, value ? 1 : 0);
}

void gguf_text(gguf_writer *w, const char *key, const char *value)
{
    put_key(w, key, GGUF_STRING);
    put_text(&w->pairs, value, strlen(value));
}

void gguf_array(gguf_writer *w, const char *key, gguf_type type, uint64_t count)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->pairs, (uint32_t)type);
    put_u64(&w->pairs, count);
}

void gguf_element_text(gguf_writer *w, const char *bytes, size_t length) { put_text(&w->pairs, bytes, length); }
void gguf_element_i32(gguf_writer *w, int32_t value) { text_add(&w->pairs, (const char *)&value, sizeof value); }
void gguf_element_f32(gguf_writer *w, float value) { text_add(&w->pairs, (const char *)&value, sizeof value); }

static uint64_t padded(uint64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* The format's number of a type; -1: it lacks it, or crank does not write it. */
static int type_number(crank_dtype dtype) { return dtype == CRANK_F32 ? 0 : dtype == CRANK_F16 ? 1 : dtype == CRANK_BF16 ? 30 : -1; }

void gguf_tensor(gguf_writer *w, const char *name, crank_dtype dtype, int rank, const int64_t *dims)
{
    uint64_t bytes = crank_dtype_bits(dtype) / 8;
    if (type_number(dtype) < 0 || rank < 1 || rank > 4 || strlen(name) > 63) {
        w->wrong = true;
        return;
    }
    w->tensor_count++;
    put_text(&w->infos, name, strlen(name));
    put_u32(&w->infos, (uint32_t)rank);
    for (int i = rank - 1; i >= 0; i--) {
        put_u64(&w->infos, (uint64_t)dims[i]);
        bytes *= (uint64_t)dims[i];
    }
    put_u32(&w->infos, (uint32_t)type_number(dtype));
    put_u64(&w->infos, w->offset);
    w->offset += padded(bytes);
}

static crank_status write_padding(crank_context *context, file_writer *file, uint64_t written)
{
    static const char zeros[ALIGNMENT];
    return file_writer_write(context, file, zeros, (size_t)(padded(written) - written));
}

static crank_status write_head(crank_context *context, const gguf_writer *w, file_writer *file)
{
    text_buffer head = {0};
    text_add(&head, "GGUF", 4);
    put_u32(&head, VERSION);
    put_u64(&head, w->tensor_count);
    put_u64(&head, w->pair_count);
    uint64_t     length = head.length + w->pairs.length + w->infos.length;
    crank_status status = head.failed ? crank_fail(context, CRANK_FAILED, "out of memory: a GGUF header") : file_writer_write(context, file, head.bytes, head.length);
    if (status == CRANK_OK && w->pairs.length) status = file_writer_write(context, file, w->pairs.bytes, w->pairs.length);
    if (status == CRANK_OK && w->infos.length) status = file_writer_write(context, file, w->infos.bytes, w->infos.length);
    text_clear(&head);
    return status == CRANK_OK ? write_padding(context, file, length) : status;
}

crank_status gguf_write(crank_context *context, gguf_writer *w, const char *path, crank_fetch *fetch, void *user)
{
    if (w->wrong) return crank_fail(context, CRANK_USAGE, "%s: a tensor has a type, rank or name that GGUF files of crank do not hold", path);
    if (w->pairs.failed || w->infos.failed) return crank_fail(context, CRANK_FAILED, "out of memory: %s", path);
    file_writer *file = file_writer_open(context, path);
    if (!file) return crank_last_status(context);
    crank_status status = write_head(context, w, file);
    for (uint64_t i = 0; status == CRANK_OK && i < w->tensor_count; i++) {
        crank_view view;
        status = fetch(context, user, (size_t)i, &view);
        if (status == CRANK_OK) status = file_writer_write(context, file, view.data, crank_view_bytes(&view));
        if (status == CRANK_OK) status = write_padding(context, file, crank_view_bytes(&view));
    }
    if (status == CRANK_OK) return file_writer_commit(context, file);
    file_writer_abort(file);
    return status;
}

void gguf_free(gguf_writer *w)
{
    text_clear(&w->pairs);
    text_clear(&w->infos);
}
