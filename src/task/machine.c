/* machine.c - measuring rates by running the operations that training runs. */
#include "task/machine.h"

#include "base/clock.h"
#include "crank/operations.h"
#include "crank/random.h"

enum { REPEATS = 6 };
/* Products and copies that are large enough for the device: a GPU needs more to be busy. */
static int64_t size_for(const crank_device *device) { return device->host ? 1024 : 8192; }
static size_t  copy_for(const crank_device *device) { return (size_t)(device->host ? 128 : 1024) << 20; }

/* Seconds of the fastest of some repeats of one operation. */
static crank_status fastest(crank_context *context, crank_device *device, const char *operation, const crank_view *in, int inputs,
                            const crank_view *out, const void *attributes, double *seconds)
{
    *seconds = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        double       start = clock_seconds();
        crank_status status = crank_run_once(context, device, operation, in, inputs, out, 1, attributes);
        if (status == CRANK_OK) status = device->synchronize(context, device);
        if (status != CRANK_OK) return status;
        double took = clock_seconds() - start;
        if (took < *seconds) *seconds = took;
    }
    return CRANK_OK;
}

static crank_status measure_product(crank_context *context, crank_device *device, crank_dtype dtype, double *rate)
{
    int64_t      size = size_for(device), dims[2] = {size, size};
    size_t       bytes = (size_t)size * size * crank_dtype_bits(dtype) / 8;
    void        *memory[3] = {0};
    float       *host = crank_alloc(context, (size_t)(size * size), sizeof *host, "a measurement");
    void        *typed = crank_alloc(context, bytes, 1, "a measurement");
    crank_view   views[4];
    crank_status status = host && typed ? CRANK_OK : CRANK_FAILED;
    if (status == CRANK_OK) {
        crank_fill_normal(crank_stream_make(1, CRANK_RANDOM_TEST, 0), 0, 0, 1, host, (size_t)(size * size)); /* zeros multiply faster */
        crank_convert(typed, dtype, host, CRANK_F32, (size_t)(size * size));
    }
    for (int i = 0; i < 3 && status == CRANK_OK; i++) {
        memory[i] = device->alloc(context, device, bytes, "a measurement");
        status = memory[i] ? device->upload(context, device, memory[i], typed, bytes) : CRANK_FAILED;
        views[i] = crank_view_make(memory[i], dtype, 2, dims);
    }
    crank_matmul_attributes attributes = {.trans_b = true, .alpha = 1};
    crank_view absent = {.rank = -1}, in[4] = {0};
    double     seconds = 1;
    if (status == CRANK_OK) {
        in[0] = views[0], in[1] = views[1], in[2] = in[3] = absent;
        status = fastest(context, device, "matmul", in, 4, &views[2], &attributes, &seconds);
    }
    *rate = 2.0 * (double)size * (double)size * (double)size / seconds;
    for (int i = 0; i < 3; i++)
        if (memory[i]) device->free(device, memory[i]);
    crank_free(host), crank_free(typed);
    return status;
}

static crank_status measure_copy(crank_context *context, crank_device *device, double *rate)
{
    size_t       bytes = copy_for(device);
    int64_t      count = (int64_t)bytes / 4;
    void        *from = device->alloc(context, device, bytes, "a measurement"), *to = device->alloc(context, device, bytes, "a measurement");
    double       seconds = 1;
    crank_status status = CRANK_FAILED;
    if (from && to) {
        crank_view in = crank_view_make(from, CRANK_F32, 1, &count), out = crank_view_make(to, CRANK_F32, 1, &count);
        status = fastest(context, device, "copy", &in, 1, &out, NULL, &seconds);
    }
    *rate = 2.0 * (double)bytes / seconds;
    if (from) device->free(device, from);
    if (to) device->free(device, to);
    return status;
}

crank_status machine_measure(crank_context *context, crank_device *device, machine_rates *rates)
{
    *rates = (machine_rates){0};
    crank_status status = measure_product(context, device, CRANK_F32, &rates->f32);
    if (status == CRANK_OK && device->bf16) status = measure_product(context, device, CRANK_BF16, &rates->bf16);
    return status == CRANK_OK ? measure_copy(context, device, &rates->copy) : status;
}
