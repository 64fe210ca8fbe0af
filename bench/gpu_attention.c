/* gpu_attention.c - rates of attention on a GPU, forward and reverse, packed rows.
 *
 * usage: bench_gpu_attention [--type bf16|f16|f32|f64] [--deterministic] [--only TEXT]
 *
 * One line a shape: body, time of a call (many queued calls between two waits, best of five), TFLOP/s counting 4 d FLOP a seen pair
 * of query and key and head forward and 10 d in reverse; for decoding GB/s of the cache that is read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crank/device.h"
#include "crank/operations.h"
#include "crank/random.h"

typedef struct shape {
    const char *name;
    int64_t     hq, hk, d, rows, length; /* length 0: drawn between 16 and 2 * 128 */
    bool        causal;
} shape;

static const shape shapes[] = {
    {"1b 8x2048", 32, 8, 64, 8, 2048, true},       {"8b 2x2048", 32, 8, 128, 2, 2048, true},   {"8b 1x8192", 32, 8, 128, 1, 8192, true},
    {"350m 16x1024", 16, 16, 64, 16, 1024, true},  {"15m 64x256", 6, 6, 48, 64, 256, true},    {"minilm 512x128", 12, 12, 32, 512, 128, false},
    {"minilm ragged", 12, 12, 32, 512, 0, false},  {"bert 128x128", 12, 12, 64, 128, 128, false}, {"1b ragged", 32, 8, 64, 128, 0, true},
};

typedef struct bench {
    crank_context *context;
    crank_device  *device;
    crank_dtype    type;
} bench;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *what)
{
    fprintf(stderr, "bench_gpu_attention: %s\n", what);
    exit(1);
}

static void check(bench *b, crank_status status)
{
    if (status != CRANK_OK) stop(crank_message(b->context));
}

static void *memory(bench *b, const void *host, size_t bytes)
{
    void *p = b->device->alloc(b->context, b->device, bytes, "a benchmark");
    if (!p) stop(crank_message(b->context));
    if (host) check(b, b->device->upload(b->context, b->device, p, host, bytes));
    return p;
}

/* Drawn values [n,h,d] (zeros without `fill`). */
static crank_view view(bench *b, crank_dtype type, bool fill, int rank, const int64_t *dims)
{
    crank_view v = crank_view_make(NULL, type, rank, dims);
    size_t     count = (size_t)crank_view_count(&v), bytes = crank_view_bytes(&v);
    if (!fill) {
        v.data = memory(b, NULL, bytes);
        return v;
    }
    static uint64_t draw;
    float          *values = malloc(count * sizeof *values);
    void           *host = malloc(bytes);
    if (!values || !host) stop("out of memory");
    crank_fill_uniform(crank_stream_make(1, CRANK_RANDOM_TEST, 0), draw += count, -1, 1, values, count);
    crank_convert(host, type, values, CRANK_F32, count);
    v.data = memory(b, host, bytes);
    free(values);
    free(host);
    return v;
}

/* Seconds of one call; a first one makes what the body prepares. */
static double timed(bench *b, const char *operation, crank_call *call, const char **name)
{
    crank_body body;
    void      *slot = NULL;
    void (*slot_free)(void *) = NULL;
    if (!b->device->find(b->device, operation, call, &body)) stop("no body");
    *name = body.name;
    call->workspace = body.workspace ? memory(b, NULL, body.workspace) : NULL;
    call->slot = &slot, call->slot_free = &slot_free;
    for (int i = 0; i < 3; i++) check(b, body.run(b->context, call));
    check(b, b->device->synchronize(b->context, b->device));
    double start = seconds(), best = 1e9;
    for (int i = 0; i < 3; i++) check(b, body.run(b->context, call));
    check(b, b->device->synchronize(b->context, b->device));
    int calls = (int)(0.03 / ((seconds() - start) / 3)) + 1;
    for (int round = 0; round < 5; round++) {
        start = seconds();
        for (int i = 0; i < calls; i++) check(b, body.run(b->context, call));
        check(b, b->device->synchronize(b->context, b->device));
        double each = (seconds() - start) / calls;
        if (each < best) best = each;
    }
    if (slot && slot_free) slot_free(slot);
    if (call->workspace) b->device->free(b->device, call->workspace);
    return best;
}

static void measure(bench *b, const shape *s)
{
    int32_t *first = malloc((size_t)(s->rows + 1) * sizeof *first);
    int64_t  n = 0, longest = 0;
    double   pairs = 0;
    if (!first) stop("out of memory");
    for (int64_t i = 0; i <= s->rows; i++) {
        first[i] = (int32_t)n;
        if (i == s->rows) break;
        int64_t length = s->length ? s->length : 16 + (int64_t)crank_draw_below(crank_stream_make(3, CRANK_RANDOM_TEST, 0), 2 * (uint64_t)i, 241);
        pairs += (double)length * (double)(s->causal ? length + 1 : 2 * length) / 2;
        n += length;
        if (length > longest) longest = length;
    }
    crank_view segments = crank_view_make(memory(b, first, (size_t)(s->rows + 1) * sizeof *first), CRANK_I32, 1, (int64_t[]){s->rows + 1});
    crank_view q = view(b, b->type, true, 3, (int64_t[]){n, s->hq, s->d}), k = view(b, b->type, true, 3, (int64_t[]){n, s->hk, s->d});
    crank_view v = view(b, b->type, true, 3, (int64_t[]){n, s->hk, s->d}), dout = view(b, b->type, true, 3, (int64_t[]){n, s->hq, s->d});
    crank_view o = view(b, b->type, false, 3, (int64_t[]){n, s->hq, s->d});
    crank_view lse = view(b, b->type == CRANK_F64 ? CRANK_F64 : CRANK_F32, false, 2, (int64_t[]){s->hq, n});
    crank_view dq = view(b, b->type, false, 3, (int64_t[]){n, s->hq, s->d}), dk = view(b, b->type, false, 3, (int64_t[]){n, s->hk, s->d});
    crank_view dv = view(b, b->type, false, 3, (int64_t[]){n, s->hk, s->d});
    crank_attention_attributes a = {
        .mask = s->causal ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE, .scale = 1 / sqrt((double)s->d), .longest = longest};
    crank_view  in[4] = {q, k, v, segments}, out[2] = {o, lse}, back[7] = {dout, q, k, v, o, lse, segments}, grads[3] = {dq, dk, dv};
    crank_call  forward = {.device = b->device, .in = in, .inputs = 4, .out = out, .outputs = 2, .attributes = &a};
    crank_call  reverse = {.device = b->device, .in = back, .inputs = 7, .out = grads, .outputs = 3, .attributes = &a};
    const char *names[2];
    double      t = timed(b, "attention", &forward, &names[0]), r = timed(b, "attention_backward", &reverse, &names[1]);
    double      flop = 4 * pairs * (double)(s->hq * s->d);
    printf("%-16s %s %2d:%-2d d %3d  forward %-6s %8.1f us %6.1f TF/s   reverse %-6s %8.1f us %6.1f TF/s\n", s->name, crank_dtype_name(b->type),
           (int)s->hq, (int)s->hk, (int)s->d, names[0], t * 1e6, flop / t * 1e-12, names[1], r * 1e6, 2.5 * flop / r * 1e-12);
    fflush(stdout);
    void *all[] = {q.data, k.data, v.data, dout.data, o.data, lse.data, dq.data, dk.data, dv.data, segments.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) b->device->free(b->device, all[i]);
    free(first);
}

/* One token against `rows` rows of a cache. */
static void measure_decoding(bench *b, int64_t hq, int64_t hk, int64_t d, int64_t rows)
{
    int32_t     last = (int32_t)rows - 1;
    crank_view  in[4] = {view(b, b->type, true, 3, (int64_t[]){1, hq, d}), view(b, b->type, true, 3, (int64_t[]){rows, hk, d}),
                         view(b, b->type, true, 3, (int64_t[]){rows, hk, d}), crank_view_make(memory(b, &last, sizeof last), CRANK_I32, 1, (int64_t[]){1})};
    crank_view  out[1] = {view(b, b->type, false, 3, (int64_t[]){1, hq, d})};
    crank_attention_attributes a = {.mask = CRANK_MASK_CAUSAL, .scale = 1 / sqrt((double)d)};
    crank_call  call = {.device = b->device, .in = in, .inputs = 4, .out = out, .outputs = 1, .attributes = &a};
    const char *name;
    double      t = timed(b, "attention_cached", &call, &name);
    printf("decoding %6d    %s %2d:%-2d d %3d  %-6s %8.1f us %6.1f GB/s\n", (int)rows, crank_dtype_name(b->type), (int)hq, (int)hk, (int)d, name, t * 1e6,
           2.0 * (double)(rows * hk * d) * (double)crank_dtype_bits(b->type) / 8 / t * 1e-9);
    for (int i = 0; i < 4; i++) b->device->free(b->device, in[i].data);
    b->device->free(b->device, out[0].data);
}

int main(int count, char **words)
{
    bench                b = {.context = crank_context_new(), .type = CRANK_BF16};
    crank_device_options options = {.name = "cuda"};
    const char          *only = "";
    for (int i = 1; i < count; i++)
        if (!strcmp(words[i], "--deterministic")) options.deterministic = true;
        else if (!strcmp(words[i], "--only") && i + 1 < count) only = words[++i];
        else if (!strcmp(words[i], "--type") && i + 1 < count && crank_dtype_parse(words[i + 1], &b.type)) i++;
        else stop("usage: bench_gpu_attention [--type bf16|f16|f32|f64] [--deterministic] [--only TEXT]");
    b.device = crank_device_open(b.context, &options);
    if (!b.device) stop(crank_message(b.context));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strstr(shapes[i].name, only)) measure(&b, &shapes[i]);
    if (strstr("decoding", only)) {
        measure_decoding(&b, 32, 8, 128, 2048);
        measure_decoding(&b, 32, 8, 128, 32768);
        measure_decoding(&b, 32, 8, 64, 4096);
        measure_decoding(&b, 12, 12, 64, 1024);
    }
    b.device->close(b.device);
    crank_context_free(b.context);
    return 0;
}
