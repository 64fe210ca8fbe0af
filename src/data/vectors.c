/* vectors.c - three formats of one table. */
#include "data/vectors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/number.h"
#include "base/text.h"
#include "data/safetensors_stream.h"

struct vectors_file {
    const char         *name;
    int64_t             rows, width, written;
    bool                lines;
    file_writer        *writer; /* npy, jsonl */
    safetensors_stream *stream;
};

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

/* Magic, version 1.0, length of the header, a Python dictionary padded with spaces to a multiple of 64 bytes with a line end. */
static crank_status write_npy_header(crank_context *context, vectors_file *file)
{
    char header[192] = "\x93NUMPY\x01";
    int  length = 10 + snprintf(header + 10, sizeof header - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }", (long long)file->rows, (long long)file->width);
    int  total = (length + 1 + 63) / 64 * 64;
    memset(header + length, ' ', (size_t)(total - length));
    header[total - 1] = '\n';
    header[8] = (char)((total - 10) & 0xff);
    header[9] = (char)((total - 10) >> 8);
    return file_writer_write(context, file->writer, header, (size_t)total);
}

vectors_file *vectors_open(crank_context *context, const char *path, const char *name, int64_t rows, int64_t width)
{
    vectors_file *file = crank_alloc(context, 1, sizeof *file, "a table of vectors");
    if (!file) return NULL;
    *file = (vectors_file){.name = name, .rows = rows, .width = width, .lines = ends_with(path, ".jsonl") || ends_with(path, ".ndjson")};
    crank_status status = CRANK_OK;
    if (ends_with(path, ".safetensors")) {
        crank_named_view view = {name, crank_view_make(NULL, CRANK_F32, 2, (const int64_t[]){rows, width})};
        status = (file->stream = safetensors_stream_open(context, path, &view, 1)) ? CRANK_OK : crank_last_status(context);
    } else if (ends_with(path, ".npy") || file->lines) {
        status = (file->writer = file_writer_open(context, path)) ? CRANK_OK : crank_last_status(context);
        if (status == CRANK_OK && !file->lines) status = write_npy_header(context, file);
    } else {
        status = crank_fail(context, CRANK_USAGE, "%s: results are written as .npy, .safetensors or .jsonl", path);
    }
    if (status == CRANK_OK) return file;
    vectors_abort(file);
    return NULL;
}

/* The shortest text that reads back as the same f32. */
static void put_number(text_buffer *text, float value)
{
    char out[NUMBER_SIZE];
    for (int digits = 6; digits <= 9; digits++) {
        double back;
        number_print_digits((double)value, digits, out);
        if (number_parse(out, &back) && (float)back == value) break;
    }
    text_puts(text, isfinite(value) ? out : "null");
}

static crank_status write_lines(crank_context *context, vectors_file *file, const float *values, int64_t rows)
{
    text_buffer text = {0};
    for (int64_t r = 0; r < rows; r++) {
        text_printf(&text, "{\"%s\": %s", file->name, file->width == 1 ? "" : "[");
        for (int64_t i = 0; i < file->width; i++) {
            if (i) text_puts(&text, ", ");
            put_number(&text, values[r * file->width + i]);
        }
        text_puts(&text, file->width == 1 ? "}\n" : "]}\n");
    }
    crank_status status = text.failed ? crank_fail(context, CRANK_FAILED, "out of memory: rows as text") : CRANK_OK;
    if (status == CRANK_OK) status = file_writer_write(context, file->writer, text.bytes ? text.bytes : "", text.length);
    text_clear(&text);
    return status;
}

crank_status vectors_write(crank_context *context, vectors_file *file, const float *values, int64_t rows)
{
    size_t bytes = (size_t)(rows * file->width) * sizeof *values;
    file->written += rows;
    if (file->written > file->rows) return crank_fail(context, CRANK_USAGE, "more rows than the %lld that were told", (long long)file->rows);
    if (file->lines) return write_lines(context, file, values, rows);
    return file->stream ? safetensors_stream_write(context, file->stream, values, bytes) : file_writer_write(context, file->writer, values, bytes);
}

crank_status vectors_commit(crank_context *context, vectors_file *file)
{
    if (file->written != file->rows) {
        crank_status status = crank_fail(context, CRANK_USAGE, "%lld rows of %lld were written", (long long)file->written, (long long)file->rows);
        vectors_abort(file);
        return status;
    }
    crank_status status = file->stream ? safetensors_stream_commit(context, file->stream) : file_writer_commit(context, file->writer);
    crank_free(file);
    return status;
}

void vectors_abort(vectors_file *file)
{
    if (!file) return;
    safetensors_stream_abort(file->stream);
    file_writer_abort(file->writer);
    crank_free(file);
}
