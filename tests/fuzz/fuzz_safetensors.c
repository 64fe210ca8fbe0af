/* Any bytes as a safetensors file: refused with a message, or every byte of every tensor can be read, and what is written
 * again reads equal. */
#include <string.h>

#include "crank/tensor.h"
#include "memory_file.h"

static volatile uint8_t sum;

/* Reads every tensor; returns whether the writer can hold them all. */
static bool read_all(const crank_safetensors *file, crank_named_view *views)
{
    bool writable = true;
    for (size_t i = 0; i < crank_safetensors_count(file); i++) {
        crank_view view = crank_safetensors_view(file, i), found;
        views[i] = (crank_named_view){crank_safetensors_name(file, i), view};
        if (!crank_safetensors_find(file, views[i].name, &found) || found.data != view.data) abort();
        size_t bytes = crank_view_bytes(&view);
        for (size_t b = 0; b < bytes; b++) sum = (uint8_t)(sum + ((const uint8_t *)view.data)[b]);
        crank_safetensors_release(file, &view);
        writable &= view.dtype != CRANK_DTYPES;
    }
    return writable;
}

static void write_again(crank_context *context, const crank_named_view *views, size_t count)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/crank_fuzz_%ld", (long)getpid());
    if (crank_safetensors_write(context, path, views, count, NULL, 0) != CRANK_OK) abort();
    crank_safetensors *again = crank_safetensors_open(context, path);
    if (!again || crank_safetensors_count(again) != count) abort();
    for (size_t i = 0; i < count; i++) {
        crank_view view;
        size_t     bytes = crank_view_bytes(&views[i].view);
        if (!crank_safetensors_find(again, views[i].name, &view) || crank_view_bytes(&view) != bytes) abort();
        if (bytes && memcmp(view.data, views[i].view.data, bytes) != 0) abort();
    }
    crank_safetensors_close(again);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    crank_context     *context = crank_context_new();
    memory_file        input = memory_file_open(data, size);
    crank_safetensors *file = crank_safetensors_open(context, input.path);
    if (file) {
        size_t            count = crank_safetensors_count(file);
        crank_named_view *views = calloc(count + 1, sizeof *views);
        if (read_all(file, views)) write_again(context, views, count);
        free(views);
    } else if (!*crank_message(context) || crank_last_status(context) == CRANK_OK) abort();
    crank_safetensors_close(file);
    memory_file_close(&input);
    crank_context_free(context);
    return 0;
}
