/* safetensors_write.c - writes safetensors files, byte for byte as the safetensors library orders them: types from wide to
 * narrow (so that each tensor is aligned), then names; compact JSON; the header padded with spaces to 8 bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/safetensors.h"

typedef struct {
    const crank_named_view *tensor;
    const char             *type;
    int                     order;
} item;

static int by_type_and_name(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->order != y->order) return x->order > y->order ? -1 : 1;
    return strcmp(x->tensor->name, y->tensor->name);
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static bool is_utf8(const char *text)
{
    json_t *probe = json_string(text); /* NULL when it is not */
    json_decref(probe);
    return probe != NULL;
}

static crank_status check_names(crank_context *context, const char *path, const crank_named_view *tensors, size_t count)
{
    const char **names = crank_alloc(context, count, sizeof *names, "names of tensors");
    crank_status status = names ? CRANK_OK : CRANK_FAILED;
    for (size_t i = 0; i < count && status == CRANK_OK; i++) {
        names[i] = tensors[i].name;
        if (!is_utf8(names[i]) || strcmp(names[i], "__metadata__") == 0)
            status = crank_fail(context, CRANK_USAGE, "%s: `%.200s` cannot be a tensor's name", path, names[i]);
    }
    if (status == CRANK_OK && count) qsort(names, count, sizeof *names, by_name);
    for (size_t i = 1; i < count && status == CRANK_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = crank_fail(context, CRANK_USAGE, "%s: two tensors are named `%.200s`", path, names[i]);
    crank_free(names);
    return status;
}

/* tensors -> items in the order of the file */
static item *sorted_items(crank_context *context, const char *path, const crank_named_view *tensors, size_t count)
{
    item *items = check_names(context, path, tensors, count) == CRANK_OK
                      ? crank_alloc(context, count, sizeof *items, "the order of tensors")
                      : NULL;
    for (size_t i = 0; items && i < count; i++) {
        items[i].tensor = &tensors[i];
        items[i].type = safetensors_type_name(tensors[i].view.dtype, &items[i].order);
        if (items[i].type && crank_view_is_contiguous(&tensors[i].view)) continue;
        if (!items[i].type)
            crank_fail(context, CRANK_USAGE, "%s: tensor `%.200s`: safetensors has no type for %s", path, tensors[i].name,
                       crank_dtype_name(tensors[i].view.dtype));
        else crank_fail(context, CRANK_USAGE, "%s: tensor `%.200s` is not contiguous", path, tensors[i].name);
        crank_free(items);
        return NULL;
    }
    if (items && count) qsort(items, count, sizeof *items, by_type_and_name);
    return items;
}

static void put_metadata(text_buffer *out, const char *const *metadata, size_t count)
{
    if (count == 0) return;
    text_puts(out, "\"__metadata__\":{");
    for (size_t i = 0; i < count; i++) {
        if (i) text_putc(out, ',');
        json_put_string(out, metadata[2 * i], strlen(metadata[2 * i]));
        text_putc(out, ':');
        json_put_string(out, metadata[2 * i + 1], strlen(metadata[2 * i + 1]));
    }
    text_putc(out, '}');
}

static void put_header(text_buffer *out, const item *items, size_t count, const char *const *metadata, size_t metadata_count)
{
    uint64_t at = 0;
    text_putc(out, '{');
    put_metadata(out, metadata, metadata_count);
    for (size_t i = 0; i < count; i++) {
        const crank_view *view = &items[i].tensor->view;
        uint64_t          end = at + crank_view_bytes(view);
        if (i || metadata_count) text_putc(out, ',');
        json_put_string(out, items[i].tensor->name, strlen(items[i].tensor->name));
        text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", items[i].type);
        for (int d = 0; d < view->rank; d++) text_printf(out, "%s%lld", d ? "," : "", (long long)view->dims[d]);
        text_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
        at = end;
    }
    text_putc(out, '}');
    while (out->length % 8 && !out->failed) text_putc(out, ' ');
}

typedef struct {
    const crank_named_view *tensors;
    crank_fetch            *fetch;
    void                   *user;
    size_t                  first;
} source;

static crank_status write_values(crank_context *context, file_writer *writer, const crank_named_view *tensor, const source *from)
{
    crank_view view = tensor->view;
    size_t     bytes = crank_view_bytes(&view);
    if (from->fetch) {
        crank_status status = from->fetch(context, from->user, from->first + (size_t)(tensor - from->tensors), &view);
        if (status != CRANK_OK) return status;
    }
    return file_writer_write(context, writer, view.data, bytes);
}

static crank_status write_file(crank_context *context, const char *path, const text_buffer *header, const item *items,
                               size_t count, const source *from)
{
    uint8_t      length[8];
    file_writer *writer = file_writer_open(context, path);
    if (!writer) return crank_last_status(context);
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header->length >> 8 * i);
    crank_status status = file_writer_write(context, writer, length, sizeof length);
    if (status == CRANK_OK) status = file_writer_write(context, writer, header->bytes, header->length);
    for (size_t i = 0; i < count && status == CRANK_OK; i++)
        status = write_values(context, writer, items[i].tensor, from);
    if (status == CRANK_OK) return file_writer_commit(context, writer);
    file_writer_abort(writer);
    return status;
}

crank_status crank_safetensors_write(crank_context *context, const char *path, const crank_named_view *tensors, size_t count,
                                     const char *const *metadata, size_t metadata_count)
{
    return safetensors_write_from(context, path, tensors, count, metadata, metadata_count, NULL, NULL, 0);
}

crank_status safetensors_write_from(crank_context *context, const char *path, const crank_named_view *tensors, size_t count,
                                    const char *const *metadata, size_t metadata_count, crank_fetch *fetch, void *user,
                                    size_t first)
{
    const source from = {tensors, fetch, user, first};
    for (size_t i = 0; i < 2 * metadata_count; i++)
        if (!is_utf8(metadata[i])) return crank_fail(context, CRANK_USAGE, "%s: metadata are not UTF-8", path);
    item *items = sorted_items(context, path, tensors, count);
    if (!items) return crank_last_status(context);
    text_buffer header = {0};
    put_header(&header, items, count, metadata, metadata_count);
    crank_status status;
    if (header.failed) status = crank_fail(context, CRANK_FAILED, "%s: out of memory for its header", path);
    else if (header.length > SAFETENSORS_LARGEST_HEADER)
        status = crank_fail(context, CRANK_USAGE, "%s: names and shapes take %zu bytes; the format allows %llu", path,
                            header.length, (unsigned long long)SAFETENSORS_LARGEST_HEADER);
    else status = write_file(context, path, &header, items, count, &from);
    text_clear(&header);
    crank_free(items);
    return status;
}
