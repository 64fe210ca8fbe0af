/* rank_update_simd.h - products of a short inner dimension: the low-rank branch's t B^T and the d t A of its reverse.
 *
 *     c [m, n] = alpha a [m, k] b [k, n] + bias + c0        k <= MAX_RANK
 *
 * Such a product does a few multiply-adds for each element of c that it writes, so what costs is c itself. b is laid out
 * once as [k, n] words (words_simd.h); BLOCK_ROWS rows of a are laid out as words too, and a tile of c stays in registers
 * from its first term to its rounding.
 *
 * Included with LEVEL_NAME, FINDER and, for products of bf16 pairs, __AVX512BF16__. */
#include "device/cpu/bodies.h"
#include "device/cpu/words_simd.h"
#include "device/operations.h"

enum { MAX_RANK = 32, BLOCK_ROWS = LANES == 16 ? 6 : 3, VECTORS = 4, PANEL = VECTORS * LANES };

typedef struct rank_update {
    crank_dtype type;       /* of a and b */
    bool        pairs;      /* words are pairs of bf16 */
    int64_t     m, n, k;
    int         words;      /* along k */
    int64_t     padded_n;   /* whole panels */
} rank_update;

static bool describe(const crank_call *call, rank_update *u)
{
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view *a = &call->in[0], *b = &call->in[1], *c = &call->out[0];
    if (c->rank != 2 || a->rank != 2 || b->rank != 2) return false;
    if (a->dtype != CRANK_F32 && a->dtype != CRANK_BF16) return false;
    if (a->dtype != b->dtype || (c->dtype != a->dtype && c->dtype != CRANK_F32)) return false;
    u->type = a->dtype;
    u->m = c->dims[0];
    u->n = c->dims[1];
    u->k = a->dims[attributes->trans_a ? 0 : 1];
    if (u->k < 1 || u->k > MAX_RANK || u->m < 4 * BLOCK_ROWS || u->n < PANEL) return false;
    u->pairs = words_are_pairs(u->type);
    u->words = (int)(u->pairs ? (u->k + 1) / 2 : u->k);
    u->padded_n = (u->n + PANEL - 1) / PANEL * PANEL;
    return true;
}

static size_t panel_bytes(const rank_update *u) { return (size_t)(u->padded_n * u->words) * sizeof(uint32_t); }
static size_t rows_bytes(void) { return sizeof(uint32_t) * BLOCK_ROWS * MAX_RANK; }

/* Element i of an operand. */
ALWAYS_INLINE const void *element(const rank_update *u, const crank_view *x, int64_t i)
{
    return (const char *)x->data + i * (u->type == CRANK_F32 ? 4 : 2);
}

/* Columns first .. last - 1 of b into `panels` [n / PANEL][words][PANEL], zeros behind the last column. */
static void lay_out_panels(const rank_update *u, const crank_view *b, bool transposed, int64_t first, int64_t last,
                           uint32_t *panels)
{
    int64_t column = transposed ? b->strides[0] : 1, row = transposed ? 1 : b->strides[0];
    for (int64_t j = first; j < last; j++) {
        uint32_t *to = panels + j / PANEL * PANEL * u->words + j % PANEL;
        for (int w = 0; w < u->words; w++)
            to[(int64_t)w * PANEL] = j < u->n ? word_of(element(u, b, j * column), u->type, u->pairs, row, u->k, w) : 0;
    }
}

/* What becomes of a sum. */
typedef struct ending {
    float       alpha;
    const void *bias, *c0;
    void       *c;
    int64_t     c_row, c0_row;
} ending;

ALWAYS_INLINE void finish(const ending *e, crank_dtype type, vec x, int64_t i, int64_t j, int count)
{
    x = vec_mul(x, vec_set(e->alpha));
    if (count == LANES) {
        if (e->bias) x = vec_add(x, vec_read(e->bias, type, j));
        if (e->c0) x = vec_add(x, vec_read(e->c0, type, i * e->c0_row + j));
        vec_write(e->c, type, i * e->c_row + j, x);
    } else if (count > 0) {
        if (e->bias) x = vec_add(x, vec_read_part(e->bias, type, j, count));
        if (e->c0) x = vec_add(x, vec_read_part(e->c0, type, i * e->c0_row + j, count));
        vec_write_part(e->c, type, i * e->c_row + j, x, count);
    }
}

/* Rows i .. i + here - 1, the panel that starts at column j; a [BLOCK_ROWS][words], b [words][PANEL]. */
ALWAYS_INLINE void tile(const ending *e, crank_dtype type, bool pairs, int words, const uint32_t *a, const uint32_t *b,
                        int64_t i, int here, int64_t j, int64_t n)
{
    vec sum[BLOCK_ROWS][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < BLOCK_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sum[r][v] = vec_zero();
    for (int w = 0; w < words; w++) {
        vec bw[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) bw[v] = vec_load((const float *)(const void *)(b + w * PANEL + v * LANES));
#pragma GCC unroll 6
        for (int r = 0; r < BLOCK_ROWS; r++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sum[r][v] = word_multiply_add(pairs, a[r * words + w], bw[v], sum[r][v]);
    }
    if (n - j >= PANEL) {
#pragma GCC unroll 6
        for (int r = 0; r < BLOCK_ROWS; r++)
            if (r < here)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) finish(e, type, sum[r][v], i + r, j + v * LANES, LANES);
        return;
    }
#pragma GCC unroll 6
    for (int r = 0; r < BLOCK_ROWS; r++)
        if (r < here)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) {
                int64_t left = n - j - v * LANES;
                if (left > 0) finish(e, type, sum[r][v], i + r, j + v * LANES, left < LANES ? (int)left : LANES);
            }
}

/* Rows first .. last - 1 of c, of `type`; block: room for the words of BLOCK_ROWS rows of a. */
ALWAYS_INLINE void rows_of(const rank_update *u, const crank_view *a, bool transposed, const uint32_t *panels,
                           uint32_t *block, const ending *e, crank_dtype type, bool pairs, int64_t first, int64_t last)
{
    int64_t row = transposed ? 1 : a->strides[0], column = transposed ? a->strides[0] : 1;
    for (int64_t i = first; i < last; i += BLOCK_ROWS) {
        int here = last - i < BLOCK_ROWS ? (int)(last - i) : BLOCK_ROWS;
        for (int r = 0; r < BLOCK_ROWS; r++)
            for (int w = 0; w < u->words; w++)
                block[r * u->words + w] =
                    r < here ? word_of(element(u, a, (i + r) * row), u->type, pairs, column, u->k, w) : 0;
        for (int64_t j = 0; j < u->n; j += PANEL)
            tile(e, type, pairs, u->words, block, panels + j * u->words, i, here, j, u->n);
    }
}

typedef void rows_kernel(const rank_update *u, const crank_view *a, bool transposed, const uint32_t *panels, uint32_t *block,
                         const ending *e, int64_t first, int64_t last);
#define KERNEL(type, pairs)                                                                                            \
    static void rows_##type##_##pairs(const rank_update *u, const crank_view *a, bool transposed,                      \
                                      const uint32_t *panels, uint32_t *block, const ending *e, int64_t first,         \
                                      int64_t last)                                                                    \
    {                                                                                                                  \
        rows_of(u, a, transposed, panels, block, e, CRANK_##type, pairs, first, last);                                 \
    }
KERNEL(F32, 0)
KERNEL(BF16, 0)
#if defined(__AVX512BF16__)
KERNEL(F32, 1)
KERNEL(BF16, 1)
static rows_kernel *const kernels[2][2] = {{rows_F32_0, rows_BF16_0}, {rows_F32_1, rows_BF16_1}};
#else
static rows_kernel *const kernels[1][2] = {{rows_F32_0, rows_BF16_0}};
#endif

static crank_status run(crank_context *context, const crank_call *call)
{
    (void)context;
    const crank_matmul_attributes *attributes = call->attributes;
    const crank_view              *bias = &call->in[2], *c0 = &call->in[3], *c = &call->out[0];
    rank_update                    u = {0};
    describe(call, &u);
    ending e = {.alpha = (float)attributes->alpha, .c = c->data, .c_row = c->strides[0]};
    if (view_present(bias)) e.bias = bias->data;
    if (view_present(c0)) {
        e.c0 = c0->data;
        e.c0_row = c0->strides[c0->rank - 2];
    }
    rows_kernel *kernel = kernels[u.pairs][c->dtype == CRANK_BF16];
    uint32_t    *panels = call->workspace;
    char        *blocks = (char *)call->workspace + panel_bytes(&u);
    int          threads = u.m * u.n * u.words < 200000 ? 1 : cpu_threads(call); /* below ~10 us a second one costs */
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t j = 0; j < u.padded_n; j += PANEL)
            lay_out_panels(&u, &call->in[1], attributes->trans_b, j, j + PANEL, panels);
#pragma omp for schedule(static)
        for (int t = 0; t < threads; t++) {
            int64_t blocks_of_rows = (u.m + BLOCK_ROWS - 1) / BLOCK_ROWS;
            int64_t first = blocks_of_rows * t / threads * BLOCK_ROWS, last = blocks_of_rows * (t + 1) / threads * BLOCK_ROWS;
            kernel(&u, &call->in[0], attributes->trans_a, panels, (uint32_t *)(void *)(blocks + (size_t)t * rows_bytes()), &e,
                   first, last < u.m ? last : u.m);
        }
    }
    return CRANK_OK;
}

bool FINDER(const char *operation, const crank_call *call, int threads, crank_body *body)
{
    rank_update u = {0};
    if (strcmp(operation, "matmul") != 0 || !describe(call, &u)) return false;
    *body = (crank_body){.name = LEVEL_NAME, .run = run, .workspace = panel_bytes(&u) + (size_t)threads * rows_bytes()};
    return true;
}
