/* cpu_memory.c - rates of the memory-bound operations on the CPU, held against memcpy.
 *
 * usage: bench_cpu_memory [--threads N] [--bodies LEVEL] [--type f32|bf16] [--megabytes M] [--only TEXT]
 *
 * One line an operation: body, GB/s of the bytes that it must read and write, and their share of what memcpy moves
 * (read and written) on the same threads, as the best of runs that take turns. Operands of M megabytes each: 64 by
 * default, beyond the caches; small ones show what instructions cost. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crank/device.h"
#include "crank/operations.h"
#include "crank/random.h"

typedef struct bench {
    crank_context *context;
    crank_device  *device;
    crank_dtype    type;
    int            threads;
    int64_t        rows, columns;
    const char    *only;
    char          *from, *to; /* of memcpy */
    size_t         bytes;     /* of one operand */
    void          *memory[64];
    int            count;
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
    fprintf(stderr, "bench_cpu_memory: %s\n", what);
    exit(1);
}

static void *taken(bench *b, size_t bytes)
{
    void *memory = b->device->alloc(b->context, b->device, bytes, "a bench");
    if (!memory) stop(crank_message(b->context));
    return b->memory[b->count++] = memory;
}

/* A view of uniform values in [0.1, 1); integers count up modulo `modulus`. */
static crank_view made(bench *b, crank_dtype type, int rank, int64_t rows, int64_t columns, int64_t modulus)
{
    crank_view view = crank_view_make(NULL, type, rank, (const int64_t[]){rows, columns});
    size_t     n = (size_t)crank_view_count(&view);
    view.data = taken(b, n * crank_dtype_bits(type) / 8);
    if (type == CRANK_I32) {
        for (size_t i = 0; i < n; i++) ((int32_t *)view.data)[i] = (int32_t)((int64_t)(i * 7919) % modulus);
    } else if (type == CRANK_U8) {
        for (size_t i = 0; i < n; i++) ((uint8_t *)view.data)[i] = (uint8_t)(i * 37);
    } else {
        float *values = malloc(n * sizeof *values);
        if (!values) stop("out of memory");
        crank_fill_uniform(crank_stream_make(1, CRANK_RANDOM_TEST, 0), 0, 0.1f, 1, values, n);
        crank_convert(view.data, type, values, CRANK_F32, n);
        free(values);
    }
    return view;
}

static crank_view       matrix(bench *b) { return made(b, b->type, 2, b->rows, b->columns, 0); }
static crank_view       row(bench *b) { return made(b, b->type, 1, b->columns, 0, 0); }
static crank_view       column(bench *b) { return made(b, CRANK_F32, 1, b->rows, 0, 0); }
static const crank_view absent = {.rank = -1};

static double copy_seconds(const bench *b)
{
    double start = seconds();
#pragma omp parallel num_threads(b->threads)
    {
        size_t part = b->bytes / (size_t)omp_get_num_threads(), first = part * (size_t)omp_get_thread_num();
        memcpy(b->to + first, b->from + first, part);
    }
    return seconds() - start;
}

static size_t bytes_of(const crank_view *views, int count)
{
    size_t bytes = 0;
    for (int k = 0; k < count; k++)
        if (views[k].rank >= 0) bytes += crank_view_bytes(&views[k]);
    return bytes;
}

/* `bytes` 0: all inputs read once and all outputs written once. */
static void run(bench *b, const char *label, const char *operation, const crank_view *in, int inputs,
                const crank_view *out, int outputs, const void *attributes, size_t bytes)
{
    crank_call call = {
        .device = b->device, .in = in, .inputs = inputs, .out = out, .outputs = outputs, .attributes = attributes};
    crank_body body;
    if (!b->device->find(b->device, operation, &call, &body)) stop(operation);
    if (body.workspace) call.workspace = taken(b, body.workspace);
    double best = 1e9, copy = 1e9, begin = seconds();
    for (int turn = 0; turn < 5 || (seconds() - begin < 0.4 && turn < 1000); turn++) {
        double time = copy_seconds(b);
        copy = time < copy ? time : copy;
        double start = seconds();
        if (body.run(b->context, &call) != CRANK_OK) stop(crank_message(b->context));
        time = seconds() - start;
        if (turn && time < best) best = time;
    }
    if (!bytes) bytes = bytes_of(in, inputs) + bytes_of(out, outputs);
    double rate = (double)bytes / best / 1e9, copy_rate = 2 * (double)b->bytes / copy / 1e9;
    printf("%-28s %-8s %8.3f ms %8.1f GB/s %6.0f %% of memcpy's %.1f\n", label, body.name, best * 1e3, rate,
           100 * rate / copy_rate, copy_rate);
}

#define VIEWS(...) (const crank_view[]){__VA_ARGS__}, (int)(sizeof((crank_view[]){__VA_ARGS__}) / sizeof(crank_view))

static bool wanted(bench *b, const char *name)
{
    for (int k = 2; k < b->count; k++) b->device->free(b->device, b->memory[k]);
    b->count = b->count < 2 ? b->count : 2; /* memcpy's stay */
    return !b->only || strstr(name, b->only);
}

static void elementwise(bench *b)
{
    crank_dtype other = b->type == CRANK_F32 ? CRANK_BF16 : CRANK_F32;
    if (wanted(b, "copy")) run(b, "copy", "copy", VIEWS(matrix(b)), VIEWS(matrix(b)), NULL, 0);
    if (wanted(b, "cast"))
        run(b, "cast", "copy", VIEWS(matrix(b)), VIEWS(made(b, other, 2, b->rows, b->columns, 0)), NULL, 0);
    if (wanted(b, "turn")) {
        crank_view x = matrix(b), y = made(b, b->type, 2, b->columns, b->rows, 0);
        x.dims[0] = b->columns, x.dims[1] = b->rows, x.strides[0] = 1, x.strides[1] = b->columns;
        run(b, "turn (transposing copy)", "copy", &x, 1, &y, 1, NULL, 0);
    }
    if (wanted(b, "fill")) run(b, "fill", "fill", NULL, 0, VIEWS(matrix(b)), &(crank_fill_attributes){1}, 0);
    if (wanted(b, "add"))
        run(b, "add", "binary", VIEWS(matrix(b), matrix(b)), VIEWS(matrix(b)), &(crank_binary_attributes){CRANK_ADD},
            0);
    if (wanted(b, "add row"))
        run(b, "add row", "binary", VIEWS(matrix(b), row(b)), VIEWS(matrix(b)), &(crank_binary_attributes){CRANK_ADD},
            0);
    if (wanted(b, "mul column")) {
        crank_view factors = made(b, b->type, 2, b->rows, 1, 0);
        run(b, "mul column", "binary", VIEWS(matrix(b), factors), VIEWS(matrix(b)),
            &(crank_binary_attributes){CRANK_MUL}, 0);
    }
    if (wanted(b, "affine")) {
        crank_view x = matrix(b);
        run(b, "affine in place", "affine", &x, 1, &x, 1, &(crank_affine_attributes){1.0001, 0}, 0);
    }
    if (wanted(b, "dropout")) {
        crank_view step = made(b, CRANK_I64, 1, 1, 0, 0);
        run(b, "dropout", "dropout", VIEWS(matrix(b), step), VIEWS(matrix(b)), &(crank_dropout_attributes){0.1, 1, 1},
            0);
    }
}

static void activations(bench *b)
{
    const struct {
        const char      *name;
        crank_unary_kind kind;
    } kinds[] = {{"exp", CRANK_EXP},
                 {"log", CRANK_LOG},
                 {"tanh", CRANK_TANH},
                 {"gelu", CRANK_GELU},
                 {"gelu_tanh", CRANK_GELU_TANH},
                 {"silu", CRANK_SILU}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        crank_unary_attributes a = {kinds[k].kind};
        char                   label[64];
        if (wanted(b, kinds[k].name)) run(b, kinds[k].name, "unary", VIEWS(matrix(b)), VIEWS(matrix(b)), &a, 0);
        snprintf(label, sizeof label, "%s backward", kinds[k].name);
        if (!wanted(b, label)) continue;
        crank_view read = matrix(b);
        run(b, label, "unary_backward",
            VIEWS(crank_unary_needs_x(a.kind) ? read : absent, crank_unary_needs_y(a.kind) ? read : absent, matrix(b)),
            VIEWS(matrix(b)), &a, 0);
    }
    crank_glu_attributes silu = {CRANK_SILU};
    if (wanted(b, "swiglu")) run(b, "swiglu", "glu", VIEWS(matrix(b), matrix(b)), VIEWS(matrix(b)), &silu, 0);
    if (wanted(b, "swiglu backward"))
        run(b, "swiglu backward", "glu_backward", VIEWS(matrix(b), matrix(b), matrix(b)), VIEWS(matrix(b), matrix(b)),
            &silu, 0);
}

static void rows(bench *b)
{
    crank_norm_attributes    norm = {1e-5};
    crank_softmax_attributes softmax = {false};
    if (wanted(b, "softmax")) run(b, "softmax", "softmax", VIEWS(matrix(b)), VIEWS(matrix(b)), &softmax, 0);
    if (wanted(b, "softmax backward"))
        run(b, "softmax backward", "softmax_backward", VIEWS(matrix(b), matrix(b)), VIEWS(matrix(b)), &softmax, 0);
    if (wanted(b, "rmsnorm"))
        run(b, "rmsnorm", "rmsnorm", VIEWS(matrix(b), row(b), absent), VIEWS(matrix(b), column(b), absent), &norm, 0);
    if (wanted(b, "rmsnorm residual"))
        run(b, "rmsnorm residual", "rmsnorm", VIEWS(matrix(b), row(b), matrix(b)),
            VIEWS(matrix(b), column(b), matrix(b)), &norm, 0);
    if (wanted(b, "rmsnorm backward"))
        run(b, "rmsnorm backward", "rmsnorm_backward", VIEWS(matrix(b), matrix(b), row(b), column(b), matrix(b)),
            VIEWS(matrix(b), row(b)), &norm, 0);
    if (wanted(b, "rmsnorm backward frozen"))
        run(b, "rmsnorm backward frozen", "rmsnorm_backward", VIEWS(matrix(b), matrix(b), row(b), column(b), matrix(b)),
            VIEWS(matrix(b), absent), &norm, 0);
    if (wanted(b, "layernorm"))
        run(b, "layernorm", "layernorm", VIEWS(matrix(b), row(b), row(b), absent),
            VIEWS(matrix(b), column(b), column(b), absent), &norm, 0);
    if (wanted(b, "layernorm backward"))
        run(b, "layernorm backward", "layernorm_backward",
            VIEWS(matrix(b), matrix(b), row(b), column(b), column(b), absent), VIEWS(matrix(b), row(b), row(b)), &norm,
            0);
    if (wanted(b, "rope")) {
        crank_view x = matrix(b), y = matrix(b), positions = made(b, CRANK_I32, 1, b->rows, 0, 512),
                   table = made(b, CRANK_F32, 2, 512, 64, 0);
        x.rank = y.rank = 3;
        x.dims[1] = y.dims[1] = b->columns / 64, x.dims[2] = y.dims[2] = 64;
        x.strides[1] = y.strides[1] = 64, x.strides[2] = y.strides[2] = 1;
        for (int form = 0; form < 2; form++)
            run(b, form ? "rope interleaved" : "rope", "rope", VIEWS(x, positions, table), &y, 1,
                &(crank_rope_attributes){form, false}, 2 * b->bytes);
    }
}

static void shapes(bench *b)
{
    const crank_view x = wanted(b, "reduce") ? matrix(b) : absent;
    if (x.rank > 0) {
        run(b, "reduce rows", "reduce", &x, 1, VIEWS(made(b, CRANK_F32, 2, b->rows, 1, 0)),
            &(crank_reduce_attributes){CRANK_SUM, 2}, 0);
        run(b, "reduce columns", "reduce", &x, 1, VIEWS(made(b, CRANK_F32, 2, 1, b->columns, 0)),
            &(crank_reduce_attributes){CRANK_SUM, 1}, 0);
        run(b, "reduce squares", "reduce", &x, 1, VIEWS(made(b, CRANK_F32, 2, 1, 1, 0)),
            &(crank_reduce_attributes){CRANK_SUM_SQUARES, 3}, 0);
    }
    if (wanted(b, "gather")) {
        crank_view ids = made(b, CRANK_I32, 1, b->rows, 0, b->rows);
        run(b, "gather_rows", "gather_rows", VIEWS(matrix(b), ids), VIEWS(matrix(b)), NULL, 0);
        run(b, "scatter_rows", "scatter_rows", VIEWS(matrix(b), ids),
            VIEWS(made(b, CRANK_F32, 2, b->rows, b->columns, 0)), NULL, 0);
    }
    if (wanted(b, "concat"))
        run(b, "concat", "concat", VIEWS(matrix(b), matrix(b)), VIEWS(made(b, b->type, 2, b->rows, 2 * b->columns, 0)),
            &(crank_concat_attributes){1}, 0);
    if (wanted(b, "pad"))
        run(b, "pad", "pad", VIEWS(matrix(b)), VIEWS(made(b, b->type, 2, b->rows, 2 * b->columns, 0)),
            &(crank_pad_attributes){1, b->columns / 2}, 0);
}

/* What is updated is read and written. */
static void updates(bench *b)
{
    crank_view scalars = {0};
    for (int k = 0; k < 5; k++) {
        static const char *const names[] = {"adamw", "adamw8bit", "sgd", "lion", "assign add"};
        if (!wanted(b, names[k])) continue;
        scalars = made(b, CRANK_F32, 1, CRANK_SCALARS, 0, 0);
        ((float *)scalars.data)[CRANK_SCALAR_STEP] = 3;
        ((float *)scalars.data)[CRANK_SCALAR_SKIP] = 0;
        crank_view w = matrix(b), g = made(b, CRANK_F32, 2, b->rows, b->columns, 0);
        if (k == 0) {
            crank_view m = made(b, CRANK_F32, 2, b->rows, b->columns, 0),
                       v = made(b, CRANK_F32, 2, b->rows, b->columns, 0);
            run(b, names[k], "adamw", VIEWS(w, g, m, v, scalars), VIEWS(w, m, v),
                &(crank_adam_attributes){0.9, 0.999, 1e-8, 0.1, 1e-6, false, 1, 1}, 0);
        } else if (k == 1) {
            int64_t    blocks = (b->rows * b->columns + 255) / 256;
            crank_view m = made(b, CRANK_U8, 2, b->rows, b->columns, 0),
                       v = made(b, CRANK_U8, 2, b->rows, b->columns, 0);
            crank_view am = made(b, CRANK_F32, 1, blocks, 0, 0), av = made(b, CRANK_F32, 1, blocks, 0, 0);
            run(b, names[k], "adamw8bit", VIEWS(w, g, m, v, am, av, scalars), VIEWS(w, m, v, am, av),
                &(crank_adam_attributes){0.9, 0.999, 1e-8, 0.1, 1e-6, false, 1, 1}, 0);
        } else if (k == 2) {
            crank_view m = made(b, CRANK_F32, 2, b->rows, b->columns, 0);
            run(b, names[k], "sgd", VIEWS(w, g, m, scalars), VIEWS(w, m),
                &(crank_sgd_attributes){.momentum = 0.9, .rate_factor = 1e-6}, 0);
        } else if (k == 3) {
            crank_view m = made(b, CRANK_F32, 2, b->rows, b->columns, 0);
            run(b, names[k], "lion", VIEWS(w, g, m, scalars), VIEWS(w, m),
                &(crank_lion_attributes){.beta1 = 0.9, .beta2 = 0.99, .rate_factor = 1e-6}, 0);
        } else run(b, names[k], "assign", VIEWS(g, w), VIEWS(w), &(crank_assign_attributes){true}, 0);
    }
}

int main(int argc, char **argv)
{
    bench       b = {.type = CRANK_F32, .columns = 1024, .context = crank_context_new()};
    const char *bodies = NULL;
    double      megabytes = 64;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) stop("usage: [--threads N] [--bodies LEVEL] [--type f32|bf16] [--megabytes M] [--only TEXT]");
        if (strcmp(argv[i], "--threads") == 0) crank_set_threads(b.context, atoi(value));
        else if (strcmp(argv[i], "--bodies") == 0) bodies = value;
        else if (strcmp(argv[i], "--megabytes") == 0) megabytes = atof(value);
        else if (strcmp(argv[i], "--only") == 0) b.only = value;
        else if (strcmp(argv[i], "--type") != 0 || !crank_dtype_parse(value, &b.type) ||
                 (b.type != CRANK_F32 && b.type != CRANK_BF16))
            stop("unknown argument");
    }
    b.device = crank_device_cpu(b.context, bodies);
    if (!b.device) stop(crank_message(b.context));
    b.threads = crank_threads(b.context);
    if (b.threads == 1) clock_of = CLOCK_THREAD_CPUTIME_ID;
    b.rows = (int64_t)(megabytes * 1e6 / (1024.0 * (double)crank_dtype_bits(b.type) / 8)) / 64 * 64;
    if (b.rows < 64) b.rows = 64;
    b.bytes = (size_t)(b.rows * b.columns) * crank_dtype_bits(b.type) / 8;
    b.from = taken(&b, b.bytes);
    b.to = taken(&b, b.bytes);
    memset(b.from, 1, b.bytes);
    printf("%s at level %s on %d threads, [%d, %d] = %.2f MB an operand\n", crank_dtype_name(b.type), b.device->level,
           b.threads, (int)b.rows, (int)b.columns, (double)b.bytes / 1e6);
    elementwise(&b);
    activations(&b);
    rows(&b);
    shapes(&b);
    updates(&b);
    return 0;
}
