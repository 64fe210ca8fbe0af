/* cpu_kernels.c - rates of the compute-bound operations on the CPU, for the shapes of three models.
 *
 * usage: bench_cpu_kernels [--threads N] [--bodies LEVEL] [--type f32|bf16] [--model 15m|110m|minilm] [--only TEXT]
 * [--seconds S]
 *
 * One line a shape: body, time of the fastest of many runs, GFLOP/s, and the share of the peak, which is what a loop of
 * multiply-adds on registers reaches on the same threads at the same level. Causal attention counts the seen half. With
 * --cold the caches hold something else before each run, as between the operations of a large model, and the median counts. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crank/device.h"
#include "crank/operations.h"
#include "crank/random.h"

typedef struct model {
    const char *name;
    int64_t hidden, heads, ffn, vocabulary, tokens, segment;
    bool gated, causal; /* gated: gate and up projections, bias-free */
} model;

static const model models[] = {
    {"15m", 288, 6, 768, 32000, 1024, 256, true, true},
    {"110m", 768, 12, 2048, 32000, 1024, 1024, true, true},
    {"minilm", 384, 12, 1536, 0, 2048, 128, false, false},
};

typedef struct bench {
    crank_context *context;
    crank_device *device;
    crank_dtype type;
    int threads;
    double peak; /* GFLOP/s */
    const char *only;
    double seconds; /* that one shape is measured */
    float *other;   /* COLD floats that are read before each run, or NULL */
    uint64_t draw;
} bench;

/* With one thread its processor time: other programs on the machine then disturb less. */
static clockid_t clock_of = CLOCK_MONOTONIC;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(clock_of, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *what)
{
    fprintf(stderr, "bench_cpu_kernels: %s\n", what);
    exit(1);
}

/* ---- peak: chains of multiply-adds that never leave the registers ---- */

typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
#define CHAINS(name, features, type, chains, step)                                                                     \
    __attribute__((target(features), optimize("O3"))) static double name(int64_t rounds)                               \
    {                                                                                                                  \
        type c[chains], x = {0}, y = {0};                                                                              \
        _Pragma("GCC unroll 24") for (int i = 0; i < (chains); i++) c[i] = x;                                          \
        __asm__ volatile("" : "+v"(x), "+v"(y));                                                                       \
        double start = seconds();                                                                                      \
        for (int64_t r = 0; r < rounds; r++) {                                                                         \
            _Pragma("GCC unroll 24") for (int i = 0; i < (chains);                                                     \
                                          i++) __asm__ volatile(step : "+v"(c[i]) : "v"(x), "v"(y));                   \
        }                                                                                                              \
        return (double)rounds * (chains) / (seconds() - start);                                                        \
    }
CHAINS(chains_avx2, "avx2,fma", v8, 12, "vfmadd231ps %2, %1, %0")
CHAINS(chains_avx512, "avx512f", v16, 24, "vfmadd231ps %2, %1, %0")
CHAINS(chains_bf16, "avx512f,avx512bf16", v16, 24, "vdpbf16ps %2, %1, %0")

/* Multiply-adds a second of all threads, twice that in FLOP. */
static double measure_peak(const char *level, crank_dtype type, int threads)
{
    double sum = 0;
    bool wide = strncmp(level, "avx512", 6) == 0 || strcmp(level, "amx") == 0;
    bool pairs = type == CRANK_BF16 && (strcmp(level, "avx512bf16") == 0 || strcmp(level, "amx") == 0);
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        double best = 0;
        for (int i = 0; i < 5; i++) {
            double rate = pairs  ? chains_bf16(400000) * 64
                          : wide ? chains_avx512(400000) * 32
                                 : chains_avx2(400000) * 16;
            if (rate > best) best = rate;
        }
        sum += best;
    }
    return sum * 1e-9;
}

/* ---- operands ---- */

static crank_view view(bench *b, crank_dtype type, int rank, const int64_t *dims)
{
    crank_view v = crank_view_make(NULL, type, rank, dims);
    v.data = b->device->alloc(b->context, b->device, crank_view_bytes(&v) + 64, "bench");
    if (!v.data) stop(crank_message(b->context));
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 0);
    size_t size = crank_dtype_bits(type) / 8, count = (size_t)crank_view_count(&v);
    float drawn[1024]; /* repeated: random digits, not random matrices */
    for (int i = 0; i < 1024; i++) drawn[i] = crank_draw_uniform(stream, b->draw++) * 2 - 1;
    for (size_t i = 0; i < count; i += 1021)
        crank_convert((char *)v.data + i * size, type, drawn, CRANK_F32, count - i < 1021 ? count - i : 1021);
    return v;
}
#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                                       \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static crank_view ids(bench *b, const int64_t *values, int64_t stride, int64_t count)
{
    crank_view v = crank_view_make(NULL, CRANK_I32, 1, &count);
    v.data = b->device->alloc(b->context, b->device, (size_t)count * 4, "bench");
    if (!v.data) stop(crank_message(b->context));
    for (int64_t i = 0; i < count; i++) ((int32_t *)v.data)[i] = (int32_t)(values ? values[i] : i * stride);
    return v;
}

static const crank_view absent = {.rank = -1};

/* ---- one line ---- */

enum { COLD = 24 << 20, RUNS = 1000 };

static void empty_caches(bench *b)
{
    for (int64_t i = 0; b->other && i < COLD; i += 16) b->other[i] += 1;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void line(bench *b, const char *label, const char *operation, crank_view *in, int inputs, crank_view *out,
                 int outputs, const void *attributes, double flop)
{
    void *slot = NULL;
    void (*slot_free)(void *) = NULL;
    crank_call call = {.device = b->device,
                       .in = in,
                       .inputs = inputs,
                       .out = out,
                       .outputs = outputs,
                       .attributes = attributes,
                       .slot = &slot,
                       .slot_free = &slot_free};
    crank_body body;
    if (!b->only || strstr(label, b->only)) {
        if (!b->device->find(b->device, operation, &call, &body)) stop("no body");
        call.workspace = b->device->alloc(b->context, b->device, body.workspace + 64, "bench");
        if (!call.workspace) stop(crank_message(b->context));
        double took[RUNS], begin = seconds();
        int    runs = 0;
        while (runs < 3 || (seconds() - begin < b->seconds && runs < RUNS)) {
            empty_caches(b);
            double start = seconds();
            if (body.run(b->context, &call) != CRANK_OK) stop(crank_message(b->context));
            took[runs++] = seconds() - start;
        }
        qsort(took, (size_t)runs, sizeof *took, by_size);
        double best = took[b->other ? runs / 2 : 0];
        printf("%-34s %-24s %10.1f us %8.1f GFLOP/s %5.1f %%   workspace %.1f MiB\n", label, body.name, best * 1e6,
               flop / best * 1e-9, 100 * flop / best * 1e-9 / b->peak, (double)body.workspace / 1048576);
        fflush(stdout);
        if (slot) slot_free(slot);
        b->device->free(b->device, call.workspace);
    }
    for (int i = 0; i < inputs; i++)
        if (in[i].rank >= 0 && in[i].data != out[0].data) b->device->free(b->device, in[i].data);
    for (int i = 0; i < outputs; i++)
        if (out[i].rank >= 0) b->device->free(b->device, out[i].data);
}

/* added: c += instead of c = */
static void product(bench *b, const char *what, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, bool added)
{
    char label[64];
    snprintf(label, sizeof label, "%s %lldx%lldx%lld%s", what, (long long)m, (long long)n, (long long)k, added ? "+" : "");
    crank_dtype out_type = trans_a ? CRANK_F32 : b->type; /* gradients of weights are f32 */
    crank_matmul_attributes attributes = {trans_a, trans_b, 1};
    crank_view in[4] = {trans_a ? view(b, b->type, DIMS(k, m)) : view(b, b->type, DIMS(m, k)),
                        trans_b ? view(b, b->type, DIMS(n, k)) : view(b, b->type, DIMS(k, n)), absent, absent};
    crank_view out[1] = {view(b, out_type, DIMS(m, n))};
    if (added) in[3] = out[0];
    line(b, label, "matmul", in, 4, out, 1, &attributes, 2.0 * (double)m * (double)n * (double)k);
}

/* y = x W^T, dx = dy W, dW = dy^T x; then the same through a rank-8 branch. */
static void linear(bench *b, const char *what, int64_t tokens, int64_t inputs, int64_t outputs)
{
    char name[3][48];
    const char *parts[3] = {"y", "dx", "dW"};
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s %s", what, parts[i]);
    for (int added = 0; added < 2; added++) {
        product(b, name[0], false, true, tokens, outputs, inputs, added);
        product(b, name[1], false, false, tokens, inputs, outputs, added);
    }
    product(b, name[2], true, false, outputs, inputs, tokens, false);
}

static void low_rank(bench *b, int64_t tokens, int64_t inputs, int64_t outputs, int64_t rank)
{
    product(b, "lora x A^T", false, true, tokens, rank, inputs, false);
    product(b, "lora t B^T", false, true, tokens, outputs, rank, false);
    product(b, "lora t B^T", false, true, tokens, outputs, rank, true);
    product(b, "lora dy B", false, false, tokens, rank, outputs, false);
    product(b, "lora dB", true, false, outputs, rank, tokens, false);
    product(b, "lora dA", true, false, rank, inputs, tokens, false);
}

static void attention(bench *b, const model *m)
{
    int64_t n = m->tokens, h = m->heads, d = m->hidden / m->heads, segments = n / m->segment;
    double pairs = (double)n * (double)m->segment * (m->causal ? 0.5 : 1) * (double)h,
           product_flop = 2 * pairs * (double)d;
    crank_attention_attributes attributes = {m->causal ? CRANK_MASK_CAUSAL : CRANK_MASK_NONE, 0, 0.125, 0};
    crank_view in[4] = {view(b, b->type, DIMS(n, h, d)), view(b, b->type, DIMS(n, h, d)),
                        view(b, b->type, DIMS(n, h, d)), ids(b, NULL, m->segment, segments + 1)};
    crank_view out[2] = {view(b, b->type, DIMS(n, h, d)), view(b, CRANK_F32, DIMS(h, n))};
    line(b, "attention forward", "attention", in, 4, out, 2, &attributes, 2 * product_flop);
    crank_view back[7] = {view(b, b->type, DIMS(n, h, d)),       view(b, b->type, DIMS(n, h, d)),
                          view(b, b->type, DIMS(n, h, d)),       view(b, b->type, DIMS(n, h, d)),
                          view(b, b->type, DIMS(n, h, d)),       view(b, CRANK_F32, DIMS(h, n)),
                          ids(b, NULL, m->segment, segments + 1)};
    for (int64_t i = 0; i < h * n; i++) ((float *)back[5].data)[i] = 8;
    crank_view grads[3] = {view(b, b->type, DIMS(n, h, d)), view(b, b->type, DIMS(n, h, d)),
                           view(b, b->type, DIMS(n, h, d))};
    line(b, "attention reverse", "attention_backward", back, 7, grads, 3, &attributes, 5 * product_flop);
    if (!m->causal) return;
    crank_view one[4] = {view(b, b->type, DIMS(1, h, d)), view(b, b->type, DIMS(n, h, d)),
                         view(b, b->type, DIMS(n, h, d)), ids(b, (int64_t[]){n - 1}, 0, 1)};
    crank_view o[1] = {view(b, b->type, DIMS(1, h, d))};
    line(b, "attention of 1 cached token", "attention_cached", one, 4, o, 1, &attributes, 4.0 * (double)(n * h * d));
}

static void head(bench *b, const model *m)
{
    int64_t n = m->tokens, d = m->hidden, V = m->vocabulary;
    double flop = 2.0 * (double)n * (double)d * (double)V;
    crank_head_attributes attributes = {0};
    for (int kind = 0; kind < 4; kind++) {
        bool entropy = kind >= 2, grads = kind == 1 || kind == 3;
        crank_view x = view(b, b->type, DIMS(n, d)), w = view(b, b->type, DIMS(V, d)), targets = ids(b, NULL, 31, n);
        crank_view logp = view(b, CRANK_F32, DIMS(n)), other = view(b, CRANK_F32, DIMS(n));
        crank_view dx = kind ? view(b, b->type, DIMS(n, d)) : absent,
                   dw = grads ? view(b, CRANK_F32, DIMS(V, d)) : absent;
        if (entropy) {
            crank_view in[5] = {x, w, absent, targets, other},
                       out[5] = {view(b, CRANK_F32, 0, NULL), logp, dx, dw, absent};
            line(b, grads ? "head_cross_entropy, dx dw" : "head_cross_entropy, dx", "head_cross_entropy", in, 5, out, 5,
                 &attributes, (grads ? 3 : 2) * flop);
        } else if (grads) {
            crank_view in[6] = {logp, x, w, absent, targets, other}, out[3] = {dx, dw, absent};
            for (int64_t i = 0; i < n; i++) ((float *)other.data)[i] = 20;
            line(b, "head_logprob_backward, dx dw", "head_logprob_backward", in, 6, out, 3, &attributes, 3 * flop);
        } else {
            crank_view in[4] = {x, w, absent, targets}, out[3] = {logp, other, absent};
            line(b, "head_logprob", "head_logprob", in, 4, out, 3, &attributes, flop);
        }
    }
}

/* Operations that move more than they compute: an element counts as one FLOP, so that GFLOP/s are 10^9 elements a second. */
static void elementwise(bench *b, const model *m)
{
    int64_t n = m->tokens, d = m->hidden;
    double count = (double)n * (double)m->ffn, few = (double)n * (double)d;
    crank_norm_attributes norm = {1e-5};
    crank_view x = view(b, b->type, DIMS(n, m->ffn));
    if (m->gated) {
        crank_glu_attributes a = {CRANK_SILU};
        crank_view in[3] = {view(b, b->type, DIMS(n, m->ffn)), x, view(b, b->type, DIMS(n, m->ffn))};
        crank_view out[2] = {view(b, b->type, DIMS(n, m->ffn)), view(b, b->type, DIMS(n, m->ffn))};
        line(b, "glu silu", "glu", (crank_view[]){view(b, b->type, DIMS(n, m->ffn)), view(b, b->type, DIMS(n, m->ffn))}, 2,
             (crank_view[]){view(b, b->type, DIMS(n, m->ffn))}, 1, &a, count);
        line(b, "glu silu reverse", "glu_backward", in, 3, out, 2, &a, count);
        crank_view in_norm[3] = {view(b, b->type, DIMS(n, d)), view(b, CRANK_F32, DIMS(d)), view(b, b->type, DIMS(n, d))};
        crank_view out_norm[3] = {view(b, b->type, DIMS(n, d)), view(b, CRANK_F32, DIMS(n)), view(b, b->type, DIMS(n, d))};
        line(b, "rmsnorm with sum", "rmsnorm", in_norm, 3, out_norm, 3, &norm, few);
        return;
    }
    crank_unary_attributes a = {CRANK_GELU};
    line(b, "gelu", "unary", (crank_view[]){view(b, b->type, DIMS(n, m->ffn))}, 1,
         (crank_view[]){view(b, b->type, DIMS(n, m->ffn))}, 1, &a, count);
    crank_view in[3] = {x, absent, view(b, b->type, DIMS(n, m->ffn))};
    line(b, "gelu reverse", "unary_backward", in, 3, (crank_view[]){view(b, b->type, DIMS(n, m->ffn))}, 1, &a, count);
    crank_view in_norm[4] = {view(b, b->type, DIMS(n, d)), view(b, CRANK_F32, DIMS(d)), view(b, CRANK_F32, DIMS(d)),
                             view(b, b->type, DIMS(n, d))};
    crank_view out_norm[4] = {view(b, b->type, DIMS(n, d)), view(b, CRANK_F32, DIMS(n)), view(b, CRANK_F32, DIMS(n)),
                              view(b, b->type, DIMS(n, d))};
    line(b, "layernorm with sum", "layernorm", in_norm, 4, out_norm, 4, &norm, few);
    crank_view back[6] = {view(b, b->type, DIMS(n, d)), view(b, b->type, DIMS(n, d)), view(b, CRANK_F32, DIMS(d)),
                          view(b, CRANK_F32, DIMS(n)),  view(b, CRANK_F32, DIMS(n)),  view(b, b->type, DIMS(n, d))};
    line(b, "layernorm reverse", "layernorm_backward", back, 6,
         (crank_view[]){view(b, b->type, DIMS(n, d)), absent, absent}, 3, &norm, few);
}

static void bench_model(bench *b, const model *m)
{
    printf("-- %s: hidden %lld, heads %lld, ffn %lld, vocabulary %lld, %lld tokens in segments of %lld\n", m->name,
           (long long)m->hidden, (long long)m->heads, (long long)m->ffn, (long long)m->vocabulary, (long long)m->tokens,
           (long long)m->segment);
    linear(b, "attention in", m->tokens, m->hidden, m->hidden);
    linear(b, "ffn in", m->tokens, m->hidden, m->ffn);
    linear(b, "ffn out", m->tokens, m->ffn, m->hidden);
    low_rank(b, m->tokens, m->hidden, m->ffn, 8);
    low_rank(b, m->tokens, m->ffn, m->hidden, 16);
    attention(b, m);
    elementwise(b, m);
    if (!m->vocabulary) return;
    head(b, m);
    product(b, "decode", false, true, 1, m->ffn, m->hidden, false);
    product(b, "decode head", false, true, 1, m->vocabulary, m->hidden, false);
    product(b, "decode of 4", false, true, 4, m->ffn, m->hidden, false);
}

int main(int count, char **arguments)
{
    const char *level = NULL, *only_model = NULL, *names[8];
    bench b = {.context = crank_context_new(), .type = CRANK_F32, .seconds = 0.25};
    int threads = 0;
    for (int i = 1; i + 1 < count; i += 2) {
        const char *key = arguments[i], *text = arguments[i + 1];
        if (strcmp(key, "--threads") == 0)
            threads = atoi(text);
        else if (strcmp(key, "--bodies") == 0)
            level = text;
        else if (strcmp(key, "--type") == 0 && crank_dtype_parse(text, &b.type))
            continue;
        else if (strcmp(key, "--model") == 0)
            only_model = text;
        else if (strcmp(key, "--only") == 0)
            b.only = text;
        else if (strcmp(key, "--seconds") == 0)
            b.seconds = atof(text);
        else if (strcmp(key, "--cold") == 0)
            b.other = calloc(COLD, sizeof *b.other);
        else
            stop("usage: bench_cpu_kernels [--threads N] [--bodies LEVEL] [--type f32|bf16] [--model 15m|110m|minilm] "
                 "[--only TEXT] [--seconds S] [--cold 1]");
    }
    crank_set_threads(b.context, threads);
    b.threads = crank_threads(b.context);
    if (b.threads == 1) clock_of = CLOCK_THREAD_CPUTIME_ID;
    if (level)
        setenv("CRANK_BODIES", level, 1);
    else
        level = names[crank_cpu_levels(names, 8) - 1];
    b.device = crank_device_cpu(b.context, NULL);
    if (!b.device) stop(crank_message(b.context));
    b.peak = measure_peak(level, b.type, b.threads);
    printf("level %s, %s, %d threads: peak %.0f GFLOP/s\n", level, crank_dtype_name(b.type), b.threads, b.peak);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (!only_model || strcmp(only_model, models[i].name) == 0) bench_model(&b, &models[i]);
    b.device->close(b.device);
    crank_context_free(b.context);
    free(b.other);
    return 0;
}
